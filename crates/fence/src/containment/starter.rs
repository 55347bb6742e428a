//! The threads that start programs: making a control group and forking wait for the kernel, on a busy machine some ten
//! milliseconds, and the loop that fences must not.
//!
//! One starts the programs of plans, the other all else, so that no plan waits for a thousand resources that are just being
//! started. A kill of all of a resource waits for what is just being started of it: it would miss that.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use sitegate_fence_client::wire::Name;
use sitegate_host::cgroup::Cgroup;
use sitegate_host::spawn::{Running, SpawnError};
use tokio::net::unix::pipe;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

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
    /// A thread is gone, which is a bug.
    #[error("the thread that starts programs has ended")]
    Gone,
}

/// A keeper to be started.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) resource: Name,
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
    /// Whose program is just being started.
    under_way: Option<Name>,
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

    /// Starts a keeper, unless `cancel` comes before its turn. Once begun it is seen through; then it tells whether `cancel` came
    /// meanwhile. Not to be dropped before it ends: nobody would look after what has been started.
    pub(super) async fn run(
        &self,
        job: Job,
        cancel: &mut oneshot::Receiver<()>,
    ) -> Result<(Contained, bool), StartError> {
        let (started, mut answer) = oneshot::channel();
        let number = self.shared.queue(job, started)?;
        let (answer, given_up) = tokio::select! {
            answer = &mut answer => (answer, false),
            _ = cancel => {
                if self.shared.take_back(number) {
                    return Err(StartError::GivenUp);
                }
                (answer.await, true)
            }
        };
        answer.unwrap_or(Err(StartError::Gone)).map(|contained| (contained, given_up))
    }

    /// One that hangs while it starts a program of the resource.
    #[cfg(test)]
    pub(super) fn hanging(resource: &Name) -> Self {
        let queue = Queue { under_way: Some(resource.clone()), ..Queue::default() };
        Self { shared: Arc::new(Shared { queue: Mutex::new(queue), changed: Condvar::new() }) }
    }

    /// Whether a program of the resource is just being started.
    pub(super) fn is_starting(&self, resource: &Name) -> bool {
        self.shared.lock().under_way.as_ref() == Some(resource)
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
        let waiting = queue.waiting.pop_front()?;
        queue.under_way = Some(waiting.job.resource.clone());
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
        let Self { resource: _, keeper, arguments, group, env, stdin } = self;
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
mod tests {
    use super::*;

    fn job(keeper: &str) -> Job {
        let (arguments, group, env, stdin) = (Vec::new(), None, BTreeMap::new(), Stdio::null());
        Job { resource: Name::new("db").unwrap(), keeper: keeper.into(), arguments, group, env, stdin }
    }

    #[tokio::test]
    async fn starts_one_after_the_other() {
        let starter = Starter::start("starter-test").unwrap();
        let (_keep, mut cancel) = oneshot::channel();
        let error = starter.run(job("/nonexistent"), &mut cancel).await.unwrap_err();
        assert!(matches!(error, StartError::Spawn(SpawnError::Missing(_))), "{error}");
        let (contained, given_up) = starter.run(job("/bin/true"), &mut cancel).await.unwrap();
        contained.keeper.ended().await.unwrap();
        assert!(!given_up && !starter.is_starting(&Name::new("db").unwrap()));
    }

    /// A thread that hangs is played by one that was not started.
    #[tokio::test]
    async fn what_was_given_up_before_its_turn_is_not_started_and_leaves_nothing() {
        let starter = Starter { shared: Arc::default() };
        let (give_up, mut cancel) = oneshot::channel();
        drop(give_up);
        let error = starter.run(job("/bin/true"), &mut cancel).await.unwrap_err();
        assert!(matches!(error, StartError::GivenUp), "{error}");
        assert!(starter.shared.lock().waiting.is_empty());
    }

    #[tokio::test]
    async fn what_is_given_up_in_the_middle_is_handed_over_all_the_same() {
        let starter = Starter { shared: Arc::default() };
        let (give_up, mut cancel) = oneshot::channel();
        let shared = Arc::clone(&starter.shared);
        let begins = thread::spawn(move || {
            let Waiting { job, runtime, started, .. } = shared.next().unwrap();
            let _runtime = runtime.enter();
            drop(give_up);
            started.send(job.start()).unwrap();
            shared
        });
        let (contained, _) = starter.run(job("/bin/true"), &mut cancel).await.unwrap();
        contained.keeper.ended().await.unwrap();
        let shared = begins.join().unwrap();
        assert!(starter.is_starting(&Name::new("db").unwrap()), "its thread has not said that it is done");
        drop(Gone(&shared));
        assert!(!starter.is_starting(&Name::new("db").unwrap()));
        let (_keep, mut cancel) = oneshot::channel();
        assert!(matches!(starter.run(job("/bin/true"), &mut cancel).await, Err(StartError::Gone)));
    }
}
