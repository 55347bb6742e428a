//! The fence daemon, for tests of other packages.

use std::path::{Path, PathBuf};
use std::process::Command;

/// It lies in the directory of the other programs, as in an installation; cargo builds it there if it does not.
pub(crate) fn fenced(directory: &Path) -> PathBuf {
    let path = directory.join("sitegate-fenced");
    if !path.exists() {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--package", "sitegate-fence", "--bin", "sitegate-fenced"]);
        if directory.ends_with("release") {
            cargo.arg("--release");
        }
        assert!(cargo.status().unwrap().success(), "sitegate-fenced could not be built");
    }
    path
}
