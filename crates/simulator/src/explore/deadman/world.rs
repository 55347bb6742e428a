//! A world of the deadman: how many resources, what their plans are, and what may happen how often.

use std::collections::BTreeMap;

use sitegate_fence::deadman::{RETRY_PAUSE_NS, Schedule};
use sitegate_fence_client::wire::{Deadline, Instant, Name, Token};

use super::choice::Rules;
use crate::explore::search::{Outcome, search};

/// What both clocks count in one tick.
const TICK_NS: u64 = 1_000_000_000;
/// How long a kill may take, and a level, in ticks.
pub(super) const LIMIT: u16 = 1;
/// How long a plan rests that has failed, in ticks.
pub(super) const PAUSE: u16 = 2;
const _: () = assert!(RETRY_PAUSE_NS == PAUSE as u64 * TICK_NS);
/// The deadlines that a client asks for: how far ahead on each clock, in ticks. Now one clock is the first to reach it, now the other.
pub(super) const AHEAD: [[u16; 2]; 2] = [[2, 3], [4, 1]];
/// The tokens that it uses.
pub(super) const TOKENS: [Token; 2] = [1, 2];
/// The incarnations as which it speaks. What is armed at the beginning was armed by the newer one.
pub(super) const INCARNATIONS: [u64; 2] = [1, 2];

/// Where an exploration begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Nothing is armed, and nothing ever was.
    Unarmed,
    /// Everything is armed with the smaller token, until the first of the deadlines, and start hooks are on their way to their exec.
    Starting,
    /// The same, and runs.
    Running,
}

/// Something in a world that breaks what the deadman rests on, so that a violation has to be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planted {
    /// The deadman is called a tick late.
    LateTimer,
    /// Programs do not look at their lease.
    BlindExec,
    /// Kills report success and end nothing.
    IdleKill,
}

/// A small world of the deadman. [`worlds()`](super::worlds()) has those that are explored.
#[derive(Clone, Debug)]
pub struct DeadmanWorld {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it is for.
    pub about: &'static str,
    /// How many resources there are. One plan runs its levels at a time.
    pub resources: usize,
    /// How many levels each plan has; without any, the kill is all there is.
    pub levels: usize,
    /// Where it begins.
    pub start: Start,
    /// For how many ticks it is looked at.
    pub ticks: u16,
    /// How many requests of a client are not refused.
    pub requests: u8,
    /// How often a kill or a level fails, hangs, or leaves something running.
    pub faults: u8,
    /// How often the daemon is killed, or the machine loses its power.
    pub deaths: u8,
    /// What is broken on purpose.
    pub planted: Option<Planted>,
}

impl DeadmanWorld {
    /// Goes through all states of it, until something is violated or there are `states_max`.
    #[must_use]
    pub fn explore(&self, states_max: u64) -> Outcome {
        search(Rules::new(self), states_max)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = Name> {
        let name = |name: &str| Name::new(name).unwrap_or_else(|_| unreachable!("it is one"));
        ["a", "b"].into_iter().take(self.resources).map(name)
    }

    pub(super) fn schedules(&self) -> BTreeMap<Name, Schedule> {
        let limit = u64::from(LIMIT) * TICK_NS;
        let schedule = Schedule { kill_within_ns: limit, level_within_ns: vec![limit; self.levels] };
        self.names().map(|name| (name, schedule.clone())).collect()
    }

    /// The longest from a deadline to a receipt, in ticks: a kill, and the levels of all plans one after the other, each with a kill.
    pub(super) fn plan(&self) -> u16 {
        let levels = u16::try_from(self.levels * self.resources).unwrap_or(u16::MAX);
        LIMIT + levels * 2 * LIMIT
    }
}

/// Both clocks; they do not agree about anything but how time passes.
pub(super) fn now(tick: u16) -> Instant {
    let Deadline { boot_ns, raw_ns } = deadline(tick, [0, 0]);
    Instant { boot_ns, raw_ns }
}

/// The deadline that lies so many ticks ahead on each clock.
pub(super) fn deadline(tick: u16, ahead: [u16; 2]) -> Deadline {
    let at = |base: u64, ahead: u16| (base + u64::from(tick + ahead)) * TICK_NS;
    Deadline { boot_ns: at(1000, ahead[0]), raw_ns: at(7000, ahead[1]) }
}
