//! Where programs run so that all they started can be found and killed (docs/fencing.md, "What is killed"): a control group
//! per run where possible, else a process tree; a mark in the environment in both cases, as a net below.
//!
//! Groups and marks are nested: `<state directory>/<resource>/<role>`. A fence kills all of a resource, programs of an earlier
//! daemon included; a run that overran is killed alone.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use sitegate_fence_client::wire::{Deadline, Name};
use sitegate_host::cgroup::{Cgroup, Killer};
use sitegate_host::durable::{self, DurableError};
use sitegate_host::sweep::{MARK_VARIABLE, Sweeper};
use tokio::sync::oneshot;

use crate::config::ContainmentChoice;
use crate::keeper::Errand;
use crate::strike::Striker;

mod id;
mod joined;
mod kill;
mod role;
mod starter;

use id::{own_id, publish};
pub use joined::JoinError;
use joined::Joined;
pub use role::Role;
pub use starter::{Contained, StartError};
use starter::{Job, Starter};

/// The daemon's own program, to be run as a keeper; also when its file has been replaced by an upgrade.
const OWN_PROGRAM: &str = "/proc/self/exe";
/// The file that holds what tells this daemon's processes from another's; in the state directory, and in the runtime
/// directory too, so that what runs is found again even if the state is lost.
const ID_FILE: &str = "containment-id";
/// The file in the runtime directory that lists below which groups earlier daemons of this boot have put things.
const PARENTS_FILE: &str = "cgroup-parents";

/// Runs programs under keepers and kills them.
#[derive(Clone, Debug)]
pub struct Containment {
    id: String,
    /// Where new groups are made; `None` without control groups.
    parent: Option<Cgroup>,
    /// All places where groups may be, `parent` and those of earlier daemons.
    parents: Vec<Cgroup>,
    joined: Joined,
    sweeper: Sweeper,
    of_plans: Arc<Starter>,
    of_others: Arc<Starter>,
    striker: Arc<Striker>,
    /// The program that is run as a keeper.
    keeper: PathBuf,
}

/// Why nothing can be contained.
#[derive(Debug, thiserror::Error)]
pub enum ContainmentError {
    /// Control groups were asked for but cannot be used.
    #[error("cannot use control groups below {}: {why}; delegate the group to this daemon (Delegate=yes) or set containment = \"tree\"", parent.display())]
    Cgroup {
        /// Where.
        parent: PathBuf,
        /// Why not.
        why: String,
    },
    /// Control groups were asked for and there are none.
    #[error("no control groups of version 2 are mounted: mount them or set containment = \"tree\"")]
    NoCgroups,
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] DurableError),
    /// The threads that start programs and kill could not be started.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
}

impl Containment {
    /// Finds out what can be used here.
    ///
    /// # Errors
    /// [`ContainmentError`].
    pub fn set_up(
        choice: &ContainmentChoice,
        state_dir: &Path,
        runtime_dir: &Path,
    ) -> Result<Self, ContainmentError> {
        let id = own_id(&state_dir.join(ID_FILE), &runtime_dir.join(ID_FILE))?;
        let parent = match choice {
            ContainmentChoice::Tree => None,
            ContainmentChoice::Auto => Cgroup::own().filter(|own| match own.usable() {
                Ok(()) => true,
                Err(why) => {
                    tracing::info!("no control groups here, using process trees: {why}");
                    false
                }
            }),
            ContainmentChoice::Cgroup(below) => {
                let below = below.as_ref().map(Cgroup::at).or_else(Cgroup::own);
                let below = below.ok_or(ContainmentError::NoCgroups)?;
                let parent = below.path().to_path_buf();
                below.usable().map_err(|why| ContainmentError::Cgroup { parent, why })?;
                Some(below)
            }
        };
        let parent = parent.map(|below| below.child(&format!("sitegate-{id}")));
        let parents = remember_parent(&runtime_dir.join(PARENTS_FILE), parent.as_ref())?;
        let sweeper = Sweeper::start().map_err(ContainmentError::Thread)?;
        let starter = |name| Starter::start(name).map(Arc::new).map_err(ContainmentError::Thread);
        let (of_plans, of_others) = (starter("starter-plans")?, starter("starter")?);
        let striker = Arc::new(Striker::start().map_err(ContainmentError::Thread)?);
        let joined = Joined::load(runtime_dir);
        let keeper = OWN_PROGRAM.into();
        Ok(Self { id, parent, parents, joined, sweeper, of_plans, of_others, striker, keeper })
    }

    /// Runs keepers from this program, where this process's own is none.
    #[must_use]
    pub fn with_keeper(self, keeper: impl Into<PathBuf>) -> Self {
        Self { keeper: keeper.into(), ..self }
    }

    /// `cgroup` or `tree`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        if self.parent.is_some() { "cgroup" } else { "tree" }
    }

    /// Runs an errand under a keeper, in the role `role` of its resource, unless `cancel` comes before its turn, or that does not
    /// come `within` that time; tells whether `cancel` came while it was being started. The keeper passes `stdin` on if the errand says so. Not to be dropped before it ends.
    ///
    /// # Errors
    /// [`StartError`]; what happens to the program, the keeper reports.
    pub async fn run(
        &self,
        mut errand: Errand,
        role: Role,
        within: Duration,
        mut env: BTreeMap<String, String>,
        stdin: Stdio,
        cancel: &mut oneshot::Receiver<()>,
    ) -> Result<(Contained, bool), StartError> {
        let (name, resource) = (role.name(), errand.resource.file_name());
        let group = self.parent.as_ref().map(|parent| parent.child(&resource).child(&name));
        errand.cgroup = group.as_ref().map(|group| group.path().to_path_buf());
        env.insert(MARK_VARIABLE.to_owned(), self.mark(&errand.resource, Some(&name)));
        let (keeper, arguments) = (self.keeper.clone(), errand.arguments());
        let starter = if role.of_plan() { &self.of_plans } else { &self.of_others };
        let resource = errand.resource;
        starter.run(Job { resource, role, within, keeper, arguments, group, env, stdin }, cancel).await
    }

    /// Sets the deadline at which the control groups of a resource are struck first of all. Without control groups there is nothing
    /// that could be struck without a search.
    pub fn aim(&self, resource: &Name, deadline: Deadline) {
        if !self.parents.is_empty() {
            self.striker.aim(resource, deadline, || self.killers(resource));
        }
    }

    fn killers(&self, resource: &Name) -> Arc<[Killer]> {
        let groups = self.parents.iter().map(|parent| parent.child(&resource.file_name()));
        // A path with a zero byte in it is no group's.
        groups.filter_map(|group| group.killer().ok()).collect()
    }

    /// What strikes first.
    #[must_use]
    pub fn striker(&self) -> &Striker {
        &self.striker
    }

    /// Removes the control groups that are empty.
    pub fn tidy(&self) {
        self.parents.iter().for_each(Cgroup::remove);
    }

    fn mark(&self, resource: &Name, role: Option<&str>) -> String {
        let (id, resource) = (&self.id, resource.file_name());
        role.map_or_else(|| format!("{id}/{resource}"), |role| format!("{id}/{resource}/{role}"))
    }
}

/// Adds `parent` to the places where groups may be, and gives all of them.
fn remember_parent(file: &Path, parent: Option<&Cgroup>) -> Result<Vec<Cgroup>, DurableError> {
    let known = durable::read(file)?.unwrap_or_default();
    let known = String::from_utf8_lossy(&known).into_owned();
    let mut parents: Vec<Cgroup> = known.lines().filter(|l| !l.is_empty()).map(Cgroup::at).collect();
    if let Some(parent) = parent
        && !parents.contains(parent)
    {
        parents.push(parent.clone());
        let text: String = parents.iter().map(|p| format!("{}\n", p.path().display())).collect();
        publish(file, text.as_bytes());
    }
    Ok(parents)
}

#[cfg(test)]
mod tests {
    use std::{fs, slice};

    use super::*;

    #[test]
    fn earlier_places_are_not_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(PARENTS_FILE);
        let (a, b) = (Cgroup::at("/a"), Cgroup::at("/b"));
        assert_eq!(remember_parent(&file, None).unwrap(), []);
        assert_eq!(remember_parent(&file, Some(&a)).unwrap(), slice::from_ref(&a));
        assert_eq!(remember_parent(&file, Some(&a)).unwrap(), slice::from_ref(&a));
        assert_eq!(remember_parent(&file, Some(&b)).unwrap(), [a.clone(), b.clone()]);
        assert_eq!(remember_parent(&file, None).unwrap(), [a.clone(), b.clone()]);
        fs::create_dir(dir.path().join(format!("{PARENTS_FILE}.new"))).unwrap();
        let c = Cgroup::at("/c");
        assert_eq!(
            remember_parent(&file, Some(&c)).unwrap(),
            [a, b, c],
            "also where it cannot be written down"
        );
    }

    #[test]
    fn control_groups_that_were_asked_for_must_be_there() {
        let dir = tempfile::tempdir().unwrap();
        let choice = ContainmentChoice::Cgroup(Some(dir.path().join("none")));
        let error = Containment::set_up(&choice, dir.path(), dir.path()).unwrap_err().to_string();
        assert!(error.contains("Delegate=yes"), "{error}");
        let tree = Containment::set_up(&ContainmentChoice::Tree, dir.path(), dir.path()).unwrap();
        assert_eq!(tree.name(), "tree");
    }
}
