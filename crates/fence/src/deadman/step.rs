//! What a turn of the deadman asks its shell to do, in the only order in which it can be done.

use sitegate_fence_client::wire::{Deadline, Name, Notice, Reason, Receipt, Token};

use super::lease::Changes;

/// Names one run of a program or one kill; never used twice by the same deadman.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RunId(pub u64);

/// What must survive everything: kept durably, per resource.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Record {
    /// A token that was armed, or ordered to be fenced, and has no receipt yet.
    pub open: Option<Token>,
    /// The last receipt.
    pub receipt: Option<Receipt>,
}

/// What a turn asks for. Nothing of it may be acted on before the leases are published, so that a program frozen on
/// its way to exec finds its lease gone before the kill that might miss it.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Step {
    pub(super) leases: Changes,
    pub(super) acts: Acts,
}

/// What may be done once the leases are published.
#[must_use]
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Acts {
    /// Records to write durably, in this order; each then goes back to the deadman.
    pub saves: Vec<Save>,
    /// Orders to begin at once. They never wait for a disk.
    pub orders: Vec<Order>,
    /// What may be told to clients.
    pub notices: Vec<Notice>,
}

impl Step {
    /// Publishes the leases if any have changed, with `write`, which must make all of them known at once or fail. Without
    /// success, nothing that rests on the new leases is told to anybody; orders (kills among them) are given all the
    /// same, and it is for the shell to make a kill fail while it cannot withdraw the lease.
    pub fn publish<E>(self, write: impl FnOnce(&Changes) -> Result<(), E>) -> (Acts, Result<(), E>) {
        let Self { leases, mut acts } = self;
        let written = if leases.0.is_empty() { Ok(()) } else { write(&leases) };
        if written.is_err() {
            acts.notices.retain(|n| !matches!(n, Notice::Armed { .. } | Notice::Extended { .. }));
        }
        (acts, written)
    }

    /// Whether the turn asks for nothing at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Acts { saves, orders, notices } = &self.acts;
        self.leases.0.is_empty() && saves.is_empty() && orders.is_empty() && notices.is_empty()
    }
}

/// A record on its way to the disk. What depends on it happens only when [`Saved`] comes back.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Save {
    pub(super) seq: u64,
    pub(super) resource: Name,
    pub(super) record: Record,
}

impl Save {
    /// The resource whose record it is.
    #[must_use]
    pub fn resource(&self) -> &Name {
        &self.resource
    }

    /// Its place in the order of all saves; larger than those of the ones before.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// The record.
    #[must_use]
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// A save that no deadman asked for.
    #[cfg(test)]
    pub(crate) fn for_test(resource: Name, record: Record) -> Self {
        Self { seq: 0, resource, record }
    }

    /// Writes many records as one: `write` returns success only when all of them would survive a power failure. This
    /// is the only way to get a [`Saved`].
    ///
    /// # Errors
    /// That of `write`, with what could not be saved.
    pub fn write_all<E>(
        saves: Vec<Save>,
        write: impl FnOnce(&[Save]) -> Result<(), E>,
    ) -> Result<Vec<Saved>, (E, Vec<Unsaved>)> {
        match write(&saves) {
            Ok(()) => Ok(saves.into_iter().map(|s| Saved { seq: s.seq, resource: s.resource }).collect()),
            Err(error) => {
                let unsaved = saves.into_iter().map(|s| Unsaved { seq: s.seq, resource: s.resource });
                Err((error, unsaved.collect()))
            }
        }
    }
}

/// Proof that a record is durable.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Saved {
    pub(super) seq: u64,
    pub(super) resource: Name,
}

impl Saved {
    /// That of its [`Save`].
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.seq
    }
}

/// A record that could not be made durable.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Unsaved {
    pub(super) seq: u64,
    pub(super) resource: Name,
}

/// Something to be done on the machine. Each but `Cancel` is answered by the matching `…_done` with its run.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Order {
    /// Make sure that the lease of the resource is withdrawn, then kill all that was started under it and wait until
    /// nothing of it is left. Answer: [`kill_done`](super::Deadman::kill_done).
    Kill {
        /// Names the kill.
        run: RunId,
        /// The resource.
        resource: Name,
        /// How long it may take, ns.
        within_ns: u64,
    },
    /// Run a level of the resource's plan. Answer: [`level_done`](super::Deadman::level_done), a success within the level's
    /// limit: the time of a kill that is allowed beyond it is for ending one that overruns.
    Level {
        /// Names the run.
        run: RunId,
        /// The resource.
        resource: Name,
        /// The token being fenced.
        token: Token,
        /// Why.
        reason: Reason,
        /// Index of the level in the plan, from 0.
        level: usize,
    },
    /// Run `start`. Answer: [`start_done`](super::Deadman::start_done).
    Start {
        /// Names the run.
        run: RunId,
        /// The resource.
        resource: Name,
        /// The armed token.
        token: Token,
        /// The deadline in force, for the program's information.
        deadline: Deadline,
    },
    /// Run `stop`. Answer: [`stop_done`](super::Deadman::stop_done).
    Stop {
        /// Names the run.
        run: RunId,
        /// The resource.
        resource: Name,
        /// The armed token.
        token: Token,
        /// The deadline in force, for the program's information.
        deadline: Deadline,
    },
    /// Kill what is left of a run whose outcome no longer matters.
    Cancel {
        /// Which run.
        run: RunId,
    },
}
