//! Commands: they write wishes and watch them come true (docs/protocol.md, "Wishes").

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use super::Member;
use super::identity::Readmission;
use super::proposer::Aim;
use crate::event::{Caller, Command, CommandId, CommandRefusal, Done, Reply};
use crate::ids::{MemberId, TicketName, Token};
use crate::message::{Body, Refusal, RequestId};
use crate::time::{Boot, Now};
use crate::timer::Timer;
use crate::value::{Intent, Key, Ownership, Tenancy, Wanted};

/// Commands that one member looks after at a time.
const COMMANDS_MAX: usize = 64;
/// How long a site may take to say whether it would take a ticket, on top of its check, in round trips.
const WILLING_WITHIN: u64 = 8;

/// A command that is under way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Pending {
    pub(super) command: Command,
    pub(super) caller: Caller,
    pub(super) stage: Stage,
    /// What a majority knew of the ownership when the wish was written.
    pub(super) seen: Ownership,
    /// The intent that was written.
    pub(super) wrote: Option<Intent>,
    pub(super) given: Now,
    /// The tenures that an operator vouches for: those that were known when the command was given, none that came
    /// later.
    pub(super) vouched: BTreeMap<TicketName, Token>,
    pub(super) readmission: Option<Readmission>,
}

impl Pending {
    /// Whether an operator vouches that nothing runs under this tenure.
    pub(super) fn vouches_for(&self, tenancy: &Tenancy) -> bool {
        self.vouched.values().any(|token| *token == tenancy.token)
    }
}

/// How far it has come.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Stage {
    /// The site is asked whether it would take the ticket.
    Asking { id: RequestId, since: Now, asked: Option<Boot> },
    /// The others are asked whether they still hear the site.
    Vouching { id: RequestId, since: Now },
    /// The wish is being written.
    Writing(BTreeSet<Key>),
    /// Ownership rounds must confirm it.
    Settling(BTreeMap<TicketName, Question>),
    /// The site must come to hold it.
    Awaiting,
}

/// A request for an ownership round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Question {
    pub(super) id: RequestId,
    pub(super) asked: Option<Boot>,
    /// Counts requests: each goes to the next site.
    pub(super) turn: usize,
}

impl Member {
    pub(super) fn on_command(&mut self, now: Now, id: CommandId, command: Command, caller: Caller) {
        let readmission = match self.accept_command(now, &command) {
            Ok(readmission) => readmission,
            Err(refusal) => return self.answer(id, Reply::Refused(refusal)),
        };
        let request = self.request_id();
        let stage = match &command {
            Command::Move(..) => Stage::Asking { id: request, since: now, asked: None },
            Command::AttestDead(..) => Stage::Vouching { id: request, since: now },
            _ => Stage::Writing(self.wish_keys(&command)),
        };
        let vouched = self.vouched_tenures(&command);
        let (seen, wrote) = (Ownership::NEVER, None);
        let pending = Pending { command, caller, stage, seen, wrote, given: now, vouched, readmission };
        self.commands.insert(id, pending);
        self.drive_commands(now);
    }

    fn accept_command(&self, now: Now, command: &Command) -> Result<Option<Readmission>, CommandRefusal> {
        if !self.votes() {
            return Err(CommandRefusal::NotVoting);
        }
        if self.commands.len() >= COMMANDS_MAX {
            return Err(CommandRefusal::Busy);
        }
        let (ticket, site) = match command {
            Command::Grant(ticket, site) | Command::Move(ticket, site) => (Some(ticket), Some(*site)),
            Command::AttestDead(site, ticket) => (ticket.as_ref(), Some(*site)),
            Command::Standby(site, _) => (None, Some(*site)),
            Command::Readmit(member) => return self.accept_readmission(now, *member).map(Some),
            Command::Revoke(t) | Command::Pause(t) | Command::Resume(t) | Command::Inspect(t) => {
                (Some(t), None)
            }
        };
        if let Some(site) = site.filter(|&site| !self.settings.is_site(site)) {
            return Err(CommandRefusal::NotASite(site));
        }
        match ticket {
            Some(ticket) if !self.knows_ticket(ticket) => Err(CommandRefusal::NoSuchTicket),
            _ => Ok(None),
        }
    }

    pub(super) fn knows_ticket(&self, ticket: &TicketName) -> bool {
        self.settings.tickets.contains_key(ticket)
            || self.durable.registers.contains_key(&Key::Intent(ticket.clone()))
            || self.durable.registers.contains_key(&Key::Ownership(ticket.clone()))
    }

    fn accept_readmission(&self, now: Now, member: MemberId) -> Result<Readmission, CommandRefusal> {
        if self.settings.n() < 3 {
            return Err(CommandRefusal::TooFewMembers);
        }
        if self.readmission_target().is_some() {
            return Err(CommandRefusal::Busy);
        }
        self.readmission_of(now, member)
    }

    fn wish_keys(&self, command: &Command) -> BTreeSet<Key> {
        match command {
            Command::Grant(t, _) | Command::Move(t, _) => BTreeSet::from([Key::Intent(t.clone())]),
            Command::Revoke(t) | Command::Pause(t) | Command::Resume(t) | Command::Inspect(t) => {
                BTreeSet::from([Key::Intent(t.clone())])
            }
            Command::Standby(site, _) => BTreeSet::from([Key::Standby(*site)]),
            Command::Readmit(_) => BTreeSet::from([Key::Identities]),
            Command::AttestDead(..) => self.vouched_tenures(command).into_keys().map(Key::Intent).collect(),
        }
    }

    pub(super) fn answer(&mut self, id: CommandId, reply: Reply) {
        if !matches!(reply, Reply::Recorded) {
            self.commands.remove(&id);
        }
        self.out.replies.push((id, reply, None));
    }

    pub(super) fn commands_soon(&mut self, now: Now) {
        if !self.commands.is_empty() {
            self.timers.set_boot(Timer::Commands, now.boot);
        }
    }

    /// Does whatever is to be done for commands now.
    pub(super) fn drive_commands(&mut self, now: Now) {
        for id in self.commands.keys().copied().collect::<Vec<_>>() {
            self.drive_command(now, id);
        }
        if self.commands.is_empty() {
            self.timers.cancel(&Timer::Commands);
        } else {
            self.timers.set_boot(Timer::Commands, now.boot.plus(self.settings.timing.retry()));
        }
    }

    pub(super) fn drive_command(&mut self, now: Now, id: CommandId) {
        let Some(pending) = self.commands.get(&id) else { return };
        match pending.stage {
            Stage::Writing(ref keys) => {
                for key in &keys.clone() {
                    self.begin_round(now, key, 0, Aim::Command(id));
                }
            }
            Stage::Asking { .. } => self.drive_asking(now, id),
            Stage::Vouching { id: request, since } => self.drive_vouching(now, id, request, since),
            Stage::Settling(_) => self.drive_settling(now, id),
            Stage::Awaiting => {
                if let Some(reply) = self.awaited(id, pending) {
                    self.answer(id, reply);
                }
            }
        }
    }

    fn drive_asking(&mut self, now: Now, command: CommandId) {
        let retry = self.settings.timing.retry();
        let Some(pending) = self.commands.get_mut(&command) else { return };
        let (Command::Move(ticket, site), Stage::Asking { id, since, asked }) =
            (&pending.command, &mut pending.stage)
        else {
            return;
        };
        let (ticket, site, id) = (ticket.clone(), *site, *id);
        let patience = self.settings.timing.retry().times(WILLING_WITHIN);
        let check = self.settings.local.values().map(|l| l.check_within).max().unwrap_or_default();
        if now.since_at_most(*since) > patience.plus(check) {
            return self.answer(command, Reply::Refused(CommandRefusal::Unreachable(site)));
        }
        if asked.is_none_or(|at| now.boot.since(at) >= retry) {
            *asked = Some(now.boot);
            self.send(site, Body::Willing { ticket, id });
        }
    }

    /// A site has said whether it would take a ticket.
    pub(super) fn on_willingness(
        &mut self,
        now: Now,
        from: MemberId,
        ticket: &TicketName,
        request: RequestId,
        refusal: Option<Refusal>,
    ) {
        self.heir_answered(now, from, ticket, request, refusal.is_none());
        self.failback_answered(now, from, ticket, request, refusal.is_none());
        let asking =
            self.commands.iter().find_map(|(id, pending)| match (&pending.command, &pending.stage) {
                (Command::Move(t, site), Stage::Asking { id: asked, .. })
                    if t == ticket && *site == from && *asked == request =>
                {
                    Some(*id)
                }
                _ => None,
            });
        let Some(id) = asking else { return };
        if let Some(refusal) = refusal {
            return self.answer(id, Reply::Refused(CommandRefusal::Unwilling(from, refusal)));
        }
        if let Some(pending) = self.commands.get_mut(&id) {
            pending.stage = Stage::Writing(BTreeSet::from([Key::Intent(ticket.clone())]));
        }
        self.drive_command(now, id);
    }

    /// The answer to a command that waits for a site to hold a ticket, once there is one.
    fn awaited(&self, id: CommandId, pending: &Pending) -> Option<Reply> {
        let (Command::Grant(ticket, site) | Command::Move(ticket, site)) = &pending.command else {
            return None;
        };
        let key = Key::Ownership(ticket.clone());
        let seen = &pending.seen;
        let is_news = |token| token > seen.token() || seen.held().is_some_and(|t| t.token == token);
        // A majority may have known more when the wish was written than this member does yet.
        let held = self.ownership(ticket).held().filter(|t| self.is_chosen(&key) && is_news(t.token));
        if let Some(tenancy) = held {
            let lives = if tenancy.site == self.settings.me {
                self.is_armed(ticket, tenancy.token)
            } else {
                // A holder that died may stand in the register for all of its lease.
                self.is_heard_since(tenancy.site, pending.given)
            };
            if tenancy.site == *site && lives {
                return Some(Reply::Done(Done::Held(*site, tenancy.token)));
            }
            if tenancy.site != *site && tenancy.token > pending.seen.token() {
                return Some(Reply::Refused(CommandRefusal::WentTo(tenancy.site)));
            }
        }
        let overruled = self.is_overruled(id, self.intent(ticket));
        overruled.then_some(Reply::Refused(CommandRefusal::Overruled))
    }

    /// Whether `intent` is a later wish than the one that command `id` wrote, and takes back what it asked for.
    pub(super) fn is_overruled(&self, id: CommandId, intent: Option<&Intent>) -> bool {
        let Some(pending) = self.commands.get(&id) else { return false };
        let (Some(wrote), Some(intent)) = (&pending.wrote, intent) else { return false };
        intent.version > wrote.version
            && match pending.command {
                Command::Grant(..) | Command::Move(..) => intent.wanted != wrote.wanted || intent.paused,
                Command::Revoke(_) => intent.wanted != Wanted::Revoked,
                Command::Pause(_) => !intent.paused,
                _ => false,
            }
    }

    fn is_armed(&self, ticket: &TicketName, token: Token) -> bool {
        let tenure = self.locals.get(ticket).and_then(|local| local.state.tenure());
        tenure.is_some_and(|tenure| tenure.terms.token == token && tenure.is_armed())
    }
}
