//! A site that would hold a ticket: when it tries, what it checks first, and what it makes of what it finds
//! (docs/protocol.md, "Who acquires").

use sitegate_mutant::planted;

use super::Member;
use super::acceptor::Parked;
use super::proposer::{Aim, Decision, Found, Phase, Round};
use super::tenure::FORGIVEN_AFTER;
use super::ticket::{Local, State};
use crate::durable::Record;
use crate::event::{CheckId, CheckResult, FenceReason, Note, Order};
use crate::ids::{Ballot, MemberId, Nonce, TicketName, Token};
use crate::message::{Body, Refusal, RequestId};
use crate::time::{Boot, Guard, Now, Span};
use crate::timer::Soonest;
use crate::value::{
    Intent, Key, Ownership, Proof, Standby, StandbyMode, Takeover, Takeovers, Tenancy, Value, Wanted,
};

/// How long a failed check before acquiring is left alone.
const CHECK_AGAIN: Span = Span::from_secs(2);
/// How long a passed check is believed, on top of the time that it may take.
const CHECK_BELIEVED: Span = Span::from_secs(10);

/// What the check before acquiring has said lately.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Readiness {
    /// It was not asked.
    #[default]
    Unknown,
    /// It runs.
    Checking(CheckId),
    /// It passed.
    Passed(Now),
    /// It failed.
    Failed(Now),
}

/// What keeps a site from trying.
enum Hindrance {
    /// Nothing.
    None,
    /// Look again then.
    Until(Boot),
}

impl Member {
    pub(super) fn step_idle(
        &mut self,
        now: Now,
        ticket: &TicketName,
        local: &mut Local,
        soonest: &mut Soonest,
    ) -> State {
        if let Some(state) = self.take_up_report(now, ticket, local) {
            soonest.boot(now.boot);
            return state;
        }
        if let Some(token) = self.unfenced_tenure(ticket, local) {
            if self.fence.is_up() {
                self.order(Order::Fence(ticket.clone(), token, FenceReason::Unknown), None);
                return State::Fencing { token, reason: FenceReason::Unknown };
            }
            return State::Idle; // the fence daemon will report
        }
        if let Some(token) = self.unreleased_tenure(ticket, local) {
            return self.step_stopped(now, ticket, token, true, soonest);
        }
        self.answer_askers(now, ticket, local);
        if self.step_settle(now, ticket, local, soonest) {
            return State::Idle;
        }
        if let Some((preferred, _)) = self.would_hold(ticket, local) {
            self.step_candidate(now, ticket, local, preferred, soonest);
        } else {
            local.eligible = None;
            self.withdraw(ticket);
            if let Some(since) = local.resting {
                soonest.guard(Guard::after(since, self.check_hold(ticket)), now);
                self.step_rest(now, ticket, local, since, soonest);
            }
        }
        State::Idle
    }

    /// A tenure of this site that the register knows and the fence daemon has given no receipt for. A token that this
    /// process proposed and never armed needs none.
    fn unfenced_tenure(&self, ticket: &TicketName, local: &Local) -> Option<Token> {
        let held = self.ownership(ticket).held().filter(|t| t.site == self.settings.me).map(|t| t.token);
        let settled = |token| local.receipt >= Some(token) || local.never_armed == Some(token);
        if planted!(TakesOwnUnfenced) {
            return None;
        }
        if planted!(WritesOffOwn) {
            return None;
        }
        held.max(local.hearsay).filter(|&token| !settled(token))
    }

    /// A tenure of this site that is fenced, and that the others do not know to be over: one may wait for that.
    fn unreleased_tenure(&self, ticket: &TicketName, local: &Local) -> Option<Token> {
        let held = self.ownership(ticket).held().filter(|t| t.site == self.settings.me)?;
        (local.receipt >= Some(held.token)).then_some(held.token)
    }

    fn step_rest(
        &mut self,
        now: Now,
        ticket: &TicketName,
        local: &mut Local,
        since: Now,
        soonest: &mut Soonest,
    ) {
        let version = self.intent(ticket).map_or(0, |intent| intent.version);
        let commanded = self.durable.resting.get(ticket).is_some_and(|&at| at != version);
        if commanded || now.certainly_past(since, self.check_hold(ticket)) {
            local.resting = None;
            self.write(Record::Resting(ticket.clone(), None));
            soonest.boot(now.boot);
        }
    }

    fn check_hold(&self, ticket: &TicketName) -> Span {
        self.settings.local.get(ticket).map_or(Span::ZERO, |local| local.check_hold)
    }

    /// Why this site would not take the ticket, whatever the wishes for it are.
    pub(super) fn refusal(&self, ticket: &TicketName, local: &Local) -> Option<Refusal> {
        if !self.votes() {
            Some(Refusal::NotVoting)
        } else if !self.settings.local.contains_key(ticket) || !self.settings.tickets.contains_key(ticket) {
            Some(Refusal::NotConfigured)
        } else if self.standby_mode(self.settings.me) != StandbyMode::Online {
            Some(Refusal::Standby)
        } else if local.resting.is_some() {
            Some(Refusal::Resting)
        } else if !self.fence.is_up() {
            Some(Refusal::NoFence)
        } else {
            None
        }
    }

    /// Whether this site would hold the ticket, by the wishes it knows.
    pub(super) fn would_hold(&self, ticket: &TicketName, local: &Local) -> Option<(Option<MemberId>, u64)> {
        let intent = self.intent(ticket)?;
        let Wanted::Managed { preferred } = intent.wanted else { return None };
        (!intent.paused && self.refusal(ticket, local).is_none()).then_some((preferred, intent.version))
    }

    fn withdraw(&mut self, ticket: &TicketName) {
        let key = Key::Ownership(ticket.clone());
        let round = self.rounds.get(&key);
        if round.is_some_and(|r| r.aim == Aim::Acquire && matches!(r.phase, Phase::Preparing(_))) {
            self.end_round(&key);
        }
    }

    fn step_candidate(
        &mut self,
        now: Now,
        ticket: &TicketName,
        local: &mut Local,
        preferred: Option<MemberId>,
        soonest: &mut Soonest,
    ) {
        let rank = self.settings.rank(ticket, preferred, self.settings.me);
        match self.hindrance(now, ticket, local, rank) {
            Hindrance::Until(at) => {
                soonest.boot(at);
                return self.withdraw(ticket);
            }
            Hindrance::None => {}
        }
        if self.is_ready(now, ticket, local, soonest) {
            self.begin_or_wait(now, ticket, rank, Aim::Acquire, soonest);
        } else {
            self.withdraw(ticket);
        }
    }

    /// What keeps this site from trying now: another's lease, or its rank. It begins before a guard ends, so that it
    /// is parked when it does.
    fn hindrance(&self, now: Now, ticket: &TicketName, local: &mut Local, rank: u8) -> Hindrance {
        let me = self.settings.me;
        let step = self.settings.timing.step();
        let check = self.check_within(ticket);
        let held = self.ownership(ticket).held().filter(|t| t.site != me);
        if let Some(tenancy) = held {
            local.eligible = None;
            let attested = self.intent(ticket).is_some_and(|intent| intent.attests(tenancy.token));
            if attested {
                return Hindrance::None;
            }
            let guard = self.support.guard_of(ticket).filter(|(holder, ..)| *holder != me);
            let guard = guard.map(|(_, _, guard)| guard);
            if tenancy.takeover == Takeover::Confirmed && !planted!(ConfirmedNotAwaited) {
                // Until a receipt or an attestation; the news of a receipt may have been lost with whoever knew it.
                let over = now.boot.plus(guard.map_or(Span::ZERO, |guard| guard.remaining(now)));
                let again = local.looked.map_or(over, |at| at.plus(tenancy.lease()).max(over));
                let begun = self.rounds.contains_key(&Key::Ownership(ticket.clone()));
                if begun || now.boot >= again {
                    local.looked = Some(now.boot);
                    return Hindrance::None;
                }
                return Hindrance::Until(again);
            }
            let Some(guard) = guard else { return Hindrance::None };
            if self.is_behind(ticket, rank) {
                return Hindrance::Until(now.boot.plus(guard.remaining(now)).plus(step));
            }
            let lead = check.plus(step.times(2));
            let remaining = guard.remaining(now).plus(step.times(u64::from(rank)));
            if remaining > lead {
                return Hindrance::Until(now.boot.plus(remaining.minus(lead)));
            }
            return Hindrance::None;
        }
        let since = *local.eligible.get_or_insert(now);
        let at = since.boot.plus(step.plus(check).times(u64::from(rank)));
        if now.boot < at { Hindrance::Until(at) } else { Hindrance::None }
    }

    /// Whether a better candidate waits for the end of the guard here, and this site has not begun: it would only get
    /// votes that the other needs.
    pub(super) fn is_behind(&self, ticket: &TicketName, rank: u8) -> bool {
        let better =
            |(id, parked): (&MemberId, &Parked)| parked.rank < rank && self.is_current(*id, parked.nonce);
        let begun = self.rounds.contains_key(&Key::Ownership(ticket.clone()));
        !begun && self.parked.get(ticket).is_some_and(|parked| parked.iter().any(better))
    }

    /// Whether the check before acquiring has passed lately; has it run if not.
    fn is_ready(&mut self, now: Now, ticket: &TicketName, local: &mut Local, soonest: &mut Soonest) -> bool {
        let believed = CHECK_BELIEVED.plus(self.check_within(ticket));
        match local.readiness {
            Readiness::Passed(at) if now.since_at_most(at) < believed => {
                soonest.boot(at.boot.plus(believed));
                return true;
            }
            Readiness::Failed(at) if now.since_at_most(at) < CHECK_AGAIN => {
                soonest.boot(at.boot.plus(CHECK_AGAIN));
            }
            Readiness::Checking(_) => {}
            Readiness::Unknown | Readiness::Passed(_) | Readiness::Failed(_) => {
                let check = CheckId(self.rng.next());
                local.readiness = Readiness::Checking(check);
                self.out.checks.push((ticket.clone(), check));
            }
        }
        false
    }

    pub(super) fn on_checked(&mut self, now: Now, ticket: &TicketName, check: CheckId, result: CheckResult) {
        let Some(local) = self.locals.get_mut(ticket) else { return };
        if local.readiness != Readiness::Checking(check) {
            return;
        }
        local.readiness = match result {
            CheckResult::Passed => Readiness::Passed(now),
            CheckResult::Failed => Readiness::Failed(now),
        };
        if result == CheckResult::Failed {
            self.note(Note::CheckFailed(ticket.clone()));
        }
        self.drive_soon(now, ticket);
    }

    /// Another member wants to know whether this site would take the ticket: its check must pass.
    pub(super) fn on_willing(
        &mut self,
        now: Now,
        from: MemberId,
        nonce: Nonce,
        ticket: &TicketName,
        id: RequestId,
    ) {
        /// Questions that wait for one check; one a member is enough.
        const ASKERS_MAX: usize = 32;
        if !self.settings.is_site(self.settings.me) || !self.knows_ticket(ticket) {
            return self.reply(from, nonce, willingness(ticket, id, Some(Refusal::NotConfigured)));
        }
        let local = self.locals.or_default(ticket);
        local.askers.retain(|(asker, ..)| *asker != from);
        if local.askers.len() < ASKERS_MAX {
            local.askers.push((from, nonce, id));
        }
        self.drive_soon(now, ticket);
    }

    fn answer_askers(&mut self, now: Now, ticket: &TicketName, local: &mut Local) {
        if local.askers.is_empty() {
            return;
        }
        let refusal = self.refusal(ticket, local);
        let failed = |at: Now| now.since_at_most(at) < CHECK_AGAIN;
        let answer = match (refusal, local.readiness) {
            (Some(refusal), _) => Some(refusal),
            (None, Readiness::Failed(at)) if failed(at) => Some(Refusal::CheckFailed),
            (None, _) if self.is_ready(now, ticket, local, &mut Soonest::default()) => None,
            (None, _) => return,
        };
        for (to, nonce, id) in core::mem::take(&mut local.askers) {
            self.reply(to, nonce, willingness(ticket, id, answer));
        }
    }

    /// What a round about ownership proposes, by what its quorum knows.
    pub(super) fn decide_ownership(
        &mut self,
        now: Now,
        ticket: &TicketName,
        round: &Round,
        found: &Found,
        intent: &Found,
        standby: &Found,
    ) -> Decision {
        let found = found.accepted.as_ref().and_then(|a| a.value.ownership()).cloned();
        let found = found.unwrap_or(Ownership::NEVER);
        if matches!(round.aim, Aim::Acquire | Aim::Settle) {
            // Wishes that may not be chosen yet are completed first, so that nobody acts on one that gets lost.
            let me = self.settings.me;
            for (wish, key) in [(intent, Key::Intent(ticket.clone())), (standby, Key::Standby(me))] {
                if planted!(ActsOnUnchosenWish) {
                    continue;
                }
                if !wish.chosen {
                    self.begin_round(now, &key, 0, Aim::Complete);
                    return Decision::Abandon;
                }
            }
        }
        self.learn_wishes(now, ticket, intent, standby);
        let wish = intent.accepted.as_ref().and_then(|a| a.value.intent()).cloned();
        let wish = wish.unwrap_or_else(Intent::initial);
        let mode = standby.accepted.as_ref().and_then(|a| a.value.standby()).map(|s: &Standby| s.mode);
        let mode = mode.filter(|_| !planted!(StandbyIgnored));
        let value = match round.aim {
            Aim::Acquire if mode.unwrap_or(StandbyMode::Online) == StandbyMode::Online => {
                self.acquisition(now, ticket, round.ballot, &found, &wish)
            }
            Aim::Renew | Aim::Resume => self.continuation(ticket, &found),
            Aim::Release(token) => self.release(ticket, &found, token, &wish),
            Aim::Settle => Some(self.settlement(ticket, found, &wish)),
            _ => None,
        };
        value.map_or(Decision::Abandon, |ownership| Decision::Propose(Value::Ownership(ownership)))
    }

    /// Chosen wishes that the quorum knows and this site does not.
    fn learn_wishes(&mut self, now: Now, ticket: &TicketName, intent: &Found, standby: &Found) {
        let me = self.settings.me;
        for (wish, key) in [(intent, Key::Intent(ticket.clone())), (standby, Key::Standby(me))] {
            if let Some(accepted) = wish.accepted.as_ref().filter(|_| wish.chosen) {
                self.learn_found(now, &key, accepted.ballot, &accepted.value);
            }
        }
    }

    fn acquisition(
        &mut self,
        now: Now,
        ticket: &TicketName,
        ballot: Ballot,
        found: &Ownership,
        intent: &Intent,
    ) -> Option<Ownership> {
        if intent.paused || intent.wanted == Wanted::Revoked || !self.fence.is_up() {
            return None;
        }
        if found.held().is_some_and(|t| self.waits_for_confirmation(t, intent)) {
            return Some(found.clone()); // committed again, so that this site knows it too and waits
        }
        if matches!(found, Ownership::Free { last_token, .. } if intent.vacate == Some(*last_token))
            && intent.wanted != (Wanted::Managed { preferred: Some(self.settings.me) })
            && let Some(local) = self.locals.get_mut(ticket)
        {
            local.failback_at = Some(now.boot.plus(FORGIVEN_AFTER)); // whom it was given up for has not taken it
        }
        let Some(takeovers) = self.takeovers_after(ticket, found, intent) else {
            let mine = found.held().filter(|t| t.site == self.settings.me).map(|t| t.token);
            if let (Some(token), Some(local)) = (mine, self.locals.get_mut(ticket)) {
                local.hearsay = Some(token);
            }
            return None;
        };
        let settings = self.settings.tickets.get(ticket)?;
        if takeovers.count > settings.takeover_limit && !planted!(FlapsForEver) {
            self.note(Note::Flapping(ticket.clone()));
            self.begin_round(now, &Key::Intent(ticket.clone()), 0, Aim::Flap);
            return None;
        }
        let settings = self.settings.tickets.get(ticket)?;
        let again = planted!(TokenUsedAgain);
        let token = if again { found.token().max(Token::of(Ballot::ZERO)) } else { Token::of(ballot) };
        Some(Ownership::Held(Tenancy {
            site: self.settings.me,
            incarnation: self.life.incarnation,
            token,
            expire: settings.expire,
            acquire_after: settings.acquire_after,
            takeover: settings.takeover,
            takeovers,
        }))
    }

    /// Whether `tenancy` of another site may not be taken over before a receipt or an attestation.
    fn waits_for_confirmation(&self, tenancy: &Tenancy, intent: &Intent) -> bool {
        if planted!(ConfirmedNotAwaited) {
            return false;
        }
        tenancy.site != self.settings.me
            && tenancy.takeover == Takeover::Confirmed
            && !intent.attests(tenancy.token)
    }

    /// The count of takeovers if this site takes over from `found`; `None` if it must not.
    fn takeovers_after(&self, ticket: &TicketName, found: &Ownership, intent: &Intent) -> Option<Takeovers> {
        let Some(tenancy) = found.held() else { return Some(found.takeovers().under(intent.version)) };
        if tenancy.site == self.settings.me {
            let local = self.locals.get(ticket)?;
            if local.never_armed == Some(tenancy.token) {
                return Some(tenancy.takeovers.under(intent.version));
            }
            let receipt = local.receipt >= Some(tenancy.token) || planted!(TakesOwnUnfenced);
            return receipt.then(|| tenancy.takeovers.another(intent.version));
        }
        Some(tenancy.takeovers.another(intent.version))
    }

    /// The tenure of this site that is renewed or resumed, under today's terms.
    fn continuation(&self, ticket: &TicketName, found: &Ownership) -> Option<Ownership> {
        let local = self.locals.get(ticket)?;
        let (token, forgiven) = match &local.state {
            State::Resuming { token, .. } => (*token, false),
            state => {
                let tenure = state.tenure()?;
                (tenure.terms.token, tenure.forgiven_at() <= self.pulse.now.boot)
            }
        };
        let tenancy = found.held().filter(|t| t.site == self.settings.me && t.token == token)?;
        let settings = self.settings.tickets.get(ticket);
        let takeovers =
            if forgiven { Takeovers::NONE.under(tenancy.takeovers.under) } else { tenancy.takeovers };
        let terms = settings.filter(|terms| match &local.state {
            State::Held(tenure) => self.may_propose(ticket, tenure, terms.expire),
            _ => false,
        });
        Some(Ownership::Held(Tenancy {
            incarnation: self.life.incarnation,
            expire: terms.map_or(tenancy.expire, |t| t.expire),
            acquire_after: terms.map_or(tenancy.acquire_after, |t| t.acquire_after),
            takeover: terms.map_or(tenancy.takeover, |t| t.takeover),
            takeovers,
            ..tenancy.clone()
        }))
    }

    fn release(
        &self,
        ticket: &TicketName,
        found: &Ownership,
        token: Token,
        intent: &Intent,
    ) -> Option<Ownership> {
        let Some(tenancy) = found.held().filter(|t| t.site == self.settings.me && t.token == token) else {
            return Some(found.clone()); // others have moved on: committed again, so that this site learns of it
        };
        let local = self.locals.get(ticket)?;
        let State::Stopped { lost, .. } = local.state else { return None };
        let takeovers = tenancy.takeovers;
        let version = intent.version.max(self.intent(ticket).map_or(0, |i| i.version));
        Some(Ownership::Free {
            last_token: token,
            proof: Proof::Receipt,
            takeovers: if lost { takeovers.another(version) } else { takeovers },
        })
    }
}

fn willingness(ticket: &TicketName, id: RequestId, refusal: Option<Refusal>) -> Body {
    Body::Willingness { ticket: ticket.clone(), id, refusal }
}
