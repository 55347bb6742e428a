//! The threads that start programs: making a control group and forking wait for the kernel, on a busy machine some ten
//! milliseconds, and the loop that fences must not.
//!
//! One starts the programs of plans, the other all else, so that no plan waits for a thousand resources that are just being
//! started.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::mpsc;
use std::thread;

use sitegate_host::cgroup::Cgroup;
use sitegate_host::spawn::{Running, SpawnError};
use tokio::net::unix::pipe;
use tokio::runtime::Handle;
use tokio::sync::oneshot::{self, error::TryRecvError};

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
    pub(super) keeper: PathBuf,
    /// The errand's arguments.
    pub(super) arguments: Vec<OsString>,
    /// Where it is to go, which may have to be made.
    pub(super) group: Option<Cgroup>,
    pub(super) env: BTreeMap<String, String>,
    pub(super) stdin: Stdio,
    /// Looked at last of all: what was given up while it waited here is not started.
    pub(super) cancel: oneshot::Receiver<()>,
}

/// One of the threads. What waits for it is bounded by those who wait: so many plans, hooks and looks run at once.
#[derive(Clone, Debug)]
pub(super) struct Starter {
    jobs: mpsc::Sender<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    job: Job,
    runtime: Handle,
    started: oneshot::Sender<Started>,
}

type Started = Result<(Contained, oneshot::Receiver<()>), StartError>;

impl Starter {
    /// Starts the thread. It ends with the last clone of this.
    pub(super) fn start(name: &str) -> io::Result<Self> {
        let (jobs, queue) = mpsc::channel::<Waiting>();
        let serve = move || {
            for Waiting { job, runtime, started } in queue {
                let _runtime = runtime.enter();
                // Who asks waits for the answer, whatever happens meanwhile.
                let _ = started.send(job.start());
            }
        };
        thread::Builder::new().name(name.to_owned()).spawn(serve)?;
        Ok(Self { jobs })
    }

    /// Gives the end of `job.cancel` back. Not to be dropped before it answers: nobody would look after what has been started.
    pub(super) async fn run(&self, job: Job) -> Started {
        let (started, answer) = oneshot::channel();
        let waiting = Waiting { job, runtime: Handle::current(), started };
        self.jobs.send(waiting).map_err(|_| StartError::Gone)?;
        answer.await.unwrap_or(Err(StartError::Gone))
    }
}

impl Job {
    fn start(self) -> Started {
        let Self { keeper, arguments, group, env, stdin, mut cancel } = self;
        let machine = |source| SpawnError::Machine { program: keeper.clone(), source };
        group.map_or(Ok(()), |group| group.create()).map_err(machine)?;
        let (report, stdout) = io::pipe().map_err(machine)?;
        let (output, stderr) = io::pipe().map_err(machine)?;
        let report = pipe::Receiver::from_owned_fd(report.into()).map_err(machine)?;
        let output = pipe::Receiver::from_owned_fd(output.into()).map_err(machine)?;
        let mut argv = vec!["sitegate-fenced".into(), keeper::SUBCOMMAND.into()];
        argv.extend(arguments);
        if !matches!(cancel.try_recv(), Err(TryRecvError::Empty)) {
            return Err(StartError::GivenUp);
        }
        let keeper = Running::spawn(&keeper, &argv, env, stdin, stdout.into(), stderr.into())?;
        Ok((Contained { keeper, report, output }, cancel))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What waits behind a keeper that cannot be started is answered too, and not started if nobody wants it any more.
    #[tokio::test]
    async fn what_was_given_up_while_it_waited_is_not_started() {
        let starter = Starter::start("starter-test").unwrap();
        let job = |keeper: &str, cancel| Job {
            keeper: keeper.into(),
            arguments: Vec::new(),
            group: None,
            env: BTreeMap::new(),
            stdin: Stdio::null(),
            cancel,
        };
        let (_keep, cancel) = oneshot::channel();
        let error = starter.run(job("/nonexistent", cancel)).await.unwrap_err();
        assert!(matches!(error, StartError::Spawn(SpawnError::Missing(_))), "{error}");
        let (give_up, cancel) = oneshot::channel();
        drop(give_up);
        assert!(matches!(starter.run(job("/bin/true", cancel)).await.unwrap_err(), StartError::GivenUp));
        let (keep, cancel) = oneshot::channel();
        let (contained, cancel) = starter.run(job("/bin/true", cancel)).await.unwrap();
        contained.keeper.ended().await.unwrap();
        keep.send(()).unwrap();
        cancel.await.unwrap();
    }
}
