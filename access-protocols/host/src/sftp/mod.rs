//! An SFTP server over standard input and output, as the user that it runs as.
//!
//! It speaks version 3 (draft-ietf-secsh-filexfer-02) as OpenSSH does, with OpenSSH's extensions
//! that its own clients use, so that stock `sftp` and `scp` find what they look for. It is a
//! process of its own: the kernel decides what the login may touch. It is synchronous, takes as
//! many requests as have arrived before it writes, and reads file contents straight into its
//! output, so that a client that pipelines is limited by the connection.
//!
//! File names are bytes here, as they are in the system: none is lost for not being UTF-8.

mod attributes;
mod extended;
mod files;
mod handles;
mod listing;
mod oracle;
mod paths;
mod server;
mod wire;

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::path::Path;

#[doc(hidden)]
pub use oracle::fuzz_oracle;

/// The name under which this server is started.
pub const PROGRAM_NAME: &str = "access-sftp-server";

/// The first argument with which any program that calls [`run_if_invoked`] is this server.
pub const ARGUMENT: &str = "__sftp-server";

/// Serves SFTP on standard input and output if this process was started for that, and returns
/// whether it was.
///
/// Call it first in `main`, before any thread or runtime is started.
pub fn run_if_invoked() -> bool {
    let mut args = std::env::args_os();
    let named = args
        .next()
        .is_some_and(|name| Path::new(&name).file_name() == Some(OsStr::new(PROGRAM_NAME)));
    if !named && args.next().is_none_or(|first| first != ARGUMENT) {
        return false;
    }
    // A peer that is gone, or one that breaks the protocol, is the end; there is nobody to tell.
    let _ = serve_stdio();
    true
}

/// Serves SFTP on standard input and output until the client closes.
///
/// # Errors
/// What reading or writing says, or [`io::ErrorKind::InvalidData`] when the peer breaks the
/// protocol.
pub fn serve_stdio() -> io::Result<()> {
    // Files, not `Stdin` and `Stdout`: those buffer on their own.
    let input = std::fs::File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let output = std::fs::File::from(io::stdout().as_fd().try_clone_to_owned()?);
    serve(input, output)
}

/// Serves SFTP over any pair of streams, as the user that this process runs as.
///
/// # Errors
/// As [`serve_stdio`].
pub fn serve(input: impl Read, output: impl Write) -> io::Result<()> {
    server::Server::default().run(input, output)
}
