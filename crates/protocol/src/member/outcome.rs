//! What rounds come to.

use super::Member;
use super::proposer::Aim;
use super::votes::Votes;
use crate::ids::{Ballot, MemberId, TicketName, Token};
use crate::message::{Body, RequestId};
use crate::time::Now;
use crate::timer::Timer;
use crate::value::{Key, Value};

impl Member {
    /// A round of this member has chosen `value`.
    pub(super) fn round_chosen(
        &mut self,
        now: Now,
        key: &Key,
        ballot: Ballot,
        aim: Aim,
        value: &Value,
        votes: Votes,
    ) {
        if let (Key::Ownership(ticket), Value::Ownership(ownership)) = (key, value) {
            self.ownership_chosen(now, ticket, ballot, aim, ownership, votes);
            self.answer_parked(now, ticket);
            return self.commands_soon(now);
        }
        self.value_chosen(now, key, value);
        if let Aim::Command(id) = aim {
            self.wish_written(now, id, key);
        }
    }

    /// A round of this member has ended without a choice of its own.
    pub(super) fn round_ended(&mut self, now: Now, key: &Key) {
        match key {
            Key::Ownership(ticket) => self.ownership_round_ended(now, ticket),
            Key::Intent(ticket) => self.look_once_allowed(now, key, Some(ticket)),
            Key::Standby(_) | Key::Identities => self.look_once_allowed(now, key, None),
        }
    }

    /// Looks again at what needs the register, once lost rounds allow another.
    fn look_once_allowed(&mut self, now: Now, key: &Key, ticket: Option<&TicketName>) {
        let at = self.contended_until(key).max(now.boot);
        if !self.commands.is_empty() {
            self.timers.set_boot(Timer::Commands, at);
        }
        if self.settings.is_site(self.settings.me) {
            for ticket in ticket.cloned().map_or_else(|| self.known_tickets(), |ticket| alloc::vec![ticket]) {
                self.timers.set_boot(Timer::Ticket(ticket), at);
            }
        }
    }

    /// Looks again at what needs the register in this very event.
    pub(super) fn drive_key_soon(&mut self, now: Now, key: &Key) {
        if let Some(ticket) = key.ticket() {
            self.drive_soon(now, ticket);
        }
        self.commands_soon(now);
    }

    // Failback.

    /// Asks the preferred site whether it would take the ticket back.
    pub(super) fn ask_failback(&mut self, ticket: &TicketName, site: MemberId) -> RequestId {
        let id = self.request_id();
        self.send(site, Body::Willing { ticket: ticket.clone(), id });
        id
    }

    pub(super) fn failback_answered(
        &mut self,
        now: Now,
        from: MemberId,
        ticket: &TicketName,
        request: RequestId,
        willing: bool,
    ) {
        let tenure = self.locals.get(ticket).and_then(|local| local.state.tenure());
        let asked = tenure.filter(|t| t.failback == Some(request) && willing).map(|t| t.terms.token);
        if let Some(token) = asked {
            self.fail_back(now, ticket, from, token);
        }
    }

    fn fail_back(&mut self, now: Now, ticket: &TicketName, site: MemberId, token: Token) {
        self.begin_round(now, &Key::Intent(ticket.clone()), 0, Aim::Failback(site, token));
    }
}
