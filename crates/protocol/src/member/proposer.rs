//! The proposer: one round at a time per register, from Prepare to chosen (docs/protocol.md, "Messages").

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;

use sitegate_mutant::planted;

use super::Member;
use super::votes::Votes;
use crate::event::CommandId;
use crate::ids::{Ballot, MemberId, Nonce, TicketName, Token};
use crate::message::Body;
use crate::quorum::readmitters;
use crate::register::{Accepted, Register};
use crate::time::{Boot, Now, Span};
use crate::timer::Timer;
use crate::value::{Key, Ownership, Value};

/// The longest pause after lost rounds, as a power of two of `Timing::retry`.
const BACKOFF_DOUBLINGS_MAX: u32 = 4;

/// Repetitions of an outbid Prepare before a higher ballot is tried: a quorum may agree all the same.
const PREPARES_MAX: u32 = 3;
/// Repetitions of an outbid Accept: it may be chosen already, so giving up costs more.
const ACCEPTS_MAX: u32 = 12;

/// What a proposer is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Round {
    pub(super) ballot: Ballot,
    pub(super) rank: u8,
    pub(super) aim: Aim,
    pub(super) began: Now,
    pub(super) phase: Phase,
    nacks: BTreeSet<MemberId>,
    repeats: u32,
    /// Who guards whose lease against it, until when.
    pub(super) leased: BTreeMap<MemberId, (MemberId, Boot)>,
}

/// What a round is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Aim {
    /// To hold the ticket.
    Acquire,
    /// To hold it on, under other terms or with more support.
    Renew,
    /// To hold it on after a restart of this daemon.
    Resume,
    /// To let everybody know that it is free.
    Release(Token),
    /// To make sure that no older proposal can be chosen any more.
    Settle,
    /// A command's wish.
    Command(CommandId),
    /// Somebody's wish that may not be chosen yet.
    Complete,
    /// To pause a ticket that flaps.
    Flap,
    /// To bring a ticket back to its preferred site.
    Failback(MemberId, Token),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Phase {
    Preparing(BTreeMap<MemberId, Promised>),
    Accepting { value: Value, votes: Votes },
}

/// What an acceptor reported with its promise.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Promised {
    nonce: Nonce,
    accepted: Option<Accepted>,
    context: Vec<(Key, Accepted)>,
}

/// What came of lost rounds for one register.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Contention {
    failures: u32,
    /// No new round before this.
    pub(super) until: Boot,
    /// The highest round seen.
    round: u64,
}

/// The newest that a quorum of promises knows of one register.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Found {
    pub(super) accepted: Option<Accepted>,
    /// Whether a majority reports it: then it is chosen.
    pub(super) chosen: bool,
}

/// What a proposer makes of a quorum of promises.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Decision {
    Propose(Value),
    /// Nothing to propose, for now or for good; whoever drives the register looks again.
    Abandon,
}

impl Member {
    /// Begins a round, unless one runs or a lost one was too recent. True if it began.
    pub(super) fn begin_round(&mut self, now: Now, key: &Key, rank: u8, aim: Aim) -> bool {
        if self.rounds.contains_key(key) || !self.votes() || now.boot < self.contended_until(key) {
            return false;
        }
        let promised = self.register(key).map_or(Ballot::ZERO, Register::promised);
        let seen = self.contention.get(key).map_or(0, |contention| contention.round);
        let ballot = Ballot { round: promised.round.max(seen), member: 0 }.next(self.settings.me);
        let ballot =
            if planted!(BallotUsedAgain) && promised.is_of(self.settings.me) { promised } else { ballot };
        let round = Round {
            ballot,
            rank,
            aim,
            began: now,
            phase: Phase::Preparing(BTreeMap::new()),
            nacks: BTreeSet::new(),
            repeats: 0,
            leased: BTreeMap::new(),
        };
        self.rounds.insert(key.clone(), round);
        self.send_to_all(&Body::Prepare { key: key.clone(), ballot, rank });
        self.timers.set_boot(Timer::Round(key.clone()), now.boot.plus(self.settings.timing.retry()));
        true
    }

    /// Until when lost rounds keep this member from another.
    pub(super) fn contended_until(&self, key: &Key) -> Boot {
        self.contention.get(key).map_or(Boot(0), |contention| contention.until)
    }

    /// No round about `key` begins here before `until`.
    pub(super) fn wait_until(&mut self, key: &Key, until: Boot) {
        let contention = self.contention.entry(key.clone()).or_default();
        contention.until = contention.until.max(until);
    }

    pub(super) fn end_round(&mut self, key: &Key) -> Option<Round> {
        self.timers.cancel(&Timer::Round(key.clone()));
        self.rounds.remove(key)
    }

    #[expect(clippy::too_many_arguments, reason = "they are the message")]
    pub(super) fn on_promise(
        &mut self,
        now: Now,
        from: MemberId,
        nonce: Nonce,
        key: &Key,
        ballot: Ballot,
        accepted: Option<Accepted>,
        context: Vec<(Key, Accepted)>,
    ) {
        let Some(round) = self.rounds.get_mut(key).filter(|round| round.ballot == ballot) else { return };
        let Phase::Preparing(promises) = &mut round.phase else { return };
        promises.insert(from, Promised { nonce, accepted, context });
        round.leased.remove(&from);
        self.try_propose(now, key);
    }

    fn try_propose(&mut self, now: Now, key: &Key) {
        let Some(Round { phase: Phase::Preparing(promises), .. }) = self.rounds.get(key) else { return };
        let current = |(id, p): &(&MemberId, &Promised)| self.is_current(**id, p.nonce);
        let counted: BTreeSet<MemberId> = promises.iter().filter(current).map(|(id, _)| *id).collect();
        let outsiders: Vec<MemberId> = self.readmission_target().into_iter().collect();
        if !self.is_quorum(key, &counted, &outsiders) {
            return;
        }
        let Some(round) = self.rounds.remove(key) else { return };
        let Phase::Preparing(mut promises) = round.phase.clone() else { return };
        promises.retain(|id, _| counted.contains(id));
        match self.decide(now, key, &round, &promises) {
            Decision::Propose(value) => self.propose(now, key, round, value),
            Decision::Abandon => {
                self.timers.cancel(&Timer::Round(key.clone()));
                // Nothing to propose now; whoever tries again at once would find the same.
                let contention = self.contention.entry(key.clone()).or_default();
                contention.until = now.boot.plus(self.settings.timing.retry());
                self.round_ended(now, key);
            }
        }
    }

    fn decide(
        &mut self,
        now: Now,
        key: &Key,
        round: &Round,
        promises: &BTreeMap<MemberId, Promised>,
    ) -> Decision {
        let found = self.found(key, promises, |promised, _| promised.accepted.as_ref());
        match key {
            Key::Ownership(ticket) => {
                let intent = self.found_related(&Key::Intent(ticket.clone()), promises);
                let standby = self.found_related(&Key::Standby(self.settings.me), promises);
                let decision = self.decide_ownership(now, ticket, round, &found, &intent, &standby);
                self.remind_of_wishes(ticket, promises);
                decision
            }
            Key::Intent(ticket) => {
                let ownership = self.found_related(&Key::Ownership(ticket.clone()), promises);
                self.decide_intent(round, &found, &ownership)
            }
            Key::Standby(site) => self.decide_standby(*site, round, &found),
            Key::Identities => self.decide_identities(round, &found),
        }
    }

    /// Tells everybody the wishes of which a promise showed that it does not know them: an acceptor refuses a tenure that
    /// an older one forbids.
    fn remind_of_wishes(&mut self, ticket: &TicketName, promises: &BTreeMap<MemberId, Promised>) {
        for key in [Key::Intent(ticket.clone()), Key::Standby(self.settings.me)] {
            let chosen = self.chosen.get(&key).copied();
            let knows = |promised: &Promised| {
                promised.context.iter().any(|(k, accepted)| *k == key && Some(accepted.ballot) == chosen)
            };
            if chosen.is_some() && !promises.values().all(knows) {
                self.announce(&key);
            }
        }
    }

    fn found_related(&self, key: &Key, promises: &BTreeMap<MemberId, Promised>) -> Found {
        self.found(key, promises, |promised, key| {
            promised.context.iter().find(|(k, _)| k == key).map(|(_, accepted)| accepted)
        })
    }

    fn found<'a>(
        &self,
        key: &Key,
        promises: &'a BTreeMap<MemberId, Promised>,
        report: impl Fn(&'a Promised, &Key) -> Option<&'a Accepted>,
    ) -> Found {
        let all = promises.values().filter_map(|p| report(p, key));
        let newest =
            if planted!(LowestValue) { all.min_by_key(|a| a.ballot) } else { all.max_by_key(|a| a.ballot) };
        let ballot = newest.map(|a| a.ballot);
        let reported = promises.values().filter_map(|p| report(p, key));
        let votes = reported
            .filter(|a| {
                let adopted = a.adopted && !planted!(AdoptedIsVote);
                Some(a.ballot) == ballot && !adopted
            })
            .count();
        let chosen =
            ballot.is_none() || votes >= self.settings.majority() || self.chosen.get(key).copied() == ballot;
        Found { accepted: newest.cloned(), chosen }
    }

    /// Whether `members`, all with their current nonce, make a quorum for `key`: a majority with this member in it. About
    /// identities, `outsiders` have no say.
    fn is_quorum(&self, key: &Key, members: &BTreeSet<MemberId>, outsiders: &[MemberId]) -> bool {
        let me = self.settings.me;
        if !members.contains(&me) {
            return false;
        }
        if matches!(key, Key::Identities) {
            let counted = members.iter().filter(|id| !outsiders.contains(id)).count();
            return !outsiders.contains(&me) && counted >= readmitters(self.settings.n());
        }
        members.len() >= self.settings.majority()
    }

    fn propose(&mut self, now: Now, key: &Key, round: Round, value: Value) {
        let mut votes = Votes::default();
        let attempt = votes.begin_attempt(now);
        let ballot = round.ballot;
        let phase = Phase::Accepting { value: value.clone(), votes };
        self.rounds.insert(key.clone(), Round { phase, nacks: BTreeSet::new(), repeats: 0, ..round });
        if let (Key::Ownership(ticket), Aim::Acquire) = (key, round.aim) {
            self.locals.or_default(ticket).never_armed = Some(Token::of(ballot));
        }
        self.send_to_all(&Body::Accept { key: key.clone(), ballot, value, attempt });
    }

    pub(super) fn on_accepted(
        &mut self,
        now: Now,
        from: MemberId,
        nonce: Nonce,
        key: &Key,
        ballot: Ballot,
        attempt: u32,
    ) {
        match self.rounds.get_mut(key) {
            Some(Round { ballot: b, phase: Phase::Accepting { votes, .. }, .. }) if *b == ballot => {
                votes.count(from, nonce, attempt);
                self.try_choose(now, key);
            }
            _ => self.late_vote(now, from, nonce, key, ballot, attempt),
        }
    }

    fn try_choose(&mut self, now: Now, key: &Key) {
        let Some(Round { phase: Phase::Accepting { votes, value }, .. }) = self.rounds.get(key) else {
            return;
        };
        let outsiders = self.replaced_by(value);
        let current = votes.by.iter().filter(|(id, vote)| self.is_current(**id, vote.nonce));
        let counted: BTreeSet<MemberId> = current.map(|(id, _)| *id).collect();
        if !self.is_quorum(key, &counted, &outsiders) {
            return;
        }
        let Some(round) = self.end_round(key) else { return };
        let Phase::Accepting { value, votes } = round.phase else { return };
        let contention = self.contention.remove(key).filter(|_| !round.nacks.is_empty());
        self.mark_chosen(key, round.ballot);
        // A tenure is announced once the fence daemon is armed for it.
        let own_tenure =
            value.ownership().and_then(Ownership::held).is_some_and(|t| t.site == self.settings.me);
        if !own_tenure {
            self.announce(key);
        }
        self.round_chosen(now, key, round.ballot, round.aim, &value, votes);
        if let (Some(contention), Key::Ownership(ticket), true) = (contention, key, own_tenure) {
            self.win_over(now, ticket, contention.round);
        }
    }

    /// Somebody has promised a higher ballot than the one with which this site has just got its ticket: a candidate that parks at
    /// the others. It supports nothing at that ballot, so that the ticket would hang on fewer for as long as the candidate
    /// tries. The next proposal wins it over, if it is above.
    fn win_over(&mut self, now: Now, ticket: &TicketName, round: u64) {
        let until = now.boot.plus(self.settings.timing.retry());
        let contention = Contention { failures: 0, until, round };
        self.contention.insert(Key::Ownership(ticket.clone()), contention);
        self.ownership_round_ended(now, ticket);
    }

    /// Tells the others what is chosen.
    pub(super) fn announce(&mut self, key: &Key) {
        if let Some(accepted) = self.register(key).and_then(Register::accepted).cloned()
            && self.chosen.get(key) == Some(&accepted.ballot)
        {
            let (ballot, value) = (accepted.ballot, accepted.value);
            self.send_to_others(&Body::Chosen { key: key.clone(), ballot, value });
        }
    }

    pub(super) fn on_nack(&mut self, now: Now, from: MemberId, key: &Key, ballot: Ballot, promised: Ballot) {
        let (n, majority, me) = (self.settings.n(), self.settings.majority(), self.settings.me);
        let Some(round) = self.rounds.get_mut(key).filter(|round| round.ballot == ballot) else {
            return self.late_nack(now, key, ballot, promised);
        };
        let contention = self.contention.entry(key.clone()).or_default();
        contention.round = contention.round.max(promised.round);
        round.nacks.insert(from);
        // One that refuses does not matter while a quorum may still agree.
        if from != me && n - round.nacks.len() >= majority {
            return;
        }
        self.fail_round(now, key);
    }

    /// One that refuses what has been chosen without it.
    fn late_nack(&mut self, now: Now, key: &Key, ballot: Ballot, promised: Ballot) {
        let Key::Ownership(ticket) = key else { return };
        let tenure = self.locals.get(ticket).and_then(|local| local.state.tenure());
        if promised > ballot && tenure.is_some_and(|tenure| tenure.ballot == ballot) {
            self.win_over(now, ticket, promised.round);
        }
    }

    /// A lost round: another may begin after a pause that spreads rivals. Whoever would acquire leaves the rival that has
    /// won, and better ones, the time to finish: a higher ballot now would only split the votes.
    fn fail_round(&mut self, now: Now, key: &Key) {
        let retry = self.settings.timing.retry();
        let contention = self.contention.entry(key.clone()).or_default();
        contention.failures = (contention.failures + 1).min(BACKOFF_DOUBLINGS_MAX);
        let longest = retry.times(1 << contention.failures).as_nanos();
        contention.until = now.boot.plus(Span::from_nanos(self.rng.below(longest.max(1))));
        if let Some(round) = self.rounds.get(key).filter(|round| round.aim == Aim::Acquire) {
            let step = self.settings.timing.step();
            contention.until = contention.until.plus(step.times(u64::from(round.rank.max(1))));
            if let Some((_, until)) = round.leased.values().min_by_key(|(_, until)| *until) {
                // Somebody renews a lease: trying before it can end would only outbid what its holder has to say.
                contention.until = contention.until.max(until.minus(step.times(2)));
            }
        }
        self.end_round(key);
        self.round_ended(now, key);
    }

    /// What a round says again; nothing where it would renew a lease that is barred.
    fn repetition(&mut self, now: Now, key: &Key) -> Option<Body> {
        let barred = self.pulse.is_barred();
        let me = self.settings.me;
        let round = self.rounds.get_mut(key)?;
        let (ballot, rank) = (round.ballot, round.rank);
        match &mut round.phase {
            Phase::Preparing(_) => Some(Body::Prepare { key: key.clone(), ballot, rank }),
            Phase::Accepting { value, votes } => {
                let tenure = value.ownership().and_then(Ownership::held).is_some_and(|t| t.site == me);
                if barred && tenure {
                    return None;
                }
                let attempt = votes.begin_attempt(now);
                if let Value::Ownership(Ownership::Held(tenancy)) = value
                    && planted!(TwoValues)
                {
                    tenancy.takeovers.count += 1;
                }
                Some(Body::Accept { key: key.clone(), ballot, value: value.clone(), attempt })
            }
        }
    }

    pub(super) fn on_leased(
        &mut self,
        now: Now,
        from: MemberId,
        ticket: TicketName,
        ballot: Ballot,
        holder: MemberId,
        remaining: Span,
    ) {
        let key = Key::Ownership(ticket);
        let me = self.settings.me;
        let Some(round) = self.rounds.get_mut(&key).filter(|round| round.ballot == ballot) else { return };
        round.leased.insert(from, (holder, now.boot.plus(remaining)));
        if matches!(round.aim, Aim::Release(_)) && holder != me {
            // Others have moved on, and will say so: there is nothing left to release.
            self.fail_round(now, &key);
        }
    }

    /// Sends again what was not answered by the process that runs today. A round that was outbid and is still not
    /// through begins anew, above what it was outbid with.
    pub(super) fn repeat_round(&mut self, now: Now, key: &Key) {
        let Some(round) = self.rounds.get_mut(key) else { return };
        round.repeats = round.repeats.saturating_add(1);
        let patience = match round.phase {
            Phase::Preparing(_) => PREPARES_MAX,
            Phase::Accepting { .. } => ACCEPTS_MAX,
        };
        if !round.nacks.is_empty() && round.repeats >= patience {
            return self.fail_round(now, key);
        }
        let Some(round) = self.rounds.get(key) else { return };
        let answered: BTreeSet<MemberId> = match &round.phase {
            Phase::Preparing(promises) => {
                promises.iter().filter(|(id, p)| self.is_current(**id, p.nonce)).map(|(id, _)| *id).collect()
            }
            Phase::Accepting { votes, .. } => {
                votes.by.iter().filter(|(id, v)| self.is_current(**id, v.nonce)).map(|(id, _)| *id).collect()
            }
        };
        let settings = Arc::clone(&self.settings);
        if let Some(body) = self.repetition(now, key) {
            for to in settings.members.keys().filter(|id| !answered.contains(id)) {
                self.send(*to, body.clone());
            }
        }
        // Where it is parked it is answered without being asked again; only a restart there needs a reminder.
        let parked = self.rounds.get(key).is_some_and(|round| !round.leased.is_empty());
        let retry = self.settings.timing.retry();
        let pause = if parked { retry.max(self.settings.timing.heartbeat) } else { retry };
        self.timers.set_boot(Timer::Round(key.clone()), now.boot.plus(pause));
    }
}
