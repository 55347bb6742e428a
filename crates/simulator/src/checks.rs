//! The observer: sees true time, every process that runs, every commit and every frame, and knows the invariants of
//! docs/protocol.md. It looks at disks and registers itself; of what a member says it believes only what it is about
//! to act on.

mod acks;
pub(crate) mod backing;
pub(crate) mod choices;
mod holds;
mod progress;
mod proposals;
mod standing;
mod view;
mod wishes;

use std::collections::BTreeMap;

use sitegate_fence_client::wire::Name;
use sitegate_protocol::{
    Ballot, Body, Deadline, Frame, Key, Note, Now, Record, Step, TicketName, Token, Value, majority,
};

use crate::clock::Time;
use crate::fenced::name_of;
use crate::plan::Plan;
use crate::run::Violation;
use crate::world::World;

use acks::Renewals;
use choices::Choices;
pub(crate) use holds::Hold;
use proposals::Proposals;
use standing::Standings;
use view::Seen;
pub(crate) use wishes::Wishes;

/// What the observer has seen.
pub(crate) struct Checks {
    violation: Option<Violation>,
    tickets: Vec<Ticket>,
    /// Where each stands in `tickets`.
    places: BTreeMap<TicketName, usize>,
    /// By node.
    seen: Vec<Seen>,
    /// The spans in which each site may hold each ticket.
    pub(crate) holds: BTreeMap<(TicketName, usize), Hold>,
    /// The newest tenure under which something was started.
    newest: BTreeMap<TicketName, (Token, usize)>,
    proposals: Proposals,
    choices: Choices,
    renewals: Renewals,
    standings: Standings,
    pub(crate) wishes: Wishes,
    /// What operators have vouched for.
    pub(crate) attested: BTreeMap<TicketName, Token>,
    /// What happens, happens to an old machine whose disk was cloned: another has its name.
    pub(crate) haunted: bool,
    pub(crate) tenures: u64,
    pub(crate) losses: u64,
    n: usize,
}

/// A ticket, by all of its names.
#[derive(Clone)]
struct Ticket {
    name: TicketName,
    ownership: Key,
    fence: Name,
}

impl Checks {
    pub(crate) fn new(plan: &Plan) -> Self {
        let n = plan.members.len();
        let ticket = |name: &TicketName| Ticket {
            name: name.clone(),
            ownership: Key::Ownership(name.clone()),
            fence: name_of(name),
        };
        Self {
            violation: None,
            tickets: plan.tickets.iter().map(ticket).collect(),
            places: plan.tickets.iter().cloned().zip(0..).collect(),
            seen: (0..n).map(|_| Seen::default()).collect(),
            holds: BTreeMap::new(),
            newest: BTreeMap::new(),
            proposals: Proposals::default(),
            choices: Choices::default(),
            renewals: Renewals::new(n, plan.tickets.len()),
            standings: Standings::new(n),
            wishes: Wishes::default(),
            attested: BTreeMap::new(),
            haunted: false,
            tenures: 0,
            losses: 0,
            n,
        }
    }

    pub(crate) const fn is_violated(&self) -> bool {
        self.violation.is_some()
    }

    pub(crate) fn violate(&mut self, invariant: &'static str, time: Time, what: String) {
        if self.violation.is_none() {
            self.violation = Some(Violation { invariant, at_ns: time, what });
        }
    }

    pub(crate) fn take_violation(&mut self) -> Option<Violation> {
        self.violation.take()
    }

    /// The deadlines that a step orders and takes back in the same breath.
    fn superseded(&self, step: &Step) -> Vec<(usize, Deadline)> {
        let mut newest = BTreeMap::new();
        let before = step.deadlines().filter_map(|(ticket, deadline)| {
            let before = newest.insert(ticket, deadline)?;
            Some((self.place_of(ticket)?, before))
        });
        before.collect()
    }

    const fn majority(&self) -> usize {
        majority(self.n)
    }
}

impl World {
    /// A process of the member has started from its disk.
    pub(crate) fn checks_member_started(&mut self, i: usize) {
        if self.checks_memory(i) {
            self.checks.choices.forgotten(i, &self.nodes[i].disk.durable);
        }
    }

    /// The process is gone, with all that it had not committed.
    pub(crate) fn checks_member_killed(&mut self, i: usize) {
        self.checks.choices.lost(self.nodes[i].generation);
        if !self.checks.haunted {
            self.checks_memory_lost(i);
        }
    }

    /// A member has handled one event at `now`: `step` is what came of it, nothing of it is durable.
    pub(crate) fn checks_handled(&mut self, i: usize, now: Now, step: &Step) {
        self.checks.choices.voted(i, self.nodes[i].generation, step.records());
        self.check_quorums(i, step);
        if self.nodes[i].is_site() {
            self.checks.renewals.handled(i, now);
            let superseded = self.checks.superseded(step);
            for t in self.tickets_to_look_at(i) {
                self.check_lease(i, t, &superseded);
                self.check_hold(i, t);
            }
        }
    }

    /// All that was handled so far is being committed.
    pub(crate) fn checks_committing(&mut self, i: usize) {
        self.checks.choices.committing(self.nodes[i].generation);
        self.checks.standings.committing(i, self.time);
    }

    /// `records` are about to be durable.
    pub(crate) fn checks_commit<'a>(&mut self, i: usize, records: impl Iterator<Item = &'a Record>) {
        for record in records {
            if let Record::Register(key, _) = record {
                self.record_own(i, key);
            }
        }
    }

    pub(crate) fn checks_committed(&mut self, i: usize) {
        self.check_votes(i);
        if !self.checks.haunted {
            self.checks.standings.committed(i, self.nodes[i].disk.lsn);
        }
    }

    pub(crate) fn checks_note(&mut self, i: usize, note: &Note) {
        match note {
            Note::Lost(..) => self.checks.losses += 1,
            Note::Voting => self.nodes[i].disk.suspect = false,
            _ => {}
        }
        self.check_recovered(i, note);
    }

    /// A frame leaves for `to`; whether it arrives does not matter.
    pub(crate) fn checks_frame(&mut self, i: usize, to: usize, frame: &Frame) {
        for body in &frame.bodies {
            match body {
                Body::Accept { key, ballot, value, .. } => {
                    self.check_proposed(i, key, *ballot, value);
                    self.check_asked(i, &frame.header, key, *ballot);
                }
                Body::Chosen { key, ballot, value } => self.check_announced(i, key, *ballot, value),
                Body::Epoch { ballot, identities } if *ballot > Ballot::ZERO => {
                    let value = Value::Identities(identities.clone());
                    self.check_announced(i, &Key::Identities, *ballot, &value);
                }
                Body::Settled { ticket, ownership, .. } => self.check_settled(i, ticket, ownership),
                _ => {}
            }
            self.check_backed(i, to, &frame.header, body);
            self.check_replier(i, &frame.header, body);
            self.record_renewal(i, to, &frame.header, body);
        }
    }
}
