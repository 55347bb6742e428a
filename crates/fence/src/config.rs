//! `fenced.toml`, parsed into what cannot be wrong any more.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sitegate_fence_client::wire::Name;
use sitegate_host::diagnostic::{ConfigError, Source};
pub use sitegate_host::log::{Log, LogFormat};
use sitegate_host::spawn::{SpawnError, inspect};

use crate::agent::Places;
use crate::plan::{Driver, Plan};
use crate::systemd::{Call, UnitName, Verb};

mod accepted;
mod raw;
#[cfg(test)]
mod tests;

/// Where `sitegate-fenced` looks for its configuration unless told otherwise.
pub const DEFAULT_PATH: &str = "/etc/sitegate/fenced.toml";
const DEFAULT_STATE_DIR: &str = "/var/lib/sitegate-fenced";
const DEFAULT_RUNTIME_DIR: &str = "/run/sitegate-fenced";
/// The socket's name in the runtime directory.
const SOCKET_NAME: &str = "fenced.sock";
/// The longest path of a Unix socket, in bytes: `sun_path` of unix(7) without its end.
const SOCKET_PATH_BYTES_MAX: usize = 107;
const DEFAULT_LOG_FILTER: &str = "info";
/// How many plans run their levels at once: enough for most sites to fence everything in one go, few enough not to starve
/// a small machine of processes.
const DEFAULT_CONCURRENCY: NonZeroUsize = NonZeroUsize::new(32).unwrap();
/// Often enough that nothing runs twice for long, rare enough not to be seen in the load.
const DEFAULT_STATUS_EVERY: Duration = Duration::from_secs(60);
/// How long killing a resource's processes may take each time. They die within milliseconds unless the kernel is stuck in
/// I/O; then it is the plan's turn.
const DEFAULT_KILL_WITHIN: Duration = Duration::from_millis(500);
/// How long what has joined may take to end after SIGTERM, as service managers leave it.
const DEFAULT_JOIN_WITHIN: Duration = Duration::from_secs(10);

/// The configuration of the fence daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// What must survive a reboot lies here: what is armed, and receipts.
    pub state_dir: PathBuf,
    /// What must not survive one lies here: leases, the socket.
    pub runtime_dir: PathBuf,
    /// Where clients connect.
    pub socket: PathBuf,
    /// The site's name for programs; else the first client to say hello tells it.
    pub site: Option<Name>,
    /// How many plans run their levels at once.
    pub concurrency: NonZeroUsize,
    /// How long killing a resource's processes may take, each time.
    pub kill_within: Duration,
    /// Users beside root and the daemon's own that may connect.
    pub allow_uid: Vec<u32>,
    /// Users who may join a resource, of all resources that the file has.
    pub join_uid: Vec<u32>,
    /// How often it is looked whether something runs that is not armed.
    pub status_every: Duration,
    /// How what is started is held together.
    pub containment: ContainmentChoice,
    /// What resets the machine when nothing else ends.
    pub watchdog: Option<Watchdog>,
    /// The log.
    pub log: Log,
    /// The resources.
    pub resources: BTreeMap<Name, Resource>,
    /// Where the file says what of fence agents.
    pub agents: Vec<Places>,
    /// The file that says all this.
    pub text: String,
}

/// How what `start` starts is held together, so that all of it can be killed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContainmentChoice {
    /// Control groups where they are writable, else process trees.
    Auto,
    /// Control groups, below this one or below the daemon's own; without them the daemon does not start.
    Cgroup(Option<PathBuf>),
    /// Process trees.
    Tree,
}

/// `[watchdog]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watchdog {
    /// The device.
    pub device: PathBuf,
    /// How long after it was last petted it resets the machine; whole seconds.
    pub timeout: Duration,
}

/// What a reset by the watchdog may take beyond its time-out: the device's own coarseness, and the last pet's way.
pub(crate) const WATCHDOG_MARGIN: Duration = Duration::from_secs(1);

impl Watchdog {
    /// The longest from the last pet that was due to the machine's end.
    #[must_use]
    pub fn within(&self) -> Duration {
        self.timeout + WATCHDOG_MARGIN
    }
}

/// A resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// Starts it.
    pub start: Option<Hook>,
    /// Stops it gracefully.
    pub stop: Option<Hook>,
    /// Tells whether it runs here: exits with 0 if so, with 3 if not.
    pub status: Option<Hook>,
    /// Who may join it.
    pub join: Option<Join>,
    /// Makes certain that it no longer runs.
    pub plan: Plan,
}

/// Who may join a resource: have a process of theirs fenced with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Join {
    /// These users; nobody else, not even root.
    pub uid: Vec<u32>,
    /// How long what has joined may take to end once it was asked to.
    pub within: Duration,
}

/// What starts, stops or tells of a resource, with its time limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// What does it.
    pub work: Work,
    /// How long it may take.
    pub within: Duration,
}

/// What does what a [`Hook`] is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Work {
    /// A program: absolute path and arguments; at least the path.
    Command(Vec<String>),
    /// systemd, with this unit.
    Unit(UnitName),
}

impl Hook {
    /// The program to run for `resource`, if systemd is asked to do `verb`, and what the log calls it.
    #[must_use]
    pub fn command(&self, resource: &Name, verb: Verb) -> (Vec<String>, String) {
        match &self.work {
            Work::Command(command) => (command.clone(), command[0].clone()),
            Work::Unit(unit) => {
                let (resource, unit) = (resource.clone(), unit.clone());
                let call = Call { verb, resource, unit, within: self.within };
                (call.command(), call.shown())
            }
        }
    }
}

impl Resource {
    fn hooks(&self) -> impl Iterator<Item = &Hook> {
        [&self.start, &self.stop, &self.status].into_iter().flatten()
    }

    /// The units of systemd that hooks and levels name.
    #[must_use]
    pub fn units(&self) -> Vec<&UnitName> {
        let of_hooks = self.hooks().filter_map(|hook| match &hook.work {
            Work::Unit(unit) => Some(unit),
            Work::Command(_) => None,
        });
        let of_levels = self.plan.levels.iter().filter_map(|level| match &level.driver {
            Driver::Systemd(unit) => Some(unit),
            _ => None,
        });
        of_hooks.chain(of_levels).collect()
    }
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// Everything that is wrong with it, each with line, cause and fix.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::from_source(&Source::read(path)?)
    }

    /// Checks a file that was read.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn from_source(source: &Source) -> Result<Self, ConfigError> {
        raw::check(source, source.parse()?)
    }

    /// The longest that fencing `resource` takes if nothing else is fenced meanwhile; `None` if there is none of that name.
    #[must_use]
    pub fn fenced_within(&self, resource: &Name) -> Option<Duration> {
        let plan = &self.resources.get(resource)?.plan;
        Some(plan.within(self.kill_within) + self.net(std::iter::once(plan)))
    }

    /// What the watchdog takes to end the machine once a plan should have been over and is not. Nothing where each of `plans` has
    /// that for its last level.
    fn net<'a>(&self, mut plans: impl Iterator<Item = &'a Plan>) -> Duration {
        match &self.watchdog {
            Some(watchdog) if plans.any(|plan| !plan.ends_in_watchdog()) => watchdog.within(),
            _ => Duration::ZERO,
        }
    }

    /// The longest that fencing any of `count` resources takes if all of them are fenced at once, whichever they are: what
    /// acquire-after has to leave room for (design of the inequality: `docs/fencing.md`). Of all resources if `None`.
    #[must_use]
    pub fn all_fenced_within(&self, count: Option<usize>) -> Duration {
        let count = count.unwrap_or(self.resources.len());
        self.all_within(self.longest_levels(), count)
    }

    /// The same for `count` resources whose plans' levels take at most `longest`.
    pub(crate) fn all_within(&self, longest: Duration, count: usize) -> Duration {
        self.all_over_within(longest, count)
            + self.net(self.resources.values().map(|resource| &resource.plan))
    }

    /// The same until all plans should be over, before the watchdog's turn.
    fn all_over_within(&self, longest: Duration, count: usize) -> Duration {
        let turns = u32::try_from(count.div_ceil(self.concurrency.get())).unwrap_or(u32::MAX);
        self.kill_within + longest.saturating_mul(turns)
    }

    /// How long after its begin any fence should be over, whatever else is fenced. Then the watchdog is petted no more.
    #[must_use]
    pub fn over_within(&self) -> Duration {
        self.all_over_within(self.longest_levels(), self.resources.len())
    }

    /// The longest that the levels of any plan take.
    pub(crate) fn longest_levels(&self) -> Duration {
        self.resources.values().map(|r| r.plan.levels_within(self.kill_within)).max().unwrap_or_default()
    }

    /// The programs that could not be run as things stand on this machine, with the resource they are for.
    #[must_use]
    pub fn unusable_programs(&self) -> Vec<(Name, SpawnError)> {
        let mut unusable = Vec::new();
        for (name, resource) in &self.resources {
            let hooks = resource.hooks().filter_map(|hook| match &hook.work {
                Work::Command(command) => Some(PathBuf::from(&command[0])),
                Work::Unit(_) => None,
            });
            let levels = resource.plan.levels.iter().flat_map(|level| match &level.driver {
                Driver::Command(program) => {
                    [Some(&program.command), program.check.as_ref()].map(|c| c.map(|c| PathBuf::from(&c[0])))
                }
                Driver::Agent(agent) => [Some(agent.program()), None],
                Driver::Systemd(_) | Driver::Reboot(_) | Driver::Watchdog | Driver::Removed => [None, None],
            });
            let problems = hooks.chain(levels.flatten()).filter_map(|program| inspect(&program).err());
            unusable.extend(problems.map(|problem| (name.clone(), problem)));
        }
        unusable
    }
}
