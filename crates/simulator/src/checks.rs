//! The observer: sees true time, every process that runs and every frame, and knows the invariants.

use std::collections::{BTreeMap, BTreeSet};

use sitegate_protocol::{
    Ballot, Body, Deadline, Frame, Key, Note, Ownership, Proof, Takeover, TicketName, Token, Value,
};

use crate::clock::{Time, from_fence};
use crate::fenced::name_of;
use crate::run::Violation;
use crate::world::World;

/// What the observer has seen.
pub(crate) struct Checks {
    violation: Option<Violation>,
    /// The spans in which each site may hold each ticket.
    holds: BTreeMap<(TicketName, usize), Hold>,
    /// The newest tenure under which something was started.
    newest: BTreeMap<TicketName, (Token, usize)>,
    /// One value per ballot.
    values: BTreeMap<(Key, Ballot), Value>,
    /// The terms of each tenure, from the proposals for it.
    terms: BTreeMap<(TicketName, Token), (Time, Takeover)>,
    /// Tenures that were freed, and by which proof.
    freed: BTreeSet<(TicketName, Token, String)>,
    /// What operators have vouched for.
    pub(crate) attested: BTreeMap<TicketName, Token>,
    /// Tickets whose revoke was confirmed, until the next grant is given.
    pub(crate) revoked: BTreeMap<TicketName, Time>,
    /// Tickets that are paused, and sites on standby, for certain: since when, until somebody allows tenures again.
    pub(crate) paused: BTreeMap<TicketName, Time>,
    pub(crate) standing_by: BTreeMap<usize, Time>,
    pub(crate) tenures: u64,
    pub(crate) losses: u64,
    n: usize,
}

/// A site's right to run a ticket's resources.
#[derive(Clone, Copy, Debug)]
struct Hold {
    token: Token,
    /// The true time at which its deadline passes.
    end: Time,
    receipted: bool,
}

impl Checks {
    pub(crate) const fn new(n: usize) -> Self {
        Self {
            violation: None,
            holds: BTreeMap::new(),
            newest: BTreeMap::new(),
            values: BTreeMap::new(),
            terms: BTreeMap::new(),
            freed: BTreeSet::new(),
            attested: BTreeMap::new(),
            revoked: BTreeMap::new(),
            paused: BTreeMap::new(),
            standing_by: BTreeMap::new(),
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
}

impl World {
    /// I1: after anything that a member did.
    pub(crate) fn checks_holds(&mut self, i: usize) {
        if !self.nodes[i].is_site() {
            return;
        }
        for t in 0..self.plan.tickets.len() {
            let ticket = self.plan.tickets[t].clone();
            let Some(process) = &self.nodes[i].process else { return };
            let held = process.member.holds(&ticket);
            self.check_deadman(i, &ticket);
            let clocks = self.nodes[i].clocks;
            match held {
                Some((token, deadline)) => {
                    let end = clocks.when_passed(deadline);
                    let hold = Hold { token, end, receipted: false };
                    let key = (ticket.clone(), i);
                    let before = self.checks.holds.get(&key).copied();
                    if before.is_some_and(|b| b.token == token && b.receipted) {
                        continue; // fenced, and this daemon has not heard of it yet
                    }
                    self.checks.holds.insert(key, hold);
                    if end > self.time {
                        self.check_alone(i, &ticket, hold);
                    }
                }
                None => {
                    // Given up in time: the span ends where the release begins, not at its deadline.
                    let stopped = self.released(i, &ticket);
                    if let Some(hold) = self.checks.holds.get_mut(&(ticket, i))
                        && stopped
                    {
                        hold.end = hold.end.min(self.time);
                    }
                }
            }
        }
    }

    /// I12: the deadman's deadline is never later than a base of this very moment would allow under the E in force.
    fn check_deadman(&mut self, i: usize, ticket: &TicketName) {
        let node = &self.nodes[i];
        let Some(member) = node.process.as_ref().map(|process| &process.member) else { return };
        let Some(tenancy) = member.tenancy(ticket) else { return };
        let span = self.plan.settings.timing.drift.at_most(tenancy.expire);
        let latest = Deadline::after(node.now(self.time), span);
        let lease = node.fence.leases.get(&name_of(ticket)).filter(|lease| lease.token == tenancy.token.0);
        if let Some(lease) = lease.map(|lease| from_fence(lease.deadline))
            && node.fence.deadman.is_some()
            && !lease.no_later_than(latest)
        {
            let what = format!(
                "the deadman of {ticket} at {:?} waits until {lease:?}, no base allows more than {latest:?}",
                node.id
            );
            self.checks.violate("I12", self.time, what);
        }
    }

    fn released(&self, i: usize, ticket: &TicketName) -> bool {
        let hold = self.checks.holds.get(&(ticket.clone(), i));
        hold.is_some_and(|hold| hold.receipted)
    }

    fn check_alone(&mut self, i: usize, ticket: &TicketName, hold: Hold) {
        for j in (0..self.checks.n).filter(|&j| j != i) {
            let Some(other) = self.checks.holds.get(&(ticket.clone(), j)).copied() else { continue };
            if other.end > self.time && !other.receipted && !self.is_attested(ticket, other.token) {
                let what = format!(
                    "{:?} holds {ticket} under {} until {} and {:?} under {} until {}",
                    self.nodes[i].id, hold.token, hold.end, self.nodes[j].id, other.token, other.end
                );
                self.checks.violate("I1", self.time, what);
            }
        }
    }

    fn is_attested(&self, ticket: &TicketName, token: Token) -> bool {
        self.checks.attested.get(ticket).is_some_and(|attested| token <= *attested)
    }

    /// I2, I3: something begins to run.
    pub(crate) fn checks_started(&mut self, i: usize, ticket: &TicketName, token: Token) {
        let name = name_of(ticket);
        for j in (0..self.nodes.len()).filter(|&j| j != i) {
            if let Some(other) = self.nodes[j].fence.running.get(&name).copied()
                && !self.is_attested(ticket, Token(other))
            {
                let (a, b) = (self.nodes[i].id, self.nodes[j].id);
                let what = format!("{ticket} runs at {a:?} under {token} and still at {b:?} under {other}");
                self.checks.violate("I2", self.time, what);
            }
            self.check_waited(i, j, ticket);
        }
        let newest = self.checks.newest.get(ticket).copied();
        if let Some((last, site)) = newest
            && (token < last || (token == last && site != i))
        {
            let what = format!("{ticket} starts under {token} after {last}");
            self.checks.violate("I3", self.time, what);
        }
        if newest.is_none_or(|(last, _)| token > last) {
            self.checks.tenures += 1;
        }
        self.checks.newest.insert(ticket.clone(), (token, i));
        if let Some(since) = self.checks.revoked.get(ticket).copied() {
            let what = format!("{ticket} starts under {token}; its revoke was confirmed at {since}");
            self.checks.violate("I9", self.time, what);
        }
    }

    /// I9: a new tenure while there is to be none.
    fn check_allowed(&mut self, i: usize, ticket: &TicketName, token: Token) {
        let paused = self.checks.paused.get(ticket).copied();
        let standing_by = self.checks.standing_by.get(&i).copied();
        if let Some(since) = paused.max(standing_by) {
            let what = format!(
                "a tenure of {ticket} begins at {:?} under {token}; none was allowed since {since}",
                self.nodes[i].id
            );
            self.checks.violate("I9", self.time, what);
        }
    }

    /// I2: the other site has its receipt, or was given all of A to fence.
    fn check_waited(&mut self, i: usize, j: usize, ticket: &TicketName) {
        let Some(other) = self.checks.holds.get(&(ticket.clone(), j)).copied() else { return };
        if other.receipted || self.is_attested(ticket, other.token) {
            return;
        }
        let terms = self.checks.terms.get(&(ticket.clone(), other.token)).copied();
        let (acquire_after, takeover) = terms.unwrap_or((0, Takeover::Timed));
        if takeover == Takeover::Confirmed || other.end.saturating_add(acquire_after) > self.time {
            let what = format!(
                "{ticket} starts at {:?} at {} while {:?} may run it under {}: held until {}, A {acquire_after}",
                self.nodes[i].id, self.time, self.nodes[j].id, other.token, other.end
            );
            self.checks.violate("I2", self.time, what);
        }
    }

    pub(crate) fn checks_receipted(&mut self, i: usize, ticket: &TicketName, token: Token) {
        if let Some(running) = self.nodes[i].fence.running.get(&name_of(ticket)).copied()
            && running <= token.0
        {
            let what = format!("receipt for {ticket} up to {token} while {running} runs");
            self.checks.violate("I2", self.time, what);
        }
        if let Some(hold) = self.checks.holds.get_mut(&(ticket.clone(), i))
            && hold.token <= token
        {
            hold.receipted = true;
            hold.end = hold.end.min(self.time);
        }
    }

    /// A machine without power runs nothing; its lease stands, since nobody knows.
    pub(crate) fn checks_powered_off(&mut self, i: usize) {
        let time = self.time;
        for ((_, node), hold) in &mut self.checks.holds {
            if *node == i {
                hold.end = hold.end.min(time);
            }
        }
    }

    pub(crate) fn checks_note(&mut self, i: usize, note: &Note) {
        match note {
            Note::Lost(..) => self.checks.losses += 1,
            Note::Voting => self.nodes[i].disk.suspect = false,
            Note::Acquired(ticket, token) => self.check_allowed(i, ticket, *token),
            _ => {}
        }
    }

    /// I4, I8, I10: a frame is on its way.
    pub(crate) fn checks_frame(&mut self, i: usize, frame: &Frame) {
        for body in &frame.bodies {
            let Body::Accept { key, ballot, value, .. } = body else { continue };
            let known = self.checks.values.entry((key.clone(), *ballot)).or_insert_with(|| value.clone());
            if known != value {
                let what = format!("{key:?} has two values under {ballot}: {known:?} and {value:?}");
                self.checks.violate("I4", self.time, what);
            }
            if let (Key::Ownership(ticket), Value::Ownership(ownership)) = (key, value) {
                self.check_proposal(i, ticket, ownership);
            }
        }
    }

    fn check_proposal(&mut self, i: usize, ticket: &TicketName, ownership: &Ownership) {
        match ownership {
            Ownership::Held(tenancy) => {
                if !self.nodes[i].is_site() {
                    self.checks.violate("I10", self.time, format!("an arbitrator proposes {tenancy:?}"));
                }
                let terms = (tenancy.acquire_after.as_nanos(), tenancy.takeover);
                // A may change under way; the least that was agreed is what the plan was given.
                let known = self.checks.terms.entry((ticket.clone(), tenancy.token)).or_insert(terms);
                *known = (known.0.min(terms.0), terms.1);
            }
            Ownership::Free { last_token, proof, .. } => {
                self.check_proof(i, ticket, *last_token, *proof);
            }
        }
    }

    /// What was freed once may be committed again by anybody.
    fn check_proof(&mut self, i: usize, ticket: &TicketName, token: Token, proof: Proof) {
        if !self.checks.freed.insert((ticket.clone(), token, format!("{proof:?}"))) {
            return;
        }
        let name = name_of(ticket);
        let takeover = self.checks.terms.get(&(ticket.clone(), token)).map(|(_, takeover)| *takeover);
        let holder = self.nodes.iter().position(|n| u64::from(n.id.get()) == token.0 & 0xff);
        let wrong = match proof {
            Proof::Receipt => {
                let receipted = |j: usize| {
                    let record = self.nodes[j].fence.records.get(&name);
                    record.and_then(|r| r.receipt.as_ref()).is_some_and(|r| r.token >= token.0)
                };
                holder.is_some_and(|j| !receipted(j))
            }
            Proof::Waited => takeover == Some(Takeover::Confirmed) || holder == Some(i),
            Proof::Attested => !self.is_attested(ticket, token),
            Proof::Never => self
                .checks
                .newest
                .get(ticket)
                .is_some_and(|(newest, _)| token != Token(0) && *newest == token),
        };
        if wrong {
            let what = format!("{:?} frees {ticket} of {token} with {proof:?}", self.nodes[i].id);
            self.checks.violate("I8", self.time, what);
        }
    }
}
