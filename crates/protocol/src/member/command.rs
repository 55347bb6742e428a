//! Commands: they write wishes and watch them come true (docs/protocol.md, "Wishes").

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use super::Member;
use super::proposer::{Aim, Decision, Found, Round};
use crate::event::{Caller, Command, CommandId, CommandRefusal, Done, Reply};
use crate::ids::{MemberId, Nonce, TicketName, Token};
use crate::message::{Body, Refusal, RequestId};
use crate::time::{Boot, Now};
use crate::timer::Timer;
use crate::value::{Author, Intent, Key, Ownership, Standby, StandbyMode, Value, Wanted};

/// Commands that one member looks after at a time.
const COMMANDS_MAX: usize = 64;
/// How often to send a question again, in round trips.
const ASK_AGAIN: u64 = 4;
/// How long a site may take to say whether it would take a ticket, on top of its check, in round trips.
const WILLING_WITHIN: u64 = 8;

/// A command that is under way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Pending {
    pub(super) command: Command,
    caller: Caller,
    stage: Stage,
    /// What a majority knew of the ownership when the wish was written.
    seen: Ownership,
    /// The intent that was written.
    wrote: Option<Intent>,
    given: Now,
    /// The tenures that an operator vouches for: those that were known when the command was given, none that came
    /// later.
    vouched: BTreeMap<TicketName, Token>,
}

/// How far it has come.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Stage {
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
struct Question {
    id: RequestId,
    asked: Option<Boot>,
    /// Counts requests: each goes to the next site.
    turn: usize,
}

/// Somebody vouches that a site is dead: whoever still hears it says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Vouched {
    site: MemberId,
    to: MemberId,
    nonce: Nonce,
    id: RequestId,
}

impl Member {
    pub(super) fn on_command(&mut self, now: Now, id: CommandId, command: Command, caller: Caller) {
        if let Err(refusal) = self.accept_command(&command) {
            return self.answer(id, Reply::Refused(refusal));
        }
        let request = self.request_id();
        let stage = match &command {
            Command::Move(..) => Stage::Asking { id: request, since: now, asked: None },
            Command::AttestDead(site, _) => {
                self.send_to_others(&Body::HeardAsk { site: *site, id: request });
                Stage::Vouching { id: request, since: now }
            }
            _ => Stage::Writing(self.wish_keys(&command)),
        };
        let vouched = self.vouched_tenures(&command);
        let pending =
            Pending { command, caller, stage, seen: Ownership::NEVER, wrote: None, given: now, vouched };
        self.commands.insert(id, pending);
        self.drive_commands(now);
    }

    fn vouched_tenures(&self, command: &Command) -> BTreeMap<TicketName, Token> {
        let Command::AttestDead(site, ticket) = command else { return BTreeMap::new() };
        let tickets = self.known_tickets().into_iter().filter(|t| ticket.as_ref().is_none_or(|w| w == t));
        let held = |t: &TicketName| self.ownership(t).held().filter(|h| h.site == *site).map(|h| h.token);
        tickets.filter_map(|t| held(&t).map(|token| (t, token))).collect()
    }

    /// Whether a site that an operator vouches to be dead has been heard since, here.
    fn is_heard_since(&self, site: MemberId, since: Now) -> bool {
        site == self.settings.me || self.peers.get(&site).is_some_and(|peer| peer.heard >= Some(since))
    }

    fn accept_command(&self, command: &Command) -> Result<(), CommandRefusal> {
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
            Command::Readmit(member) => return self.accept_readmission(*member),
            Command::Revoke(t) | Command::Pause(t) | Command::Resume(t) | Command::Inspect(t) => {
                (Some(t), None)
            }
        };
        if let Some(site) = site.filter(|&site| !self.settings.is_site(site)) {
            return Err(CommandRefusal::NotASite(site));
        }
        match ticket {
            Some(ticket) if !self.knows_ticket(ticket) => Err(CommandRefusal::NoSuchTicket),
            _ => Ok(()),
        }
    }

    fn knows_ticket(&self, ticket: &TicketName) -> bool {
        self.settings.tickets.contains_key(ticket)
            || self.durable.registers.contains_key(&Key::Intent(ticket.clone()))
            || self.durable.registers.contains_key(&Key::Ownership(ticket.clone()))
    }

    fn accept_readmission(&self, member: MemberId) -> Result<(), CommandRefusal> {
        if self.settings.n() < 3 {
            return Err(CommandRefusal::TooFewMembers);
        }
        let stranger = self.peers.get(&member).and_then(|peer| peer.stranger);
        if stranger.is_none() || member == self.settings.me || self.readmission_target().is_some() {
            return Err(CommandRefusal::NotQuarantined(member));
        }
        Ok(())
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

    fn drive_command(&mut self, now: Now, id: CommandId) {
        let Some(pending) = self.commands.get(&id).cloned() else { return };
        match pending.stage {
            Stage::Writing(keys) => {
                for key in &keys {
                    self.begin_round(now, key, 0, Aim::Command(id));
                }
            }
            Stage::Asking { .. } => self.drive_asking(now, id),
            Stage::Vouching { since, .. } => self.drive_vouching(now, id, since),
            Stage::Settling(_) => self.drive_settling(now, id),
            Stage::Awaiting => self.drive_awaiting(id, &pending),
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

    fn drive_vouching(&mut self, now: Now, id: CommandId, since: Now) {
        let timing = self.settings.timing;
        let wait = timing.heartbeat.times(3).plus(timing.retry());
        let Some(pending) = self.commands.get(&id) else { return };
        let Command::AttestDead(site, _) = pending.command else { return };
        if self.is_heard_since(site, since) {
            return self.answer(id, Reply::Refused(CommandRefusal::Heard(site)));
        }
        if now.since_at_most(since) < wait {
            return;
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
        /// Members that may ask at a time; each at most once.
        const VOUCHED_MAX: usize = 16;
        if site == self.settings.me {
            return self.reply(from, nonce, Body::Heard { id });
        }
        self.vouched.retain(|v| v.to != from);
        if self.vouched.len() < VOUCHED_MAX {
            self.vouched.push(Vouched { site, to: from, nonce, id });
        }
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

    fn drive_settling(&mut self, now: Now, command: CommandId) {
        let again = self.settings.timing.retry().times(ASK_AGAIN);
        let asked = self.commands.get(&command).map(|pending| pending.command.clone());
        if let Some(Command::Standby(site, _)) = asked
            && self.standby_mode(site) == StandbyMode::Online
        {
            return self.answer(command, Reply::Refused(CommandRefusal::Overruled));
        }
        let Some(Stage::Settling(open)) = self.commands.get(&command).map(|p| p.stage.clone()) else {
            return;
        };
        for (ticket, question) in open {
            if question.asked.is_some_and(|at| now.boot.since(at) < again) {
                continue;
            }
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

    fn drive_awaiting(&mut self, id: CommandId, pending: &Pending) {
        let (Command::Grant(ticket, site) | Command::Move(ticket, site)) = &pending.command else { return };
        let key = Key::Ownership(ticket.clone());
        if let Some(tenancy) = self.ownership(ticket).held().filter(|_| self.is_chosen(&key)) {
            let armed = tenancy.site != self.settings.me || self.is_armed(ticket, tenancy.token);
            if tenancy.site == *site && armed {
                let done = Done::Held(*site, tenancy.token);
                return self.answer(id, Reply::Done(done));
            }
            if tenancy.site != *site && tenancy.token > pending.seen.token() {
                let winner = tenancy.site;
                return self.answer(id, Reply::Refused(CommandRefusal::WentTo(winner)));
            }
        }
        if self.is_overruled(id, self.intent(ticket)) {
            self.answer(id, Reply::Refused(CommandRefusal::Overruled));
        }
    }

    /// Whether `intent` is a later wish than the one that command `id` wrote, and takes back what it asked for.
    fn is_overruled(&self, id: CommandId, intent: Option<&Intent>) -> bool {
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

    // What the rounds of commands propose.

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
        let next = if written || matches!(pending.command, Command::Inspect(_)) {
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
                let vouched = |t: &&crate::value::Tenancy| pending.vouched.values().any(|v| *v == t.token);
                let dead = held.filter(|t| t.site == *site).filter(vouched).map(|t| t.token);
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
        let all = self.known_tickets();
        let epoch = self.epoch();
        let question = |member: &mut Self| Question { id: member.request_id(), asked: None, turn: 0 };
        let strange = |member: &Self, id| member.peers.get(&id).is_some_and(|peer| peer.stranger.is_some());
        if let Some(Pending { command: Command::Readmit(member), .. }) = self.commands.get(&id)
            && strange(self, *member)
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
        let stage = match command {
            Command::Grant(..) | Command::Move(..) => Stage::Awaiting,
            Command::Revoke(ticket) | Command::Pause(ticket) => {
                Stage::Settling(BTreeMap::from([(ticket, question(self))]))
            }
            Command::Standby(_, StandbyMode::Keep | StandbyMode::Vacate) if !all.is_empty() => {
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
