//! What the figures were measured on.

use std::fs;

fn first_line(path: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().next().unwrap_or_default().trim().to_owned()
}

/// The load averages over 1, 5 and 15 minutes.
pub fn load() -> String {
    first_line("/proc/loadavg").split(' ').take(3).collect::<Vec<_>>().join(" ")
}

/// Prints the machine's cores, processor, kernel and load.
pub fn print() {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo
        .lines()
        .find(|line| line.starts_with("model name"))
        .and_then(|line| line.split_once(':'))
        .map_or("unknown processor", |(_, name)| name.trim());
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    println!(
        "{cores} cores of {model}, Linux {}, load {}",
        first_line("/proc/sys/kernel/osrelease"),
        load()
    );
}

/// A field of `/proc/PID/status` in KiB, such as `VmRSS`.
pub fn status_kib(pid: u32, field: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.split(':').next() == Some(field))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// How many threads a process has.
pub fn threads(pid: u32) -> Option<u64> {
    status_kib(pid, "Threads")
}
