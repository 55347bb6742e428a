//! I1, I2, I3, I12: who holds, what runs, and until when the deadman waits.

use sitegate_fence_client::wire::Name;
use sitegate_protocol::{Deadline, Order, Takeover, TicketName, Token};

use crate::clock::{Time, from_fence};
use crate::fenced::{name_of, ticket_of};
use crate::node::Process;
use crate::world::World;

/// A site's right to run a ticket's resources.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hold {
    pub(crate) token: Token,
    pub(crate) deadline: Deadline,
    /// The true time at which its deadline passes.
    pub(crate) end: Time,
    receipted: bool,
}

impl World {
    /// I1, I12: after anything that a member may have done about ticket `t`.
    pub(super) fn check_hold(&mut self, i: usize, t: usize) {
        let Some(process) = &self.nodes[i].process else { return };
        let ticket = &self.checks.tickets[t].name;
        let held = process.member().holds(ticket).map(|held| (ticket.clone(), held));
        self.check_deadman(i, t);
        if let Some((ticket, (token, deadline))) = held {
            self.check_held(i, ticket, token, deadline);
        }
    }

    /// I12: nothing is armed that is over already, however long the commit took that it waited for.
    pub(crate) fn checks_order(&mut self, i: usize, order: &Order) {
        let now = self.nodes[i].now(self.time);
        if let Order::Arm(ticket, token, deadline) = order
            && deadline.has_passed(now)
        {
            let what =
                format!("{:?} arms {ticket} under {token} until {deadline:?}, at {now:?}", self.nodes[i].id);
            self.checks.violate("I12", self.time, what);
        }
    }

    /// I12: after anything that the deadman of `i` was told, by which some of its leases have changed.
    pub(crate) fn checks_deadman(&mut self, i: usize, changed: &[Name]) {
        for name in changed {
            if let Some(t) = self.checks.place_of(&ticket_of(name)) {
                self.check_deadman(i, t);
            }
        }
    }

    fn check_held(&mut self, i: usize, ticket: TicketName, token: Token, deadline: Deadline) {
        let end = self.nodes[i].clocks.when_passed(deadline);
        let key = (ticket, i);
        if self.checks.holds.get(&key).is_some_and(|b| b.token == token && b.receipted) {
            return; // fenced, and this daemon has not heard of it yet
        }
        let hold = Hold { token, deadline, end, receipted: false };
        self.checks.holds.insert(key.clone(), hold);
        if end > self.time {
            self.check_alone(i, &key.0, hold);
        }
    }

    /// I12: the deadman's deadline is never later than a base of this very moment would allow under the E in force, nor
    /// than the latest that the acks of this tenure have ever justified.
    fn check_deadman(&mut self, i: usize, t: usize) {
        let node = &self.nodes[i];
        let Some(member) = node.process.as_ref().map(Process::member) else { return };
        let Some(tenancy) = member.tenancy(&self.checks.tickets[t].name) else { return };
        let lease = node.fence.leases.get(&self.checks.tickets[t].fence);
        let Some(lease) = lease.filter(|l| l.token == tenancy.token.0 && node.fence.deadman.is_some()) else {
            return;
        };
        let deadline = from_fence(lease.deadline);
        let span = self.plan.settings.timing.drift.at_most(tenancy.expire);
        let now = Deadline::after(node.now(self.time), span);
        let justified = self.checks.renewals.latest(i, t, tenancy.token);
        if !deadline.no_later_than(now) || justified.is_some_and(|latest| !deadline.no_later_than(latest)) {
            let what = format!(
                "the deadman of {} at {:?} waits until {deadline:?}; no base allows more than {now:?}, and acks \
                 have justified no more than {justified:?}",
                self.checks.tickets[t].name, node.id
            );
            self.checks.violate("I12", self.time, what);
        }
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

    pub(super) fn is_attested(&self, ticket: &TicketName, token: Token) -> bool {
        self.checks.attested.get(ticket).is_some_and(|attested| token <= *attested)
    }

    /// I2, I3, I9: something begins to run, where something of `before` ran already.
    pub(crate) fn checks_started(
        &mut self,
        i: usize,
        ticket: &TicketName,
        token: Token,
        before: Option<Token>,
    ) {
        let name = name_of(ticket);
        if let Some(before) = before.filter(|before| *before != token) {
            let site = self.nodes[i].id;
            let what =
                format!("{ticket} starts at {site:?} under {token} beside what runs there under {before}");
            self.checks.violate("I2", self.time, what);
        }
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
        self.check_not_revoked(ticket, token);
    }

    /// I2: the other site has its receipt, or was given all of A to fence.
    fn check_waited(&mut self, i: usize, j: usize, ticket: &TicketName) {
        let Some(other) = self.checks.holds.get(&(ticket.clone(), j)).copied() else { return };
        if other.receipted || self.is_attested(ticket, other.token) {
            return;
        }
        let terms = self.checks.proposals.terms(ticket, other.token);
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
}
