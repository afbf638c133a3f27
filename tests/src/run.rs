//! Commands that run to their end.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

/// What a command came to.
#[derive(Debug)]
pub struct Done {
    /// Its exit code; -1 after a signal.
    pub code: i32,
    /// Its standard output.
    pub out: String,
    /// Its standard error.
    pub err: String,
}

impl Done {
    /// Insists on success.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.code, 0, "stdout:\n{}\nstderr:\n{}", self.out, self.err);
        self
    }

    /// Insists on an exit code and on a text in standard error.
    #[track_caller]
    pub fn fails(self, code: i32, text: &str) -> Self {
        assert!(
            self.code == code && self.err.contains(text),
            "expected code {code} and {text:?}, got {}\nstdout:\n{}\nstderr:\n{}",
            self.code,
            self.out,
            self.err
        );
        self
    }
}

/// Runs a command to its end, with an input; it is ended after a minute.
pub fn run(command: &mut Command, input: &str) -> Done {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|err| panic!("cannot start {command:?}: {err}"));
    let mut stdin = child.stdin.take().unwrap();
    let input = input.as_bytes().to_vec();
    let writer = std::thread::spawn(move || {
        // Whoever does not read its input does not need it.
        let _ = stdin.write_all(&input);
    });
    let pid = nix::unistd::Pid::from_raw(child.id() as i32);
    let (done, finished) = std::sync::mpsc::channel::<()>();
    let watchdog = std::thread::spawn(move || {
        if finished.recv_timeout(Duration::from_secs(60))
            == Err(std::sync::mpsc::RecvTimeoutError::Timeout)
        {
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        }
    });
    let output = child.wait_with_output().unwrap();
    drop(done);
    watchdog.join().unwrap();
    writer.join().unwrap();
    Done {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// One of our programs, as `cargo build --workspace --bins` left it.
pub fn bin(name: &str) -> PathBuf {
    let mut folder = std::env::current_exe().unwrap();
    folder.pop();
    if folder.ends_with("deps") {
        folder.pop();
    }
    let path = folder.join(name);
    assert!(
        path.exists(),
        "{} is not there: run `cargo build --workspace --bins` first (cargo xtask test does)",
        path.display()
    );
    path
}

/// Whether a peer was left out on purpose, by `cargo xtask test --without NAME`.
pub fn without(peer: &str) -> bool {
    std::env::var("ACCESS_TEST_WITHOUT").is_ok_and(|list| list.split(',').any(|name| name == peer))
}
