//! The users' tool.

fn main() -> std::process::ExitCode {
    access_cli::main(std::env::args_os())
}
