//! Programs of other packages, for tests.

use std::path::{Path, PathBuf};
use std::process::Command;

/// `name` of `package`. It lies in the directory of the other programs, as in an installation; cargo builds it there if it does
/// not.
///
/// # Panics
/// If it cannot be built.
#[must_use]
pub fn program(directory: &Path, package: &str, name: &str) -> PathBuf {
    let path = directory.join(name);
    if !path.exists() {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--package", package, "--bin", name]);
        if directory.ends_with("release") {
            cargo.arg("--release");
        }
        assert!(cargo.status().unwrap().success(), "{name} could not be built");
    }
    path
}
