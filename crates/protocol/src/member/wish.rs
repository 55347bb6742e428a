//! What the rounds of commands propose: each changes its own fields of a wish and no other (docs/protocol.md,
//! "Wishes").

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use sitegate_mutant::planted;

use super::Member;
use super::command::{Pending, Question, Stage};
use super::proposer::{Aim, Decision, Found, Round};
use crate::event::{Command, CommandId, CommandRefusal, Done, Reply};
use crate::ids::MemberId;
use crate::time::Now;
use crate::value::{Author, Intent, Key, Ownership, Standby, StandbyMode, Value, Wanted};

impl Member {
    pub(super) fn decide_intent(&mut self, round: &Round, found: &Found, ownership: &Found) -> Decision {
        let current = found.accepted.as_ref().and_then(|a| a.value.intent()).cloned();
        let held = ownership.accepted.as_ref().and_then(|a| a.value.ownership()).cloned();
        let held = held.unwrap_or(Ownership::NEVER);
        let me = self.settings.me;
        let by_sitegate = || Author { who: "sitegate".into(), via: Some(me) };
        let next = match (round.aim, current) {
            (Aim::Complete, current) => current,
            (Aim::Flap, Some(current)) if !current.paused => Some(Intent {
                version: current.version + 1,
                paused: true,
                author: by_sitegate(),
                reason: "too many takeovers".into(),
                request: 0,
                ..current
            }),
            (Aim::Failback(site, token), Some(current)) => {
                let wanted = current.wanted == Wanted::Managed { preferred: Some(site) } && !current.paused;
                (wanted && held.token() == token).then(|| Intent {
                    version: current.version + 1,
                    vacate: Some(token),
                    author: by_sitegate(),
                    reason: "fails back to the preferred site".into(),
                    request: 0,
                    ..current
                })
            }
            (Aim::Command(id), current) => self.command_intent(id, current, held),
            _ => None,
        };
        next.map_or(Decision::Abandon, |intent| Decision::Propose(Value::Intent(intent)))
    }

    fn command_intent(&mut self, id: CommandId, current: Option<Intent>, held: Ownership) -> Option<Intent> {
        let current = current.unwrap_or_else(Intent::initial);
        let pending = self.commands.get(&id)?;
        let caller = pending.caller.clone();
        let written = caller.request != 0 && current.request == caller.request;
        // Of many tickets of a dead site one may have become free meanwhile: there is nothing left to vouch for.
        let over = pending.vouched.len() > 1 && !held.held().is_some_and(|t| pending.vouches_for(t));
        let next = if written || over || matches!(pending.command, Command::Inspect(_)) {
            Ok(current)
        } else {
            self.next_intent(pending, &current, &held).map(|changed| Intent {
                version: current.version + 1,
                author: Author { who: shorten(&caller.who), via: Some(self.settings.me) },
                reason: shorten(&caller.reason),
                request: caller.request,
                ..changed
            })
        };
        match next {
            Ok(intent) => {
                let pending = self.commands.get_mut(&id)?;
                pending.seen = held;
                pending.wrote = Some(intent.clone());
                Some(intent)
            }
            Err(refusal) => {
                self.answer(id, Reply::Refused(refusal));
                None
            }
        }
    }

    /// The intent that a command asks for: it changes its own fields and no other.
    fn next_intent(
        &self,
        pending: &Pending,
        current: &Intent,
        ownership: &Ownership,
    ) -> Result<Intent, CommandRefusal> {
        let held = ownership.held();
        let managed = |site: MemberId| Wanted::Managed { preferred: Some(site) };
        let attested = held.is_some_and(|t| current.attests(t.token));
        match &pending.command {
            Command::Grant(_, site) => {
                if current.paused {
                    return Err(CommandRefusal::Paused);
                }
                self.check_online(*site)?;
                match held {
                    Some(t) if t.site != *site && !attested => Err(CommandRefusal::HeldElsewhere(t.site)),
                    _ => Ok(Intent { wanted: managed(*site), ..current.clone() }),
                }
            }
            Command::Revoke(_) => Ok(Intent { wanted: Wanted::Revoked, ..current.clone() }),
            Command::Move(_, site) => {
                if current.paused {
                    return Err(CommandRefusal::Paused);
                }
                if current.wanted == Wanted::Revoked {
                    return Err(CommandRefusal::Revoked);
                }
                self.check_online(*site)?;
                let Some(t) = held else { return Err(CommandRefusal::NotHeld) };
                let vacate = if t.site == *site { current.vacate } else { Some(t.token) };
                Ok(Intent { wanted: managed(*site), vacate, ..current.clone() })
            }
            Command::Pause(_) => Ok(Intent { paused: true, ..current.clone() }),
            Command::Resume(_) => Ok(Intent { paused: false, ..current.clone() }),
            Command::AttestDead(site, _) => {
                if self.is_heard_since(*site, pending.given) {
                    return Err(CommandRefusal::Heard(*site));
                }
                let dead = held.filter(|t| t.site == *site && pending.vouches_for(t)).map(|t| t.token);
                if dead.is_none() {
                    return Err(CommandRefusal::NothingHeld(*site));
                }
                Ok(Intent { attested: current.attested.max(dead), ..current.clone() })
            }
            Command::Standby(..) | Command::Readmit(_) | Command::Inspect(_) => Ok(current.clone()),
        }
    }

    fn check_online(&self, site: MemberId) -> Result<(), CommandRefusal> {
        match self.standby_mode(site) {
            StandbyMode::Online => Ok(()),
            StandbyMode::Keep | StandbyMode::Vacate => Err(CommandRefusal::OnStandby(site)),
        }
    }

    pub(super) fn decide_standby(&mut self, site: MemberId, round: &Round, found: &Found) -> Decision {
        let current = found.accepted.as_ref().and_then(|a| a.value.standby()).cloned();
        let next = match (round.aim, current) {
            (Aim::Complete, Some(current)) => current,
            (Aim::Command(id), current) => {
                let Some(pending) = self.commands.get(&id) else { return Decision::Abandon };
                let Command::Standby(wanted, mode) = pending.command else { return Decision::Abandon };
                let current = current.unwrap_or_else(Standby::initial);
                let request = pending.caller.request;
                if wanted != site {
                    return Decision::Abandon;
                }
                if request != 0 && current.request == request {
                    current
                } else {
                    let author = Author { who: shorten(&pending.caller.who), via: Some(self.settings.me) };
                    Standby { version: current.version + 1, mode, author, request }
                }
            }
            _ => return Decision::Abandon,
        };
        Decision::Propose(Value::Standby(next))
    }

    /// A wish of a command is chosen: what remains is to see it come true.
    pub(super) fn wish_written(&mut self, now: Now, id: CommandId, key: &Key) {
        let epoch = self.epoch();
        let question = |member: &mut Self| Question { id: member.request_id(), asked: None, turn: 0 };
        if let Some(Pending { readmission: Some(readmission), .. }) = self.commands.get(&id)
            && !self.is_readmitted(readmission)
        {
            return self.commands_soon(now); // somebody else's readmission had to be finished first
        }
        let Some(pending) = self.commands.get_mut(&id) else { return };
        let Stage::Writing(open) = &mut pending.stage else { return };
        open.remove(key);
        if !open.is_empty() {
            return;
        }
        let (seen, wrote) = (pending.seen.clone(), pending.wrote.clone());
        let command = pending.command.clone();
        let all = match command {
            Command::Standby(_, StandbyMode::Keep | StandbyMode::Vacate) => self.known_tickets(),
            _ => Vec::new(),
        };
        let stage = match command {
            Command::Grant(..) | Command::Move(..) => Stage::Awaiting,
            Command::Revoke(_) | Command::Pause(_) if planted!(RevokeConfirmedByRead) => {
                return self.answer(id, Reply::Done(Done::Free(seen)));
            }
            Command::Revoke(ticket) | Command::Pause(ticket) => {
                Stage::Settling(BTreeMap::from([(ticket, question(self))]))
            }
            Command::Standby(..) if !all.is_empty() => {
                Stage::Settling(all.into_iter().map(|ticket| (ticket, question(self))).collect())
            }
            Command::Readmit(_) => return self.answer(id, Reply::Done(Done::Readmitted(epoch))),
            Command::Inspect(_) => {
                let intent = wrote.unwrap_or_else(Intent::initial);
                return self.answer(id, Reply::Done(Done::Inspected { ownership: seen, intent }));
            }
            Command::Standby(..) | Command::Resume(_) | Command::AttestDead(..) => {
                return self.answer(id, Reply::Done(Done::Wish));
            }
        };
        self.answer(id, Reply::Recorded);
        if let Some(pending) = self.commands.get_mut(&id) {
            pending.stage = stage;
        }
        self.commands_soon(now);
    }
}

/// Bounds what every member stores for ever.
fn shorten(text: &str) -> alloc::string::String {
    let end = (0..=text.len().min(Author::LENGTH_MAX)).rev().find(|&i| text.is_char_boundary(i)).unwrap_or(0);
    text[..end].into()
}
