//! Agents for tests: shell scripts that do what a test wants.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use super::Agent;

/// An agent without options that never retries in vain for long.
pub(crate) fn agent(name: &str, plugs: &[&str]) -> Agent {
    Agent {
        name: name.to_owned(),
        options: BTreeMap::new(),
        options_file: None,
        plugs: plugs.iter().map(|&plug| plug.to_owned()).collect(),
        plug_option: "plug".to_owned(),
        retry_after: Duration::from_millis(100),
        attempt_within: Duration::from_secs(20),
    }
}

/// Writes an executable shell script. It is renamed into place, so that no test execs what another's fork still has open for
/// writing.
pub(crate) fn script(dir: &Path, name: &str, body: &str) -> String {
    let (aside, path) = (dir.join(format!("{name}.new")), dir.join(name));
    fs::write(&aside, format!("#!/bin/sh\n{body}\n")).unwrap();
    fs::set_permissions(&aside, fs::Permissions::from_mode(0o755)).unwrap();
    fs::rename(&aside, &path).unwrap();
    path.display().to_string()
}
