//! A small world: who there is, how their clocks run, what may go wrong how often, and for how long it is looked at.

use std::collections::BTreeMap;

use sitegate_fence::deadman::Schedule;
use sitegate_protocol::{
    Boot, Command, Deadline, Drift, LocalTicket, MemberId, Now, Raw, Role, Settings, Span, Takeover,
    TicketName, TicketSettings, Timing,
};

use super::choice::Rules;
use super::search::{Outcome, search};
use crate::script::{db, member};

/// What a clock without drift counts in one tick. Times of the protocol are in these units: nothing in it asks for a second.
pub(crate) const UNITS: u64 = 10;
/// ρ: 20 %, so that one tick is 8 units of the slowest clock, and 12 of the fastest.
const DRIFT_PPM: u32 = 200_000;
/// E: five ticks. E(1−ρ) is exactly five ticks of the slowest clock.
const EXPIRE: u64 = 50;
/// A: two ticks. (E+A)(1+ρ) is exactly seven ticks of the fastest clock.
pub(crate) const ACQUIRE_AFTER: u64 = 20;

/// What may go wrong; each is counted against a budget of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// A frame is lost.
    Drop,
    /// A frame is late: it arrives at the beginning of any later tick, or never.
    Straggle,
    /// A frame arrives twice: now, and at the beginning of any later tick, or never.
    Copy,
    /// The member's process is killed, be it before a commit, between the commit and its effects, or after them. It starts again at
    /// the beginning of any later tick, or never.
    Kill,
    /// The machine loses its power: also what runs on it ends, and the next start is unproven.
    Power,
    /// One member is cut off, in one direction or both, until any later tick, or for good.
    Cut,
    /// The member's process stands still for a tick: its timers are late, and what is sent to it waits.
    Pause,
    /// A commit takes until the next tick; heartbeats and their answers pass it.
    SlowCommit,
    /// The fence daemon is killed and starts again.
    KillFenced,
}

/// How often what may go wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Budget([u8; 9]);

impl Budget {
    /// Nothing goes wrong but these, so often each.
    #[must_use]
    pub fn of(faults: &[(Fault, u8)]) -> Self {
        let mut budget = Self::default();
        for (fault, times) in faults {
            budget.0[*fault as usize] = *times;
        }
        budget
    }

    pub(crate) const fn none() -> Self {
        Self([0; 9])
    }

    /// How often it may go wrong yet.
    #[must_use]
    pub const fn left(self, fault: Fault) -> u8 {
        self.0[fault as usize]
    }

    pub(crate) const fn spend(&mut self, fault: Fault) {
        self.0[fault as usize] -= 1;
    }
}

/// Where the exploration begins. All members are born and vote, and know that site 1 is the preferred site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// Site 1 has just been told to take it, and asks for promises.
    Granted,
    /// Site 1 holds it, and its resources run.
    Held,
}

/// Something in a world that breaks what the protocol rests on, so that a violation has to be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planted {
    /// When a process is killed, its disk is put back to what it was when the exploration began, and the start claims to be proven.
    OldDisk,
    /// Effects leave before their commit is on the disk.
    EffectsFirst,
    /// The fence plan takes twice as long as A allows.
    LateFence,
}

/// A small world. [`worlds()`](super::worlds()) has those that are explored.
#[derive(Clone, Debug)]
pub struct World {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it is for.
    pub about: &'static str,
    /// The members, numbered from 1.
    pub roles: Vec<Role>,
    /// What the boot clock and the raw clock of each member count in one tick.
    pub rates: Vec<[u64; 2]>,
    /// Where it begins.
    pub begin: Begin,
    /// For how many ticks after that it is looked at.
    pub ticks: u16,
    /// What may go wrong how often.
    pub budget: Budget,
    /// A command that is given once, at the beginning of any tick, and the member that takes it.
    pub command: Option<(usize, Command)>,
    /// When others may take over.
    pub takeover: Takeover,
    /// What is broken on purpose.
    pub planted: Option<Planted>,
}

impl World {
    /// Goes through all states of it, until something is violated or there are `states_max`: a protocol with something broken in it
    /// may have no end of them.
    #[must_use]
    pub fn explore(&self, states_max: u64) -> Outcome {
        search(Rules::new(self), states_max)
    }

    pub(crate) fn n(&self) -> usize {
        self.roles.len()
    }

    pub(crate) fn is_site(&self, i: usize) -> bool {
        self.roles[i] == Role::Site
    }

    /// Both clocks of member `i`; no two members agree about anything but how time passes.
    pub(crate) fn now(&self, i: usize, tick: u16) -> Now {
        let [boot, raw] = self.rates[i];
        let base = 1000 * (i as u64 + 1);
        Now { boot: Boot(base + boot * u64::from(tick)), raw: Raw(7 * base + raw * u64::from(tick)) }
    }

    /// Whether `deadline` of member `i`, and `after` units of true time on top of it, lie at or before `tick`.
    pub(crate) fn is_over(&self, i: usize, deadline: Deadline, after: u64, tick: u16) -> bool {
        let (now, zero) = (self.now(i, tick), self.now(i, 0));
        let [boot, raw] = self.rates[i];
        // Both sides times the clock's rate and the units of a tick: all whole numbers.
        let over = |deadline: u64, zero: u64, now: u64, rate: u64| {
            (deadline.saturating_sub(zero)) * UNITS + after * rate <= (now - zero) * UNITS
        };
        over(deadline.boot.0, zero.boot.0, now.boot.0, boot)
            || over(deadline.raw.0, zero.raw.0, now.raw.0, raw)
    }

    /// How many ticks a kill may take at most by the clocks of member `i`.
    pub(crate) fn kill_ticks(&self, i: usize) -> u16 {
        let fastest = self.rates[i].into_iter().max().unwrap_or(UNITS);
        u16::try_from(self.kill_within() / fastest).unwrap_or(u16::MAX)
    }

    /// A(1−ρ), as inequality 2 of docs/protocol.md demands of a plan.
    fn kill_within(&self) -> u64 {
        let allowed = drift().at_most(Span::from_nanos(ACQUIRE_AFTER)).as_nanos();
        if self.planted == Some(Planted::LateFence) { 2 * allowed } else { allowed }
    }

    pub(crate) fn schedule(&self) -> Schedule {
        Schedule { kill_within_ns: self.kill_within(), level_within_ns: Vec::new() }
    }

    pub(crate) fn settings(&self, i: usize) -> Settings {
        let members: BTreeMap<MemberId, Role> = (1..).map(member).zip(self.roles.iter().copied()).collect();
        let ticket = TicketSettings {
            expire: Span::from_nanos(EXPIRE),
            acquire_after: Span::from_nanos(ACQUIRE_AFTER),
            takeover: self.takeover,
            order: vec![member(1), member(2)],
            failback: false,
            takeover_limit: 3,
        };
        let local = LocalTicket { check_within: Span::ZERO, check_hold: Span::from_nanos(EXPIRE) };
        let local: BTreeMap<TicketName, LocalTicket> =
            if self.is_site(i) { BTreeMap::from([(db(), local)]) } else { BTreeMap::new() };
        Settings {
            me: id(i),
            members,
            timing: Timing {
                heartbeat: Span::from_nanos(2 * UNITS),
                drift: drift(),
                rtt_max: Span::from_nanos(UNITS),
                commit_max: Span::ZERO,
                recovery_wait: Span::from_nanos(UNITS),
            },
            trust_disk: false,
            tickets: BTreeMap::from([(db(), ticket)]),
            local,
        }
    }
}

pub(crate) fn drift() -> Drift {
    Drift::from_ppm(DRIFT_PPM).unwrap_or_else(|| unreachable!("below half"))
}

/// Member `i`, counted from 0.
pub(crate) fn id(i: usize) -> MemberId {
    member(u8::try_from(i + 1).unwrap_or(u8::MAX))
}
