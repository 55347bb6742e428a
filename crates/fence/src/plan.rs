//! What fencing a resource means: levels, tried in order until one succeeds.

use std::sync::Arc;
use std::time::Duration;

use sitegate_host::clock::duration_ns;

use crate::agent::Agent;
use crate::deadman::Schedule;
use crate::systemd::UnitName;

/// The levels of a resource's fence, in the order in which they are tried. None if the resource is `unfenced`: then its
/// processes are killed, and that is all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The levels.
    pub levels: Vec<Level>,
}

/// One level of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Level {
    /// What does it.
    pub driver: Driver,
    /// How long it may take before the next level has its turn.
    pub within: Duration,
}

/// How a level makes certain that a resource no longer runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Driver {
    /// A program, which has succeeded if it exits with 0.
    Command(Program),
    /// A fence agent switches something off, and its status says so.
    Agent(Arc<Agent>),
    /// Stops and kills a unit of systemd and all that belongs to it, until systemd and the kernel say that nothing is left.
    Systemd(UnitName),
    /// Restarts the machine at once, without syncing or stopping anything.
    Reboot(RebootMethod),
    /// Pets the hardware watchdog no more, which then resets the machine.
    Watchdog,
    /// Stands for the plan of a resource that was armed or being fenced when it vanished from the configuration. It
    /// fails and says so until the resource is put back: nobody knows any more how to fence it.
    Removed,
}

/// A level's program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Absolute path and arguments; at least the path.
    pub command: Vec<String>,
    /// What tells that it would work, likewise, and fences nothing.
    pub check: Option<Vec<String>>,
}

/// How the machine is restarted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RebootMethod {
    /// `reboot(2)`. Needs `CAP_SYS_BOOT`.
    Syscall,
    /// `b` to `/proc/sysrq-trigger`, for where the system call is filtered.
    Sysrq,
}

impl Driver {
    /// Its name in the configuration, in receipts and in status.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Command(_) => "command",
            Self::Agent(_) => "agent",
            Self::Systemd(_) => "systemd",
            Self::Reboot(_) => "reboot",
            Self::Watchdog => "watchdog",
            Self::Removed => "removed",
        }
    }

    /// Whether a level with it cannot fail, as far as anything cannot.
    #[must_use]
    pub fn certain(&self) -> bool {
        matches!(self, Self::Reboot(_) | Self::Watchdog)
    }
}

impl Plan {
    /// The longest that the levels take from the first one's begin until the last one has succeeded and nothing is left, or
    /// has failed. After each the resource's processes are killed again, or what is left of a level that overran.
    #[must_use]
    pub fn levels_within(&self, kill_within: Duration) -> Duration {
        self.levels.iter().map(|level| level.within + kill_within).sum()
    }

    /// The longest that the whole plan takes if nothing else is fenced meanwhile.
    #[must_use]
    pub fn within(&self, kill_within: Duration) -> Duration {
        kill_within + self.levels_within(kill_within)
    }

    /// Whether the last level cannot fail.
    #[must_use]
    pub fn certain(&self) -> bool {
        self.levels.last().is_some_and(|level| level.driver.certain())
    }

    /// Whether the last level is the watchdog's.
    #[must_use]
    pub fn ends_in_watchdog(&self) -> bool {
        self.levels.last().is_some_and(|level| level.driver == Driver::Watchdog)
    }

    /// Whether this unit is stopped before anything else can have succeeded: by the first level that can fail, or by none but
    /// levels that end the machine.
    #[must_use]
    pub fn stops(&self, unit: &UnitName) -> bool {
        match self.levels.iter().find(|level| !level.driver.certain()) {
            Some(level) => matches!(&level.driver, Driver::Systemd(named) if named == unit),
            None => !self.levels.is_empty(),
        }
    }

    /// The most programs that a level of it runs at once.
    #[must_use]
    pub fn programs_at_once(&self) -> usize {
        let programs = |level: &Level| match &level.driver {
            Driver::Command(_) | Driver::Systemd(_) => 1,
            Driver::Agent(agent) => agent.plugs.len().max(1),
            Driver::Reboot(_) | Driver::Watchdog | Driver::Removed => 0,
        };
        self.levels.iter().map(programs).max().unwrap_or_default()
    }

    /// What the deadman needs of it.
    #[must_use]
    pub fn schedule(&self, kill_within: Duration) -> Schedule {
        Schedule {
            kill_within_ns: duration_ns(kill_within),
            level_within_ns: self.levels.iter().map(|level| duration_ns(level.within)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_takes_its_levels_and_a_kill_more() {
        let level = |s| Level { driver: Driver::Removed, within: Duration::from_secs(s) };
        let plan = Plan { levels: vec![level(8), level(5)] };
        let kill = Duration::from_millis(500);
        assert_eq!(plan.within(kill), Duration::from_millis(500 + 8500 + 5500));
        assert_eq!(Plan { levels: Vec::new() }.within(kill), kill);
    }
}
