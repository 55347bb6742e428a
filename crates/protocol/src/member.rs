//! The member: all of the protocol behind `handle`.

mod acceptor;
mod attest;
mod birth;
mod candidate;
mod command;
mod confirm;
mod fencing;
mod frame;
mod identity;
mod inspect;
mod lease;
mod locals;
mod outbox;
mod outcome;
mod proposer;
mod pulse;
mod recovery;
mod settle;
mod sync;
mod tenure;
mod ticket;
mod view;
mod votes;
mod wish;

use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;

use sitegate_mutant::planted;

use crate::durable::{Durable, Duty, Own, Record};
use crate::event::{CommandId, Event, Fatal, Note};
use crate::ids::Ballot;
use crate::ids::{Epoch, Incarnation, Life, Lsn, MemberId, Nonce, TicketName};
use crate::message::{Body, RequestId};
use crate::mirror::Mirror;
use crate::register::Register;
use crate::rng::Rng;
use crate::settings::Settings;
use crate::support::{Digest, Support};
use crate::time::{Boot, Now};
use crate::timer::{Timeouts, Timer, Timers};
use crate::turn::Step;
use crate::value::{Intent, Key, Ownership, StandbyMode, Value};

use acceptor::Parked;
use attest::Vouched;
use birth::Birth;
use command::Pending;
use fencing::FenceLink;
use identity::Stranger;
use locals::Locals;
use proposer::{Contention, Round};
use pulse::Pulse;
use recovery::Recovery;

pub use inspect::LeaseView;
pub(crate) use votes::Votes;

pub use view::{GuardView, LocalView, PeerView, RoundView, StandingView, TicketView, View};

/// One member of the formation: a site or an arbitrator.
///
/// # Contract
///
/// - `handle` is called with both clocks read *after* the event was received, one event at a time, and never with
///   clocks that went back.
/// - Every [`Step`] goes into a [`crate::Turn`], in order; a turn is committed before its effects are done, and one
///   commit runs at a time. While it runs, events for which [`Event::is_prompt`] holds may still be handled; a step
///   of theirs that has nothing to commit need not wait.
/// - After each call `next_timeout` says when to send [`Event::Tick`] at the latest.
/// - A store that fails, or [`crate::event::Fatal`], ends the process.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Member {
    settings: Arc<Settings>,
    durable: Durable,
    life: Life,
    lsn: Lsn,
    /// Whether this life and the epoch are on the disk: before that it says nothing at all.
    header_durable: bool,
    started: Now,
    serial: u64,
    standing: Standing,
    peers: BTreeMap<MemberId, Peer>,
    support: Support,
    parked: BTreeMap<TicketName, BTreeMap<MemberId, Parked>>,
    /// Who was passed over when the last guard of a ticket ended: the same proposal, sent again, is late.
    passed_over: BTreeMap<TicketName, Vec<(MemberId, Ballot)>>,
    /// Promises that this very process gave: repeated if asked again.
    answered: BTreeMap<Key, (Ballot, Nonce)>,
    rounds: BTreeMap<Key, Round>,
    contention: BTreeMap<Key, Contention>,
    /// Registers of which the accepted value is known to be chosen.
    chosen: BTreeMap<Key, Ballot>,
    chosen_digest: Digest,
    /// Registers whose last change is not durable yet, and the step that made it.
    unsaved: BTreeMap<Key, u64>,
    locals: Locals,
    pulse: Pulse,
    fence: FenceLink,
    commands: BTreeMap<CommandId, Pending>,
    vouched: Vec<Vouched>,
    timers: Timers,
    rng: Rng,
    out: Step,
    loopback: VecDeque<Body>,
}

/// Whether a member votes, and if not, why.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Standing {
    /// It has not met everybody yet.
    Unborn(Birth),
    /// It may have forgotten.
    Recovering(Recovery),
    /// It was readmitted and waits until whatever it may have supported is over.
    Settling { since: Now },
    /// It votes.
    Voting,
    /// The others know another identity for it.
    Quarantined,
    /// This process has found out that it must start again: it says nothing more.
    Over,
}

/// What a member knows of another in this process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Peer {
    /// The newest life known, also by hearsay.
    life: Option<Life>,
    /// The commits that it has told of itself, and the life in which it has.
    told: Option<(Life, Lsn)>,
    /// When it was last heard.
    heard: Option<Now>,
    /// The send time of the newest heartbeat or ping that it answered.
    answered: Option<Now>,
    /// What it supports for this site.
    mirror: Option<Mirror>,
    /// When its listing was last asked for.
    list_asked: Option<Boot>,
    /// Somebody who speaks in its name with another identity than the formation's.
    stranger: Option<Stranger>,
    /// The digest of its chosen values that differed from ours at the last ack.
    differed: Option<(u128, u128)>,
    /// When it first told its clock, and what that was.
    clock: Option<(Now, Boot)>,
    /// Told of in the journal that its clock is off.
    clock_off: bool,
}

/// How a process begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Start {
    /// Made up anew by every process.
    pub nonce: Nonce,
    /// For spreading retries.
    pub seed: u64,
    /// What the store has committed.
    pub lsn: Lsn,
    /// Whether it is certain that the disk has all that was ever committed: same boot, no older than what the last
    /// process saw committed.
    pub proven: bool,
}

impl Member {
    /// Starts a member from what its store holds.
    pub fn start(settings: Settings, durable: Durable, start: Start, now: Now) -> (Self, Step) {
        let incarnation = Incarnation(durable.own.incarnation.0 + 1);
        let life = Life { incarnation, nonce: start.nonce };
        let peers = settings.members.keys().map(|&m| (m, Peer::default())).collect();
        let mut member = Self {
            settings: Arc::new(settings),
            durable,
            life,
            lsn: start.lsn,
            header_durable: false,
            started: now,
            serial: 0,
            standing: Standing::Quarantined,
            peers,
            support: Support::new(start.nonce),
            parked: BTreeMap::new(),
            passed_over: BTreeMap::new(),
            answered: BTreeMap::new(),
            rounds: BTreeMap::new(),
            contention: BTreeMap::new(),
            chosen: BTreeMap::new(),
            chosen_digest: Digest::default(),
            unsaved: BTreeMap::new(),
            locals: Locals::default(),
            pulse: Pulse::new(now),
            fence: FenceLink::Down,
            commands: BTreeMap::new(),
            vouched: Vec::new(),
            timers: Timers::default(),
            rng: Rng::new(start.seed),
            out: Step::default(),
            loopback: VecDeque::new(),
        };
        member.begin(start.proven, now);
        member.settle_down(now, true);
        let step = member.take_step();
        (member, step)
    }

    fn begin(&mut self, proven: bool, now: Now) {
        self.durable.own.incarnation = self.life.incarnation;
        self.write_own();
        let me = self.settings.me;
        for (&id, peer) in &mut self.peers {
            peer.life = if id == me { Some(self.life) } else { self.durable.lives.get(&id).copied() };
            peer.mirror = (id == me).then(|| Mirror::new(self.life.nonce));
        }
        for (key, register) in &self.durable.registers {
            if planted!(GuardForgottenAtStart) {
                break;
            }
            if let Key::Ownership(ticket) = key {
                self.support.follow(ticket, register, Some(now), 0, &self.settings);
            }
        }
        // How long a rest had lasted is not known: it begins anew.
        for ticket in self.durable.resting.keys() {
            self.locals.or_default(ticket).resting = Some(now);
        }
        match (&self.durable.own.formation, self.durable.own.duty) {
            (None, _) => self.begin_birth(now),
            (Some(formation), _) if formation.of.get(&me) != Some(&self.durable.own.identity) => {
                self.standing = Standing::Quarantined;
                self.note(Note::Quarantined);
                self.timers.set_boot(Timer::Standing, now.boot);
            }
            (Some(_), Duty::None) if proven || planted!(ProofNotAsked) => self.begin_voting(now),
            _ => self.begin_recovery(now),
        }
    }

    /// Handles one event. See the contract on the type.
    pub fn handle(&mut self, now: Now, event: Event) -> Step {
        self.locals.begin_event();
        if self.is_over() {
            return self.take_step();
        }
        let prompt = event.is_prompt();
        match event {
            Event::Frame(frame) => self.on_frame(now, frame),
            Event::Tick => {}
            Event::Command(id, command, caller) => self.on_command(now, id, command, caller),
            Event::Abandon(id) => drop(self.commands.remove(&id)),
            Event::Checked(ticket, check, result) => self.on_checked(now, &ticket, check, result),
            Event::Unhealthy(ticket, token) => self.on_unhealthy(now, &ticket, token, false),
            Event::Fence(event) => self.on_fence(now, event),
            Event::Reload(settings) => self.on_reload(now, settings),
            Event::Suspect => self.on_rolled_back(self.life.incarnation, self.lsn),
        }
        // What timers lead to may rest on a commit that still runs: a prompt event runs none.
        self.settle_down(now, !prompt);
        self.take_step()
    }

    /// When to call `handle` with [`Event::Tick`] at the latest.
    #[must_use]
    pub fn next_timeout(&self) -> Timeouts {
        self.timers.next()
    }

    /// Runs what is due, and what this member says to itself, until nothing is left.
    fn settle_down(&mut self, now: Now, timers: bool) {
        /// Whatever is due still after so many passes waits for the next event, which may bring news.
        const PASSES_MAX: usize = 16;
        let me = self.settings.me;
        for _ in 0..PASSES_MAX {
            while let Some(body) = self.loopback.pop_front() {
                self.mirror_accepts(now, me, core::slice::from_ref(&body));
                self.on_body(now, me, self.life.nonce, body);
            }
            let due = if timers { self.timers.take_due(now) } else { Vec::new() };
            if due.is_empty() {
                break;
            }
            for timer in due {
                self.on_timer(now, timer);
            }
        }
    }

    fn on_reload(&mut self, now: Now, settings: Settings) {
        self.settings = Arc::new(settings);
        self.drive_all(now);
    }

    fn on_timer(&mut self, now: Now, timer: Timer) {
        match timer {
            Timer::Heartbeat => self.beat(now),
            Timer::Standing => self.on_standing_timer(now),
            Timer::Commands => self.drive_commands(now),
            Timer::Round(key) => self.repeat_round(now, &key),
            Timer::Ticket(ticket) => self.drive(now, &ticket),
            Timer::Parked(ticket) => self.answer_parked(now, &ticket),
        }
    }

    fn on_standing_timer(&mut self, now: Now) {
        match &self.standing {
            Standing::Unborn(_) => self.ask_birth(now),
            Standing::Recovering(_) => self.ask_recovery(now),
            Standing::Settling { since } => {
                let since = *since;
                self.finish_settling(now, since);
            }
            Standing::Quarantined => self.knock(now),
            Standing::Voting | Standing::Over => {}
        }
    }

    fn begin_voting(&mut self, now: Now) {
        self.standing = Standing::Voting;
        self.timers.cancel(&Timer::Standing);
        self.note(Note::Voting);
        if self.settings.is_site(self.settings.me) {
            self.timers.set_boot(Timer::Heartbeat, now.boot);
        }
        self.drive_all(now);
    }

    // What everything below uses.

    /// Everything up to step `serial` is durable, as the store's commit `lsn`, since about `now`.
    pub(crate) fn committed(&mut self, serial: u64, lsn: Lsn, now: Now) {
        self.lsn = lsn;
        self.header_durable = true;
        self.unsaved.retain(|_, step| *step > serial);
        self.support.committed(serial);
        self.pulse.committed(now);
    }

    pub(crate) const fn is_header_durable(&self) -> bool {
        self.header_durable
    }

    pub(crate) const fn is_over(&self) -> bool {
        matches!(self.standing, Standing::Over)
    }

    /// This process has no say any more; the next one starts with what is written now.
    fn start_again(&mut self) {
        self.standing = Standing::Over;
        self.timers = Timers::default();
        self.out.fatal = Some(Fatal::StartAgain);
    }

    pub(crate) fn nonce_of(&self, member: MemberId) -> Option<Nonce> {
        self.peers.get(&member).and_then(|peer| peer.life).map(|life| life.nonce)
    }

    fn epoch(&self) -> Epoch {
        self.durable.own.formation.as_ref().map_or(Epoch(0), |formation| formation.epoch)
    }

    const fn votes(&self) -> bool {
        matches!(self.standing, Standing::Voting)
    }

    fn take_step(&mut self) -> Step {
        self.out.serial = self.serial;
        self.serial += 1;
        core::mem::take(&mut self.out)
    }

    fn note(&mut self, note: Note) {
        self.out.notes.push(note);
    }

    fn write(&mut self, record: Record) {
        self.durable.apply(&record);
        self.out.records.push(record);
    }

    fn write_own(&mut self) {
        let own: Own = self.durable.own.clone();
        self.out.records.push(Record::Own(own));
    }

    fn request_id(&mut self) -> RequestId {
        RequestId(self.rng.next())
    }

    fn register(&self, key: &Key) -> Option<&Register> {
        self.durable.registers.get(key)
    }

    /// The value that this member last accepted or learnt.
    fn accepted(&self, key: &Key) -> Option<&Value> {
        self.register(key).and_then(Register::accepted).map(|a| &a.value)
    }

    /// The ownership of `ticket` as this member knows it.
    fn ownership(&self, ticket: &TicketName) -> &Ownership {
        self.accepted(&Key::Ownership(ticket.clone())).and_then(Value::ownership).unwrap_or(&Ownership::NEVER)
    }

    /// The intent for `ticket` as this member knows it.
    fn intent(&self, ticket: &TicketName) -> Option<&Intent> {
        self.accepted(&Key::Intent(ticket.clone())).and_then(Value::intent)
    }

    /// What `site` does about tickets as this member knows it.
    fn standby_mode(&self, site: MemberId) -> StandbyMode {
        self.accepted(&Key::Standby(site))
            .and_then(Value::standby)
            .map_or(StandbyMode::Online, |standby| standby.mode)
    }

    /// Writes a register that was just changed, and lets everything that rests on it follow.
    fn register_changed(&mut self, key: &Key, register: Register, arrival: Option<Now>) {
        if let Key::Ownership(ticket) = key {
            self.support.follow(ticket, &register, arrival, self.serial, &self.settings);
            self.assert_no_double_support(ticket, &register);
        }
        let before = self.register(key).and_then(Register::accepted).map(|a| a.ballot);
        if before != register.accepted().map(|a| a.ballot) {
            self.forget_chosen(key);
        }
        self.unsaved.insert(key.clone(), self.serial);
        if self.keeps_in_memory(key, &register) {
            return self.durable.apply(&Record::Register(key.clone(), register));
        }
        self.write(Record::Register(key.clone(), register));
    }

    /// What a planted bug does not write down.
    fn keeps_in_memory(&self, key: &Key, register: &Register) -> bool {
        if planted!(PromiseNotWritten) {
            return self.register(key).and_then(Register::accepted) == register.accepted();
        }
        let value = register.accepted().map(|accepted| &accepted.value);
        let revoke = value.and_then(Value::intent).is_some_and(|i| i.wanted == crate::value::Wanted::Revoked);
        revoke && planted!(RevokeNotWritten)
    }

    pub(crate) const fn support(&self) -> &Support {
        &self.support
    }

    /// All registers, for the checkers of invariants.
    pub fn registers(&self) -> impl Iterator<Item = (&Key, &Register)> {
        self.durable.registers.iter()
    }

    fn known_tickets(&self) -> Vec<TicketName> {
        let mut tickets: Vec<TicketName> = self.settings.tickets.keys().cloned().collect();
        for key in self.durable.registers.keys() {
            if let Key::Ownership(ticket) | Key::Intent(ticket) = key
                && !self.settings.tickets.contains_key(ticket)
            {
                tickets.push(ticket.clone());
            }
        }
        tickets.sort_unstable();
        tickets.dedup();
        tickets
    }
}
