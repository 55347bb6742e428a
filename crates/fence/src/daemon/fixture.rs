//! A core for tests: with nothing in its directory, and whatever configuration.

use std::path::Path;

use sitegate_host::diagnostic::Source;
use tokio::sync::mpsc;

use super::core::{Core, Done, ENDS_MAX};
use crate::config::{Config, ContainmentChoice};
use crate::containment::Containment;
use crate::deadman::{Deadman, Leases};
use crate::leases;
use crate::programs::{Places, Programs};
use crate::reboot::Restarter;

pub(super) fn core(dir: &Path, text: &str, restarter: Restarter) -> (Core, mpsc::Receiver<Done>) {
    let config = Config::from_source(&Source::new("fenced.toml", text)).unwrap();
    let schedules =
        config.resources.iter().map(|(n, r)| (n.clone(), r.plan.schedule(config.kill_within))).collect();
    let deadman = Deadman::recover(leases::now(), 1, schedules, [].into(), &Leases::new());
    let containment = Containment::set_up(&ContainmentChoice::Tree, dir, dir).unwrap();
    let (leases, kill_within) = (dir.join("leases"), config.kill_within);
    let programs = Programs { containment, leases, kill_within, places: Places::default() };
    let (done, ends) = mpsc::channel(ENDS_MAX);
    (Core::new(config, deadman, programs, "this boot".to_owned(), restarter, [], done), ends)
}
