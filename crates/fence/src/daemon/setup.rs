//! The start: directories, locks, and what was left of the last time.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Resource as Limit, Rlimit, getrlimit, setrlimit};
use sitegate_fence_client::wire::{Name, Receipt, Token};
use sitegate_host::clock::boot_id;
use sitegate_host::durable::{self, DurableError, LockError, LockFile};
use tokio::sync::mpsc;
use tracing::{error, info, warn};

use super::core::{Core, Done, ENDS_MAX};
use super::{DaemonError, Locks};
use crate::config::{Config, ContainmentChoice, Resource};
use crate::containment::{Containment, ContainmentError};
use crate::deadman::{Deadman, Leases, Record};
use crate::journal::{self, Boots, Journal, Loaded};
use crate::leases;
use crate::plan::{Driver, Level, Plan};
use crate::programs::{Places, Programs};
use crate::reboot::{Restarter, restart_machine};
use crate::store::{Store, with_causes};

/// The file in the state directory with the site's name, as the last client told it: what is fenced before one connects
/// is told it too.
pub(super) const SITE_FILE: &str = "site";
/// The lock of each directory.
const LOCK_FILE: &str = "lock";

pub(super) fn set_up(mut config: Config) -> Result<(Locks, Core, Store, mpsc::Receiver<Done>), DaemonError> {
    let runtime = take(&config.runtime_dir)?;
    for (resource, problem) in config.unusable_programs() {
        warn!(ticket = %resource, "{}", with_causes(&problem));
    }
    let boot_id = boot_id().map_err(DaemonError::machine("read the boot id"))?;
    let leases_file = config.runtime_dir.join(leases::FILE_NAME);
    let leases = leases::read(&leases_file, &boot_id).unwrap_or_else(|error| {
        error!("what was armed is fenced, since the leases cannot be read: {}", with_causes(&error));
        Leases::new()
    });
    let Opened { lock, loaded, journal } = open_state(&config, &leases, &boot_id)?;
    let open = loaded.records.values().any(|record| record.open.is_some());
    let containment = contain(&config, open)?;
    info!(containment = containment.name(), resources = config.resources.len(), "starting");

    let store_failed = journal.as_ref().err().cloned();
    let restarted = restarted(&loaded.boots, &boot_id);
    let (records, forgotten) = known_records(loaded.records, &mut config.resources);
    let schedules = config
        .resources
        .iter()
        .map(|(name, r)| (name.clone(), r.plan.schedule(config.kill_within)))
        .collect();
    let deadman = Deadman::recover(leases::now(), config.concurrency.get(), schedules, records, &leases);

    raise_open_files(&config);
    let site = config.site.clone().or_else(|| remembered_site(&config.state_dir));
    let (kill_within, places) = (for_sweeper(config.kill_within), Places::default());
    let programs = Programs { containment, leases: leases_file, kill_within, places };
    let store = Store::start(journal).map_err(DaemonError::machine("start a thread"))?;
    let restarter = Restarter::start(restart_machine).map_err(DaemonError::machine("start a thread"))?;
    let (done, ends) = mpsc::channel(ENDS_MAX);
    let mut core = Core::new(config, deadman, programs, boot_id, restarter, loaded.receipts, done);
    if core.is_idle() {
        core.watchdog.try_out().map_err(|why| DaemonError::Watchdog { why })?;
    }
    core.keep_watchdog();
    core.site = site;
    core.store_failed = store_failed;
    core.forgotten = forgotten;
    core.restarted = restarted;
    Ok((Locks { _state: lock, _runtime: runtime }, core, store, ends))
}

/// The state directory, as far as it can be used.
struct Opened {
    lock: Option<LockFile>,
    loaded: Loaded,
    /// The journal, or why it cannot be written.
    journal: Result<Journal, String>,
}

/// Opens the state. A disk that cannot be used ends the start, but not if something is armed or being fenced: then fencing
/// that, without receipts, is better than not to be there.
fn open_state(config: &Config, leases: &Leases, boot_id: &str) -> Result<Opened, DaemonError> {
    let mut trouble: Option<DaemonError> = None;
    let lock = match take(&config.state_dir) {
        Ok(lock) => Some(lock),
        Err(held @ DaemonError::Locked(LockError::Held { .. })) => return Err(held),
        Err(error) => {
            trouble = Some(error);
            None
        }
    };
    let mut loaded = journal::load(&config.state_dir).unwrap_or_else(|error| {
        trouble.get_or_insert(error.into());
        Loaded::empty()
    });
    amend(&mut loaded, config, leases);
    let journal = match trouble {
        None => Journal::begin(&config.state_dir, &loaded, boot_id).map_err(DaemonError::from),
        Some(error) => Err(error),
    };
    let journal = match journal {
        Ok(journal) => Ok(journal),
        Err(error) if loaded.records.values().all(|record| record.open.is_none()) => return Err(error),
        Err(error) => {
            let why = with_causes(&error);
            error!(
                "THE STATE CANNOT BE WRITTEN: what is armed is extended and fenced, but nothing can be armed, and no receipt given, until that is repaired and sitegate-fenced restarted: {why}"
            );
            Err(why)
        }
    };
    Ok(Opened { lock, loaded, journal })
}

/// Control groups that cannot be used although they were asked for end the start, but not if something is armed or being fenced:
/// what earlier daemons have put into theirs is found there all the same.
fn contain(config: &Config, open: bool) -> Result<Containment, DaemonError> {
    let set_up = |choice| Containment::set_up(choice, &config.state_dir, &config.runtime_dir);
    match set_up(&config.containment) {
        Err(error @ (ContainmentError::Cgroup { .. } | ContainmentError::NoCgroups)) if open => {
            error!(
                "NO CONTROL GROUPS: using process trees, so that what is armed can be fenced: {}",
                with_causes(&error)
            );
            Ok(set_up(&ContainmentChoice::Tree)?)
        }
        done => Ok(done?),
    }
}

/// The deadman gives up on a kill after its limit; the one that kills stops a little earlier, so that it has let go before
/// the next step begins.
pub(super) fn for_sweeper(kill_within: Duration) -> Duration {
    kill_within * 4 / 5
}

fn take(directory: &Path) -> Result<LockFile, DaemonError> {
    fs::create_dir_all(directory).map_err(DurableError::on("create the directory", directory))?;
    Ok(LockFile::acquire(&directory.join(LOCK_FILE))?)
}

/// Makes up for what the journal does not know. What may have been armed counts as armed: it is fenced, or carried on if
/// its lease still stands.
fn amend(loaded: &mut Loaded, config: &Config, leases: &Leases) {
    if loaded.missing {
        info!("beginning a new journal in {}", config.state_dir.display());
    }
    if loaded.torn {
        warn!(
            "the journal's last line was incomplete: it was being written when the machine or the daemon went down"
        );
    }
    for (resource, lease) in leases {
        let record = loaded.records.entry(resource.clone()).or_default();
        if record.open.is_none() && lease.token > receipted(record) {
            error!(ticket = %resource, token = lease.token, "the journal does not know of a tenure that was armed: the state was lost");
            record.open = Some(lease.token);
        }
    }
    if let Some(what) = &loaded.corrupt {
        error!("THE JOURNAL IS DAMAGED, everything that is not provably armed is fenced: {what}");
        for resource in config.resources.keys() {
            let record = loaded.records.entry(resource.clone()).or_default();
            let token = *record.open.get_or_insert(receipted(record));
            // What is missing may have been armed in the boot that began the journal, and in none after that. If that is not
            // this one, the machine has restarted since; else every start would restart it, were the disk to take no write.
            let armed_here = leases.get(resource).is_some_and(|lease| lease.token == token);
            if let Some(begun) = loaded.begun.clone().filter(|_| !armed_here) {
                loaded.boots.insert(resource.clone(), (token, begun));
            }
        }
    }
}

/// The open tokens of earlier boots: for them the machine has restarted, which is all that the driver `reboot` can do.
fn restarted(boots: &Boots, boot_id: &str) -> BTreeMap<Name, Token> {
    let earlier = boots.iter().filter(|(_, (_, boot))| boot != boot_id);
    earlier.map(|(name, (token, _))| (name.clone(), *token)).collect()
}

fn receipted(record: &Record) -> Token {
    record.receipt.as_ref().map_or(0, |receipt| receipt.token)
}

/// The records of configured resources, and the receipts of others. One that is open but no longer configured gets a plan that
/// fails and says why: with the plan gone nobody knows how to fence it, and to forget it would be worse.
fn known_records(
    records: BTreeMap<Name, Record>,
    resources: &mut BTreeMap<Name, Resource>,
) -> (BTreeMap<Name, Record>, BTreeMap<Name, Receipt>) {
    let (mut known, mut forgotten) = (BTreeMap::new(), BTreeMap::new());
    for (name, record) in records {
        if !resources.contains_key(&name) {
            if record.open.is_none() {
                forgotten.extend(record.receipt.map(|receipt| (name, receipt)));
                continue;
            }
            error!(ticket = %name, "was armed or being fenced, and is no longer in fenced.toml: put it back and reload");
            let level = Level { driver: Driver::Removed, within: REMOVED_WITHIN };
            resources.insert(
                name.clone(),
                Resource {
                    start: None,
                    stop: None,
                    status: None,
                    join: None,
                    plan: Plan { levels: vec![level] },
                },
            );
        }
        known.insert(name, record);
    }
    (known, forgotten)
}

/// A level that only says that it fails needs no time; this is how long saying so may take.
const REMOVED_WITHIN: Duration = Duration::from_secs(1);

/// A name that cannot be read is not worth more than one that was never told.
fn remembered_site(state_dir: &Path) -> Option<Name> {
    let bytes = durable::read(&state_dir.join(SITE_FILE)).ok()??;
    Name::new(String::from_utf8(bytes).ok()?.trim()).ok()
}

/// Descriptors that a started resource costs: two pipes and the process.
const FILES_PER_RESOURCE: u64 = 3;
/// Descriptors that a program of a plan costs while it runs: the same, and what it reads.
const FILES_PER_PROGRAM: u64 = 4;
/// Descriptors for everything else: clients, hooks, files.
const FILES_BESIDE: u64 = 512;

/// Sees to enough descriptors, as far as the hard limit allows.
pub(super) fn raise_open_files(config: &Config) {
    let plans = config.concurrency.get().min(config.resources.len());
    let programs = config.resources.values().map(|r| r.plan.programs_at_once()).max().unwrap_or_default();
    let needed = FILES_BESIDE
        + FILES_PER_RESOURCE * config.resources.len() as u64
        + FILES_PER_PROGRAM * (plans * programs) as u64;
    let Rlimit { current, maximum } = getrlimit(Limit::Nofile);
    if current.is_some_and(|current| current < needed) {
        let raised = maximum.map_or(needed, |maximum| maximum.min(needed));
        if let Err(error) = setrlimit(Limit::Nofile, Rlimit { current: Some(raised), maximum }) {
            warn!("cannot raise the limit of open files to {raised}: {error}");
        } else if raised < needed {
            warn!(
                "only {raised} files may be open, {needed} would be needed to start all resources: raise LimitNOFILE"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use sitegate_fence_client::wire::{Activity, Deadline};
    use sitegate_host::diagnostic::Source;

    use super::*;
    use crate::deadman::Lease;

    fn name(name: &str) -> Name {
        Name::new(name).unwrap()
    }

    fn config() -> Config {
        let text = "[resource.a]\nfence = []\nunfenced = true\n[resource.b]\nfence = []\nunfenced = true\n";
        Config::from_source(&Source::new("fenced.toml", text)).unwrap()
    }

    fn loaded(records: &[(&str, Option<u64>)], corrupt: bool) -> Loaded {
        let records =
            records.iter().map(|(n, open)| (name(n), Record { open: *open, receipt: None })).collect();
        Loaded { records, missing: false, corrupt: corrupt.then(|| "line 2".to_owned()), ..Loaded::empty() }
    }

    #[test]
    fn only_another_boot_is_a_restart() {
        let boots = [("a", "this boot"), ("b", "the last")];
        let boots = boots.map(|(n, boot)| (name(n), (7, boot.to_owned()))).into();
        assert_eq!(restarted(&boots, "this boot"), [(name("b"), 7)].into());
    }

    fn leases(token: u64) -> Leases {
        let deadline = Deadline { boot_ns: u64::MAX, raw_ns: u64::MAX };
        Leases::from([(name("a"), Lease { token, incarnation: 1, deadline, activity: Activity::Started })])
    }

    #[test]
    fn a_lease_tells_of_a_tenure_whose_record_is_lost() {
        let mut state = loaded(&[], false);
        amend(&mut state, &config(), &leases(7));
        assert_eq!(state.records[&name("a")].open, Some(7));
        assert!(!state.records.contains_key(&name("b")));
    }

    #[test]
    fn after_damage_everything_counts_as_armed() {
        let mut state = loaded(&[("a", Some(5))], true);
        amend(&mut state, &config(), &Leases::new());
        assert_eq!(state.records[&name("a")].open, Some(5));
        assert_eq!(state.records[&name("b")].open, Some(0));
    }

    #[test]
    fn a_damaged_journal_on_a_disk_that_takes_no_write_restarts_the_machine_once() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config { state_dir: dir.path().to_path_buf(), ..config() };
        Journal::begin(dir.path(), &loaded(&[("a", Some(5))], false), "the first boot").unwrap();
        let path = dir.path().join(journal::FILE_NAME);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace("\"open\":5", "\"open\":6") + "\n").unwrap();
        // Where the new journal would be written first.
        fs::create_dir(path.with_extension("new")).unwrap();
        for (boot, has_restarted) in [("the first boot", false), ("the second", true), ("the third", true)] {
            let Opened { loaded, journal, .. } = open_state(&config, &Leases::new(), boot).unwrap();
            assert!(journal.is_err() && loaded.corrupt.is_some());
            assert!(loaded.records.values().all(|record| record.open.is_some()));
            let restarted = restarted(&loaded.boots, boot);
            assert_eq!(restarted.len(), if has_restarted { 2 } else { 0 }, "{boot}: {restarted:?}");
        }
    }

    #[test]
    fn after_damage_what_this_boot_has_armed_has_seen_no_restart() {
        let begun = Some("an earlier boot".to_owned());
        let mut state = Loaded { begun, ..loaded(&[], true) };
        amend(&mut state, &config(), &leases(7));
        assert_eq!(restarted(&state.boots, "this boot").into_keys().collect::<Vec<_>>(), [name("b")]);
    }

    #[test]
    fn what_vanished_from_the_configuration_is_not_forgotten() {
        let mut resources = config().resources;
        let state = loaded(&[("gone", Some(5)), ("over", None), ("a", None)], false);
        let (known, _) = known_records(state.records, &mut resources);
        assert_eq!(known.keys().collect::<Vec<_>>(), [&name("a"), &name("gone")]);
        assert_eq!(resources[&name("gone")].plan.levels[0].driver, Driver::Removed);
        assert!(!resources.contains_key(&name("over")));
    }
}
