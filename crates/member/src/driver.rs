//! The loop around the protocol: what happened goes in, what it led to is committed, and only then done.
//!
//! One turn takes everything that has queued up, and one commit covers it. While a commit runs (in a thread of its own),
//! heartbeats and their answers are still handled, as they write nothing; everything else waits in bounded queues, and
//! behind those the network waits.
//!
//! `now` is read after an event was received and before its effects are done, never kept.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use sitegate_host::clock::{Alarm, boot_ns, duration_ns, raw_ns};
use sitegate_protocol::{
    Boot, Caller, Command, CommandId, Committing, Durable, Effects, Event, Fatal, Member, Now, Raw, Reply,
    Start, Step, TicketName, Timeouts, Turn, View,
};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Interval, MissedTickBehavior, interval};
use tracing::{debug, error, info, warn};

use crate::journal::{Draft, Journal, Moment, describe, describe_command, describe_vote};
use crate::peers::{Frames, Peers};
use crate::service::Service;
use crate::shared::Shared;
use crate::site::{SiteEnd, Work};
use crate::store::{CommitError, Proof, Store};

mod disk;

use disk::Disk;

/// Events that one turn takes at most: enough for a burst, few enough that what follows does not wait for long.
const EVENTS_PER_TURN_MAX: usize = 512;
/// Requests of the API that wait for the loop.
const REQUESTS_WAITING_MAX: usize = 64;
/// Replies that one command can get: recorded, and its end.
const REPLIES_MAX: usize = 4;
/// How often the loop looks at what has no event of its own: the wall clock, the watchdog.
const LOOK_EVERY: std::time::Duration = std::time::Duration::from_secs(1);

/// Why the loop has ended; never without a reason.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    /// It was asked to.
    #[error("was told to stop")]
    Stopped,
    /// A commit failed: nothing of this process can be trusted any more.
    #[error("a commit failed, which is final")]
    Commit(#[from] CommitError),
    /// The thread that commits is gone.
    #[error("the thread that commits has ended")]
    DiskGone,
    /// The protocol wants to begin anew and look for witnesses.
    #[error("this member may have forgotten: it starts again and looks for witnesses")]
    StartAgain,
    /// The clock's alarm does not work.
    #[error("the alarm clock failed")]
    Alarm(#[from] std::io::Error),
}

/// What others ask of the loop.
#[derive(Debug)]
pub enum Request {
    /// Somebody gives a command; what becomes of it goes to the sender.
    Command(CommandId, Command, Caller, mpsc::Sender<Reply>),
    /// Whoever gave it no longer waits.
    Abandon(CommandId),
    /// How it all stands, once what led there is durable.
    Look(oneshot::Sender<Observed>),
    /// The settings have changed.
    Reload,
    /// Ends the loop, between two commits.
    Stop,
}

/// How a member stands.
#[derive(Debug, Clone)]
pub struct Observed {
    /// When.
    pub now: Now,
    /// What the protocol says.
    pub view: View,
    /// Tickets whose fencing fails.
    pub failing: BTreeSet<TicketName>,
}

/// The way to ask the loop. Clones share it.
#[derive(Clone, Debug)]
pub struct Handle {
    requests: mpsc::Sender<Request>,
    turns: watch::Receiver<u64>,
}

/// The loop has ended: this process is about to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this member is ending")]
pub struct Gone;

impl Handle {
    /// Asks.
    ///
    /// # Errors
    /// If there is nobody to ask any more.
    pub async fn ask(&self, request: Request) -> Result<(), Gone> {
        self.requests.send(request).await.map_err(|_| Gone)
    }

    /// How it all stands.
    ///
    /// # Errors
    /// As [`Handle::ask`].
    pub async fn look(&self) -> Result<Observed, Gone> {
        let (reply, answer) = oneshot::channel();
        self.ask(Request::Look(reply)).await?;
        answer.await.map_err(|_| Gone)
    }

    /// Replies to a command go through a channel of this size.
    #[must_use]
    pub fn replies() -> (mpsc::Sender<Reply>, mpsc::Receiver<Reply>) {
        mpsc::channel(REPLIES_MAX)
    }

    /// Changes whenever something may have changed.
    #[must_use]
    pub fn turns(&self) -> watch::Receiver<u64> {
        self.turns.clone()
    }
}

/// What the loop works with.
#[derive(Debug)]
pub struct Parts {
    /// What the store held.
    pub durable: Durable,
    /// The store.
    pub store: Store,
    /// Its proof.
    pub proof: Proof,
    /// How this process begins.
    pub start: Start,
    /// What connections share.
    pub shared: Arc<Shared>,
    /// The other members.
    pub peers: Arc<Peers>,
    /// What they say.
    pub frames: Frames,
    /// Where to write down what happens.
    pub journal: Journal,
    /// The fence daemon and the hooks; none on an arbitrator.
    pub site: Option<SiteEnd>,
    /// The service manager.
    pub service: Service,
}

/// The loop. See the module.
#[derive(Debug)]
pub struct Driver {
    member: Member,
    shared: Arc<Shared>,
    peers: Arc<Peers>,
    frames: Frames,
    requests: mpsc::Receiver<Request>,
    site: Option<SiteEnd>,
    journal: Journal,
    service: Service,
    disk: Disk,
    alarm: Alarm,
    look: Interval,
    turns: watch::Sender<u64>,
    /// What the next commit will cover.
    turn: Turn,
    /// The commit that runs.
    committing: Option<Running>,
    commands: BTreeMap<CommandId, mpsc::Sender<Reply>>,
    looks: Vec<oneshot::Sender<Observed>>,
    failing: BTreeSet<TicketName>,
    stopping: bool,
}

/// A commit that runs.
#[derive(Debug)]
struct Running {
    since: Instant,
    votes: Vec<Draft>,
}

impl Driver {
    /// Starts the member; [`Driver::run`] does the rest. Needs the runtime that it will run in.
    ///
    /// # Errors
    /// If the machine gives no timer or thread.
    pub fn start(parts: Parts) -> std::io::Result<(Self, Handle)> {
        let settings = (*parts.shared.settings.get()).clone();
        let (member, step) = Member::start(settings, parts.durable, parts.start, now());
        let (requests, queue) = mpsc::channel(REQUESTS_WAITING_MAX);
        let (turns, watcher) = watch::channel(0);
        let mut look = interval(parts.service.look_every(LOOK_EVERY));
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut driver = Self {
            member,
            shared: parts.shared,
            peers: parts.peers,
            frames: parts.frames,
            requests: queue,
            site: parts.site,
            journal: parts.journal,
            service: parts.service,
            disk: Disk::start(parts.store, parts.proof)?,
            alarm: Alarm::new()?,
            look,
            turns,
            turn: Turn::new(),
            committing: None,
            commands: BTreeMap::new(),
            looks: Vec::new(),
            failing: BTreeSet::new(),
            stopping: false,
        };
        driver.turn.add(step);
        Ok((driver, Handle { requests, turns: watcher }))
    }

    /// The life of this process.
    #[must_use]
    pub fn life(&self) -> sitegate_protocol::Life {
        self.member.view(now()).life
    }

    /// Runs until something ends it.
    pub async fn run(mut self) -> Ended {
        loop {
            if let Err(ended) = self.once().await {
                if matches!(ended, Ended::StartAgain) {
                    self.disk.withdraw_proof();
                }
                return ended;
            }
        }
    }

    async fn once(&mut self) -> Result<(), Ended> {
        self.finish_turn()?;
        if self.stopping && self.committing.is_none() {
            return Err(Ended::Stopped);
        }
        let idle = self.committing.is_none();
        if idle {
            self.alarm.set(alarm_time(self.member.next_timeout()))?;
        }
        tokio::select! {
            biased;
            _ = self.look.tick() => self.look_around()?,
            done = self.disk.done(), if !idle => self.committed(done)?,
            Some(frame) = self.frames.prompt.recv() => self.handle(Event::Frame(frame))?,
            Some(event) = next_event(&mut self.site), if idle => self.handle(event)?,
            Some(request) = self.requests.recv(), if idle => self.request(request)?,
            Some(frame) = self.frames.other.recv(), if idle => self.handle(Event::Frame(frame))?,
            rang = self.alarm.ring(), if idle => rang?,
        }
        if self.committing.is_none() {
            self.take_queued()?;
        }
        Ok(())
    }

    /// Takes into this turn what has queued up, a fair share of each kind.
    fn take_queued(&mut self) -> Result<(), Ended> {
        let mut left = EVENTS_PER_TURN_MAX;
        loop {
            let before = left;
            if let Ok(frame) = self.frames.prompt.try_recv() {
                self.handle(Event::Frame(frame))?;
                left -= 1;
            }
            if let Some(event) = self.site.as_mut().and_then(|site| site.events.try_recv().ok()) {
                self.handle(event)?;
                left -= 1;
            }
            if let Ok(request) = self.requests.try_recv() {
                self.request(request)?;
                left -= 1;
            }
            if let Ok(frame) = self.frames.other.try_recv() {
                self.handle(Event::Frame(frame))?;
                left -= 1;
            }
            if left == before || left < 4 {
                return Ok(());
            }
        }
    }

    fn request(&mut self, request: Request) -> Result<(), Ended> {
        match request {
            Request::Command(id, command, caller, replies) => {
                self.shared.metrics.commands.add(1);
                if !matches!(command, Command::Inspect(_)) {
                    self.note_command(&command, &caller);
                }
                self.commands.insert(id, replies);
                self.handle(Event::Command(id, command, caller))
            }
            Request::Abandon(id) => {
                self.commands.remove(&id);
                self.handle(Event::Abandon(id))
            }
            Request::Look(reply) => {
                self.looks.push(reply);
                Ok(())
            }
            Request::Reload => {
                let settings = (*self.shared.settings.get()).clone();
                self.handle(Event::Reload(settings))
            }
            Request::Stop => {
                self.stopping = true;
                Ok(())
            }
        }
    }

    fn handle(&mut self, event: Event) -> Result<(), Ended> {
        self.shared.metrics.events.add(1);
        let now = now();
        // What timers lead to may rest on what the running commit has not made durable yet.
        let alone = self.committing.is_some() && !self.member.next_timeout().due(now);
        let step = self.member.handle(now, event);
        if alone && let Some(committed) = clean(&step) {
            return self.carry_out(committed);
        }
        self.turn.add(step);
        Ok(())
    }

    /// Commits the turn if none is being committed, and does its effects at once where there was nothing to write.
    fn finish_turn(&mut self) -> Result<(), Ended> {
        if self.committing.is_some() {
            return Ok(());
        }
        let now = now();
        if self.member.next_timeout().due(now) {
            let step = self.member.handle(now, Event::Tick);
            self.turn.add(step);
        }
        let mut turn = std::mem::take(&mut self.turn);
        if turn.is_dirty() {
            for (to, frame) in turn.proposals(&self.member) {
                self.peers.send(to, now.boot, frame);
            }
            let names = &self.shared.names;
            let votes = turn.records().filter_map(|record| describe_vote(record, names)).collect();
            self.committing = Some(Running { since: Instant::now(), votes });
            return self.disk.commit(turn);
        }
        let committed = turn.commit(&mut Nowhere).unwrap_or_else(|never| match never {});
        self.carry_out(committed)?;
        self.answer_looks();
        Ok(())
    }

    fn committed(&mut self, done: Option<Result<Committing, CommitError>>) -> Result<(), Ended> {
        let committed = done.ok_or(Ended::DiskGone)??;
        if let Some(running) = self.committing.take() {
            self.shared.metrics.commits.took(running.since.elapsed());
            self.write_down(running.votes, now());
        }
        self.carry_out(committed)?;
        self.answer_looks();
        Ok(())
    }

    fn carry_out(&mut self, committed: Committing) -> Result<(), Ended> {
        let now = now();
        let Effects { frames, orders, checks, replies, notes, fatal } =
            committed.effects(&mut self.member, now);
        for (to, frame) in frames {
            self.peers.send(to, now.boot, frame);
        }
        if let Some(site) = &self.site {
            site.give(orders.into_iter().map(Work::Order));
            site.give(checks.into_iter().map(|(ticket, check)| Work::Check(ticket, check)));
        }
        for (id, reply) in replies {
            self.reply(id, reply);
        }
        self.write_notes(&notes, now);
        self.turns.send_modify(|turns| *turns += 1);
        match fatal {
            Some(Fatal::StartAgain) => Err(Ended::StartAgain),
            None => Ok(()),
        }
    }

    fn reply(&mut self, id: CommandId, reply: Reply) {
        let last = !matches!(reply, Reply::Recorded);
        let Some(replies) = self.commands.get(&id) else { return };
        if replies.try_send(reply).is_err() {
            debug!(id = id.0, "nobody waits for a command's reply any more");
        }
        if last {
            self.commands.remove(&id);
        }
    }

    fn answer_looks(&mut self) {
        if self.looks.is_empty() {
            return;
        }
        let now = now();
        let observed = Observed { now, view: self.member.view(now), failing: self.failing.clone() };
        for reply in self.looks.drain(..) {
            // Whoever asked may have gone.
            let _ = reply.send(observed.clone());
        }
    }

    fn look_around(&mut self) -> Result<(), Ended> {
        self.service.alive();
        self.shared.suspicion.look_at_wall();
        let Some(leap) = self.shared.suspicion.verdict() else { return Ok(()) };
        error!(?leap, "this machine was put back in time or stood still: all other clocks have moved on");
        let draft = Draft {
            kind: "clock-leap",
            ticket: None,
            member: None,
            text: format!("this machine stood still for {leap:?}, by at least two other clocks"),
            detail: serde_json::json!({ "leap_ns": duration_ns(leap) }),
        };
        self.write_down(vec![draft], now());
        self.handle(Event::Suspect)
    }

    fn write_notes(&mut self, notes: &[sitegate_protocol::Note], now: Now) {
        for note in notes {
            self.follow(note);
        }
        let drafts: Vec<Draft> = notes.iter().map(|note| describe(note, &self.shared.names, now)).collect();
        for draft in &drafts {
            log_draft(draft);
        }
        self.write_down(drafts, now);
    }

    fn follow(&mut self, note: &sitegate_protocol::Note) {
        use sitegate_protocol::Note;
        match note {
            Note::FenceFailing(ticket, _) => drop(self.failing.insert(ticket.clone())),
            Note::Fenced(ticket, _) => drop(self.failing.remove(ticket)),
            _ => {}
        }
    }

    fn write_down(&self, drafts: Vec<Draft>, now: Now) {
        self.shared.metrics.journal_lost.add(self.journal.write(drafts, Moment::new(now)));
    }

    fn note_command(&self, command: &Command, caller: &Caller) {
        let draft = describe_command(command, caller, &self.shared.names);
        info!(by = caller.who, "{}", draft.text);
        self.write_down(vec![draft], now());
    }
}

/// Both clocks, now.
#[must_use]
pub fn now() -> Now {
    Now { boot: Boot(boot_ns()), raw: Raw(raw_ns()) }
}

/// Commits a step that has nothing to commit.
fn clean(step: &Step) -> Option<Committing> {
    let mut turn = Turn::new();
    turn.add(step.clone());
    if turn.is_dirty() {
        return None;
    }
    Some(turn.commit(&mut Nowhere).unwrap_or_else(|never| match never {}))
}

/// Takes no records, as there are none.
struct Nowhere;

impl sitegate_protocol::Store for Nowhere {
    type Error = std::convert::Infallible;

    fn commit<'r>(
        &mut self,
        _: impl Iterator<Item = &'r sitegate_protocol::Record>,
    ) -> Result<sitegate_protocol::Lsn, Self::Error> {
        unreachable!("only turns without records come here")
    }
}

fn alarm_time(timeouts: Timeouts) -> Option<(u64, u64)> {
    match (timeouts.boot, timeouts.raw) {
        (None, None) => None,
        (boot, raw) => Some((boot.map_or(u64::MAX, |at| at.0), raw.map_or(u64::MAX, |at| at.0))),
    }
}

async fn next_event(site: &mut Option<SiteEnd>) -> Option<Event> {
    match site {
        Some(site) => site.events.recv().await,
        None => None,
    }
}

/// Loud things loudly.
fn log_draft(draft: &Draft) {
    let (ticket, kind) = (draft.ticket.as_deref(), draft.kind);
    match draft.kind {
        "quarantined" | "rolled-back" | "trusts-disk" | "fence-failing" => {
            error!(ticket, kind, "{}", draft.text);
        }
        "lost" | "stranger" | "peer-rolled-back" | "clock-off" | "flapping" | "barred" | "start-failed"
        | "unhealthy" | "recovering" | "check-failed" => warn!(ticket, kind, "{}", draft.text),
        "candidate" | "parked" | "peer-started" => debug!(ticket, kind, "{}", draft.text),
        _ => info!(ticket, kind, "{}", draft.text),
    }
}
