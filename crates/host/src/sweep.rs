//! Killing everything that descends from a program, and knowing that nothing of it is left.
//!
//! What belongs to it is found in three ways, so that one may fail: its control groups, a mark in the environment that
//! children inherit, and descent (parents that die hand their children to a subreaper, see prctl(2)). Processes that
//! are not in a control group are first all stopped, so that none forks away while the others die, then killed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::Signal;
use rustix::time::Timespec;
use tokio::sync::oneshot;

use crate::cgroup::Cgroup;
use crate::process::{self, Environment, Process, Stat};

/// The environment variable that marks every process of a program.
pub const MARK_VARIABLE: &str = "SITEGATE_CONTAINMENT";

/// What is to be killed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Value of [`MARK_VARIABLE`] in its processes; those whose mark continues it after a `/` belong to it too.
    pub mark: String,
    /// Control groups all of whose processes belong to it.
    pub cgroups: Vec<Cgroup>,
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
    trouble: Option<String>,
    done: oneshot::Sender<Result<Swept, NotSwept>>,
}

impl Sweeper {
    /// Starts the thread. It ends with the last clone of this.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn start() -> io::Result<Self> {
        let (jobs, queue) = mpsc::channel();
        thread::Builder::new().name("sweeper".to_owned()).spawn(move || serve(&queue))?;
        Ok(Self { jobs })
    }

    /// Kills all of `target` and waits until it is dead, at most `within`.
    ///
    /// # Errors
    /// [`NotSwept`] with what is left and why.
    pub async fn kill(&self, target: Target, within: Duration) -> Result<Swept, NotSwept> {
        let (done, result) = oneshot::channel();
        let until = Instant::now() + within;
        let job = Job {
            target,
            until,
            signalled: BTreeSet::new(),
            populated: Vec::new(),
            still_looks: 0,
            empty_looks: 0,
            trouble: None,
            done,
        };
        let gone = || NotSwept("the thread that kills has ended".to_owned());
        self.jobs.send(job).map_err(|_| gone())?;
        result.await.map_err(|_| gone())?
    }
}

/// How long one wait for deaths lasts at most before looking again: what can only be seen by looking (a fork that
/// raced with the last look, a process stopping) is seen this much later.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

fn serve(queue: &mpsc::Receiver<Job>) {
    while let Ok(first) = queue.recv() {
        let mut jobs = vec![first];
        let mut marks = Marks::default();
        while !jobs.is_empty() {
            jobs.extend(queue.try_iter());
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

/// The marks of processes, remembered while there is killing to do: an environment is read once.
type Marks = HashMap<Process, Option<String>>;

/// All processes at one moment, by descent and mark.
struct Look {
    own: i32,
    stats: BTreeMap<i32, Stat>,
    children: HashMap<i32, Vec<i32>>,
    marked: Vec<(String, i32)>,
    failed: Option<String>,
}

impl Look {
    fn take(marks: &mut Marks) -> Self {
        let own = i32::try_from(std::process::id()).unwrap_or(0);
        let (stats, children) = (BTreeMap::new(), HashMap::new());
        let mut look = Self { own, stats, children, marked: Vec::new(), failed: None };
        match process::all() {
            Ok(all) => all.into_iter().filter(Stat::alive).for_each(|stat| look.add(stat, marks)),
            Err(error) => look.failed = Some(format!("cannot read /proc: {error}")),
        }
        look
    }

    fn add(&mut self, stat: Stat, marks: &mut Marks) {
        let pid = stat.process.pid;
        if stat.parent == self.own {
            // It may not have got to its exec yet, which will mark it.
            marks.remove(&stat.process);
        }
        let mark = match marks.get(&stat.process) {
            Some(known) => known.clone(),
            None => match process::environment(pid, MARK_VARIABLE) {
                Environment::Has(mark) => Some(String::from_utf8_lossy(&mark).into_owned()),
                Environment::Lacks => None,
                // Nothing is remembered of it: in the middle of an exec it shows nothing, and a mark right after.
                Environment::Hidden => {
                    self.add_unmarked(stat);
                    return;
                }
            },
        };
        marks.insert(stat.process, mark.clone());
        if let Some(mark) = mark {
            self.marked.push((mark, pid));
        }
        self.add_unmarked(stat);
    }

    fn add_unmarked(&mut self, stat: Stat) {
        let pid = stat.process.pid;
        self.children.entry(stat.parent).or_default().push(pid);
        self.stats.insert(pid, stat);
    }

    /// The living processes that bear the mark or were known before, and their descendants; never this process.
    fn belonging(&self, mark: &str, known: &BTreeSet<Process>) -> Vec<Stat> {
        let bears =
            |m: &str| m.strip_prefix(mark).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        let mut todo: Vec<i32> = self.marked.iter().filter(|(m, _)| bears(m)).map(|(_, pid)| *pid).collect();
        todo.extend(
            known
                .iter()
                .map(|process| process.pid)
                .filter(|pid| self.stats.get(pid).is_some_and(|stat| known.contains(&stat.process))),
        );
        let mut seen = BTreeSet::from([self.own]);
        let mut found = Vec::new();
        while let Some(pid) = todo.pop() {
            if seen.insert(pid) {
                found.extend(self.stats.get(&pid).copied());
                todo.extend(self.children.get(&pid).into_iter().flatten());
            }
        }
        found
    }
}

enum Progress {
    Done(Result<Swept, NotSwept>),
    Again,
}

impl Job {
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
        let found = look.belonging(&self.target.mark, &self.signalled);
        if self.is_over(&found) {
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
        if Instant::now() < self.until || self.empty_looks > 0 {
            return Progress::Again;
        }
        let mut left: Vec<String> =
            found.iter().map(|s| format!("{} ({})", s.process.pid, process::name(s.process.pid))).collect();
        left.append(&mut self.populated);
        left.extend(self.trouble.take());
        Progress::Done(Err(NotSwept(left.join(", "))))
    }

    /// One look can miss a process whose pid lies where the look has already been, or that is in the middle of an exec; a
    /// second one cannot miss it too, since by then there is nobody left to fork it.
    fn is_over(&mut self, found: &[Stat]) -> bool {
        if !found.is_empty() || !self.populated.is_empty() || self.trouble.is_some() {
            self.empty_looks = 0;
            return false;
        }
        self.empty_looks += 1;
        self.empty_looks >= 2
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
