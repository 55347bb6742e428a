//! Confirming wishes by ownership rounds: once one that began after the wish was chosen has chosen something, no older
//! proposal can be chosen any more (docs/protocol.md, "When a wish is confirmed").

use sitegate_mutant::planted;

use super::Member;
use super::proposer::{Aim, Phase};
use super::ticket::Local;
use crate::ids::{MemberId, Nonce, TicketName};
use crate::message::{Body, RequestId};
use crate::time::Now;
use crate::timer::Soonest;
use crate::value::{Intent, Key, Ownership, Proof, Takeover, Wanted};

/// Requests of one ticket that wait here; one a member and command is enough.
const WAITERS_MAX: usize = 64;

/// Somebody who waits for an ownership round that begins after now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Waiter {
    to: MemberId,
    nonce: Nonce,
    id: RequestId,
    /// When it was asked for first and last.
    since: Now,
    heard: Now,
    /// The round that was running when it came: that one began too early.
    after: crate::ids::Ballot,
}

impl Member {
    pub(super) fn on_settle(
        &mut self,
        now: Now,
        from: MemberId,
        nonce: Nonce,
        ticket: &TicketName,
        id: RequestId,
    ) {
        if !self.settings.is_site(self.settings.me) || !self.knows_ticket(ticket) {
            return;
        }
        let key = Key::Ownership(ticket.clone());
        let after = self.rounds.get(&key).map_or(crate::ids::Ballot::ZERO, |round| round.ballot);
        let local = self.locals.or_default(ticket);
        if let Some(known) = local.waiters.iter_mut().find(|w| w.id == id && w.to == from) {
            known.heard = now;
        } else if local.waiters.len() < WAITERS_MAX {
            local.waiters.push(Waiter { to: from, nonce, id, since: now, heard: now, after });
        }
        self.drive_soon(now, ticket);
    }

    /// Settles what has to be settled while this site has no tenure of its own. True if that comes before acquiring.
    pub(super) fn step_settle(
        &mut self,
        now: Now,
        ticket: &TicketName,
        local: &mut Local,
        soonest: &mut Soonest,
    ) -> bool {
        let key = Key::Ownership(ticket.clone());
        self.dismiss_waiters(now, local);
        let unfinished = self.is_unfinished(ticket) && self.would_hold(ticket, local).is_none();
        let unsettled = unfinished || self.is_abandoned(ticket);
        if !unsettled {
            local.unsettled = None;
        }
        if local.waiters.is_empty() && !unsettled {
            let settling = self.rounds.get(&key).is_some_and(|round| round.aim == Aim::Settle);
            if settling {
                self.end_round(&key);
            }
            return false;
        }
        if let Some((holder, _, guard)) = self.support.guard_of(ticket)
            && holder != self.settings.me
            && !guard.is_over(now)
            && !self.is_attested(ticket)
        {
            // The holder is asked too and does it now; this site does it if the holder has gone.
            soonest.guard(guard, now);
            return false;
        }
        let rank = self.settings.rank(ticket, None, self.settings.me);
        // What nobody asks for waits a while: whoever was at it may still finish, and say so.
        let grace = self.settings.timing.heartbeat.times(3);
        let asked = local.waiters.iter().map(|w| w.since.boot).min();
        let since = asked.unwrap_or_else(|| local.unsettled.get_or_insert(now).boot.plus(grace));
        let at = since.plus(self.settings.timing.step().times(u64::from(rank)));
        if now.boot < at {
            soonest.boot(at);
            return false;
        }
        if self.is_behind(ticket, rank) {
            // Two rounds at once would split the votes, and after its own there is a holder to ask.
            soonest.boot(now.boot.plus(self.settings.timing.step()));
            return false;
        }
        let acquiring = self.rounds.get(&key).is_some_and(|r| r.aim == Aim::Acquire);
        if acquiring && !self.rounds.get(&key).is_some_and(|r| matches!(r.phase, Phase::Accepting { .. })) {
            self.end_round(&key);
        }
        self.begin_or_wait(now, ticket, rank, Aim::Settle, soonest);
        true
    }

    /// Whoever has gone, or has not asked again for longer than it takes to ask every site in turn, waits for nothing.
    fn dismiss_waiters(&self, now: Now, local: &mut Local) {
        let patience = self.asks_again().times(2 * self.settings.sites().count() as u64);
        local.waiters.retain(|waiter| {
            let asks = now.since_at_most(waiter.heard) < patience || planted!(WaitersForEver);
            asks && self.is_current(waiter.to, waiter.nonce)
        });
    }

    /// A revoked ticket of a site that has gone, or of this one, which will not take it up again; or of a site that may not
    /// know of its tenure, and will once that is chosen for certain.
    fn is_abandoned(&self, ticket: &TicketName) -> bool {
        let revoked = self.intent(ticket).is_some_and(|intent| intent.wanted == Wanted::Revoked);
        let unsure = !self.is_chosen(&Key::Ownership(ticket.clone()));
        revoked && self.ownership(ticket).held().is_some_and(|t| unsure || self.may_write_off(ticket, t))
    }

    /// A release of an earlier process of this site that may never have been chosen.
    fn is_unfinished(&self, ticket: &TicketName) -> bool {
        let key = Key::Ownership(ticket.clone());
        let accepted = self.register(&key).and_then(crate::register::Register::accepted);
        let own = accepted.is_some_and(|a| a.ballot.is_of(self.settings.me));
        own && self.ownership(ticket).held().is_none() && !self.is_chosen(&key)
    }

    fn is_attested(&self, ticket: &TicketName) -> bool {
        let token = self.ownership(ticket).token();
        self.intent(ticket).is_some_and(|intent| intent.attests(token))
    }

    /// Whether a revoked ticket of a site that has gone may be written off without its receipt.
    fn may_write_off(&self, ticket: &TicketName, tenancy: &crate::value::Tenancy) -> bool {
        tenancy.site == self.settings.me
            || tenancy.takeover == Takeover::Timed
            || self.intent(ticket).is_some_and(|intent| intent.attests(tenancy.token))
    }

    /// What a settling round chooses: what it finds, but a revoked ticket whose holder has gone is freed.
    pub(super) fn settlement(&self, ticket: &TicketName, found: Ownership, intent: &Intent) -> Ownership {
        let Some(tenancy) = found.held() else { return found };
        let free = |proof| Ownership::Free {
            last_token: tenancy.token,
            proof,
            takeovers: tenancy.takeovers.under(intent.version),
        };
        let local = self.locals.get(ticket);
        let mine = tenancy.site == self.settings.me;
        if intent.wanted != Wanted::Revoked {
            return found;
        }
        if mine {
            if planted!(WritesOffOwn) {
                return free(Proof::Waited);
            }
            let never_armed = local.is_some_and(|local| local.never_armed == Some(tenancy.token));
            let receipt = local.is_some_and(|local| local.receipt >= Some(tenancy.token));
            return match (never_armed, receipt) {
                (true, _) => free(Proof::Never),
                (_, true) => free(Proof::Receipt),
                _ => found,
            };
        }
        if intent.attests(tenancy.token) {
            free(Proof::Attested)
        } else if tenancy.takeover == Takeover::Timed {
            free(Proof::Waited)
        } else {
            found
        }
    }

    /// A round that began at `began` has chosen `ownership`: those who asked before it began have their answer.
    pub(super) fn answer_waiters(
        &mut self,
        local: &mut Local,
        ticket: &TicketName,
        ownership: &Ownership,
        ballot: crate::ids::Ballot,
    ) {
        let (answered, waiting) = core::mem::take(&mut local.waiters).into_iter().partition(|w| {
            if planted!(EarlierRoundConfirms) {
                return true;
            }
            w.after < ballot
        });
        local.waiters = waiting;
        let answered: alloc::vec::Vec<Waiter> = answered;
        for w in answered {
            let (ownership, intent) = (ownership.clone(), self.intent(ticket).cloned());
            let body = Body::Settled { ticket: ticket.clone(), id: w.id, ownership, intent };
            self.reply(w.to, w.nonce, body);
        }
    }
}
