//! Processes that were not started here and have joined a resource (docs/fencing.md, "Joining"): a fence kills them like all else.
//!
//! Which they are is remembered in memory and in the runtime directory, also where control groups hold them: nothing that was
//! taken down once is missed, wherever it had got to when a fence or a restart of the daemon came.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sitegate_fence_client::wire::Name;
use sitegate_host::clock::boot_id;
use sitegate_host::durable::{self, DurableError};
use sitegate_host::process::{self, Environment, Process};
use sitegate_host::sweep::MARK_VARIABLE;
use tracing::{error, warn};

use super::Containment;
use crate::store::with_causes;

/// The file in the runtime directory: a line `resource pid started` for each; the first line bears the boot id.
const FILE_NAME: &str = "joined";
const HEADER: &str = "sitegate-joined-1";
/// The role that joined processes play, beside `start` and the others.
const ROLE: &str = "join";
/// How many processes may have joined one resource: each is looked at, and there is a program in each.
const JOINED_MAX: usize = 1024;

/// Why a process cannot join.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// Too many have.
    #[error("{JOINED_MAX} processes have joined already")]
    Full,
    /// It belongs to another resource, whose fence must not miss it.
    #[error("it belongs to {0} already")]
    Elsewhere(String),
    /// It could not be taken down.
    #[error("it cannot be written down")]
    File(#[source] DurableError),
    /// It could not be moved.
    #[error("it cannot be moved into the control group {}: sitegate-fenced has to run as root for that", group.display())]
    Cgroup {
        /// Where to.
        group: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// Who has joined what. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Joined {
    file: PathBuf,
    processes: Arc<Mutex<Processes>>,
}

type Processes = BTreeMap<Name, BTreeSet<Process>>;

impl Joined {
    /// What earlier daemons of this boot have left.
    pub(super) fn load(runtime_dir: &Path) -> Self {
        let file = runtime_dir.join(FILE_NAME);
        let processes = read(&file).unwrap_or_else(|why| {
            error!("what had joined a ticket is not known any more, and is fenced only as far as it bears a mark: {why}");
            Processes::new()
        });
        Self { file, processes: Arc::new(Mutex::new(processes)) }
    }

    pub(super) fn of(&self, resource: &Name) -> BTreeSet<Process> {
        self.lock().get(resource).cloned().unwrap_or_default()
    }

    /// Whether it is new.
    fn add(&self, resource: &Name, process: Process) -> Result<bool, JoinError> {
        let mut processes = self.lock();
        for joined in processes.values_mut() {
            joined.retain(|one| process::stat(one.pid).is_some_and(|stat| stat.process == *one));
        }
        processes.retain(|_, joined| !joined.is_empty());
        if let Some((other, _)) =
            processes.iter().find(|(name, of)| *name != resource && of.contains(&process))
        {
            return Err(JoinError::Elsewhere(other.to_string()));
        }
        let joined = processes.entry(resource.clone()).or_default();
        if joined.len() >= JOINED_MAX {
            return Err(JoinError::Full);
        }
        if !joined.insert(process) {
            return Ok(false);
        }
        let written = self.write(&processes).map_err(JoinError::File);
        if written.is_err() {
            forget(&mut processes, resource, &BTreeSet::from([process]));
        }
        written.map(|()| true)
    }

    /// These are dead, or have not joined after all.
    pub(super) fn forget(&self, resource: &Name, these: &BTreeSet<Process>) {
        if these.is_empty() {
            return;
        }
        let mut processes = self.lock();
        forget(&mut processes, resource, these);
        if let Err(error) = self.write(&processes) {
            // Once dead, nobody is mistaken for them.
            warn!("cannot write down who has joined: {}", with_causes(&error));
        }
    }

    fn write(&self, processes: &Processes) -> Result<(), DurableError> {
        let boot = boot_id().unwrap_or_default();
        let lines = processes.iter().flat_map(|(resource, joined)| {
            joined.iter().map(move |Process { pid, started }| format!("{resource} {pid} {started}\n"))
        });
        durable::replace(&self.file, format!("{HEADER} {boot}\n{}", lines.collect::<String>()).as_bytes())
    }

    fn lock(&self) -> MutexGuard<'_, Processes> {
        self.processes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn forget(processes: &mut Processes, resource: &Name, these: &BTreeSet<Process>) {
    if let Some(joined) = processes.get_mut(resource) {
        joined.retain(|process| !these.contains(process));
        if joined.is_empty() {
            processes.remove(resource);
        }
    }
}

fn read(file: &Path) -> Result<Processes, String> {
    let bytes = durable::read(file).map_err(|error| with_causes(&error))?.unwrap_or_default();
    let boot = boot_id().map_err(|error| format!("cannot read the boot id: {error}"))?;
    let garbled = || format!("{} is garbled", file.display());
    parse(std::str::from_utf8(&bytes).map_err(|_| garbled())?, &boot).ok_or_else(garbled)
}

fn parse(text: &str, boot: &str) -> Option<Processes> {
    let mut processes = Processes::new();
    let mut lines = text.lines();
    let Some(header) = lines.next() else { return Some(processes) };
    if header.strip_prefix(HEADER)?.strip_prefix(' ')? != boot {
        return Some(processes);
    }
    for line in lines {
        let mut words = line.split(' ');
        let resource = Name::new(words.next()?).ok()?;
        let process = Process { pid: words.next()?.parse().ok()?, started: words.next()?.parse().ok()? };
        words.next().is_none().then_some(())?;
        processes.entry(resource).or_default().insert(process);
    }
    Some(processes)
}

impl Containment {
    /// Takes a process down as one that belongs to `resource`: every kill that begins from now on ends it, with what descends from
    /// it. False if it belonged to it before.
    ///
    /// # Errors
    /// [`JoinError`]; then it does not belong to it.
    pub fn take_down(&self, resource: &Name, process: Process) -> Result<bool, JoinError> {
        if let Some(other) = self.of_another(resource, process) {
            return Err(JoinError::Elsewhere(other));
        }
        self.joined.add(resource, process)
    }

    /// The file name of another resource that a process belongs to, by its mark or its control group: what joins leaves both.
    fn of_another(&self, resource: &Name, process: Process) -> Option<String> {
        let mark = match process::environment(process.pid, MARK_VARIABLE) {
            Environment::Has(mark) => String::from_utf8_lossy(&mark).into_owned(),
            Environment::Lacks | Environment::InExec | Environment::Hidden => String::new(),
        };
        let group = fs::read_to_string(format!("/proc/{}/cgroup", process.pid)).unwrap_or_default();
        let of =
            [(mark.as_str(), format!("{}/", self.id)), (group.as_str(), format!("/sitegate-{}/", self.id))];
        let mut owners = of.iter().filter_map(|(text, before)| {
            text.lines().find_map(|line| line.split_once(before.as_str())?.1.split('/').next())
        });
        owners.find(|owner| *owner != resource.file_name()).map(str::to_owned)
    }

    /// It has not joined after all.
    pub fn strike_out(&self, resource: &Name, process: Process) {
        self.joined.forget(resource, &BTreeSet::from([process]));
    }

    /// Moves a process that is [taken down](Self::take_down) to where what it starts stays with it. May take a while.
    ///
    /// # Errors
    /// [`JoinError::Cgroup`].
    pub fn move_in(&self, resource: &Name, process: Process) -> Result<(), JoinError> {
        let Some(parent) = &self.parent else { return Ok(()) };
        let group = parent.child(&resource.file_name()).child(ROLE);
        let moved = group.create().and_then(|()| group.take_in(process.pid));
        moved.map_err(|source| JoinError::Cgroup { group: group.path().to_path_buf(), source })
    }

    /// Those that have joined and may still run.
    #[must_use]
    pub fn joined(&self, resource: &Name) -> BTreeSet<Process> {
        self.joined.of(resource)
    }

    /// What the descendants of such a process should bear in their environment.
    #[must_use]
    pub fn mark_of_joined(&self, resource: &Name) -> String {
        self.mark(resource, Some(ROLE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn me() -> Process {
        process::stat(i32::try_from(std::process::id()).unwrap()).unwrap().process
    }

    #[test]
    fn who_has_joined_is_known_to_the_next_daemon_of_this_boot() {
        let dir = tempfile::tempdir().unwrap();
        let (db, web) = (Name::new("db").unwrap(), Name::new("web").unwrap());
        let joined = Joined::load(dir.path());
        joined.add(&db, Process { pid: i32::MAX, started: 1 }).unwrap();
        assert!(joined.add(&db, me()).unwrap() && !joined.add(&db, me()).unwrap(), "it is new once");
        assert_eq!(joined.of(&db), BTreeSet::from([me()]), "the dead are forgotten");
        assert_eq!(Joined::load(dir.path()).of(&db), BTreeSet::from([me()]));
        assert!(matches!(joined.add(&web, me()), Err(JoinError::Elsewhere(other)) if other == "db"));
        joined.forget(&db, &BTreeSet::from([me()]));
        joined.add(&web, me()).unwrap();
        let next = Joined::load(dir.path());
        assert!(next.of(&db).is_empty() && next.of(&web) == BTreeSet::from([me()]));

        let text = std::fs::read_to_string(dir.path().join(FILE_NAME)).unwrap();
        assert!(parse(&text, "another boot").unwrap().is_empty(), "pids of another boot are strangers");
        let boot = boot_id().unwrap();
        for garbled in ["x", "db 1", "db 1 2 3", "db x 1"] {
            assert_eq!(parse(&format!("{HEADER} {boot}\n{garbled}\n"), &boot), None, "{garbled}");
        }
    }

    #[test]
    fn what_cannot_be_written_down_has_not_joined() {
        let dir = tempfile::tempdir().unwrap();
        let db = Name::new("db").unwrap();
        let joined = Joined::load(&dir.path().join("gone"));
        assert!(matches!(joined.add(&db, me()), Err(JoinError::File(_))));
        assert!(joined.of(&db).is_empty());
    }
}
