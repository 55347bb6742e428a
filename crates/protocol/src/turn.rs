//! Persist before send, as types: a [`Step`] keeps what it wants to say to itself; only a committed [`Turn`] gives it
//! out.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use sitegate_mutant::planted;

use crate::durable::{Record, Slot, Store};
use crate::event::{CheckId, CommandId, Effects, Fatal, Note, Order, Reply};
use crate::ids::{Ballot, Lsn, MemberId, Nonce, TicketName};
use crate::member::{Member, Votes};
use crate::message::{Body, Frame};
use crate::time::{Deadline, Now};
use crate::value::Key;

/// What one event led to. Nothing in it may be done before it is committed.
#[must_use = "a step that is dropped loses what the member believes to have written"]
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Step {
    pub(crate) serial: u64,
    pub(crate) records: Vec<Record>,
    pub(crate) sends: Vec<Send>,
    pub(crate) orders: Vec<(Order, Option<Deadline>)>,
    pub(crate) checks: Vec<(TicketName, CheckId)>,
    pub(crate) replies: Vec<(CommandId, Reply, Option<Deadline>)>,
    pub(crate) notes: Vec<Note>,
    pub(crate) fatal: Option<Fatal>,
    /// Whether a new epoch begins with it.
    pub(crate) epoch: bool,
}

/// One thing to say.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Send {
    pub(crate) to: MemberId,
    pub(crate) urgency: Urgency,
    pub(crate) address: Address,
    pub(crate) body: Body,
}

/// Whether something may be said before the commit that goes with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Urgency {
    /// It speaks of what is being committed.
    AfterCommit,
    /// A proposal: it binds its proposer only once its own promise or vote is counted, and that waits for the commit.
    /// A ballot that was proposed and forgotten has no value, or one that nobody else can propose.
    Proposal,
}

/// Which process of a member is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Address {
    /// The one that runs when it arrives.
    Whoever,
    /// The one that asked, and no other.
    Process(Nonce),
}

/// All of one loop turn: its steps, committed together.
#[must_use = "a turn must be committed"]
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Turn {
    records: BTreeMap<Slot, Record>,
    rest: Step,
}

/// A turn whose records are durable.
#[must_use = "the effects are what the turn was for"]
#[derive(Clone, Debug)]
pub struct Committing {
    rest: Step,
    lsn: Option<Lsn>,
}

impl Step {
    /// What it writes, in order: a register may change more than once in one event.
    pub fn records(&self) -> impl Iterator<Item = &Record> {
        self.records.iter()
    }

    /// The proposals that it asks votes for, for the first time: its member has just counted a quorum of promises.
    pub fn proposals(&self) -> impl Iterator<Item = (&Key, Ballot)> {
        self.sends.iter().filter_map(|send| match &send.body {
            Body::Accept { key, ballot, attempt: Votes::FIRST, .. } => Some((key, *ballot)),
            _ => None,
        })
    }

    /// The deadlines that it extends to, in order: one event may lead to more than one for a ticket.
    pub fn deadlines(&self) -> impl Iterator<Item = (&TicketName, Deadline)> {
        let extensions = self.orders.iter().filter_map(|(order, _)| match order {
            Order::Extend(extensions) => Some(extensions),
            _ => None,
        });
        extensions.flatten().flat_map(|e| e.tickets.iter().map(|(ticket, _)| (ticket, e.deadline)))
    }

    /// A new epoch begins. Everything said from now on is said in it: what belongs to the rounds of the one before, and has not
    /// left, never does.
    pub(crate) fn begin_epoch(&mut self) {
        self.epoch = true;
        if planted!(RoundOutlivesEpoch) {
            return;
        }
        self.sends.retain(|send| !send.body.is_of_round());
    }
}

impl Turn {
    /// An empty turn.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a step. Steps are added in the order in which `handle` returned them.
    pub fn add(&mut self, step: Step) {
        self.records.extend(step.records.into_iter().map(|record| (record.slot(), record)));
        self.rest.serial = self.rest.serial.max(step.serial);
        if step.epoch {
            self.rest.begin_epoch();
        }
        join(&mut self.rest.sends, step.sends);
        join(&mut self.rest.orders, step.orders);
        join(&mut self.rest.checks, step.checks);
        join(&mut self.rest.replies, step.replies);
        join(&mut self.rest.notes, step.notes);
        self.rest.fatal = self.rest.fatal.or(step.fatal);
    }

    /// Adds all of a later turn.
    pub fn append(&mut self, later: Self) {
        self.records.extend(later.records);
        self.add(later.rest);
    }

    /// Proposals, which need not wait for the commit: whoever sends them now saves its time. If this is not called,
    /// they come with the effects.
    pub fn proposals(&mut self, member: &Member) -> Vec<(MemberId, Frame)> {
        if !member.is_header_durable() || member.is_over() {
            return Vec::new();
        }
        let sends = core::mem::take(&mut self.rest.sends);
        let (early, rest) = sends.into_iter().partition(|send| send.urgency == Urgency::Proposal);
        self.rest.sends = rest;
        frames(member, early)
    }

    /// Whether there is anything to commit.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        !self.records.is_empty()
    }

    /// What will be committed.
    pub fn records(&self) -> impl Iterator<Item = &Record> {
        self.records.values()
    }

    /// Makes the turn durable: the only way on.
    ///
    /// # Errors
    /// The store's. A failed commit is final: the process must end without another word.
    pub fn commit<S: Store>(self, store: &mut S) -> Result<Committing, S::Error> {
        let lsn = if self.records.is_empty() { None } else { Some(store.commit(self.records.values())?) };
        Ok(Committing { rest: self.rest, lsn })
    }
}

impl Committing {
    /// What may be done now. Withholds what the time taken by the commit has overtaken.
    pub fn effects(self, member: &mut Member, now_after: Now) -> Effects {
        if let Some(lsn) = self.lsn {
            member.committed(self.rest.serial, lsn, now_after);
        }
        let in_time = |not_after: &Option<Deadline>| {
            !not_after.is_some_and(|d| d.has_passed(now_after)) || planted!(EffectsLate)
        };
        let rest = self.rest;
        if member.is_over() && !planted!(SpeaksWhenOver) {
            // Whatever this turn and those before it led to rests on a memory that cannot be trusted.
            return Effects { notes: rest.notes, fatal: rest.fatal, ..Effects::default() };
        }
        // A life that is not on the disk yet may be lived again, by another process: nobody must hear of it. Only the first
        // commit and one of a new epoch are waited for so, and what was to be said is asked for again.
        let sends = if member.is_header_durable() { rest.sends } else { Vec::new() };
        Effects {
            frames: frames(member, sends),
            orders: rest.orders.into_iter().filter(|(_, d)| in_time(d)).map(|(order, _)| order).collect(),
            checks: rest.checks,
            replies: rest
                .replies
                .into_iter()
                .filter(|(_, _, d)| in_time(d))
                .map(|(id, reply, _)| (id, reply))
                .collect(),
            notes: rest.notes,
            fatal: None,
        }
    }
}

/// Appends `more`. Most turns have one step, which need not be copied.
fn join<T>(all: &mut Vec<T>, more: Vec<T>) {
    if all.is_empty() {
        *all = more;
    } else {
        all.extend(more);
    }
}

/// One frame per peer; replies to a process that has gone are in a frame of their own, which the next one ignores.
fn frames(member: &Member, mut sends: Vec<Send>) -> Vec<(MemberId, Frame)> {
    let addressee = |send: &Send| match send.address {
        Address::Whoever => (send.to, member.nonce_of(send.to)),
        Address::Process(nonce) => (send.to, Some(nonce)),
    };
    sends.sort_by_key(addressee);
    let mut frames: Vec<(MemberId, Frame)> = Vec::new();
    let mut last = None;
    for send in sends {
        let (to, nonce) = addressee(&send);
        match frames.last_mut().filter(|_| last == Some((to, nonce))) {
            Some((_, frame)) => frame.bodies.push(send.body),
            None => frames.push((to, Frame { header: member.header(to, nonce), bodies: vec![send.body] })),
        }
        last = Some((to, nonce));
    }
    frames
}
