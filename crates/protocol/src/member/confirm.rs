//! A command asks for ownership rounds: they confirm its wish (docs/protocol.md, "When a wish is confirmed").

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use super::Member;
use super::command::{Question, Stage};
use crate::event::{Command, CommandId, CommandRefusal, Done, Reply};
use crate::ids::{MemberId, TicketName};
use crate::message::{Body, RequestId};
use crate::time::{Now, Span};
use crate::value::{Intent, Ownership, StandbyMode};

/// How often to send a question again, in round trips.
const ASK_AGAIN: u64 = 4;

impl Member {
    /// How long after a question it is asked again.
    pub(super) fn asks_again(&self) -> Span {
        self.settings.timing.retry().times(ASK_AGAIN)
    }

    pub(super) fn drive_settling(&mut self, now: Now, command: CommandId) {
        let again = self.asks_again();
        let Some(pending) = self.commands.get(&command) else { return };
        if let Command::Standby(site, _) = pending.command
            && self.standby_mode(site) == StandbyMode::Online
        {
            return self.answer(command, Reply::Refused(CommandRefusal::Overruled));
        }
        let Stage::Settling(open) = &pending.stage else { return };
        let due = open.iter().filter(|(_, q)| q.asked.is_none_or(|at| now.boot.since(at) >= again));
        let due: Vec<(TicketName, Question)> = due.map(|(ticket, q)| (ticket.clone(), *q)).collect();
        for (ticket, question) in due {
            let site = self.settler(now, &ticket, question.turn);
            self.send(site, Body::Settle { ticket: ticket.clone(), id: question.id });
            if let Some(Stage::Settling(open)) = self.commands.get_mut(&command).map(|p| &mut p.stage)
                && let Some(question) = open.get_mut(&ticket)
            {
                question.asked = Some(now.boot);
                question.turn += 1;
            }
        }
    }

    /// Whom to ask for an ownership round: the holder as long as it is heard, else every site in turn.
    fn settler(&self, now: Now, ticket: &TicketName, turn: usize) -> MemberId {
        let me = self.settings.me;
        let holder = self.ownership(ticket).held().map(|t| t.site);
        let silence = self.settings.timing.heartbeat.times(3);
        let heard = |site: MemberId| {
            let at = self.peers.get(&site).and_then(|peer| peer.heard);
            site == me || at.is_some_and(|at| now.since_at_most(at) < silence)
        };
        if let Some(holder) = holder.filter(|&holder| heard(holder)) {
            return holder;
        }
        let own = Some(me).filter(|&me| self.settings.is_site(me));
        let mut sites: Vec<MemberId> = holder.into_iter().chain(own).chain(self.settings.sites()).collect();
        let mut seen = BTreeSet::new();
        sites.retain(|site| seen.insert(*site));
        sites.get(turn % sites.len().max(1)).copied().unwrap_or(me)
    }

    pub(super) fn on_settled(
        &mut self,
        now: Now,
        ticket: &TicketName,
        request: RequestId,
        ownership: Ownership,
        intent: Option<&Intent>,
    ) {
        let asking = self.commands.iter().find_map(|(id, pending)| match &pending.stage {
            Stage::Settling(open) => open.get(ticket).filter(|q| q.id == request).map(|_| *id),
            _ => None,
        });
        let Some(id) = asking else { return };
        if self.is_overruled(id, intent) || self.is_overruled(id, self.intent(ticket)) {
            return self.answer(id, Reply::Refused(CommandRefusal::Overruled));
        }
        let Some(pending) = self.commands.get_mut(&id) else { return };
        let holder = ownership.held().map(|t| t.site);
        let version = pending.wrote.as_ref().map_or(0, |wrote| wrote.version);
        let known = intent.is_some_and(|intent| intent.version >= version);
        let holds = match pending.command {
            Command::Revoke(_) => holder.is_none() && known,
            Command::Pause(_) => known,
            Command::Standby(site, StandbyMode::Vacate) => holder != Some(site),
            _ => true,
        };
        let Stage::Settling(open) = &mut pending.stage else { return };
        if !holds {
            return; // asked again after a while
        }
        open.remove(ticket);
        if open.is_empty() {
            let done = match pending.command {
                Command::Revoke(_) => Done::Free(ownership),
                _ => Done::Wish,
            };
            self.answer(id, Reply::Done(done));
        }
        self.commands_soon(now);
    }
}
