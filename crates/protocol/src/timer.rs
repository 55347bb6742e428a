//! Timers: an enum and a table with one `next_timeout`. Early wake-ups are harmless, so a guard, which needs both
//! clocks, is set on one and looked at again.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use crate::ids::TicketName;
use crate::time::{Boot, Deadline, Guard, Now, Raw};
use crate::value::Key;

/// What may be due.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Timer {
    /// The next heartbeat or ping.
    Heartbeat,
    /// Birth and recovery ask again.
    Standing,
    /// Commands ask again.
    Commands,
    /// A round sends again what was not answered.
    Round(Key),
    /// The lease of a held ticket, or whatever a site does next about a ticket.
    Ticket(TicketName),
    /// A guard with candidates behind it ends.
    Parked(TicketName),
}

/// The earliest time on each clock at which the member wants to be called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Timeouts {
    /// On `CLOCK_BOOTTIME`.
    pub boot: Option<Boot>,
    /// On `CLOCK_MONOTONIC_RAW`.
    pub raw: Option<Raw>,
}

impl Timeouts {
    /// Whether either has come.
    #[must_use]
    pub fn due(self, now: Now) -> bool {
        self.boot.is_some_and(|at| now.boot >= at) || self.raw.is_some_and(|at| now.raw >= at)
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Timers {
    due: BTreeMap<Timer, Timeouts>,
    boot: BTreeSet<(Boot, Timer)>,
    raw: BTreeSet<(Raw, Timer)>,
}

impl Timers {
    /// Sets `timer`, in place of what it was set to.
    pub(crate) fn set(&mut self, timer: Timer, at: Timeouts) {
        let before = self.due.get(&timer).copied();
        if before == Some(at) {
            return;
        }
        let before = before.unwrap_or_default();
        if before.boot != at.boot {
            replace(&mut self.boot, before.boot, at.boot, &timer);
        }
        if before.raw != at.raw {
            replace(&mut self.raw, before.raw, at.raw, &timer);
        }
        self.due.insert(timer, at);
    }

    pub(crate) fn set_boot(&mut self, timer: Timer, at: Boot) {
        self.set(timer, Timeouts { boot: Some(at), raw: None });
    }

    pub(crate) fn cancel(&mut self, timer: &Timer) {
        if let Some(at) = self.due.remove(timer) {
            replace(&mut self.boot, at.boot, None, timer);
            replace(&mut self.raw, at.raw, None, timer);
        }
    }

    /// Takes out all that are due.
    pub(crate) fn take_due(&mut self, now: Now) -> Vec<Timer> {
        if !self.next().due(now) {
            return Vec::new();
        }
        let boot = self.boot.iter().take_while(|(at, _)| *at <= now.boot).map(|(_, timer)| timer);
        let raw = self.raw.iter().take_while(|(at, _)| *at <= now.raw).map(|(_, timer)| timer);
        let mut due: Vec<Timer> = boot.chain(raw).cloned().collect();
        due.sort_unstable();
        due.dedup();
        for timer in &due {
            self.cancel(timer);
        }
        due
    }

    pub(crate) fn next(&self) -> Timeouts {
        Timeouts { boot: self.boot.first().map(|(at, _)| *at), raw: self.raw.first().map(|(at, _)| *at) }
    }
}

/// Moves `timer` on one clock.
fn replace<T: Ord>(due: &mut BTreeSet<(T, Timer)>, before: Option<T>, at: Option<T>, timer: &Timer) {
    if let Some(before) = before {
        due.remove(&(before, timer.clone()));
    }
    if let Some(at) = at {
        due.insert((at, timer.clone()));
    }
}

/// When to look at something next: the earliest of several times.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Soonest(pub(crate) Timeouts);

impl Soonest {
    pub(crate) fn boot(&mut self, at: Boot) {
        self.0.boot = Some(self.0.boot.map_or(at, |other| other.min(at)));
    }

    pub(crate) fn deadline(&mut self, deadline: Deadline) {
        self.boot(deadline.boot);
        self.0.raw = Some(self.0.raw.map_or(deadline.raw, |other| other.min(deadline.raw)));
    }

    /// The end of a guard: on the clock that still lags.
    pub(crate) fn guard(&mut self, guard: Guard, now: Now) {
        if now.boot < guard.boot {
            self.boot(guard.boot);
        } else if now.raw < guard.raw {
            self.0.raw = Some(self.0.raw.map_or(guard.raw, |other| other.min(guard.raw)));
        }
    }
}
