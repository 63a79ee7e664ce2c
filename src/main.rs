use std::process::ExitCode;

fn main() -> ExitCode {
    tracegym::cli::main()
}
