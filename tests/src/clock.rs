//! Clocks that are wrong.

use std::path::PathBuf;
use std::process::Command;

/// Has a program, and whatever it starts, believe that it is another time: `+1h`, `-3600s`. Clocks
/// that only measure go on as they are.
pub fn off_by(command: &mut Command, offset: &str) {
    command
        .env("LD_PRELOAD", library())
        .env("FAKETIME", offset)
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        .env("NO_FAKE_STAT", "1");
}

/// The library of `faketime`, for programs with threads. Its folder is named after the machine.
fn library() -> PathBuf {
    let folders = ["/usr/lib", "/usr/lib64"].into_iter().flat_map(|folder| {
        let below = std::fs::read_dir(folder).into_iter().flatten().flatten();
        below.map(|entry| entry.path()).chain([PathBuf::from(folder)])
    });
    folders
        .map(|folder| folder.join("faketime/libfaketimeMT.so.1"))
        .find(|library| library.exists())
        .expect("faketime is not installed: cargo xtask test does that")
}
