//! The lease of a held ticket: its bases, its deadline, and the orders that extend it (docs/protocol.md, "Deadlines").

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
#[cfg(sitegate_mutants)]
use sitegate_mutant::{Mutant, planted};

use super::Member;
use super::tenure::Tenure;
use super::ticket::{Stage, State};
use crate::event::{Extension, Order};
use crate::ids::{MemberId, TicketName};
use crate::mirror::Mirror;
use crate::quorum::kth_newest;
use crate::time::{Deadline, Now};

impl Member {
    /// The end of the lease as the bases have it: the majority-th newest, plus E(1−ρ).
    pub(super) fn lease_end(&self, ticket: &TicketName, tenure: &Tenure) -> Option<Deadline> {
        self.end_by(tenure, |_, mirror| mirror.base(ticket, tenure.ballot))
    }

    /// The same with `ack` in place of the bases that acks have made, by acceptor.
    fn end_by(&self, tenure: &Tenure, ack: impl Fn(MemberId, &Mirror) -> Option<Now>) -> Option<Deadline> {
        let mut bases: Vec<Now> = Vec::with_capacity(self.peers.len());
        for (&id, peer) in &self.peers {
            let Some(life) = peer.life else { continue };
            let vote = tenure.votes.by.get(&id).filter(|vote| vote.nonce == life.nonce).map(|vote| vote.base);
            let mirror = peer.mirror.as_ref().filter(|mirror| mirror.nonce() == life.nonce);
            #[cfg(sitegate_mutants)]
            let mirror = mirror.or(peer.mirror.as_ref().filter(|_| planted(Mutant::MirrorKeptOverRestart)));
            bases.extend(vote.max(mirror.and_then(|mirror| ack(id, mirror))));
        }
        let needed = self.settings.majority();
        #[cfg(sitegate_mutants)]
        let needed = if planted(Mutant::LeaseByFewer) { needed - 1 } else { needed };
        let base = kth_newest(&mut bases, needed)?;
        #[cfg(sitegate_mutants)]
        if planted(Mutant::HolderIgnoresDrift) {
            return Some(Deadline::after(base, tenure.expire));
        }
        Some(Deadline::after(base, self.settings.timing.drift.at_most(tenure.expire)))
    }

    /// Orders later deadlines for all tenures whose bases allow it, and earlier ones where E has shrunk.
    pub(super) fn extend(&mut self, now: Now) {
        if !self.fence.is_up() {
            return;
        }
        let mut fenced: Vec<TicketName> = Vec::new();
        let mut by_deadline: BTreeMap<(u64, u64), Extension> = BTreeMap::new();
        let mirrors = self.peers.iter().filter_map(|(&id, peer)| Some((id, peer.mirror.as_ref()?)));
        let newest: BTreeMap<MemberId, Option<Now>> = mirrors.map(|(id, m)| (id, m.newest_base())).collect();
        for (ticket, local) in self.locals.iter() {
            if matches!(local.state, State::Leaving(.., Stage::Fencing)) {
                fenced.push(ticket.clone());
                continue;
            }
            let Some(tenure) = local.state.tenure().filter(|tenure| tenure.is_armed()) else { continue };
            let Some(target) = self.extended(now, ticket, tenure, &newest) else { continue };
            let group = by_deadline
                .entry((target.boot.0, target.raw.0))
                .or_insert_with(|| Extension { deadline: target, tickets: Vec::new() });
            group.tickets.push((ticket.clone(), tenure.terms.token));
        }
        for ticket in fenced {
            self.drive_soon(now, &ticket); // no deadman to extend: its lease is looked at instead
        }
        for extension in by_deadline.values() {
            for (ticket, _) in &extension.tickets {
                if let Some(tenure) = self.locals.get_mut(ticket).and_then(|local| local.state.tenure_mut()) {
                    tenure.ordered = extension.deadline;
                }
            }
        }
        if !by_deadline.is_empty() {
            self.fence.asked(now);
            self.order(Order::Extend(by_deadline.into_values().collect()), None);
        }
    }

    /// The deadline to order for an armed tenure, if its bases allow another than the one that was. `newest` has the newest
    /// base that each acceptor's acks have made for any ticket.
    fn extended(
        &self,
        now: Now,
        ticket: &TicketName,
        tenure: &Tenure,
        newest: &BTreeMap<MemberId, Option<Now>>,
    ) -> Option<Deadline> {
        let shrunk = tenure.expire < tenure.terms.expire;
        let later = |target: Deadline| target.boot > tenure.ordered.boot;
        // Most answers renew nothing: with many tickets this finds out without a look at what is supported.
        let at_best = self.end_by(tenure, |id, _| newest.get(&id).copied().flatten());
        if !shrunk && !at_best.is_some_and(later) {
            return None;
        }
        let target = self.lease_end(ticket, tenure)?;
        let sooner = shrunk && target.boot < tenure.ordered.boot;
        #[cfg(sitegate_mutants)]
        let sooner = sooner && !planted(Mutant::ShrunkExpireUntold);
        // A shorter E may leave no time at all for now: its next answers will.
        let in_time = !target.has_passed(now) && !tenure.deadline().has_passed(now);
        ((later(target) || sooner) && in_time).then_some(target)
    }

    pub(super) fn on_extended(&mut self, now: Now, extensions: &[Extension]) {
        for extension in extensions {
            for (ticket, token) in &extension.tickets {
                let tenure = self.locals.get_mut(ticket).and_then(|local| local.state.tenure_mut());
                if let Some(tenure) = tenure.filter(|t| t.terms.token == *token && t.is_armed()) {
                    tenure.acknowledge(extension.deadline);
                }
                self.drive_soon(now, ticket);
            }
        }
    }
}
