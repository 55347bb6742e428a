//! The deadman: fences a resource at its deadline unless it is extended, whatever became of whoever armed it.
//!
//! A state machine without I/O, clock or randomness; the same code runs under `sitegate-fenced` and in the simulator.
//!
//! # Contract
//!
//! 1. Every method that takes `now` may change the state; [`Deadman::take`] is to be called after it (or after several
//!    of one turn) and its [`Step`] carried out before the next turn: publish the leases, then write the saves in order,
//!    begin the orders, tell the notices.
//! 2. A request that is refused comes back as [`Refusal`] at once. One that is not will be answered by a [`Notice`], in
//!    this step or a later one; nothing else may be told to a client as done.
//! 3. [`Save`]s are written strictly in the order in which they came out; [`Saved`] (or [`Unsaved`]) goes back.
//! 4. Every [`Order`] but `Cancel` is answered by `…_done` with its run. Late answers do no harm.
//! 5. [`Deadman::tick`] is called when [`Deadman::next_timeout`] has passed on either clock. Early calls do no harm.
//! 6. `now` never goes back on either clock.

mod change;
mod fence;
mod lease;
mod recover;
mod requests;
mod step;
#[cfg(test)]
mod tests;
mod view;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use sitegate_fence_client::wire::{
    Activity, Deadline, Incarnation, Instant, Name, Notice, Receipt, Refusal, Token,
};
use sitegate_mutant::planted;

pub use change::InUse;
use fence::Fence;
pub use lease::{Barred, Changes, Lease, Leases, may_exec};
pub use step::{Acts, Order, Record, RunId, Save, Saved, Step, Unsaved};
pub use view::{Phase, State, View};

/// How long the plan of a resource whose levels have all failed rests before it starts over, ns. Long enough not to
/// keep a sick machine busy with nothing else, short enough that a repaired one fences within seconds.
pub const RETRY_PAUSE_NS: u64 = 2_000_000_000;

/// All the deadman needs to know of a resource's plan. Times in ns.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Schedule {
    /// How long killing the resource's processes may take, each time.
    pub kill_within_ns: u64,
    /// The limits of the plan's levels, in their order; empty if killing is all there is to do.
    pub level_within_ns: Vec<u64>,
}

/// The deadman of one site: all its resources. The contract is at the head of this module.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Deadman {
    resources: BTreeMap<Name, Resource>,
    plans: Plans,
    next_run: u64,
    next_save: u64,
    /// The resources of whose leases something has changed.
    changed: BTreeSet<Name>,
    acts: Acts,
}

/// Which plans run their levels now, and which wait for their turn, longest waiting first.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Plans {
    at_once: usize,
    running: BTreeSet<Name>,
    waiting: VecDeque<Name>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Resource {
    schedule: Schedule,
    tenure: Tenure,
    receipt: Option<Receipt>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Tenure {
    Unarmed,
    /// The arming is on its way to the disk; nothing may be started yet.
    Arming {
        save: u64,
        token: Token,
        incarnation: Incarnation,
        deadline: Deadline,
    },
    Armed(Armed),
    Fencing(Fence),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Armed {
    token: Token,
    incarnation: Incarnation,
    deadline: Deadline,
    run: Option<RunId>,
    activity: Activity,
}

impl Resource {
    /// When its tenure ends by itself, or the present step of its fence has taken too long.
    fn due(&self) -> Option<Deadline> {
        match &self.tenure {
            Tenure::Fencing(fence) => fence.due(),
            tenure => tenure.ends().map(|(_, deadline)| deadline),
        }
    }

    fn lease(&self) -> Option<Lease> {
        match &self.tenure {
            Tenure::Armed(armed) => {
                let Armed { token, incarnation, deadline, activity, run: _ } = armed.clone();
                Some(Lease { token, incarnation, deadline, activity })
            }
            Tenure::Unarmed | Tenure::Arming { .. } | Tenure::Fencing(_) => None,
        }
    }
}

impl Tenure {
    /// Which token's tenure ends when by itself.
    fn ends(&self) -> Option<(Token, Deadline)> {
        let (Self::Arming { token, deadline, .. } | Self::Armed(Armed { token, deadline, .. })) = self else {
            return None;
        };
        if planted!(DeadmanLate) {
            const LATE_NS: u64 = 500_000_000;
            let Deadline { boot_ns, raw_ns } = *deadline;
            let late = Deadline { boot_ns: boot_ns + LATE_NS, raw_ns: raw_ns + LATE_NS };
            return Some((*token, late));
        }
        Some((*token, *deadline))
    }
}

impl Deadman {
    /// Lets time pass: fences what has reached its deadline, gives up on what overran its limit.
    pub fn tick(&mut self, now: Instant) {
        let is_due = |resource: &Resource| resource.due().is_some_and(|due| due.passed(now));
        let due = self.resources.iter().filter(|(_, resource)| is_due(resource));
        let due: Vec<Name> = due.map(|(name, _)| name.clone()).collect();
        for name in due {
            self.expire(now, &name);
            self.overrun(now, &name);
        }
    }

    /// When [`tick`](Self::tick) is due next: the earliest on each clock. `None` if nothing is armed or fenced.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Deadline> {
        self.resources.values().filter_map(Resource::due).reduce(Deadline::earliest)
    }

    /// The turn's step. Empty if nothing is to be done.
    pub fn take(&mut self) -> Step {
        let changed = std::mem::take(&mut self.changed);
        let leases = changed.into_iter().map(|name| {
            let lease = self.resources.get(&name).and_then(Resource::lease);
            (name, lease)
        });
        Step { leases: Changes(leases.collect()), acts: std::mem::take(&mut self.acts) }
    }

    /// The leases of everything that is armed.
    #[must_use]
    pub fn leases(&self) -> Leases {
        self.resources.iter().filter_map(|(name, resource)| Some((name.clone(), resource.lease()?))).collect()
    }

    /// A record is durable: what waited for it goes on.
    pub fn saved(&mut self, now: Instant, saved: Saved) {
        let Saved { seq, resource: name } = saved;
        self.expire(now, &name);
        let Some(resource) = self.resources.get_mut(&name) else { return };
        match &resource.tenure {
            Tenure::Arming { save, token, incarnation, deadline } if *save == seq => {
                let (token, incarnation, deadline) = (*token, *incarnation, *deadline);
                resource.tenure = Tenure::Armed(Armed {
                    token,
                    incarnation,
                    deadline,
                    run: None,
                    activity: Activity::Idle,
                });
                self.changed.insert(name.clone());
                self.acts.notices.push(Notice::Armed { resource: name, token, deadline });
            }
            Tenure::Fencing(_) => self.receipt_saved(now, &name, seq),
            Tenure::Unarmed | Tenure::Arming { .. } | Tenure::Armed(_) => {}
        }
    }

    /// A record could not be made durable, which is final: an arming that waited for it has not happened. (The disk
    /// may still hold it; then the next start fences it.) A receipt that waited for it is never given.
    pub fn not_saved(&mut self, unsaved: &Unsaved) {
        let Some(resource) = self.resources.get_mut(&unsaved.resource) else { return };
        if matches!(resource.tenure, Tenure::Arming { save, .. } if save == unsaved.seq) {
            resource.tenure = Tenure::Unarmed;
        }
    }

    fn resource(&mut self, name: &Name) -> Result<&mut Resource, Refusal> {
        self.resources.get_mut(name).ok_or(Refusal::UnknownResource)
    }

    fn new_run(&mut self) -> RunId {
        self.next_run += 1;
        RunId(self.next_run)
    }

    /// Asks for the record of `name` to be saved, and returns what names that save.
    fn save(&mut self, name: &Name, record: Record) -> u64 {
        self.next_save += 1;
        self.acts.saves.push(Save { seq: self.next_save, resource: name.clone(), record });
        self.next_save
    }
}
