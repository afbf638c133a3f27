//! The administrators' tool.

fn main() -> std::process::ExitCode {
    accessctl_cli::main(std::env::args_os())
}
