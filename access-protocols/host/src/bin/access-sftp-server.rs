//! The SFTP server as a program of its own, for `sshd`'s `Subsystem` or for `sftp -D`.

fn main() -> std::process::ExitCode {
    match access_host::sftp::serve_stdio() {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(_) => std::process::ExitCode::FAILURE,
    }
}
