//! Data on standard output.

use std::io::{self, Write};
use std::process;

use serde::Serialize;

use super::exit::Exit;
use super::failure::Failure;

/// Writes `text` as it is. If nobody reads any more (`sitegate history | head`), the program ends without a word.
///
/// # Errors
/// The output cannot be written.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            process::exit(i32::from(Exit::Done.code()));
        }
        result => result.map_err(|error| Failure::machine("write the output", &error)),
    }
}

/// Writes one JSON document for people and programs.
///
/// # Errors
/// As [`print`].
pub(crate) fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    let json = serde_json::to_string_pretty(value).map_err(|error| not_json(&error))?;
    print(&format!("{json}\n"))
}

/// Writes one JSON document in one line.
///
/// # Errors
/// As [`print`].
pub(crate) fn print_json_line(value: &impl Serialize) -> Result<(), Failure> {
    let json = serde_json::to_string(value).map_err(|error| not_json(&error))?;
    print(&format!("{json}\n"))
}

fn not_json(error: &serde_json::Error) -> Failure {
    Failure::new(Exit::Failed, format!("cannot write the output as JSON: {error}"))
}
