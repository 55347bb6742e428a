//! A site's dealings with one ticket: the states, and what moves it from one to the next (docs/protocol.md,
//! "A site's ticket").

use alloc::vec::Vec;

use sitegate_mutant::planted;

use super::Member;
use super::candidate::Readiness;
use super::proposer::Aim;
use super::settle::Waiter;
use super::tenure::{Progress, Tenure};
use super::votes::Votes;
use crate::durable::Record;
use crate::event::{FenceReason, FenceReport, GiveUp, Note, Order};
use crate::ids::{Ballot, MemberId, Nonce, TicketName, Token};
use crate::message::{Body, RequestId};
use crate::time::{Boot, Deadline, Now, Span};
use crate::timer::{Soonest, Timer};
use crate::value::{Key, Ownership, StandbyMode, Tenancy, Wanted};

/// What a site keeps about one ticket in this process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Local {
    pub(super) state: State,
    /// The newest token that the fence daemon gave a receipt for.
    pub(super) receipt: Option<Token>,
    /// A token that this process proposed and never armed: nothing runs under it.
    pub(super) never_armed: Option<Token>,
    /// A tenure of this site that others know and its own register does not: proposed by an earlier life.
    pub(super) hearsay: Option<Token>,
    /// What the fence daemon said of the resource, until it is acted on.
    pub(super) report: Option<FenceReport>,
    /// Whether the check before acquiring passed lately.
    pub(super) readiness: Readiness,
    /// Since when this site could acquire, for holding back by rank.
    pub(super) eligible: Option<Now>,
    /// When this site last looked whether a tenure that it may not take over is over.
    pub(super) looked: Option<Boot>,
    /// A failback has come to nothing: none is tried before this.
    pub(super) failback_at: Option<Boot>,
    /// Since when there is something to settle that nobody asks for.
    pub(super) unsettled: Option<Now>,
    /// Since when it rests after a failed health check.
    pub(super) resting: Option<Now>,
    /// Who waits for an ownership round.
    pub(super) waiters: Vec<Waiter>,
    /// Who waits to hear whether this site would take it.
    pub(super) askers: Vec<(MemberId, Nonce, RequestId)>,
}

/// Where a site stands with one ticket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum State {
    /// It has nothing to do with it; it may be a candidate.
    #[default]
    Idle,
    /// An earlier life of this daemon held it, and it is armed still.
    Resuming { token: Token, deadline: Deadline },
    /// A majority has agreed; the fence daemon is not armed yet.
    Arming(Tenure),
    /// It holds it.
    Held(Tenure),
    /// It gives it up, and renews it until nothing runs.
    Leaving(Tenure, GiveUp, Stage),
    /// It renews no more; the fence plan runs.
    Fencing { token: Token, reason: FenceReason },
    /// Nothing runs, the receipt is there; the others have to be told.
    Stopped { token: Token, lost: bool },
}

/// How far giving up has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Stage {
    /// The stop hook runs.
    Stopping,
    /// The fence plan runs.
    Fencing,
}

impl State {
    /// The tenure that is renewed in this state.
    pub(super) const fn tenure(&self) -> Option<&Tenure> {
        match self {
            Self::Arming(tenure) | Self::Held(tenure) | Self::Leaving(tenure, ..) => Some(tenure),
            _ => None,
        }
    }

    /// Since when the fence daemon owes its word about a deadline of that tenure. Whatever is being fenced is extended no more.
    pub(super) fn owed_since(&self) -> Option<Now> {
        let is_fenced = matches!(self, Self::Leaving(.., Stage::Fencing));
        self.tenure().filter(|_| !is_fenced).and_then(Tenure::owed_since)
    }

    pub(super) const fn tenure_mut(&mut self) -> Option<&mut Tenure> {
        match self {
            Self::Arming(tenure) | Self::Held(tenure) | Self::Leaving(tenure, ..) => Some(tenure),
            _ => None,
        }
    }
}

impl Member {
    pub(super) fn drive_all(&mut self, now: Now) {
        for ticket in self.known_tickets() {
            self.drive(now, &ticket);
        }
    }

    pub(super) fn drive_all_soon(&mut self, now: Now) {
        for ticket in self.known_tickets() {
            self.drive_soon(now, &ticket);
        }
    }

    /// Looks at `ticket` again once this event is done with.
    pub(super) fn drive_soon(&mut self, now: Now, ticket: &TicketName) {
        if self.settings.is_site(self.settings.me) {
            self.timers.set_boot(Timer::Ticket(ticket.clone()), now.boot);
        }
    }

    /// Does whatever is to be done about `ticket` now, and sets the timer for the next look. Idempotent.
    pub(super) fn drive(&mut self, now: Now, ticket: &TicketName) {
        if !self.votes() || !self.settings.is_site(self.settings.me) {
            return;
        }
        let mut local = self.locals.remove(ticket).unwrap_or_default();
        let mut soonest = Soonest::default();
        let state = core::mem::take(&mut local.state);
        local.state = self.step_ticket(now, ticket, state, &mut local, &mut soonest);
        self.locals.insert(ticket.clone(), local);
        self.timers.set(Timer::Ticket(ticket.clone()), soonest.0);
    }

    fn step_ticket(
        &mut self,
        now: Now,
        ticket: &TicketName,
        state: State,
        local: &mut Local,
        soonest: &mut Soonest,
    ) -> State {
        match state {
            State::Idle => self.step_idle(now, ticket, local, soonest),
            State::Resuming { token, deadline } => self.step_resuming(now, ticket, token, deadline, soonest),
            State::Arming(tenure) => {
                // Armed or not, whatever was ordered may have been done: only a receipt ends this.
                if tenure.ordered().has_passed(now) {
                    return self.lose(ticket, &tenure, FenceReason::Lost);
                }
                soonest.deadline(tenure.ordered());
                State::Arming(tenure)
            }
            State::Held(tenure) => self.step_held(now, ticket, tenure, local, soonest),
            State::Leaving(tenure, why, stage) => {
                let deadline = self.leaving_until(ticket, &tenure, stage);
                if deadline.has_passed(now) {
                    return self.lose(ticket, &tenure, FenceReason::Lost);
                }
                soonest.deadline(deadline);
                State::Leaving(tenure, why, stage)
            }
            State::Fencing { .. } => state,
            State::Stopped { token, lost } => self.step_stopped(now, ticket, token, lost, soonest),
        }
    }

    /// Until when a site that gives a ticket up keeps it. Once its fence plan runs the deadman has nothing left to do at
    /// a deadline: the lease itself counts, however long the plan takes.
    pub(super) fn leaving_until(&self, ticket: &TicketName, tenure: &Tenure, stage: Stage) -> Deadline {
        let armed = tenure.deadline();
        match stage {
            Stage::Stopping => armed,
            Stage::Fencing => self.lease_end(ticket, tenure).unwrap_or(armed),
        }
    }

    fn step_resuming(
        &mut self,
        now: Now,
        ticket: &TicketName,
        token: Token,
        deadline: Deadline,
        soonest: &mut Soonest,
    ) -> State {
        if deadline.has_passed(now) && !planted!(ResumesLate) {
            self.end_own_round(ticket);
            self.order(Order::Fence(ticket.clone(), token, FenceReason::Lost), None);
            return State::Fencing { token, reason: FenceReason::Lost };
        }
        soonest.deadline(deadline);
        self.begin_or_wait(now, ticket, 0, Aim::Resume, soonest);
        State::Resuming { token, deadline }
    }

    fn step_held(
        &mut self,
        now: Now,
        ticket: &TicketName,
        tenure: Tenure,
        local: &mut Local,
        soonest: &mut Soonest,
    ) -> State {
        if tenure.deadline().has_passed(now) && !planted!(ForeverHeld) {
            return self.lose(ticket, &tenure, FenceReason::Lost);
        }
        if self.intent(ticket).is_some_and(|intent| intent.attests(tenure.terms.token)) {
            return self.lose(ticket, &tenure, FenceReason::Attested);
        }
        soonest.deadline(tenure.deadline());
        let mut tenure = tenure;
        if let Some((why, wish)) = self.reason_to_leave(ticket, &tenure)
            && self.is_wish_certain(now, wish.as_ref(), &mut tenure, soonest)
        {
            return self.leave(ticket, tenure, why);
        }
        self.step_health(now, ticket, &mut tenure, soonest);
        if let Progress::GivingUp = tenure.progress {
            self.rest(now, ticket, local);
            return self.leave(ticket, tenure, GiveUp::Unhealthy);
        }
        let aim = if local.waiters.is_empty() {
            self.reason_to_renew(now, ticket, &mut tenure, soonest)
        } else {
            Some(Aim::Settle)
        };
        if let Some(aim) = aim {
            self.begin_or_wait(now, ticket, 0, aim, soonest);
        }
        State::Held(tenure)
    }

    /// Why the holder should give the ticket up, by the wishes it knows.
    fn reason_to_leave(&self, ticket: &TicketName, tenure: &Tenure) -> Option<(GiveUp, Option<Key>)> {
        let me = self.settings.me;
        if let Some(intent) = self.intent(ticket) {
            let key = Some(Key::Intent(ticket.clone()));
            if intent.wanted == Wanted::Revoked {
                return Some((GiveUp::Revoked, key));
            }
            if intent.vacate.is_some_and(|vacate| tenure.terms.token <= vacate) {
                return Some((GiveUp::Vacate, key));
            }
        }
        if self.standby_mode(me) == StandbyMode::Vacate {
            return Some((GiveUp::Standby, Some(Key::Standby(me))));
        }
        let configured =
            self.settings.tickets.contains_key(ticket) && self.settings.local.contains_key(ticket);
        (!configured).then_some((GiveUp::Unconfigured, None))
    }

    /// Whether a wish is chosen, so that it cannot get lost any more. Whoever proposed it may have died half way: then
    /// the holder completes it.
    fn is_wish_certain(
        &mut self,
        now: Now,
        wish: Option<&Key>,
        tenure: &mut Tenure,
        soonest: &mut Soonest,
    ) -> bool {
        if planted!(ActsOnUnchosenWish) {
            return true;
        }
        let Some(key) = wish.filter(|key| !self.is_chosen(key)) else { return true };
        let since = *tenure.uncertain.get_or_insert(now.boot);
        let at = since.plus(self.settings.timing.retry().times(2)).max(self.contended_until(key));
        if now.boot >= at {
            tenure.uncertain = None;
            self.begin_round(now, key, 0, Aim::Complete);
        } else {
            soonest.boot(at);
        }
        false
    }

    fn leave(&mut self, ticket: &TicketName, tenure: Tenure, why: GiveUp) -> State {
        let token = tenure.terms.token;
        self.end_own_round(ticket);
        self.note(Note::Relinquishing(ticket.clone(), token, why));
        self.order(Order::Stop(ticket.clone(), token), None);
        State::Leaving(tenure, why, Stage::Stopping)
    }

    /// The tenure is over for good: whatever arrives later revives nothing.
    pub(super) fn lose(&mut self, ticket: &TicketName, tenure: &Tenure, reason: FenceReason) -> State {
        let token = tenure.terms.token;
        self.end_own_round(ticket);
        self.note(Note::Lost(ticket.clone(), token));
        self.order(Order::Fence(ticket.clone(), token, reason), None);
        self.send_to_all(&Body::Forgo { tickets: alloc::vec![(ticket.clone(), tenure.ballot)] });
        State::Fencing { token, reason }
    }

    pub(super) fn step_stopped(
        &mut self,
        now: Now,
        ticket: &TicketName,
        token: Token,
        lost: bool,
        soonest: &mut Soonest,
    ) -> State {
        let mine = self.ownership(ticket).held().is_some_and(|t| self.is_own(t, token));
        if !mine {
            self.end_own_round(ticket);
            soonest.boot(now.boot);
            return State::Idle;
        }
        self.begin_or_wait(now, ticket, 0, Aim::Release(token), soonest);
        State::Stopped { token, lost }
    }

    fn is_own(&self, tenancy: &Tenancy, token: Token) -> bool {
        tenancy.site == self.settings.me && tenancy.token == token
    }

    pub(super) fn begin_or_wait(
        &mut self,
        now: Now,
        ticket: &TicketName,
        rank: u8,
        aim: Aim,
        soonest: &mut Soonest,
    ) {
        let key = Key::Ownership(ticket.clone());
        let until = self.contended_until(&key);
        if !self.rounds.contains_key(&key) && now.boot < until {
            soonest.boot(until);
        }
        self.begin_round(now, &key, rank, aim);
    }

    pub(super) fn end_own_round(&mut self, ticket: &TicketName) {
        self.end_round(&Key::Ownership(ticket.clone()));
    }

    /// Durably unwilling for a while, so that nothing bounces.
    pub(super) fn rest(&mut self, now: Now, ticket: &TicketName, local: &mut Local) {
        let version = self.intent(ticket).map_or(0, |intent| intent.version);
        local.resting = Some(now);
        self.write(Record::Resting(ticket.clone(), Some(version)));
    }

    /// A round about ownership has ended without a choice.
    pub(super) fn ownership_round_ended(&mut self, now: Now, ticket: &TicketName) {
        if let Some(tenure) = self.locals.get_mut(ticket).and_then(|local| local.state.tenure_mut()) {
            tenure.interrupt();
        }
        self.drive_soon(now, ticket);
    }

    /// Ownership is chosen by a round of this site.
    pub(super) fn ownership_chosen(
        &mut self,
        now: Now,
        ticket: &TicketName,
        ballot: Ballot,
        aim: Aim,
        ownership: &Ownership,
        votes: Votes,
    ) {
        let mut local = self.locals.remove(ticket).unwrap_or_default();
        let state = core::mem::take(&mut local.state);
        local.state = match (state, ownership) {
            (State::Idle, Ownership::Held(terms))
                if aim == Aim::Acquire && terms.token == Token::of(ballot) =>
            {
                local.readiness = Readiness::Unknown;
                local.eligible = None;
                self.note(Note::Acquired(ticket.clone(), terms.token));
                self.arm(now, ticket, terms.clone(), ballot, votes, &mut local)
            }
            (State::Resuming { token, .. }, Ownership::Held(terms)) if aim == Aim::Resume => {
                self.note(Note::Resumed(ticket.clone(), token));
                self.arm(now, ticket, terms.clone(), ballot, votes, &mut local)
            }
            (State::Stopped { token, .. }, Ownership::Free { .. }) if aim == Aim::Release(token) => {
                self.note(Note::Released(ticket.clone(), token));
                State::Idle
            }
            (mut state, Ownership::Held(terms)) => {
                if let Some(tenure) = state.tenure_mut().filter(|t| t.terms.token == terms.token) {
                    let configured = self.settings.tickets.get(ticket).map(|ticket| ticket.expire);
                    tenure.renewed(terms.clone(), ballot, votes, configured);
                }
                state
            }
            (state, Ownership::Free { .. }) => state,
        };
        self.answer_waiters(&mut local, ticket, ownership, ballot);
        self.locals.insert(ticket.clone(), local);
        self.announce_tenure(ticket);
        self.extend_ticket(now, ticket);
        self.drive_soon(now, ticket);
    }

    fn arm(
        &mut self,
        now: Now,
        ticket: &TicketName,
        terms: Tenancy,
        ballot: Ballot,
        votes: Votes,
        local: &mut Local,
    ) -> State {
        let token = terms.token;
        let mut tenure = Tenure::begin(terms, ballot, votes, local.failback_at, now);
        let Some(deadline) = self.lease_end(ticket, &tenure) else {
            // A majority has just voted; without one there is no lease to speak of.
            return State::Fencing { token, reason: FenceReason::Unknown };
        };
        local.never_armed = None;
        self.order(Order::Arm(ticket.clone(), token, deadline), Some(deadline));
        tenure.order(deadline, now);
        State::Arming(tenure)
    }

    /// Tells the others of a tenure once its fence daemon is armed.
    pub(super) fn announce_tenure(&mut self, ticket: &TicketName) {
        let armed =
            self.locals.get(ticket).and_then(|local| local.state.tenure()).is_some_and(Tenure::is_armed);
        if armed {
            self.announce(&Key::Ownership(ticket.clone()));
        }
    }

    pub(super) fn order(&mut self, order: Order, not_after: Option<Deadline>) {
        self.out.orders.push((order, not_after));
    }

    /// The longest that a check before acquiring may take for `ticket`.
    pub(super) fn check_within(&self, ticket: &TicketName) -> Span {
        self.settings.local.get(ticket).map_or(Span::ZERO, |local| local.check_within)
    }
}
