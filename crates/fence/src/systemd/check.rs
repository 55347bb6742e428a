//! Whether the units that a configuration names are there, and run only with their tickets.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use sitegate_fence_client::wire::Name;
use tokio::time::Instant;

use super::UnitName;
use super::look::{look, missing, otherwise};
use crate::config::Config;

/// How long systemd may take to answer all of it.
const WITHIN: Duration = Duration::from_secs(3);

/// Asks systemd about all units of a configuration; blocks, for at most some three seconds. Without any, nobody is asked.
#[must_use]
pub fn warnings(config: &Config) -> Vec<String> {
    let units = units(config);
    if units.is_empty() {
        return Vec::new();
    }
    // A thread of its own, since the caller's may be one of a runtime.
    let asked = thread::scope(|scope| {
        let asking = thread::Builder::new().name("systemd".to_owned()).spawn_scoped(scope, || ask(&units));
        asking.map(|thread| {
            thread.join().unwrap_or_else(|_| vec!["systemd was misunderstood: this is a bug".to_owned()])
        })
    });
    asked.unwrap_or_else(|error| {
        vec![format!("units of systemd are not checked: cannot start a thread: {error}")]
    })
}

fn units(config: &Config) -> BTreeSet<(Name, UnitName)> {
    let of = |(name, resource): (&Name, &crate::config::Resource)| {
        resource.units().into_iter().map(|unit| (name.clone(), unit.clone())).collect::<Vec<_>>()
    };
    config.resources.iter().flat_map(of).collect()
}

fn ask(units: &BTreeSet<(Name, UnitName)>) -> Vec<String> {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return vec![format!("units of systemd are not checked: {error}")],
    };
    runtime.block_on(async {
        let until = Instant::now() + WITHIN;
        let mut warnings = Vec::new();
        for (resource, unit) in units {
            let looked = match look(unit.as_str(), until).await {
                Ok(looked) => looked,
                Err(why) => {
                    warnings.push(format!("units of systemd are not checked: {why}"));
                    return warnings;
                }
            };
            let found = missing(&looked).into_iter().chain(otherwise(&looked));
            warnings.extend(found.map(|what| format!("resource {resource}: {what}")));
        }
        warnings
    })
}
