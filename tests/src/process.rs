//! A process whose log can be waited on.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A process that is ended when this is dropped. Its output is kept, line by line.
pub struct Process {
    name: String,
    child: Child,
    lines: Arc<(Mutex<Lines>, Condvar)>,
}

#[derive(Default)]
struct Lines {
    all: Vec<String>,
    /// Streams that have not ended yet.
    open: usize,
}

impl Process {
    /// Starts a command; both of its output streams are read.
    pub fn start(name: &str, mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|err| panic!("cannot start {name}: {err}"));
        let lines = Arc::new((Mutex::new(Lines { open: 2, ..Lines::default() }), Condvar::new()));
        follow(child.stdout.take().unwrap(), Arc::clone(&lines));
        follow(child.stderr.take().unwrap(), Arc::clone(&lines));
        Self { name: name.to_owned(), child, lines }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its standard input.
    pub fn stdin(&mut self) -> ChildStdin {
        self.child.stdin.take().unwrap()
    }

    /// Everything that it has said so far.
    pub fn output(&self) -> String {
        self.lines.0.lock().unwrap().all.join("\n")
    }

    /// Waits for a line, from the first on, that `pick` makes something of.
    pub fn wait_for<T>(&self, what: &str, pick: impl Fn(&str) -> Option<T>) -> T {
        self.wait_from(0, what, pick)
    }

    /// Waits for a line, from number `from` on.
    pub fn wait_from<T>(&self, from: usize, what: &str, pick: impl Fn(&str) -> Option<T>) -> T {
        let deadline = Instant::now() + Duration::from_secs(30);
        let (lock, changed) = &*self.lines;
        let mut lines = lock.lock().unwrap();
        let mut at = from;
        loop {
            while at < lines.all.len() {
                if let Some(found) = pick(&lines.all[at]) {
                    return found;
                }
                at += 1;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || lines.open == 0 {
                let said = lines.all.join("\n");
                // The lock is needed again when this is dropped on the way out.
                drop(lines);
                panic!("{} never said {what}; it said:\n{said}", self.name);
            }
            lines = changed.wait_timeout(lines, left).unwrap().0;
        }
    }

    /// How many lines it has said.
    pub fn lines(&self) -> usize {
        self.lines.0.lock().unwrap().all.len()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    /// Ends it as a crash does, and waits for that.
    pub fn kill9(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for its end and gives the exit code.
    pub fn wait(self) -> Option<i32> {
        self.wait_within(Duration::from_secs(30))
    }

    /// The same for one that takes its time.
    pub fn wait_within(mut self, patience: Duration) -> Option<i32> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < deadline, "{} does not end:\n{}", self.name, self.output());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- {} said:\n{}", self.name, self.output());
        }
    }
}

fn follow(stream: impl std::io::Read + Send + 'static, lines: Arc<(Mutex<Lines>, Condvar)>) {
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines() {
            let Ok(line) = line else { break };
            lines.0.lock().unwrap().all.push(line);
            lines.1.notify_all();
        }
        lines.0.lock().unwrap().open -= 1;
        lines.1.notify_all();
    });
}
