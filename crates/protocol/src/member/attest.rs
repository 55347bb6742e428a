//! An operator vouches that a site is dead: whoever still hears it objects (docs/protocol.md, "Wishes").

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use sitegate_mutant::planted;

use super::Member;
use super::command::Stage;
use crate::event::{Command, CommandId, CommandRefusal, Reply};
use crate::ids::{MemberId, Nonce, TicketName, Token};
use crate::message::{Body, RequestId};
use crate::time::Now;
use crate::value::Key;

/// Somebody vouches that a site is dead: whoever still hears it says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Vouched {
    site: MemberId,
    to: MemberId,
    nonce: Nonce,
    id: RequestId,
}

impl Member {
    pub(super) fn vouched_tenures(&self, command: &Command) -> BTreeMap<TicketName, Token> {
        let Command::AttestDead(site, ticket) = command else { return BTreeMap::new() };
        let tickets = self.known_tickets().into_iter().filter(|t| ticket.as_ref().is_none_or(|w| w == t));
        let held = |t: &TicketName| self.ownership(t).held().filter(|h| h.site == *site).map(|h| h.token);
        tickets.filter_map(|t| held(&t).map(|token| (t, token))).collect()
    }

    /// Whether a site that an operator vouches to be dead has been heard since, here.
    pub(super) fn is_heard_since(&self, site: MemberId, since: Now) -> bool {
        if planted!(AttestedUnheard) {
            return false;
        }
        site == self.settings.me || self.peers.get(&site).is_some_and(|peer| peer.heard >= Some(since))
    }

    /// Asks, again and again, until nobody can have missed the question.
    pub(super) fn drive_vouching(&mut self, now: Now, id: CommandId, request: RequestId, since: Now) {
        let timing = self.settings.timing;
        let wait = timing.heartbeat.times(3).plus(timing.retry());
        let Some(pending) = self.commands.get(&id) else { return };
        let Command::AttestDead(site, _) = pending.command else { return };
        let wait = if planted!(AttestedUnheard) { crate::time::Span::ZERO } else { wait };
        if self.is_heard_since(site, since) {
            return self.answer(id, Reply::Refused(CommandRefusal::Heard(site)));
        }
        if now.since_at_most(since) < wait {
            return self.send_to_others(&Body::HeardAsk { site, id: request });
        }
        let keys: BTreeSet<Key> = pending.vouched.keys().cloned().map(Key::Intent).collect();
        if keys.is_empty() {
            return self.answer(id, Reply::Refused(CommandRefusal::NothingHeld(site)));
        }
        if let Some(pending) = self.commands.get_mut(&id) {
            pending.stage = Stage::Writing(keys);
        }
        self.drive_command(now, id);
    }

    pub(super) fn on_heard_ask(&mut self, from: MemberId, nonce: Nonce, site: MemberId, id: RequestId) {
        /// Questions that are kept; the oldest give way.
        const VOUCHED_MAX: usize = 64;
        if site == self.settings.me {
            return self.reply(from, nonce, Body::Heard { id });
        }
        self.vouched.retain(|v| v.id != id);
        if self.vouched.len() == VOUCHED_MAX {
            self.vouched.remove(0);
        }
        self.vouched.push(Vouched { site, to: from, nonce, id });
    }

    /// `site` was just heard: whoever vouches for its death learns of it.
    pub(super) fn heard_for_attestations(&mut self, site: MemberId) {
        if self.vouched.iter().all(|v| v.site != site) {
            return;
        }
        let (heard, rest) = core::mem::take(&mut self.vouched).into_iter().partition(|v| v.site == site);
        self.vouched = rest;
        let heard: Vec<Vouched> = heard;
        for v in heard {
            self.reply(v.to, v.nonce, Body::Heard { id: v.id });
        }
    }

    pub(super) fn on_heard(&mut self, request: RequestId) {
        let found = self.commands.iter().find_map(|(id, pending)| match (&pending.command, &pending.stage) {
            (Command::AttestDead(site, _), Stage::Vouching { id: asked, .. }) if *asked == request => {
                Some((*id, *site))
            }
            _ => None,
        });
        if let Some((id, site)) = found {
            self.answer(id, Reply::Refused(CommandRefusal::Heard(site)));
        }
    }
}
