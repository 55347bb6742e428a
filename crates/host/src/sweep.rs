//! Killing everything that descends from a program, and knowing that nothing of it is left.
//!
//! What belongs to it is found in three ways, so that one may fail: its control groups, a mark in the environment that
//! children inherit, and descent from these and from processes that are known (parents that die hand their children to a subreaper, see prctl(2)). Processes that
//! are not in a control group are first all stopped, so that none forks away while the others die, then killed.

use std::collections::BTreeSet;
use std::io;
use std::iter;
use std::os::fd::{AsFd, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::Signal;
use rustix::time::Timespec;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::cgroup::Cgroup;
use crate::process::{self, Process, Stat};

mod look;
use look::{Look, Marks};

/// The environment variable that marks every process of a program.
pub const MARK_VARIABLE: &str = "SITEGATE_CONTAINMENT";

/// What is to be killed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Value of [`MARK_VARIABLE`] in its processes; those whose mark continues it after a `/` belong to it too.
    pub mark: String,
    /// Control groups all of whose processes belong to it.
    pub cgroups: Vec<Cgroup>,
    /// Processes that belong to it whatever mark they bear.
    pub processes: BTreeSet<Process>,
}

/// All of a target is dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Swept {
    /// How many processes were found outside of control groups.
    pub processes: usize,
}

/// A target could not be emptied in the time given.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not all processes are dead: {0}")]
pub struct NotSwept(pub String);

/// How many kills may wait for the thread that kills. It takes all that wait at each look, so that more than a few only wait
/// where it hangs (in the kernel, with what it looks at): ten thousand resources, with a kill of one program each beside.
const JOBS_MAX: usize = 32 * 1024;
/// How long after its limit a kill is answered at the latest, by whoever waits if not by the thread that kills: a few looks,
/// on a machine with many processes.
const ANSWER_AFTER: Duration = Duration::from_secs(1);

/// One thread that kills for everybody: looking through all processes is the expensive part, and one look serves all
/// that wait.
#[derive(Clone, Debug)]
pub struct Sweeper {
    jobs: mpsc::Sender<Job>,
}

#[derive(Debug)]
struct Job {
    target: Target,
    until: Instant,
    signalled: BTreeSet<Process>,
    /// What its control groups still hold.
    populated: Vec<String>,
    /// How many looks in a row have found nothing new and all standing still.
    still_looks: u32,
    /// How many looks in a row have found nothing.
    empty_looks: u32,
    /// What was in the middle of an exec when the first of these looked, and still is.
    doubtful: BTreeSet<Process>,
    trouble: Option<String>,
    done: oneshot::Sender<Result<Swept, NotSwept>>,
}

impl Sweeper {
    /// Starts the thread. It ends with the last clone of this.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn start() -> io::Result<Self> {
        let (jobs, queue) = mpsc::channel(JOBS_MAX);
        thread::Builder::new().name("sweeper".to_owned()).spawn(move || serve(queue))?;
        Ok(Self { jobs })
    }

    /// Kills all of `target` and waits until it is dead, at most `within`, and never for the thread that kills: if that hangs,
    /// the answer is that nothing is certain.
    ///
    /// # Errors
    /// [`NotSwept`] with what is left and why.
    pub async fn kill(&self, target: Target, within: Duration) -> Result<Swept, NotSwept> {
        let (done, result) = oneshot::channel();
        let job = Job::new(target, Instant::now() + within, done);
        let gone = || NotSwept("the thread that kills has ended".to_owned());
        self.jobs.try_send(job).map_err(|refused| match refused {
            TrySendError::Full(_) => {
                NotSwept(format!("{JOBS_MAX} kills wait for the thread that kills: it hangs"))
            }
            TrySendError::Closed(_) => gone(),
        })?;
        match timeout(within + ANSWER_AFTER, result).await {
            Ok(answer) => answer.map_err(|_| gone())?,
            Err(_elapsed) => Err(NotSwept("the thread that kills does not answer".to_owned())),
        }
    }
}

/// How long one wait for deaths lasts at most before looking again: what can only be seen by looking (a fork that
/// raced with the last look, a process stopping) is seen this much later.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

fn serve(mut queue: mpsc::Receiver<Job>) {
    while let Some(first) = queue.blocking_recv() {
        let mut jobs = vec![first];
        let mut marks = Marks::default();
        while !jobs.is_empty() {
            jobs.extend(iter::from_fn(|| queue.try_recv().ok()));
            jobs = pass(jobs, &mut marks);
        }
    }
}

/// One look at all processes for all jobs; gives back the jobs that are not done.
fn pass(mut jobs: Vec<Job>, marks: &mut Marks) -> Vec<Job> {
    let mut dying = Vec::new();
    let mut rest = Vec::new();
    for job in &mut jobs {
        job.kill_groups();
    }
    if jobs.iter().any(Job::wants_a_look) {
        let look = Look::take(marks);
        for mut job in jobs {
            match job.advance(&look, &mut dying) {
                Progress::Done(result) => {
                    // A caller that has gone away knows what it does.
                    let _ = job.done.send(result);
                }
                Progress::Again => rest.push(job),
            }
        }
    } else {
        rest = jobs;
    }
    if !rest.is_empty() {
        wait_for_deaths(&dying);
    }
    rest
}

enum Progress {
    Done(Result<Swept, NotSwept>),
    Again,
}

impl Job {
    fn new(target: Target, until: Instant, done: oneshot::Sender<Result<Swept, NotSwept>>) -> Self {
        Self {
            target,
            until,
            signalled: BTreeSet::new(),
            populated: Vec::new(),
            still_looks: 0,
            empty_looks: 0,
            doubtful: BTreeSet::new(),
            trouble: None,
            done,
        }
    }

    /// Kills what is in the control groups, and sees what is still there.
    fn kill_groups(&mut self) {
        self.populated.clear();
        for group in &self.target.cgroups {
            let populated = group.kill().and_then(|()| group.populated());
            match populated {
                Ok(false) => {}
                Ok(true) => self.populated.push(format!("in {}", group.path().display())),
                Err(error) => self.populated.push(format!("{}: {error}", group.path().display())),
            }
        }
    }

    /// While its groups empty there is mostly no need to look for what is outside of them.
    fn wants_a_look(&self) -> bool {
        self.populated.is_empty() || self.is_late()
    }

    fn is_late(&self) -> bool {
        self.until.saturating_duration_since(Instant::now()) < PLAIN_KILLING
    }

    fn advance(&mut self, look: &Look, dying: &mut Vec<OwnedFd>) -> Progress {
        self.trouble.clone_from(&look.failed);
        let found = look.belonging(&self.target, &self.signalled);
        if self.is_over(&found, look) {
            for group in &self.target.cgroups {
                group.remove();
            }
            return Progress::Done(Ok(Swept { processes: self.signalled.len() }));
        }
        let signal = self.signal_for(&found);
        for stat in &found {
            self.send(stat.process, signal, dying);
        }
        // Whoever has found nothing once looks once more, however late it is.
        if Instant::now() < self.until || (self.empty_looks > 0 && self.doubtful.is_empty()) {
            return Progress::Again;
        }
        let found: Vec<Stat> = found.into_iter().chain(look.stats_of(&self.doubtful)).collect();
        let name = |s: &Stat| format!("{} ({})", s.process.pid, process::name(s.process.pid));
        let mut left: Vec<String> = found.iter().take(LEFT_NAMED_MAX).map(name).collect();
        if found.len() > LEFT_NAMED_MAX {
            left.push(format!("and {} more", found.len() - LEFT_NAMED_MAX));
        }
        left.append(&mut self.populated);
        left.extend(self.trouble.take());
        Progress::Done(Err(NotSwept(left.join(", "))))
    }

    /// One look can miss a process whose pid lies where the look has already been; a second one cannot miss it too, since by then
    /// there is nobody left to fork it. What is in the middle of an exec, which may take long on a busy machine, is waited for.
    fn is_over(&mut self, found: &[Stat], look: &Look) -> bool {
        if !found.is_empty() || !self.populated.is_empty() || self.trouble.is_some() {
            self.empty_looks = 0;
            return false;
        }
        // One that has ended meanwhile may have forked first.
        if self.doubtful.iter().any(|process| !look.has(*process)) {
            self.empty_looks = 0;
        }
        if self.empty_looks == 0 {
            self.doubtful.clone_from(&look.in_exec);
        } else {
            self.doubtful.retain(|process| look.in_exec.contains(process));
        }
        self.empty_looks += 1;
        self.empty_looks >= 2 && self.doubtful.is_empty()
    }

    /// Stop first. Once two looks have found the same processes, all standing still, none can have forked away unseen,
    /// and they are killed; the last of the time is for killing whether or not that was reached.
    fn signal_for(&mut self, found: &[Stat]) -> Signal {
        let known = found.iter().all(|stat| self.signalled.contains(&stat.process));
        let still = known && found.iter().all(Stat::stopped);
        self.still_looks = if still { self.still_looks + 1 } else { 0 };
        if self.still_looks >= 2 || self.is_late() { Signal::KILL } else { Signal::STOP }
    }

    fn send(&mut self, process: Process, signal: Signal, dying: &mut Vec<OwnedFd>) {
        let sent = process::hold(process).and_then(|held| match held {
            Some(held) => {
                process::signal(&held, signal)?;
                if signal == Signal::KILL && dying.len() < DYING_MAX {
                    dying.push(held);
                }
                Ok(())
            }
            None => Ok(()),
        });
        self.signalled.insert(process);
        if let Err(error) = sent {
            self.trouble = Some(format!("cannot signal process {}: {error}", process.pid));
        }
    }
}

/// How many processes that are left an error names: it goes into logs, events and answers.
const LEFT_NAMED_MAX: usize = 10;
/// How much of a job's time is kept for plain killing when its processes do not come to stand still.
const PLAIN_KILLING: Duration = Duration::from_millis(50);
/// How many deaths are waited for by descriptor at once; others are seen by looking again.
const DYING_MAX: usize = 256;

fn wait_for_deaths(dying: &[OwnedFd]) {
    let mut fds: Vec<PollFd<'_>> =
        dying.iter().map(|fd| PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN)).collect();
    let until = Instant::now() + LOOK_AGAIN;
    while !fds.is_empty() {
        let rest = until.saturating_duration_since(Instant::now());
        match poll(&mut fds, Some(&timespec(rest))) {
            Ok(0) | Err(_) => return,
            Ok(_) => fds.retain(|fd| fd.revents().is_empty()),
        }
    }
    if dying.is_empty() {
        thread::sleep(LOOK_AGAIN);
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(duration.subsec_nanos()),
    }
}

#[cfg(test)]
mod tests;
