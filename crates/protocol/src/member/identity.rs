//! Identities: who is one of us, and how somebody with a new identity comes back (docs/protocol.md, "Identities").

use alloc::vec::Vec;

use sitegate_mutant::planted;

use super::proposer::{Aim, Decision, Found, Round};
use super::{Member, Standing};
use crate::durable::Duty;
use crate::event::{CommandRefusal, Done, Note, Reply};
use crate::ids::{Ballot, Epoch, Identity, Incarnation, MemberId, Nonce};
use crate::message::{Body, Header};
use crate::time::{Now, Span};
use crate::timer::Timer;
use crate::value::{Identities, Key, Value};

/// How often a quarantined member shows itself.
const KNOCK_EVERY: Span = Span::from_secs(1);
/// A stranger that was not heard for so many of its knocks may have gone.
const KNOCKS_MISSED_MAX: u64 = 5;
/// A member that was not heard for so many heartbeats may be dead.
const BEATS_MISSED_MAX: u64 = 3;

/// Somebody who speaks in the name of a member with another identity than the formation's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Stranger {
    identity: Identity,
    /// When it was first and last heard.
    since: Now,
    heard: Now,
}

/// What a command that readmits a member has looked at: later events do not change what it asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Readmission {
    pub(super) member: MemberId,
    pub(super) identity: Identity,
    replaces: Identity,
}

impl Member {
    /// Somebody under the name of a member, with an identity that is not the formation's.
    pub(super) fn meet_stranger(&mut self, now: Now, header: &Header) {
        let Some(peer) = self.peers.get_mut(&header.from) else { return };
        match &mut peer.stranger {
            Some(known) if known.identity == header.identity => known.heard = now,
            stranger => {
                *stranger = Some(Stranger { identity: header.identity, since: now, heard: now });
                self.note(Note::Stranger(header.from));
            }
        }
        self.tell_epoch(header.from, header.life.nonce);
    }

    pub(super) fn tell_epoch(&mut self, to: MemberId, nonce: Nonce) {
        let Some(identities) = self.durable.own.formation.clone() else { return };
        let accepted = self.register(&Key::Identities).and_then(|register| register.accepted());
        let known = if planted!(EpochByOwnVote) {
            accepted.map(|a| a.ballot)
        } else {
            self.chosen.get(&Key::Identities).copied()
        };
        // Its own vote may be for a ballot that only confirms them, and is not chosen yet.
        let ballot = accepted
            .filter(|a| known == Some(a.ballot) && a.value.identities() == Some(&identities))
            .map(|a| a.ballot);
        self.reply(to, nonce, Body::Epoch { ballot: ballot.unwrap_or(Ballot::ZERO), identities });
    }

    /// A quarantined member shows its identity, so that it can be readmitted.
    pub(super) fn knock(&mut self, now: Now) {
        let ask = self.request_id();
        self.send_to_others(&Body::Meet { ask });
        self.timers.set_boot(Timer::Standing, now.boot.plus(KNOCK_EVERY));
    }

    /// The identities of the formation, as somebody who lives in it says.
    pub(super) fn on_epoch(&mut self, now: Now, ballot: Ballot, identities: &Identities) {
        let me = self.settings.me;
        let mine = identities.of.get(&me) == Some(&self.durable.own.identity);
        match &self.durable.own.formation {
            Some(ours) if identities.epoch <= ours.epoch => return,
            None if !mine => {
                if self.standing != Standing::Quarantined {
                    self.standing = Standing::Quarantined;
                    self.note(Note::Quarantined);
                    self.timers.set_boot(Timer::Standing, now.boot.plus(KNOCK_EVERY));
                }
                return;
            }
            _ => {}
        }
        let before = self.durable.own.formation.replace(identities.clone());
        self.out.begin_epoch();
        self.loopback.retain(|body| !body.is_of_round());
        self.header_durable = false;
        if planted!(EpochBeforeCommit) {
            self.header_durable = true;
        }
        let first = before.is_none();
        // An epoch after birth may have replaced this very member: its empty disk says nothing of what its name voted.
        let was_out = self.standing == Standing::Quarantined || (first && identities.epoch > Epoch(0));
        if was_out && mine {
            self.durable.own.duty = Duty::Settle;
            // Above every life of the name's earlier identity: registers and leases still speak of those.
            let incarnation = self.life.incarnation.max(Incarnation(identities.epoch.0 << 32));
            self.life.incarnation = incarnation;
            self.durable.own.incarnation = incarnation;
            self.peers.entry(me).or_default().life = Some(self.life);
        }
        self.write_own();
        self.note(Note::EpochChanged(identities.epoch));
        self.adopt_identities(now, ballot, identities, before.as_ref());
        if !mine {
            // Replaced: whatever this process holds, its votes count no more.
            self.note(Note::Quarantined);
            return self.start_again();
        }
        if first && !was_out {
            self.note(Note::Born);
        }
        if first && !was_out && planted!(DiskBeforeBirth) {
            return self.begin_voting(now);
        }
        if was_out || first {
            // Others live in it already: this disk may be one from before its birth, and the member have voted since.
            self.begin_recovery(now);
        }
        self.commands_soon(now);
    }

    fn adopt_identities(
        &mut self,
        now: Now,
        ballot: Ballot,
        identities: &Identities,
        before: Option<&Identities>,
    ) {
        let changed: Vec<MemberId> = identities
            .of
            .iter()
            .filter(|(id, identity)| before.is_some_and(|b| b.of.get(*id) != Some(identity)))
            .map(|(id, _)| *id)
            .filter(|id| *id != self.settings.me)
            .collect();
        for member in changed {
            if planted!(OldIdentityRemembered) {
                continue;
            }
            self.forget_life(member);
        }
        // Votes of the older epoch are void: whatever was asked is asked anew.
        for key in self.rounds.keys().cloned().collect::<Vec<_>>() {
            self.end_round(&key);
            self.drive_key_soon(now, &key);
        }
        if ballot > Ballot::ZERO && identities.epoch > Epoch(0) {
            let mut register = self.register(&Key::Identities).cloned().unwrap_or_default();
            if register.learn(ballot, &Value::Identities(identities.clone())) {
                self.register_changed(&Key::Identities, register, None);
            }
            self.mark_chosen(&Key::Identities, ballot);
        }
    }

    /// What readmitting `member` would mean now.
    ///
    /// # Errors
    /// Why it cannot be: nobody knocks under its name, or the identity that would be replaced is alive.
    pub(super) fn readmission_of(&self, now: Now, member: MemberId) -> Result<Readmission, CommandRefusal> {
        let none = || CommandRefusal::NotQuarantined(member);
        let formation = self.durable.own.formation.as_ref().ok_or_else(none)?;
        let replaces = *formation.of.get(&member).ok_or_else(none)?;
        let peer = self.peers.get(&member).ok_or_else(none)?;
        let knocks = KNOCK_EVERY.times(KNOCKS_MISSED_MAX);
        let stranger = peer.stranger.filter(|s| now.since_at_most(s.heard) < knocks).ok_or_else(none)?;
        let beats = self.settings.timing.heartbeat.times(BEATS_MISSED_MAX);
        if peer.heard.is_some_and(|at| at > stranger.since && now.since_at_most(at) < beats) {
            return Err(CommandRefusal::Heard(member));
        }
        Ok(Readmission { member, identity: stranger.identity, replaces })
    }

    /// Who is being readmitted by a command given here: it has no say in it.
    pub(super) fn readmission_target(&self) -> Option<MemberId> {
        self.commands.values().find_map(|pending| pending.readmission).map(|readmission| readmission.member)
    }

    /// Whether `readmission` is carried out, by whomever.
    pub(super) fn is_readmitted(&self, readmission: &Readmission) -> bool {
        let formation = self.durable.own.formation.as_ref();
        formation.is_some_and(|f| f.of.get(&readmission.member) == Some(&readmission.identity))
    }

    /// Whom `value` replaces: they have no say in it, whoever asked for it.
    pub(super) fn replaced_by(&self, value: &Value) -> Vec<MemberId> {
        let (Some(next), Some(ours)) = (value.identities(), &self.durable.own.formation) else {
            return Vec::new();
        };
        next.of
            .iter()
            .filter(|(id, identity)| ours.of.get(*id) != Some(identity))
            .map(|(id, _)| *id)
            .collect()
    }

    pub(super) fn decide_identities(&mut self, round: &Round, found: &Found) -> Decision {
        let (Aim::Command(id), Some(formation)) = (round.aim, self.durable.own.formation.clone()) else {
            return Decision::Abandon;
        };
        let found = found.accepted.as_ref().and_then(|a| a.value.identities());
        if let Some(unfinished) = found.filter(|found| found.epoch > formation.epoch) {
            return Decision::Propose(Value::Identities(unfinished.clone()));
        }
        let Some(readmission) = self.commands.get(&id).and_then(|pending| pending.readmission) else {
            return Decision::Abandon;
        };
        if formation.of.get(&readmission.member) != Some(&readmission.replaces) {
            let done = self.is_readmitted(&readmission).then_some(Done::Readmitted(formation.epoch));
            self.answer(id, done.map_or(Reply::Refused(CommandRefusal::Overruled), Reply::Done));
            return Decision::Abandon;
        }
        let mut next = formation;
        next.epoch = Epoch(next.epoch.0 + 1);
        next.of.insert(readmission.member, readmission.identity);
        Decision::Propose(Value::Identities(next))
    }
}
