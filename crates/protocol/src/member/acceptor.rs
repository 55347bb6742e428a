//! The acceptor: promises, votes, and the guard that keeps candidates waiting (docs/protocol.md, "Messages").

use alloc::vec::Vec;

use sitegate_mutant::planted;

use super::Member;
use crate::event::Note;
use crate::ids::{Ballot, MemberId, Nonce, TicketName, Token};
use crate::message::Body;
use crate::register::{Register, Vote};
use crate::time::{Guard, Now};
use crate::timer::{Soonest, Timer};
use crate::value::{Intent, Key, Ownership, StandbyMode, Value, Wanted};

/// Tickets that one member keeps registers for: bounds memory and disk against a peer run wild.
const TICKETS_MAX: usize = 100_000;

/// A candidate that waits for the end of a guard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Parked {
    pub(super) ballot: Ballot,
    pub(super) rank: u8,
    pub(super) nonce: Nonce,
}

impl Member {
    pub(super) fn on_prepare(
        &mut self,
        now: Now,
        from: MemberId,
        nonce: Nonce,
        key: Key,
        ballot: Ballot,
        rank: u8,
    ) {
        if !self.may_open(&key) || (matches!(key, Key::Ownership(_)) && !self.settings.is_site(from)) {
            return;
        }
        let promised = self.register(&key).map_or(Ballot::ZERO, Register::promised);
        if ballot == promised
            && (self.answered.get(&key) == Some(&(ballot, nonce)) || planted!(RecoveredPromiseAnswered))
        {
            return self.reply_promise(from, nonce, key, ballot);
        }
        if self.leaps(&key, ballot) {
            return;
        }
        let promised = if planted!(PromiseBelowPromise) { Ballot::ZERO } else { promised };
        if ballot <= promised || self.is_passed_over(&key, from, ballot) {
            return self.reply(from, nonce, Body::Nack { key, ballot, promised });
        }
        if let Key::Ownership(ticket) = &key
            && let Some((holder, guard)) = self.guard_against(ticket, from, now)
        {
            let candidate = Parked { ballot, rank, nonce };
            return self.park(now, ticket.clone(), from, candidate, holder, guard);
        }
        self.give_promise(from, nonce, key, ballot);
    }

    /// Whether `ballot` is so far above all that this register has seen that its proposer must have run wild.
    pub(super) fn leaps(&self, key: &Key, ballot: Ballot) -> bool {
        if planted!(LeapNotChecked) {
            return false;
        }
        let promised = self.register(key).map_or(Ballot::ZERO, Register::promised);
        ballot.round > promised.round.saturating_add(Ballot::ROUND_LEAP)
    }

    /// Whether a register may be looked after here: an old one, or one within bounds.
    pub(super) fn may_open(&self, key: &Key) -> bool {
        self.durable.registers.contains_key(key) || self.durable.registers.len() < 2 * TICKETS_MAX
    }

    fn is_passed_over(&self, key: &Key, candidate: MemberId, ballot: Ballot) -> bool {
        let Key::Ownership(ticket) = key else { return false };
        self.passed_over.get(ticket).is_some_and(|passed| passed.contains(&(candidate, ballot)))
    }

    /// The lease that keeps `candidate` waiting: of anybody but itself, unless an operator attested it dead.
    fn guard_against(&self, ticket: &TicketName, candidate: MemberId, now: Now) -> Option<(MemberId, Guard)> {
        let (holder, token, guard) = self.support.guard_of(ticket)?;
        let attested =
            self.intent(ticket).is_some_and(|intent| intent.attests(token)) || planted!(GuardIgnored);
        (holder != candidate && !attested && !guard.is_over(now)).then_some((holder, guard))
    }

    fn give_promise(&mut self, from: MemberId, nonce: Nonce, key: Key, ballot: Ballot) {
        let mut register = self.register(&key).cloned().unwrap_or_default();
        if register.promise(ballot).is_err() {
            return;
        }
        self.register_changed(&key, register, None);
        self.answered.insert(key.clone(), (ballot, nonce));
        self.reply_promise(from, nonce, key, ballot);
    }

    fn reply_promise(&mut self, to: MemberId, nonce: Nonce, key: Key, ballot: Ballot) {
        let accepted = self.register(&key).and_then(Register::accepted).cloned();
        let related: Vec<Key> = match &key {
            Key::Ownership(ticket) => alloc::vec![Key::Intent(ticket.clone()), Key::Standby(to)],
            Key::Intent(ticket) => alloc::vec![Key::Ownership(ticket.clone())],
            Key::Standby(_) | Key::Identities => Vec::new(),
        };
        let context = related
            .into_iter()
            .filter_map(|key| {
                let accepted = self.register(&key).and_then(Register::accepted).cloned();
                accepted.map(|accepted| (key, accepted))
            })
            .collect();
        self.reply(to, nonce, Body::Promise { key, ballot, accepted, context });
    }

    fn park(
        &mut self,
        now: Now,
        ticket: TicketName,
        from: MemberId,
        candidate: Parked,
        holder: MemberId,
        guard: Guard,
    ) {
        let parked = self.parked.entry(ticket.clone()).or_default();
        let remaining = guard.remaining(now);
        if parked.get(&from).is_none_or(|old| old.ballot < candidate.ballot || old.nonce != candidate.nonce) {
            parked.insert(from, candidate);
            self.out.notes.push(Note::Parked(ticket.clone(), from, remaining));
        }
        self.set_parked_timer(now, &ticket, guard);
        let ballot = candidate.ballot;
        self.reply(from, candidate.nonce, Body::Leased { ticket, ballot, holder, remaining });
    }

    fn set_parked_timer(&mut self, now: Now, ticket: &TicketName, guard: Guard) {
        let mut soonest = Soonest::default();
        soonest.guard(guard, now);
        self.timers.set(Timer::Parked(ticket.clone()), soonest.0);
    }

    /// The guard may have ended, or been lifted: the best-ranked candidate is promised, the others are nacked.
    pub(super) fn answer_parked(&mut self, now: Now, ticket: &TicketName) {
        let Some(parked) = self.parked.get(ticket) else { return };
        if parked.is_empty() || !self.votes() {
            self.parked.remove(ticket);
            return;
        }
        let blocked = parked.keys().find_map(|&candidate| self.guard_against(ticket, candidate, now));
        if let Some((_, guard)) = blocked {
            return self.set_parked_timer(now, ticket, guard);
        }
        let mut waiting: Vec<(MemberId, Parked)> =
            self.parked.remove(ticket).unwrap_or_default().into_iter().collect();
        waiting.sort_by_key(|(id, p)| (p.rank, core::cmp::Reverse(p.ballot), *id));
        waiting.retain(|(id, p)| self.nonce_of(*id) == Some(p.nonce));
        let key = Key::Ownership(ticket.clone());
        let mut taken = false;
        let mut passed_over = Vec::new();
        for (id, p) in waiting {
            let promised = self.register(&key).map_or(Ballot::ZERO, Register::promised);
            if taken || p.ballot <= promised {
                passed_over.push((id, p.ballot));
                self.reply(id, p.nonce, Body::Nack { key: key.clone(), ballot: p.ballot, promised });
            } else {
                self.give_promise(id, p.nonce, key.clone(), p.ballot);
                self.give_way(now, &key, id);
                taken = true;
            }
        }
        self.passed_over.insert(ticket.clone(), passed_over);
    }

    /// A site that has promised another candidate leaves it the time to gather the other promises, whose guards end a step later
    /// at most, and to ask for votes: a ballot of its own would split them.
    fn give_way(&mut self, now: Now, key: &Key, candidate: MemberId) {
        if candidate != self.settings.me && self.settings.is_site(self.settings.me) {
            let until = now.boot.plus(self.settings.timing.step().times(2));
            self.wait_until(key, until);
        }
    }

    #[expect(clippy::too_many_arguments, reason = "they are the message")]
    pub(super) fn on_accept(
        &mut self,
        now: Now,
        from: MemberId,
        nonce: Nonce,
        key: &Key,
        ballot: Ballot,
        value: &Value,
        attempt: u32,
    ) {
        if !self.may_open(key) || self.leaps(key, ballot) {
            return;
        }
        if self.is_forbidden(key, ballot, value) {
            let promised = self.register(key).map_or(Ballot::ZERO, Register::promised);
            return self.reply(from, nonce, Body::Nack { key: key.clone(), ballot, promised });
        }
        let mut register = self.register(key).cloned().unwrap_or_default();
        match register.accept(ballot, value) {
            Err(outbid) => {
                let promised = outbid.promised;
                return self.reply(from, nonce, Body::Nack { key: key.clone(), ballot, promised });
            }
            Ok(vote) => {
                let by_holder = value.ownership().and_then(Ownership::held).is_some_and(|t| t.site == from);
                let arrival = by_holder.then_some(now);
                if vote == Vote::New {
                    self.register_changed(key, register, arrival);
                } else if let (Key::Ownership(ticket), Some(_)) = (key, arrival) {
                    self.support.follow(ticket, &register, arrival, self.serial, &self.settings);
                }
            }
        }
        self.reply(from, nonce, Body::Accepted { key: key.clone(), ballot, attempt });
        self.look_again(now, key, Some(from));
    }

    /// Whether `value` begins a tenure against a wish that is known here. Its candidate may have got the promises that it
    /// counts partly before that wish was chosen and partly after a round that has confirmed it
    /// (docs/protocol.md, "When a wish is confirmed").
    fn is_forbidden(&self, key: &Key, ballot: Ballot, value: &Value) -> bool {
        let (Key::Ownership(ticket), Some(tenancy)) = (key, value.ownership().and_then(Ownership::held))
        else {
            return false;
        };
        let unwanted = |intent: &Intent| intent.paused || intent.wanted == Wanted::Revoked;
        let voted = self.register(key).and_then(Register::accepted).is_some_and(|a| a.ballot == ballot)
            || planted!(ForbiddenAccepted);
        tenancy.token == Token::of(ballot)
            && !voted
            && (self.intent(ticket).is_some_and(unwanted)
                || self.standby_mode(tenancy.site) != StandbyMode::Online)
    }

    /// After a register has a new accepted value: parked candidates may go on, and this site may have to act.
    pub(super) fn look_again(&mut self, now: Now, key: &Key, proposer: Option<MemberId>) {
        match key {
            Key::Ownership(ticket) | Key::Intent(ticket) => {
                self.answer_parked(now, ticket);
                if proposer != Some(self.settings.me) {
                    self.drive_soon(now, ticket);
                }
            }
            Key::Standby(site) if *site == self.settings.me => self.drive_all_soon(now),
            Key::Standby(_) | Key::Identities => {}
        }
    }
}
