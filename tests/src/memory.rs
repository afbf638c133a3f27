//! What a process holds in memory, and what passed through a port.

use std::fs;
use std::io::{BufRead, Read, Seek, SeekFrom};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::process::Process;

/// The memory of a process that it can write to, at one moment.
pub struct Memory(Vec<Vec<u8>>);

impl Memory {
    /// Reads it from `/proc`, with the process stopped meanwhile.
    pub fn of(pid: u32) -> Self {
        let id = Pid::from_raw(pid as i32);
        kill(id, Signal::SIGSTOP).unwrap();
        let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
        let mut memory = fs::File::open(format!("/proc/{pid}/mem")).unwrap();
        let mut regions = Vec::new();
        for line in maps.lines() {
            let mut words = line.split_whitespace();
            let (range, mode) = (words.next().unwrap(), words.next().unwrap());
            if !mode.starts_with("rw") {
                continue;
            }
            let (from, to) = range.split_once('-').unwrap();
            let from = u64::from_str_radix(from, 16).unwrap();
            let to = u64::from_str_radix(to, 16).unwrap();
            let mut region = vec![0; (to - from) as usize];
            memory.seek(SeekFrom::Start(from)).unwrap();
            // Some of the kernel's own mappings cannot be read; they are not the program's.
            if memory.read_exact(&mut region).is_ok() {
                regions.push(region);
            }
        }
        kill(id, Signal::SIGCONT).unwrap();
        assert!(!regions.is_empty(), "nothing of process {pid} could be read");
        Self(regions)
    }

    /// Whether these bytes stand anywhere in it.
    pub fn holds(&self, bytes: &[u8]) -> bool {
        self.0.iter().any(|region| contains(region, bytes))
    }
}

/// The resident memory of a process, in KiB.
pub fn resident_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Whether `part` stands in `whole`.
pub fn contains(whole: &[u8], part: &[u8]) -> bool {
    let (&first, rest) = part.split_first().unwrap();
    let mut left = whole;
    // The standard library's search for a byte is compiled for speed; a loop here would not be,
    // and there are gigabytes to look through.
    while left.skip_until(first).unwrap() > 0 {
        if left.starts_with(rest) && whole[..whole.len() - left.len()].last() == Some(&first) {
            return true;
        }
    }
    false
}

/// A packet capture of everything to and from a loopback port.
pub struct Capture {
    tcpdump: Process,
    file: PathBuf,
}

impl Capture {
    /// Starts it, and returns once packets are seen.
    pub fn start(folder: &Path, addr: &str) -> Self {
        let addr: SocketAddr = addr.parse().unwrap();
        let file = folder.join(format!("capture-{}.pcap", addr.port()));
        let mut command = Command::new("tcpdump");
        command
            .args(["-i", "lo", "-U", "-s", "0", "-n", "--immediate-mode", "-Z", "root"])
            // A burst must not outrun it: what is not captured proves nothing.
            .args(["-B", "65536"])
            .arg("-w")
            .arg(&file)
            .args(["tcp", "port", &addr.port().to_string()]);
        let tcpdump = Process::start("tcpdump", command);
        tcpdump.wait_for("that it listens", |line| line.contains("listening on").then_some(()));
        Self { tcpdump, file }
    }

    /// Everything that passed so far, once that has these bytes in it.
    pub fn until(&self, mark: &[u8]) -> Vec<u8> {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let seen = fs::read(&self.file).unwrap();
            if contains(&seen, mark) {
                return seen;
            }
            assert!(Instant::now() < deadline, "the capture never showed the mark");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Ends it; nothing may have been missed.
    pub fn finish(self) -> Vec<u8> {
        self.tcpdump.signal(Signal::SIGINT);
        self.tcpdump.wait_for("that it missed nothing", |line| {
            line.starts_with("0 packets dropped by kernel").then_some(())
        });
        fs::read(&self.file).unwrap()
    }
}
