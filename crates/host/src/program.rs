//! Running a hook: a program with a time limit that leaves nothing behind.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::net::unix::pipe;
use tokio::runtime::Handle;
use tokio::time::timeout;

use crate::output::Collector;
use crate::spawn::{Running, SpawnError};
use crate::sweep::{MARK_VARIABLE, NotSwept, Sweeper, Target};

/// What to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// The ticket on whose behalf; goes into the log.
    pub ticket: String,
    /// The program's absolute path.
    pub path: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// The whole environment; [`base_environment`](crate::spawn::base_environment) is a good start.
    pub env: BTreeMap<String, String>,
    /// How long it may take, output included.
    pub within: Duration,
}

/// How a run ended.
#[derive(Debug)]
pub struct Outcome {
    /// How.
    pub ended: Ended,
    /// The last it wrote, at most [`TAIL_BYTES_MAX`](crate::output::TAIL_BYTES_MAX) bytes.
    pub tail: String,
    /// How long it took, kill included.
    pub took: Duration,
}

/// How a program ended.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    /// By itself, with this exit code; 0 is success.
    #[error("exited with code {0}")]
    Exited(i32),
    /// By this signal.
    #[error("was killed by signal {0}")]
    Signalled(i32),
    /// It overran its limit and was killed with all it had started.
    #[error("took longer than its limit of {} ms and was killed", .0.as_millis())]
    TimedOut(Duration),
    /// It overran its limit, and not all of it died.
    #[error("took longer than its limit of {} ms and could not be killed: {left}", limit.as_millis())]
    Unkillable {
        /// The limit.
        limit: Duration,
        /// What is left.
        left: NotSwept,
    },
    /// It never ran.
    #[error(transparent)]
    NotStarted(#[from] SpawnError),
    /// Its end could not be learned.
    #[error("cannot be waited for: {0}")]
    Lost(io::Error),
}

impl Outcome {
    /// Whether it ran and exited with 0.
    #[must_use]
    pub fn succeeded(&self) -> bool {
        matches!(self.ended, Ended::Exited(0))
    }
}

impl From<ExitStatus> for Ended {
    fn from(status: ExitStatus) -> Self {
        match (status.code(), status.signal()) {
            (Some(code), _) => Self::Exited(code),
            (None, Some(signal)) => Self::Signalled(signal),
            (None, None) => Self::Lost(io::Error::other(format!("unknown end {status}"))),
        }
    }
}

/// Runs programs one after the other or at once; clones share the thread that kills.
#[derive(Clone, Debug)]
pub struct Runner {
    sweeper: Sweeper,
    mark: Arc<str>,
    runs: Arc<AtomicU64>,
}

/// How long the kill of a program that overran may take.
pub const KILL_WITHIN: Duration = Duration::from_secs(2);
/// How long after a program's end its output may still trickle in, from children that it left and that still hold the
/// pipe, before these are hunted down.
const OUTPUT_AFTER_END: Duration = Duration::from_millis(100);

impl Runner {
    /// A runner. `mark` names the caller on this machine, for instance by its state directory: processes left over by an
    /// earlier runner of the same mark are found by it, see [`kill_left_over`](Self::kill_left_over).
    ///
    /// # Errors
    /// If the thread that kills cannot be started.
    pub fn new(mark: &str) -> io::Result<Self> {
        Ok(Self { sweeper: Sweeper::start()?, mark: mark.into(), runs: Arc::new(AtomicU64::new(0)) })
    }

    /// Kills what programs of an earlier runner of the same mark may have left; for the start of a daemon.
    ///
    /// # Errors
    /// [`NotSwept`] with what could not be killed.
    pub async fn kill_left_over(&self) -> Result<(), NotSwept> {
        self.kill(self.mark.to_string()).await
    }

    /// Runs a program to its end, or to its limit. If it overruns that, everything it has started is killed. If it ends by
    /// itself, what it leaves in its process group or with its output open is; a process that has left both is not looked for,
    /// which would cost a look at all processes each time, but found by [`kill_left_over`](Self::kill_left_over).
    pub async fn run(&self, program: &Program) -> Outcome {
        let began = Instant::now();
        let mut collector = Collector::new(&program.ticket, &program.path.display().to_string());
        let ended = match self.run_collecting(program, &mut collector).await {
            Ok(ended) => ended,
            Err(error) => Ended::NotStarted(error),
        };
        Outcome { ended, tail: collector.finish(), took: began.elapsed() }
    }

    async fn run_collecting(&self, program: &Program, output: &mut Collector) -> Result<Ended, SpawnError> {
        let mark = format!("{}/{}", self.mark, self.runs.fetch_add(1, Ordering::Relaxed));
        let machine = |source| SpawnError::Machine { program: program.path.clone(), source };
        let (reader, stdout) = io::pipe().map_err(machine)?;
        let stderr = stdout.try_clone().map_err(machine)?;
        let mut reader = pipe::Receiver::from_owned_fd(reader.into()).map_err(machine)?;
        let mut env = program.env.clone();
        env.insert(MARK_VARIABLE.to_owned(), mark.clone());
        let mut argv = vec![program.path.clone().into_os_string()];
        argv.extend_from_slice(&program.arguments);
        let (stdout, stderr) = (Stdio::from(stdout), Stdio::from(stderr));
        let running = Running::spawn(&program.path, &argv, env, Stdio::null(), stdout, stderr)?;
        let running = Guarded { running: Some(running), sweeper: self.sweeper.clone(), mark: mark.clone() };

        let until_end = async {
            tokio::select! {
                ended = running.ended() => ended,
                ended = async { output.drain(&mut reader).await; running.ended().await } => ended,
            }
        };
        match timeout(program.within, until_end).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                return Ok(Ended::Lost(error));
            }
            Err(_elapsed) => return Ok(self.end_overrun(program, running, mark).await),
        }
        let status = running.release().reap();
        if timeout(OUTPUT_AFTER_END, output.drain(&mut reader)).await.is_err() {
            // Somebody left the process group and still holds the pipe. What it is cannot change the outcome.
            let _ = self.kill(mark).await;
        }
        Ok(status.map_or_else(Ended::Lost, Ended::from))
    }

    async fn end_overrun(&self, program: &Program, running: Guarded, mark: String) -> Ended {
        let killed = self.kill(mark).await;
        match killed {
            Ok(()) => match running.release().reap() {
                Ok(_) => Ended::TimedOut(program.within),
                Err(error) => Ended::Lost(error),
            },
            // Not reaped: that would block until it dies, if it ever does.
            Err(left) => Ended::Unkillable { limit: program.within, left },
        }
    }

    async fn kill(&self, mark: String) -> Result<(), NotSwept> {
        self.sweeper
            .kill(Target { mark, cgroups: Vec::new(), processes: BTreeSet::new() }, KILL_WITHIN)
            .await
            .map(|_| ())
    }
}

/// A program that does not outlive the interest in it: if the run is given up, it is killed with all it has started.
#[derive(Debug)]
struct Guarded {
    running: Option<Running>,
    sweeper: Sweeper,
    mark: String,
}

impl Guarded {
    /// Waits until it has ended. Safe to cancel.
    async fn ended(&self) -> io::Result<()> {
        match &self.running {
            Some(running) => running.ended().await,
            None => Ok(()),
        }
    }

    /// Kills what is left of its group and lets it be reaped.
    fn release(mut self) -> Running {
        let running = self.running.take().expect("only this takes it, and it consumes the guard");
        running.kill_group();
        running
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let Some(running) = self.running.take() else { return };
        running.kill_group();
        // Without a runtime the process is ending; then its children are somebody else's.
        let Ok(runtime) = Handle::try_current() else { return };
        let target =
            Target { mark: std::mem::take(&mut self.mark), cgroups: Vec::new(), processes: BTreeSet::new() };
        let sweeper = self.sweeper.clone();
        runtime.spawn(async move {
            // What could not be killed is not waited for; it is found again by the next daemon's `kill_left_over`.
            let _ = sweeper.kill(target, KILL_WITHIN).await;
            if running.ended().await.is_ok() {
                // Only so that no zombie keeps its pid: how it ended interests nobody.
                let _ = running.reap();
            }
        });
    }
}

#[cfg(test)]
mod tests;
