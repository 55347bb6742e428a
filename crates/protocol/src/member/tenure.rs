//! A tenure of this site: what it keeps, why it is proposed anew, and what becomes of ill resources.

use alloc::collections::BTreeSet;

use sitegate_mutant::planted;

use super::Member;
use super::proposer::Aim;
use super::ticket::{Stage, State};
use super::votes::Votes;
use crate::event::{FenceReason, GiveUp, Note, Order};
use crate::ids::{Ballot, MemberId, Nonce, TicketName, Token};
use crate::message::{Body, RequestId};
use crate::time::{Boot, Deadline, Now, Span};
use crate::timer::Soonest;
use crate::value::{Key, Ownership, Tenancy, Wanted};

/// A ticket held so long has settled: its takeovers are forgiven.
pub(super) const FORGIVEN_AFTER: Span = Span::from_secs(3600);

/// Longer ago than anything, for a planted bug.
const EVER: Now = Now { boot: Boot(0), raw: crate::time::Raw(0) };

/// One tenure of this site.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Tenure {
    /// The value in force.
    pub(super) terms: Tenancy,
    /// The ballot of the value in force: acks for any other count nothing.
    pub(super) ballot: Ballot,
    pub(super) votes: Votes,
    /// E as counted: a smaller one counts before it is agreed, a larger one after.
    pub(super) expire: Span,
    /// The deadline last ordered.
    ordered: Deadline,
    /// Since when the fence daemon owes its word about that: from when it was ordered, or from the last word about an earlier
    /// one. `None` once it has taken or refused it.
    owed: Option<Now>,
    /// The deadline that the fence daemon has acknowledged; `None` until it is armed.
    acknowledged: Option<Deadline>,
    pub(super) since: Now,
    pub(super) progress: Progress,
    /// Since when a wish to give it up is known that may not be chosen.
    pub(super) uncertain: Option<Boot>,
    /// When a member that was heard was first seen not to support it.
    unsupported: Option<Boot>,
    /// When to try again to widen support.
    again: Boot,
    /// When to ask the preferred site whether it would take the ticket back.
    failback_at: Boot,
    /// A proposal to renew came to nothing: some acceptors may support that one only.
    interrupted: bool,
    /// The question to the preferred site whether it would take the ticket back.
    pub(super) failback: Option<RequestId>,
}

/// How the ticket's resources are.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Progress {
    /// The start hook runs.
    Starting,
    /// It has ended well.
    Running,
    /// They are ill; other sites are asked whether they would take over.
    Asking { id: RequestId, open: BTreeSet<MemberId>, until: Boot },
    /// Somebody would.
    GivingUp,
    /// Nobody would: they are stopped, to be started again here.
    Restarting,
}

impl Tenure {
    /// A failback waits for `failback_at` and until the ticket was held for a lease: what goes to and fro stands still.
    pub(super) fn begin(
        terms: Tenancy,
        ballot: Ballot,
        votes: Votes,
        failback_at: Option<Boot>,
        now: Now,
    ) -> Self {
        let expire = terms.expire;
        let failback_at = now.boot.plus(terms.lease()).max(failback_at.unwrap_or(now.boot));
        let never = Deadline { boot: Boot(0), raw: crate::time::Raw(0) };
        Self {
            terms,
            ballot,
            votes,
            expire,
            ordered: never,
            owed: None,
            acknowledged: None,
            since: now,
            progress: Progress::Starting,
            uncertain: None,
            unsupported: None,
            again: Boot(0),
            failback_at,
            interrupted: false,
            failback: None,
        }
    }

    /// Until when the site holds: what the fence daemon has acknowledged.
    pub(super) fn deadline(&self) -> Deadline {
        self.acknowledged.unwrap_or(self.ordered)
    }

    pub(super) const fn is_armed(&self) -> bool {
        self.acknowledged.is_some()
    }

    /// The deadline that the fence daemon has acknowledged.
    pub(super) const fn acknowledged(&self) -> Option<Deadline> {
        self.acknowledged
    }

    /// The deadline last ordered; the fence daemon may not have taken it yet.
    pub(super) const fn ordered(&self) -> Deadline {
        self.ordered
    }

    /// This deadline is on its way to the fence daemon.
    pub(super) fn order(&mut self, deadline: Deadline, now: Now) {
        self.ordered = deadline;
        if planted!(MergedOrdersOwed) && self.owed.is_some() {
            self.owed = Some(EVER);
        }
        self.owed.get_or_insert(now);
    }

    /// The fence daemon has taken over this deadline; a later one may be on its way to it, and may take as long again.
    pub(super) fn acknowledge(&mut self, deadline: Deadline, now: Now) {
        self.acknowledged = Some(deadline);
        if planted!(MergedOrdersOwed) && self.owed == Some(EVER) {
            return;
        }
        self.owed = (deadline != self.ordered).then_some(now);
    }

    /// The fence daemon has refused to extend: what it had taken before stays in force.
    pub(super) fn refused(&mut self) {
        if planted!(RefusalOwed) {
            return;
        }
        self.owed = None;
    }

    /// Since when the fence daemon owes its word about the deadline last ordered, if it does.
    pub(super) const fn owed_since(&self) -> Option<Now> {
        self.owed
    }

    /// The fence daemon says that it is armed until then.
    pub(super) const fn armed_until(&mut self, deadline: Deadline) {
        self.ordered = deadline;
        self.acknowledged = Some(deadline);
        self.owed = None;
    }

    /// When its takeovers are forgiven.
    pub(super) const fn forgiven_at(&self) -> Boot {
        self.since.boot.plus(FORGIVEN_AFTER)
    }

    /// Another value of the same tenure is in force. The configuration's E counts at once if it is smaller.
    pub(super) fn renewed(&mut self, terms: Tenancy, ballot: Ballot, votes: Votes, configured: Option<Span>) {
        self.expire = configured.map_or(terms.expire, |expire| expire.min(terms.expire));
        self.terms = terms;
        self.ballot = ballot;
        self.votes = votes;
        self.unsupported = None;
        self.interrupted = false;
    }

    /// A proposal to renew came to nothing.
    pub(super) const fn interrupt(&mut self) {
        self.interrupted = true;
    }
}

impl Member {
    pub(super) fn on_armed(&mut self, now: Now, ticket: &TicketName, token: Token, deadline: Deadline) {
        let Some(local) = self.locals.get_mut(ticket) else { return };
        let state = core::mem::take(&mut local.state);
        local.state = match state {
            State::Arming(mut tenure) if tenure.terms.token == token => {
                tenure.acknowledge(deadline, now);
                self.out.notes.push(Note::Held(ticket.clone(), token, deadline));
                self.out.orders.push((Order::Start(ticket.clone(), token), Some(deadline)));
                State::Held(tenure)
            }
            other => other,
        };
        self.announce_tenure(ticket);
        self.extend_ticket(now, ticket);
        self.drive_commands(now);
        self.drive_soon(now, ticket);
    }

    /// A vote for a proposal that was chosen without it: more support.
    pub(super) fn late_vote(
        &mut self,
        now: Now,
        from: MemberId,
        nonce: Nonce,
        key: &Key,
        ballot: Ballot,
        attempt: u32,
    ) {
        let Key::Ownership(ticket) = key else { return };
        let tenure = self.locals.get_mut(ticket).and_then(|local| local.state.tenure_mut());
        if let Some(tenure) = tenure.filter(|tenure| tenure.ballot == ballot) {
            tenure.votes.count(from, nonce, attempt);
            self.extend_ticket(now, ticket);
        }
    }

    /// Whether the holder should propose its tenure anew: other terms, wider support, forgiven takeovers, failback.
    pub(super) fn reason_to_renew(
        &mut self,
        now: Now,
        ticket: &TicketName,
        tenure: &mut Tenure,
        soonest: &mut Soonest,
    ) -> Option<Aim> {
        if self.pulse.is_barred() || self.rounds.contains_key(&Key::Ownership(ticket.clone())) {
            return None;
        }
        let settings = self.settings.tickets.get(ticket)?;
        let (expire, acquire_after, takeover) = (settings.expire, settings.acquire_after, settings.takeover);
        if expire < tenure.expire {
            tenure.expire = expire; // counts at once; proposed when the fence daemon has taken the shorter deadline
        }
        let terms = &tenure.terms;
        if (expire, acquire_after, takeover) != (terms.expire, terms.acquire_after, terms.takeover) {
            if self.may_propose(ticket, tenure, expire) {
                return Some(Aim::Renew);
            }
            soonest.boot(now.boot.plus(self.settings.timing.heartbeat));
            return None;
        }
        if tenure.interrupted {
            return Some(Aim::Renew);
        }
        let forgiven = tenure.forgiven_at();
        if terms.takeovers.count > 0 && now.boot >= forgiven {
            return Some(Aim::Renew);
        }
        if terms.takeovers.count > 0 {
            soonest.boot(forgiven);
        }
        self.reason_to_widen(now, ticket, tenure, soonest)
            .or_else(|| self.failback(now, ticket, tenure, soonest))
    }

    /// Whether the tenure may go on with this E, be it shorter: its fence daemon has taken a deadline that this E allows, and no
    /// longer one is on its way to it. To be asked when the terms are proposed, not only when the round begins: the
    /// configuration may be another one by then.
    pub(super) fn may_propose(&self, ticket: &TicketName, tenure: &Tenure, expire: Span) -> bool {
        if planted!(ShrunkExpireUntold) {
            return true;
        }
        tenure.expire <= expire
            && tenure.acknowledged == Some(tenure.ordered)
            && self.lease_end(ticket, tenure).is_some_and(|end| tenure.ordered.no_later_than(end))
    }

    /// A member that answers, but does not support the ticket, is won by a new proposal: healed cuts must not shrink
    /// support for good.
    fn reason_to_widen(
        &self,
        now: Now,
        ticket: &TicketName,
        tenure: &mut Tenure,
        soonest: &mut Soonest,
    ) -> Option<Aim> {
        let pause = self.settings.timing.heartbeat.times(3).plus(self.settings.timing.retry());
        soonest.boot(now.boot.plus(pause));
        let lacks = self.peers.values().any(|peer| {
            let mirror = peer.mirror.as_ref().filter(|m| Some(m.nonce()) == peer.life.map(|l| l.nonce));
            let answers = peer.answered.is_some_and(|at| now.boot.since(at.boot) < pause);
            answers && mirror.is_some_and(|m| m.is_confirmed() && !m.lists(ticket, tenure.ballot))
        });
        if !lacks {
            tenure.unsupported = None;
            return None;
        }
        let since = *tenure.unsupported.get_or_insert(now.boot);
        if now.boot.since(since) < pause || now.boot < tenure.again {
            return None;
        }
        tenure.again = now.boot.plus(pause.times(4));
        tenure.unsupported = None;
        Some(Aim::Renew)
    }

    fn failback(
        &mut self,
        now: Now,
        ticket: &TicketName,
        tenure: &mut Tenure,
        soonest: &mut Soonest,
    ) -> Option<Aim> {
        let me = self.settings.me;
        let wanted = self.intent(ticket).map(|intent| intent.wanted);
        let Some(Wanted::Managed { preferred: Some(site) }) = wanted else { return None };
        let failback = self.settings.tickets.get(ticket).is_some_and(|t| t.failback);
        if !failback || site == me || tenure.progress != Progress::Running {
            return None;
        }
        if now.boot >= tenure.failback_at {
            tenure.failback_at = now.boot.plus(tenure.terms.lease());
            tenure.failback = Some(self.ask_failback(ticket, site));
        }
        soonest.boot(tenure.failback_at);
        None
    }

    /// Ill resources: ask the others, then give up or restart here.
    pub(super) fn step_health(
        &mut self,
        now: Now,
        ticket: &TicketName,
        tenure: &mut Tenure,
        soonest: &mut Soonest,
    ) {
        let Progress::Asking { open, until, .. } = &tenure.progress else { return };
        if !open.is_empty() && now.boot < *until {
            soonest.boot(*until);
            return;
        }
        let token = tenure.terms.token;
        self.note(Note::RestartsHere(ticket.clone(), token));
        self.order(Order::Stop(ticket.clone(), token), None);
        tenure.progress = Progress::Restarting;
    }

    pub(super) fn on_unhealthy(&mut self, now: Now, ticket: &TicketName, token: Token, at_start: bool) {
        let id = self.request_id();
        let others: BTreeSet<MemberId> = self.settings.sites().filter(|&m| m != self.settings.me).collect();
        let wait = self.settings.timing.retry().times(2).plus(self.check_within(ticket));
        let Some(State::Held(tenure)) = self.locals.get_mut(ticket).map(|local| &mut local.state) else {
            return;
        };
        let expected = if at_start { Progress::Starting } else { Progress::Running };
        if tenure.terms.token != token || tenure.progress != expected {
            return;
        }
        tenure.progress = Progress::Asking { id, open: others.clone(), until: now.boot.plus(wait) };
        let note = if at_start { Note::StartFailed } else { Note::Unhealthy };
        self.note(note(ticket.clone(), token));
        for site in others {
            self.send(site, Body::Willing { ticket: ticket.clone(), id });
        }
        self.drive_soon(now, ticket);
    }

    /// An answer to the question that an ill holder has asked.
    pub(super) fn heir_answered(
        &mut self,
        now: Now,
        from: MemberId,
        ticket: &TicketName,
        request: RequestId,
        willing: bool,
    ) {
        let Some(State::Held(tenure)) = self.locals.get_mut(ticket).map(|local| &mut local.state) else {
            return;
        };
        if let Progress::Asking { id, open, .. } = &mut tenure.progress
            && *id == request
        {
            open.remove(&from);
            if willing {
                tenure.progress = Progress::GivingUp;
            }
            self.drive_soon(now, ticket);
        }
    }

    pub(super) fn on_started(&mut self, now: Now, ticket: &TicketName, token: Token, well: bool) {
        let Some(State::Held(tenure)) = self.locals.get_mut(ticket).map(|local| &mut local.state) else {
            return;
        };
        if tenure.terms.token != token || tenure.progress != Progress::Starting {
            return;
        }
        if well {
            tenure.progress = Progress::Running;
            self.drive_soon(now, ticket);
        } else {
            self.on_unhealthy(now, ticket, token, true);
        }
    }

    /// The stop hook has ended: go on to fence, or to start again. What may not have stopped is never started a second
    /// time: its fence plan makes certain first.
    pub(super) fn on_stopped(&mut self, now: Now, ticket: &TicketName, token: Token, well: bool) {
        let Some(mut local) = self.locals.remove(ticket) else { return };
        local.state = match core::mem::take(&mut local.state) {
            State::Leaving(tenure, why, _) if tenure.terms.token == token => {
                self.fence_leaving(ticket, tenure, why)
            }
            State::Held(mut tenure)
                if tenure.terms.token == token && tenure.progress == Progress::Restarting =>
            {
                if well {
                    tenure.progress = Progress::Starting;
                    let deadline = tenure.deadline();
                    self.order(Order::Start(ticket.clone(), token), Some(deadline));
                    State::Held(tenure)
                } else {
                    self.end_own_round(ticket);
                    self.note(Note::Relinquishing(ticket.clone(), token, GiveUp::Unhealthy));
                    self.fence_leaving(ticket, tenure, GiveUp::Unhealthy)
                }
            }
            other => other,
        };
        self.locals.insert(ticket.clone(), local);
        self.drive_soon(now, ticket);
    }

    fn fence_leaving(&mut self, ticket: &TicketName, tenure: Tenure, why: GiveUp) -> State {
        let reason = match why {
            GiveUp::Unhealthy => FenceReason::Unhealthy,
            _ => FenceReason::Release,
        };
        self.order(Order::Fence(ticket.clone(), tenure.terms.token, reason), None);
        if planted!(ReleasesUnfenced) {
            return State::Stopped { token: tenure.terms.token, lost: false };
        }
        State::Leaving(tenure, why, Stage::Fencing)
    }

    /// Whether this site's accept of `ticket` at `ballot` makes it the holder's supporter.
    pub(super) fn supported_by_accept(&self, ticket: &TicketName, ballot: Ballot) -> Option<bool> {
        let tenure = self.locals.get(ticket).and_then(|local| local.state.tenure());
        if tenure.is_some_and(|tenure| tenure.ballot == ballot) {
            return Some(true);
        }
        let ownership = self.proposed_ownership(ticket, ballot)?;
        Some(ownership.held().is_some_and(|t| t.site == self.settings.me))
    }

    fn proposed_ownership(&self, ticket: &TicketName, ballot: Ballot) -> Option<&Ownership> {
        let round = self.rounds.get(&Key::Ownership(ticket.clone()))?;
        match &round.phase {
            super::proposer::Phase::Accepting { value, .. } if round.ballot == ballot => value.ownership(),
            _ => None,
        }
    }
}
