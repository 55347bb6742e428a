//! The lease of a held ticket: its bases, its deadline, and the orders that extend it (docs/protocol.md, "Deadlines").

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use sitegate_mutant::planted;

use super::Member;
use super::tenure::Tenure;
use super::ticket::{Local, Stage, State};
use crate::event::{Extension, Order};
use crate::ids::{TicketName, Token};
use crate::mirror::Mirror;
use crate::quorum::kth_newest;
use crate::time::{Deadline, Now};

/// What bases that have changed lead to.
#[derive(Default)]
struct Due {
    /// Whatever is being fenced already.
    fenced: Vec<TicketName>,
    /// By deadline.
    extensions: BTreeMap<(u64, u64), Extension>,
}

impl Member {
    /// The end of the lease as the bases have it: the majority-th newest, plus E(1−ρ).
    pub(super) fn lease_end(&self, ticket: &TicketName, tenure: &Tenure) -> Option<Deadline> {
        self.end_by(tenure, |mirror| mirror.base(ticket, tenure.ballot))
    }

    /// The same with `ack` in place of the bases that acks have made.
    fn end_by(&self, tenure: &Tenure, ack: impl Fn(&Mirror) -> Option<Now>) -> Option<Deadline> {
        let mut bases: Vec<Now> = Vec::with_capacity(self.peers.len());
        for (&id, peer) in &self.peers {
            let Some(life) = peer.life else { continue };
            let vote = tenure.votes.by.get(&id).filter(|vote| vote.nonce == life.nonce).map(|vote| vote.base);
            let current = |mirror: &&Mirror| mirror.nonce() == life.nonce || planted!(MirrorKeptOverRestart);
            let mirror = peer.mirror.as_ref().filter(current);
            bases.extend(vote.max(mirror.and_then(&ack)));
        }
        let needed = self.settings.majority();
        let needed = if planted!(LeaseByFewer) { needed - 1 } else { needed };
        let base = kth_newest(&mut bases, needed)?;
        if planted!(HolderIgnoresDrift) {
            return Some(Deadline::after(base, tenure.expire));
        }
        Some(Deadline::after(base, self.settings.timing.drift.at_most(tenure.expire)))
    }

    /// Orders later deadlines for all tenures whose bases allow it, and earlier ones where E has shrunk.
    pub(super) fn extend(&mut self, now: Now) {
        let due = self.due_extensions(now, self.locals.iter());
        self.order_extensions(now, due);
    }

    /// The same for one ticket, where nothing has changed for others.
    pub(super) fn extend_ticket(&mut self, now: Now, ticket: &TicketName) {
        let local = self.locals.get(ticket);
        let due = self.due_extensions(now, local.into_iter().map(|local| (ticket, local)));
        self.order_extensions(now, due);
    }

    fn due_extensions<'a>(&self, now: Now, locals: impl Iterator<Item = (&'a TicketName, &'a Local)>) -> Due {
        let mut due = Due::default();
        if !self.fence.is_up() {
            return due;
        }
        for (ticket, local) in locals {
            if matches!(local.state, State::Leaving(.., Stage::Fencing)) {
                due.fenced.push(ticket.clone());
                continue;
            }
            let Some(tenure) = local.state.tenure().filter(|tenure| tenure.is_armed()) else { continue };
            let Some(target) = self.extended(now, ticket, tenure) else { continue };
            let group = due
                .extensions
                .entry((target.boot.0, target.raw.0))
                .or_insert_with(|| Extension { deadline: target, tickets: Vec::new() });
            group.tickets.push((ticket.clone(), tenure.terms.token));
        }
        due
    }

    fn order_extensions(&mut self, now: Now, due: Due) {
        for ticket in due.fenced {
            self.drive_soon(now, &ticket); // no deadman to extend: its lease is looked at instead
        }
        for extension in due.extensions.values() {
            for (ticket, _) in &extension.tickets {
                if let Some(tenure) = self.locals.get_mut(ticket).and_then(|local| local.state.tenure_mut()) {
                    tenure.order(extension.deadline, now);
                }
            }
        }
        if !due.extensions.is_empty() {
            self.order(Order::Extend(due.extensions.into_values().collect()), None);
        }
    }

    /// Orders once more the deadlines about which the fence daemon owes its word: the request that bore them may have failed, and
    /// while that bars heartbeats no answer to one leads to another order.
    pub(super) fn extend_again(&mut self, now: Now) {
        if !self.fence.is_up() {
            return;
        }
        let mut extensions: BTreeMap<(u64, u64), Extension> = BTreeMap::new();
        for (ticket, local) in self.locals.iter().filter(|(_, local)| local.state.owed_since().is_some()) {
            let Some(tenure) = local.state.tenure().filter(|tenure| tenure.is_armed()) else { continue };
            let deadline = tenure.ordered();
            if deadline.has_passed(now) || tenure.deadline().has_passed(now) {
                continue;
            }
            let group = extensions.entry((deadline.boot.0, deadline.raw.0));
            let group = group.or_insert_with(|| Extension { deadline, tickets: Vec::new() });
            group.tickets.push((ticket.clone(), tenure.terms.token));
        }
        if !extensions.is_empty() {
            self.order(Order::Extend(extensions.into_values().collect()), None);
        }
    }

    /// The deadline to order for an armed tenure, if its bases allow another than the one that was.
    fn extended(&self, now: Now, ticket: &TicketName, tenure: &Tenure) -> Option<Deadline> {
        let shrunk = tenure.expire < tenure.terms.expire;
        let later = |target: Deadline| target.boot > tenure.ordered().boot;
        // Most answers renew nothing: with many tickets this finds out without a look at what is supported.
        let at_best = self.end_by(tenure, Mirror::newest_base);
        if !shrunk && !at_best.is_some_and(later) {
            return None;
        }
        let target = self.lease_end(ticket, tenure)?;
        let sooner = shrunk && target.boot < tenure.ordered().boot && !planted!(ShrunkExpireUntold);
        // A shorter E may leave no time at all for now: its next answers will.
        let in_time = !target.has_passed(now) && !tenure.deadline().has_passed(now);
        ((later(target) || sooner) && in_time).then_some(target)
    }

    /// The fence daemon's word about deadlines. A refused one was not in vain: whatever is being fenced is extended no more.
    pub(super) fn on_extended(&mut self, now: Now, taken: &[Extension], refused: &[(TicketName, Token)]) {
        for (ticket, token) in refused {
            let tenure = self.locals.get_mut(ticket).and_then(|local| local.state.tenure_mut());
            if let Some(tenure) = tenure.filter(|t| t.terms.token == *token) {
                tenure.refused();
            }
        }
        for extension in taken {
            for (ticket, token) in &extension.tickets {
                let tenure = self.locals.get_mut(ticket).and_then(|local| local.state.tenure_mut());
                if let Some(tenure) = tenure.filter(|t| t.terms.token == *token && t.is_armed()) {
                    tenure.acknowledge(extension.deadline, now);
                }
                self.drive_soon(now, ticket);
            }
        }
    }
}
