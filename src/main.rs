//! The `rasaudit` program, a thin wrapper around [`rasaudit::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    rasaudit::cli::main()
}
