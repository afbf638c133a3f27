//! Starting programs, and waiting for them.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::Result;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// A process that is asked to end when this is dropped, and made to if it does not.
#[derive(Debug)]
pub struct Running(pub Child);

impl Running {
    /// Its process id.
    pub fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Ok(pid) = i32::try_from(self.0.id()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        let deadline = Instant::now() + Duration::from_secs(10);
        while Instant::now() < deadline {
            if !matches!(self.0.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// One of our programs, as the same `cargo build` left it.
///
/// # Errors
/// When it was not built.
pub fn program(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let path = own.with_file_name(name);
    if path.is_file() {
        return Ok(path);
    }
    Err(format!("{} is not there: build it first, as cargo xtask bench peers does", path.display())
        .into())
}

/// Starts a program, and gives it with the first line of its standard output and how long that
/// took.
///
/// # Errors
/// When it cannot be started, or ends without a line.
pub fn start_until_line(command: &mut Command) -> Result<(Running, String, Duration)> {
    let start = Instant::now();
    let mut child = Running(
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn()?,
    );
    let out = child.0.stdout.take().ok_or("no standard output")?;
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || {
        let mut out = BufReader::new(out);
        let mut line = String::new();
        let read = out.read_line(&mut line);
        let _ = send.send((start.elapsed(), read.map(|_| line)));
        // Whatever follows is read, so that the program never waits for it.
        let _ = std::io::copy(&mut out, &mut std::io::sink());
    });
    let (took, line) = receive.recv_timeout(PATIENCE)?;
    let line = line?;
    if line.is_empty() {
        return Err(format!("{command:?} ended before it was ready").into());
    }
    Ok((child, line, took))
}

/// Runs a program to its end with an input, and gives its standard output.
///
/// # Errors
/// When it fails, with what it said.
pub fn output(command: &mut Command, input: &str) -> Result<String> {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    if output.status.success() {
        return Ok(String::from_utf8(output.stdout)?);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{command:?} failed, {}: {}", output.status, said.trim()).into())
}

/// Runs a program to its end, with nothing to read and its output thrown away, and gives how long
/// that took.
///
/// # Errors
/// When it fails, with what it said.
pub fn timed(command: &mut Command) -> Result<Duration> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let start = Instant::now();
    let output = command.spawn()?.wait_with_output()?;
    let took = start.elapsed();
    if output.status.success() {
        return Ok(took);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{command:?} failed, {}: {}", output.status, said.trim()).into())
}
