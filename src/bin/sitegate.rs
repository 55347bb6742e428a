//! `sitegate`, the command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    sitegate::cli::main()
}
