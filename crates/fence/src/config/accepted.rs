//! The configuration that is in force, kept in the runtime directory: with a wrong `fenced.toml`, a restart must not lose the
//! deadlines of what is armed.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use sitegate_host::clock::boot_id;
use sitegate_host::diagnostic::Source;
use sitegate_host::durable::{self, DurableError};

use super::{Config, DEFAULT_RUNTIME_DIR};
use crate::{journal, leases};

/// The copy in the runtime directory. Only its owner may read it: commands may hold passwords.
const FILE_NAME: &str = "accepted.toml";
const MODE: u32 = 0o600;

impl Config {
    /// Keeps it as what is in force.
    ///
    /// # Errors
    /// If the copy cannot be written.
    pub fn keep(&self) -> Result<(), DurableError> {
        durable::replace_with_mode(&self.runtime_dir.join(FILE_NAME), self.text.as_bytes(), MODE)
    }

    /// What was in force before, if the file `path` is wrong and something is armed or being fenced.
    #[must_use]
    pub fn kept(path: &Path) -> Option<Self> {
        let text = durable::read(&runtime_dir(path).join(FILE_NAME)).ok()??;
        // Under the name of the file itself, whose directory relative paths are taken from.
        let config = Self::from_source(&Source::new(path, String::from_utf8(text).ok()?)).ok()?;
        config.is_needed().then_some(config)
    }

    fn is_needed(&self) -> bool {
        let armed = boot_id().is_ok_and(|boot| {
            leases::read(&self.runtime_dir.join(leases::FILE_NAME), &boot).is_ok_and(|l| !l.is_empty())
        });
        // What is being fenced has no lease any more. A journal that cannot be read is no reason not to fence.
        armed
            || journal::load(&self.state_dir)
                .map_or(true, |l| l.records.values().any(|record| record.open.is_some()))
    }
}

#[derive(Deserialize)]
struct Named {
    #[serde(rename = "runtime-dir")]
    runtime_dir: PathBuf,
}

/// The runtime directory that a wrong file names, as far as it can be told: by the line that names it, if that one is right.
fn runtime_dir(path: &Path) -> PathBuf {
    let text = durable::read(path).ok().flatten().unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let named = text.lines().filter(|line| line.trim_start().starts_with("runtime-dir"));
    let named = named.filter_map(|line| Source::new(path, line).parse::<Named>().ok()).next();
    let named = named.map_or_else(|| DEFAULT_RUNTIME_DIR.into(), |named| named.runtime_dir);
    path.parent().unwrap_or(Path::new("")).join(named)
}
