//! The threads that start programs: making a control group and forking wait for the kernel, on a busy machine some ten
//! milliseconds, and the loop that fences must not.
//!
//! One starts the programs of plans, the other all else, so that no plan waits for a thousand resources that are just being
//! started. A kill of all of a resource may miss what is just being started of it: it waits for that, and kills again.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use sitegate_fence_client::wire::Name;
use sitegate_host::cgroup::Cgroup;
use sitegate_host::spawn::{Running, SpawnError};
use tokio::net::unix::pipe;
use tokio::runtime::Handle;
use tokio::sync::oneshot::{self, error::TryRecvError};
use tokio::time::sleep;

use super::Role;
use crate::keeper;

/// A program under its keeper.
#[derive(Debug)]
pub struct Contained {
    /// The keeper.
    pub keeper: Running,
    /// Where it reports.
    pub report: pipe::Receiver,
    /// What the program writes.
    pub output: pipe::Receiver,
}

/// Why a program was not started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Nobody wants it any more.
    #[error("was given up before it began")]
    GivenUp,
    /// The keeper could not be started; what happens to the program, the keeper reports.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    /// The kernel hangs in another one, or there are too many.
    #[error("was not started in time: the thread that starts programs is busy, or hangs")]
    TooLate,
    /// A thread is gone, which is a bug.
    #[error("the thread that starts programs has ended")]
    Gone,
}

/// A keeper to be started.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) resource: Name,
    pub(super) role: Role,
    /// How long it may take, which is how long it is waited for here too.
    pub(super) within: Duration,
    pub(super) keeper: PathBuf,
    /// The errand's arguments.
    pub(super) arguments: Vec<OsString>,
    /// Where it is to go, which may have to be made.
    pub(super) group: Option<Cgroup>,
    pub(super) env: BTreeMap<String, String>,
    pub(super) stdin: Stdio,
}

/// One of the threads.
#[derive(Debug)]
pub(super) struct Starter {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    /// Whoever gives up takes his own away, so that these are no more than what runs at once, however long the kernel hangs.
    waiting: VecDeque<Waiting>,
    last: u64,
    /// Which is just being started.
    under_way: Option<(u64, Name)>,
    ended: bool,
}

#[derive(Debug)]
struct Waiting {
    number: u64,
    job: Job,
    runtime: Handle,
    started: oneshot::Sender<Result<Contained, StartError>>,
}

impl Starter {
    /// Starts the thread. It ends with this.
    pub(super) fn start(name: &str) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let serves = Arc::clone(&shared);
        thread::Builder::new().name(name.to_owned()).spawn(move || serves.serve())?;
        Ok(Self { shared })
    }

    /// Starts a keeper, unless `cancel` comes before its turn, or its turn does not. Once begun it is seen through; then it tells
    /// whether `cancel` came meanwhile. Not to be dropped before it ends: nobody would look after what has been started.
    pub(super) async fn run(
        &self,
        job: Job,
        cancel: &mut oneshot::Receiver<()>,
    ) -> Result<(Contained, bool), StartError> {
        if !matches!(cancel.try_recv(), Err(TryRecvError::Empty)) {
            return Err(StartError::GivenUp);
        }
        let (started, mut answer) = oneshot::channel();
        let within = job.within;
        let number = self.shared.queue(job, started)?;
        let (answer, given_up) = tokio::select! {
            answer = &mut answer => (answer, false),
            _ = cancel => {
                if self.shared.take_back(number) {
                    return Err(StartError::GivenUp);
                }
                (answer.await, true)
            }
            () = sleep(within) => {
                if self.shared.take_back(number) {
                    return Err(StartError::TooLate);
                }
                (answer.await, false)
            }
        };
        answer.unwrap_or(Err(StartError::Gone)).map(|contained| (contained, given_up))
    }

    /// One that hangs while it starts a program of the resource.
    #[cfg(test)]
    pub(super) fn hanging(resource: &Name) -> Self {
        let queue = Queue { under_way: Some((1, resource.clone())), ..Queue::default() };
        Self { shared: Arc::new(Shared { queue: Mutex::new(queue), changed: Condvar::new() }) }
    }

    /// Which program of the resource is just being started, if one is that belongs to a tenure or a plan.
    pub(super) fn under_way(&self, resource: &Name) -> Option<u64> {
        let queue = self.shared.lock();
        queue.under_way.as_ref().filter(|(_, of)| of == resource).map(|(number, _)| *number)
    }
}

impl Drop for Starter {
    fn drop(&mut self) {
        self.shared.lock().ended = true;
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn queue(
        &self,
        job: Job,
        started: oneshot::Sender<Result<Contained, StartError>>,
    ) -> Result<u64, StartError> {
        let mut queue = self.lock();
        if queue.ended {
            return Err(StartError::Gone);
        }
        queue.last += 1;
        let number = queue.last;
        queue.waiting.push_back(Waiting { number, job, runtime: Handle::current(), started });
        drop(queue);
        self.changed.notify_all();
        Ok(number)
    }

    /// Whether it had not begun.
    fn take_back(&self, number: u64) -> bool {
        let mut queue = self.lock();
        let before = queue.waiting.len();
        queue.waiting.retain(|waiting| waiting.number != number);
        queue.waiting.len() < before
    }

    fn serve(&self) {
        let _gone = Gone(self);
        while let Some(Waiting { job, runtime, started, .. }) = self.next() {
            let _runtime = runtime.enter();
            let outcome = job.start();
            self.lock().under_way = None;
            // Who asks waits for the answer, whatever happens meanwhile.
            let _ = started.send(outcome);
        }
    }

    fn next(&self) -> Option<Waiting> {
        let queue = self.lock();
        let idle = |queue: &mut Queue| queue.waiting.is_empty() && !queue.ended;
        let mut queue = self.changed.wait_while(queue, idle).unwrap_or_else(PoisonError::into_inner);
        if queue.ended {
            return None;
        }
        let waiting = queue.waiting.pop_front()?;
        // A trial fences nothing, starts nothing that stays, and may hang in whatever it looks at.
        let counts = !matches!(waiting.job.role, Role::Trial { .. });
        queue.under_way = counts.then(|| (waiting.number, waiting.job.resource.clone()));
        Some(waiting)
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whoever waits for a thread that is gone is told.
struct Gone<'a>(&'a Shared);

impl Drop for Gone<'_> {
    fn drop(&mut self) {
        let mut queue = self.0.lock();
        queue.ended = true;
        queue.under_way = None;
        queue.waiting.clear();
    }
}

impl Job {
    fn start(self) -> Result<Contained, StartError> {
        let Self { keeper, arguments, group, env, stdin, .. } = self;
        let machine = |source| SpawnError::Machine { program: keeper.clone(), source };
        group.map_or(Ok(()), |group| group.create()).map_err(machine)?;
        let (report, stdout) = io::pipe().map_err(machine)?;
        let (output, stderr) = io::pipe().map_err(machine)?;
        let report = pipe::Receiver::from_owned_fd(report.into()).map_err(machine)?;
        let output = pipe::Receiver::from_owned_fd(output.into()).map_err(machine)?;
        let mut argv = vec!["sitegate-fenced".into(), keeper::SUBCOMMAND.into()];
        argv.extend(arguments);
        let keeper = Running::spawn(&keeper, &argv, env, stdin, stdout.into(), stderr.into())?;
        Ok(Contained { keeper, report, output })
    }
}

#[cfg(test)]
mod tests;
