//! The task that owns the deadman.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use sitegate_fence_client::request::Reply;
use sitegate_fence_client::status::TestedResource;
use sitegate_fence_client::wire::{Name, Notice, Proof, Receipt, Refusal, Token};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tracing::{error, info, warn};

use super::clients::Connected;
use super::history::{History, is_news};
use super::join::Joining;
use super::orders::Program;
use super::pending::{Asker, Awaited, Pending};
use super::reload::Coming;
use super::session::ClientId;
use super::strays::Looks;
use crate::config::Config;
use crate::deadman::{Changes, Deadman, Leases, Order, RunId, Saved, State};
use crate::leases;
use crate::programs::Programs;
use crate::reboot::Restarter;
use crate::store::{Outcome, Store, with_causes};
use crate::watchdog::Guard;

/// How many `start` and `stop` programs run at once; more would only get in each other's way. Plans have their own bound.
const PROGRAMS_AT_ONCE: usize = 64;
/// How many ends of programs and kills may wait for the loop, which takes all that wait in one turn. Whoever comes to a full
/// queue waits for that turn.
pub(super) const ENDS_MAX: usize = 1024;

#[derive(Debug)]
pub(super) struct Core {
    /// What is in force, plan by plan.
    pub(super) config: Config,
    /// What a reload has brought that cannot be in force yet.
    pub(super) coming: BTreeMap<Name, Coming>,
    /// The last receipts of resources that are not in `fenced.toml`, should they come back.
    pub(super) forgotten: BTreeMap<Name, Receipt>,
    pub(super) deadman: Deadman,
    pub(super) programs: Programs,
    pub(super) boot_id: String,
    /// Tokens that were armed in an earlier boot of the machine.
    pub(super) restarted: BTreeMap<Name, Token>,
    pub(super) site: Option<Name>,
    pub(super) history: History,
    pub(super) pending: Pending,
    pub(super) clients: BTreeMap<ClientId, Connected>,
    /// Replies that may be given once the leases of this turn are published.
    pub(super) unsaid: Vec<(Asker, Reply)>,
    /// Why the newest leases are not in the file, if they are not.
    pub(super) unpublished: Option<String>,
    /// Why nothing can be written any more, if so.
    pub(super) store_failed: Option<String>,
    /// The last record of each resource that was handed to the store, by its place in the order of all.
    pub(super) handed_over: BTreeMap<Name, u64>,
    /// Up to which place records have an outcome; the last one if none will be written any more.
    pub(super) settled: watch::Sender<u64>,
    pub(super) cancels: HashMap<RunId, oneshot::Sender<()>>,
    pub(super) done: mpsc::Sender<Done>,
    pub(super) looks: Looks,
    /// One place: for the test that runs.
    pub(super) testing: Arc<Semaphore>,
    pub(super) room: Arc<Semaphore>,
    pub(super) restarter: Restarter,
    pub(super) watchdog: Guard,
    /// What only the watchdog can fence any more.
    pub(super) left_to_watchdog: BTreeSet<Name>,
    /// One place: for whoever writes down the site's name.
    pub(super) remembering: Arc<Semaphore>,
}

/// What happened aside.
#[derive(Debug)]
pub(super) enum Done {
    /// The end of something that the deadman has ordered.
    Run { resource: Name, run: RunId, what: Ended },
    /// The end of moving a process in.
    Joined(Joining, Result<(), String>),
    /// The end of a test.
    Tested(Asker, Vec<TestedResource>),
}

#[derive(Debug)]
pub(super) enum Ended {
    Kill(Result<Proof, String>),
    Level(Result<Proof, String>),
    Start(Result<(), String>),
    Stop(Result<(), String>),
    /// A look whether it runs: the exit code.
    Look(Result<i32, String>),
}

impl Core {
    pub(super) fn new(
        config: Config,
        deadman: Deadman,
        programs: Programs,
        boot_id: String,
        restarter: Restarter,
        receipts: impl IntoIterator<Item = Receipt>,
        done: mpsc::Sender<Done>,
    ) -> Self {
        let watchdog = Guard::new(config.watchdog.clone());
        Self {
            config,
            coming: BTreeMap::new(),
            forgotten: BTreeMap::new(),
            deadman,
            programs,
            boot_id,
            restarted: BTreeMap::new(),
            site: None,
            history: History::new(receipts),
            pending: Pending::default(),
            clients: BTreeMap::new(),
            unsaid: Vec::new(),
            unpublished: None,
            store_failed: None,
            handed_over: BTreeMap::new(),
            settled: watch::Sender::new(0),
            cancels: HashMap::new(),
            done,
            looks: Looks::default(),
            testing: Arc::new(Semaphore::new(1)),
            room: Arc::new(Semaphore::new(PROGRAMS_AT_ONCE)),
            restarter,
            watchdog,
            left_to_watchdog: BTreeSet::new(),
            remembering: Arc::new(Semaphore::new(1)),
        }
    }

    /// Whether nothing is armed or being fenced.
    pub(super) fn is_idle(&self) -> bool {
        self.deadman.views().all(|(_, view)| view.state == State::Unarmed)
    }

    /// When [`tick`](Self::tick) is due, on each clock.
    pub(super) fn next_timeout(&self) -> Option<(u64, u64)> {
        self.deadman.next_timeout().map(|due| (due.boot_ns, due.raw_ns))
    }

    pub(super) fn tick(&mut self) {
        self.deadman.tick(leases::now());
    }

    pub(super) fn done(&mut self, done: Done) {
        let (resource, run, what) = match done {
            Done::Run { resource, run, what } => (resource, run, what),
            Done::Joined(joining, moved) => return self.joined(joining, moved),
            Done::Tested(asker, resources) => return self.tested(asker, resources),
        };
        self.cancels.remove(&run);
        let now = leases::now();
        match what {
            Ended::Kill(result) => self.deadman.kill_done(now, &resource, run, result),
            Ended::Level(result) => self.deadman.level_done(now, &resource, run, result),
            Ended::Start(result) => self.deadman.start_done(now, &resource, run, result.err()),
            Ended::Look(found) => self.looked(&resource, run, found),
            Ended::Stop(result) => self.deadman.stop_done(now, &resource, run, result.err()),
        }
    }

    pub(super) fn written(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Saved(saved) => {
                let now = leases::now();
                self.settled.send_if_modified(|settled| {
                    let newest = saved.iter().map(Saved::seq).max();
                    newest.map(|seq| *settled = seq).is_some()
                });
                saved.into_iter().for_each(|saved| self.deadman.saved(now, saved));
            }
            Outcome::Failed { why, unsaved } => {
                if self.store_failed.is_none() {
                    error!(
                        "THE STATE CANNOT BE WRITTEN: nothing can be armed, and no receipt given, until the disk is repaired and sitegate-fenced restarted: {why}"
                    );
                }
                self.settled.send_replace(u64::MAX);
                unsaved.iter().for_each(|unsaved| self.deadman.not_saved(unsaved));
                let refused = Reply::refused(Refusal::StoreFailed { cause: why.clone() });
                let mut replies = self.pending.fail_all(Awaited::Arm, &refused);
                replies.extend(self.pending.fail_all(Awaited::Fence, &no_receipt(&why)));
                self.store_failed = Some(why);
                replies.into_iter().for_each(|(asker, reply)| self.reply(asker, &reply));
            }
        }
    }

    /// Carries out all that the deadman asks for, in its order.
    pub(super) fn carry_out(&mut self, store: &Store) {
        loop {
            let step = self.deadman.take();
            if step.is_empty() {
                break;
            }
            let mut changed = false;
            let (acts, published) = step.publish(|changes| {
                changed = true;
                self.aim(changes);
                leases::publish(&self.programs.leases, &self.boot_id, &self.deadman.leases())
            });
            if changed {
                self.published(published.map_err(|error| with_causes(&error)));
            }
            let handed_over = acts.saves.iter().map(|save| (save.resource().clone(), save.seq()));
            self.handed_over.extend(handed_over);
            store.write(acts.saves);
            acts.orders.into_iter().for_each(|order| self.order(order));
            acts.notices.into_iter().for_each(|notice| self.notice(&notice));
        }
        self.programs.containment.striker().release();
        for (asker, reply) in std::mem::take(&mut self.unsaid) {
            self.reply(asker, &reply);
        }
        self.take_up_what_comes();
    }

    /// Has the first strike fall at the deadlines that are in force now, and on what is fenced before.
    fn aim(&self, changes: &Changes) {
        let containment = &self.programs.containment;
        for (resource, lease) in changes.iter() {
            match lease {
                Some(lease) => containment.aim(resource, lease.deadline),
                None => containment.striker().strike(resource),
            }
        }
    }

    /// Takes note of whether the newest leases are in the file. If not, whoever relies on them is told.
    fn published(&mut self, result: Result<(), String>) {
        let Err(why) = result else {
            self.unpublished = None;
            return;
        };
        error!("cannot publish the leases: nothing can be armed or extended: {why}");
        let failed = Reply::Error { why: format!("the leases cannot be published: {why}") };
        self.unsaid.iter_mut().filter(|(_, r)| matches!(r, Reply::Extended { .. })).for_each(|(_, reply)| {
            *reply = failed.clone();
        });
        for resource in self.deadman.leases().into_keys() {
            let replies = self.pending.fail(&resource, Awaited::Arm, &failed);
            self.unsaid.extend(replies);
        }
        self.unpublished = Some(why);
    }

    /// Makes sure that the file holds no lease that was withdrawn.
    pub(super) fn withdrawn(&mut self) -> Result<(), String> {
        let Some(why) = self.unpublished.clone() else { return Ok(()) };
        let leases: Leases = self.deadman.leases();
        if leases::publish(&self.programs.leases, &self.boot_id, &leases).is_ok() {
            self.unpublished = None;
            return Ok(());
        }
        // Then nothing may be started at all, until the leases can be published again.
        leases::withdraw_all(&self.programs.leases)
            .map_err(|error| format!("the lease cannot be withdrawn: {why}; {}", with_causes(&error)))
    }

    fn notice(&mut self, notice: &Notice) {
        if let Notice::Receipt(receipt) = notice {
            self.left_to_watchdog.remove(&receipt.resource);
        }
        for (asker, reply) in self.pending.settle(notice) {
            self.reply(asker, &reply);
        }
        let news = is_news(notice);
        if news {
            self.history.note(notice);
        }
        self.tell(notice, news);
    }

    pub(super) fn order(&mut self, order: Order) {
        match order {
            Order::Kill { run, resource, within_ns } => self.order_kill(run, resource, within_ns),
            Order::Level { run, resource, token, reason, level } => {
                self.order_level(run, resource, token, reason, level);
            }
            Order::Start { run, resource, token, deadline } => {
                self.order_program(Program::Start, run, resource, token, deadline);
            }
            Order::Stop { run, resource, token, deadline } => {
                self.order_program(Program::Stop, run, resource, token, deadline);
            }
            Order::Cancel { run } => {
                // Dropping the sender tells as well; a run that has ended does not care.
                let _ = self.cancels.remove(&run).map(|cancel| cancel.send(()));
            }
        }
    }

    /// Tells the log what stays behind, and until when it does.
    pub(super) fn say_goodbye(&mut self) {
        self.programs.containment.tidy();
        self.watchdog.leave(!self.is_idle());
        let now = leases::now();
        let armed = self.deadman.leases();
        let fencing = |state: &State| matches!(state, State::Fencing { .. });
        let fences = self.deadman.views().filter(|(_, view)| fencing(&view.state)).count();
        if fences > 0 {
            warn!("ending in the middle of {fences} fences, which begin again when sitegate-fenced is back");
        }
        let first = armed.values().map(|lease| lease.deadline.remaining_ns(now)).min();
        match first {
            Some(ns) => warn!(
                "ending; {} resources stay armed and what was started stays running; to be fenced in time, sitegate-fenced must be back within {} ms",
                armed.len(),
                ns / 1_000_000
            ),
            None => info!("ending; nothing is armed"),
        }
    }
}

/// What an order to fence is answered while no receipt can be given.
pub(super) fn no_receipt(why: &str) -> Reply {
    let why = format!(
        "the resource is being fenced, but no receipt can be given: the state cannot be written: {why}"
    );
    Reply::Error { why }
}
