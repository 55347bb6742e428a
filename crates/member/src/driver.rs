//! The loop around the member's state machine ([`MemberPump`]): it waits for whatever comes next, hands it over, and does what the
//! pump wants done. Turns, commits, the order of events and the bounds of all queues are the pump's.
//!
//! Clocks are read after an event was received and before its effects are done, and never kept.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sitegate_host::clock::{Alarm, boot_ns, raw_ns};
use sitegate_protocol::{Boot, CommandId, Durable, Event, Life, Now, Raw, Reply, Start, Timeouts};
use sitegate_shell::MemberPump;
use sitegate_shell::member::Lane;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::journal::{Draft, Journal};
use crate::peers::{Frames, Peers};
use crate::service::Service;
use crate::shared::Shared;
use crate::site::SiteEnd;
use crate::store::{CommitError, Proof, Store};

mod disk;
mod effects;
mod handle;
mod turn;

pub use handle::{Gone, Handle, Observed, Request};

use disk::Disk;

/// How often the loop looks at what has no event of its own: the wall clock, the watchdog.
const LOOK_EVERY: Duration = Duration::from_secs(1);

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
    pump: MemberPump,
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
    /// The commit that runs.
    committing: Option<Running>,
    commands: BTreeMap<CommandId, mpsc::Sender<Reply>>,
    looks: Vec<oneshot::Sender<Arc<Observed>>>,
    failing: BTreeSet<sitegate_protocol::TicketName>,
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
        let (mut pump, first) = MemberPump::start(settings, parts.durable, parts.start, now());
        pump.add(first, now());
        let (handle, requests) = Handle::new();
        let mut look = interval(parts.service.look_every(LOOK_EVERY));
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let driver = Self {
            pump,
            shared: parts.shared,
            peers: parts.peers,
            frames: parts.frames,
            requests,
            site: parts.site,
            journal: parts.journal,
            service: parts.service,
            disk: Disk::start(parts.store, parts.proof)?,
            alarm: Alarm::new()?,
            look,
            committing: None,
            commands: BTreeMap::new(),
            looks: Vec::new(),
            failing: BTreeSet::new(),
            stopping: false,
        };
        Ok((driver, handle))
    }

    /// The life of this process.
    #[must_use]
    pub fn life(&self) -> Life {
        self.pump.member().life()
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
        self.work()?;
        if self.pump.is_settled() {
            self.answer_looks();
            if self.stopping {
                return Err(Ended::Stopped);
            }
        }
        if !self.pump.is_committing() {
            self.alarm.set(alarm_time(self.pump.next_timeout()))?;
        }
        let room = |lane| self.pump.has_room(lane);
        tokio::select! {
            biased;
            _ = self.look.tick() => self.look_around(),
            done = self.disk.done(), if self.pump.is_committing() => self.committed(done)?,
            Some(frame) = self.frames.prompt.recv(), if room(Lane::Prompt) => self.offer(Event::Frame(frame)),
            Some(event) = next_event(&mut self.site), if room(Lane::Site) => self.offer(event),
            Some(request) = self.requests.recv(), if room(Lane::Requests) => self.request(request),
            Some(frame) = self.frames.other.recv(), if room(Lane::Other) => self.offer(Event::Frame(frame)),
            rang = self.alarm.ring(), if !self.pump.is_committing() => rang?,
        }
        self.take_queued();
        Ok(())
    }

    /// Hands over what else has come, as far as there is room for it.
    fn take_queued(&mut self) {
        while self.pump.has_room(Lane::Prompt)
            && let Ok(frame) = self.frames.prompt.try_recv()
        {
            self.offer(Event::Frame(frame));
        }
        while self.pump.has_room(Lane::Site)
            && let Some(event) = self.site.as_mut().and_then(|site| site.events.try_recv().ok())
        {
            self.offer(event);
        }
        while self.pump.has_room(Lane::Requests)
            && let Ok(request) = self.requests.try_recv()
        {
            self.request(request);
        }
        while self.pump.has_room(Lane::Other)
            && let Ok(frame) = self.frames.other.try_recv()
        {
            self.offer(Event::Frame(frame));
        }
    }

    /// Only where there is room: nothing is offered in vain.
    fn offer(&mut self, event: Event) {
        let refused = self.pump.offer(event);
        assert!(refused.is_ok(), "there was room for it");
    }

    fn request(&mut self, request: Request) {
        match request {
            Request::Command(id, command, caller, replies) => {
                self.shared.metrics.commands.add(1);
                self.note_command(&command, &caller);
                self.commands.insert(id, replies);
                self.offer(Event::Command(id, command, caller));
            }
            Request::Abandon(id) => {
                self.commands.remove(&id);
                self.offer(Event::Abandon(id));
            }
            Request::Look(reply) => {
                self.looks.push(reply);
            }
            Request::Reload => {
                let settings = (*self.shared.settings.get()).clone();
                self.offer(Event::Reload(settings));
            }
            Request::Stop => self.stopping = true,
        }
    }
}

/// Both clocks, now.
#[must_use]
pub fn now() -> Now {
    Now { boot: Boot(boot_ns()), raw: Raw(raw_ns()) }
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
