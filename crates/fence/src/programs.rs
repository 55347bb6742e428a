//! Running the programs of resources: `start`, `stop`, and the levels of plans.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::pin::pin;
use std::time::Duration;

use sitegate_fence_client::wire::{Deadline, Instant, Name, Reason, Token};
use sitegate_host::clock::{duration_ns, uptime_seconds};
use sitegate_host::output::Collector;
use sitegate_host::spawn::{Running, base_environment};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::unix::pipe;
use tokio::sync::oneshot::{self, error::TryRecvError};
use tokio::time::timeout;

use crate::containment::{Contained, Containment};
use crate::keeper::{Errand, Lease, Report};
use crate::store::with_causes;

/// One run of a program.
#[derive(Clone, Debug)]
pub struct Run {
    /// Whose.
    pub resource: Name,
    /// The token it runs for.
    pub token: Token,
    /// What it is.
    pub role: Role,
    /// Program and arguments.
    pub command: Vec<String>,
    /// How long it may take.
    pub within: Duration,
    /// What it is told.
    pub told: Told,
}

/// What a program finds in its environment beside the resource and the token.
#[derive(Clone, Debug)]
pub struct Told {
    /// The site, if it is known: `SITEGATE_SITE`.
    pub site: Option<Name>,
    /// Why it is run: `SITEGATE_REASON`.
    pub reason: Reason,
    /// For `start` and `stop` the tenure's deadline, for a level its own limit: `SITEGATE_DEADLINE`.
    pub deadline: Deadline,
}

/// What a program is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It starts the resource. What it leaves running stays.
    Start,
    /// It stops the resource gracefully.
    Stop,
    /// It is a level of the fence plan; numbered by the run, so that one that would not die is told from the next.
    Level(u64),
    /// It checks a level of the plan, counted from 0, without doing what that does.
    Check(usize),
}

impl Role {
    fn name(self) -> String {
        match self {
            Self::Start => "start".to_owned(),
            Self::Stop => "stop".to_owned(),
            Self::Level(run) => format!("fence-{run}"),
            Self::Check(level) => format!("check-{level}"),
        }
    }
}

/// Runs programs, contained.
#[derive(Clone, Debug)]
pub struct Programs {
    /// Where.
    pub containment: Containment,
    /// The file with the leases.
    pub leases: PathBuf,
    /// How long killing may take.
    pub kill_within: Duration,
}

/// How long the last words of a `start` that failed may take to arrive, while what it left running holds the pipe.
const LAST_OUTPUT: Duration = Duration::from_millis(100);
/// The longest report of a keeper, in bytes: a sentence with a path or two.
const REPORT_BYTES_MAX: u64 = 16 * 1024;

impl Programs {
    /// Runs a program to its end or its limit, or until `cancel` is sent or dropped. Nothing of it is left afterwards, but
    /// what a `start` that succeeded has started.
    ///
    /// # Errors
    /// Why it failed, as a sentence for people.
    pub async fn run(&self, run: &Run, mut cancel: oneshot::Receiver<()>) -> Result<(), String> {
        let role = run.role.name();
        if !matches!(run.role, Role::Level(_)) {
            // A program begins with an empty place: whatever an earlier run left there, its keeper's daemon perhaps gone,
            // must not run beside this one.
            self.kill(&run.resource, &role)
                .await
                .map_err(|left| format!("an earlier run is in the way: {left}"))?;
        }
        let errand = Errand {
            resource: run.resource.clone(),
            lease: self.lease(run),
            cgroup: None,
            stay: run.role == Role::Start,
            argv: run.command.iter().map(Into::into).collect(),
        };
        if !matches!(cancel.try_recv(), Err(TryRecvError::Empty)) {
            return Err("was given up before it began".to_owned());
        }
        let contained = self.containment.run(errand, &role, environment(run)).map_err(|e| with_causes(&e))?;
        let (outcome, left_over) = self.watch(run, contained, cancel).await;
        if left_over && let Err(left) = self.kill(&run.resource, &role).await {
            return Err(outcome.err().map_or(left.clone(), |why| format!("{why}; {left}")));
        }
        outcome
    }

    /// Levels need no lease: they are what comes when there is none any more. Nor do checks, which start nothing.
    fn lease(&self, run: &Run) -> Option<Lease> {
        let lease =
            || Lease { leases: self.leases.clone(), resource: run.resource.clone(), token: run.token };
        matches!(run.role, Role::Start | Role::Stop).then(lease)
    }

    async fn kill(&self, resource: &Name, role: &str) -> Result<(), String> {
        let killed = self.containment.kill(resource, Some(role), self.kill_within).await;
        killed.map(|_| ()).map_err(|left| left.to_string())
    }

    /// Sees a program to its end; tells how it went, and whether something that has to die may be left of it.
    async fn watch(
        &self,
        run: &Run,
        contained: Contained,
        cancel: oneshot::Receiver<()>,
    ) -> (Result<(), String>, bool) {
        let Contained { keeper, report, mut output } = contained;
        let mut collector = Collector::new(run.resource.as_str(), &run.command[0]);
        let ending = {
            let mut report = pin!(timeout(run.within, read_report(report)));
            let mut cancel = pin!(cancel);
            let mut drained = false;
            loop {
                tokio::select! {
                    report = &mut report => break report.unwrap_or(Ending::Overrun(run.within)),
                    _ = &mut cancel => break Ending::Cancelled,
                    () = collector.drain(&mut output), if !drained => drained = true,
                }
            }
        };
        if run.role == Role::Start && ending.succeeded() {
            tokio::spawn(keep_reading(keeper, collector, output));
            return (Ok(()), false);
        }
        // A keeper that has nothing to stay for ends by itself, and when it has, nothing is left. One that stays for what a
        // failed `start` left has at least the last output to deliver.
        let wait = if run.role == Role::Start { LAST_OUTPUT } else { self.kill_within / 2 };
        let ended = matches!(ending, Ending::Reported(_)) && {
            let ended = async {
                collector.drain(&mut output).await;
                keeper.ended().await
            };
            matches!(timeout(wait, ended).await, Ok(Ok(())))
        };
        let tail = collector.finish();
        tokio::spawn(reap(keeper));
        (ending.judge(&tail), !ended)
    }
}

/// How a watch ended.
#[derive(Debug, PartialEq, Eq)]
enum Ending {
    Reported(Report),
    /// The keeper was killed: by a fence, mostly.
    Died,
    Overrun(Duration),
    Cancelled,
}

impl Ending {
    fn succeeded(&self) -> bool {
        *self == Self::Reported(Report::Exited(0))
    }

    fn judge(self, tail: &str) -> Result<(), String> {
        let why = match self {
            Self::Reported(Report::Exited(0)) => return Ok(()),
            Self::Reported(Report::Exited(code)) => format!("exited with code {code}"),
            Self::Reported(Report::Signalled(signal)) => format!("was killed by signal {signal}"),
            Self::Reported(Report::Refused(why)) => format!("was not started: {why}"),
            Self::Reported(Report::NotStarted(why)) => why,
            Self::Died => "was killed".to_owned(),
            Self::Overrun(within) => {
                format!("took longer than its limit of {} ms and was killed", within.as_millis())
            }
            Self::Cancelled => "was given up".to_owned(),
        };
        Err(if tail.is_empty() { why } else { format!("{why}; it wrote: {}", last_lines(tail)) })
    }
}

/// Reads on as long as something is left of what was started.
async fn keep_reading(keeper: Running, mut collector: Collector, mut output: pipe::Receiver) {
    collector.drain(&mut output).await;
    // The tail was kept for an error that did not come.
    let _ = collector.finish();
    reap(keeper).await;
}

async fn reap(keeper: Running) {
    if keeper.ended().await.is_ok() {
        // Its report has told all there is to know.
        let _ = keeper.reap();
    }
}

async fn read_report(from: pipe::Receiver) -> Ending {
    let mut line = Vec::new();
    let mut from = BufReader::new(from).take(REPORT_BYTES_MAX);
    if from.read_until(b'\n', &mut line).await.is_err() {
        return Ending::Died;
    }
    Report::parse(&String::from_utf8_lossy(&line)).map_or(Ending::Died, Ending::Reported)
}

/// How many lines of a program's output an error quotes.
const TAIL_LINES: usize = 3;

fn last_lines(tail: &str) -> String {
    let lines: Vec<&str> = tail.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join(" / ")
}

fn environment(run: &Run) -> BTreeMap<String, String> {
    let mut env = base_environment();
    let mut set = |name: &str, value: String| env.insert(name.to_owned(), value);
    set("SITEGATE_TICKET", run.resource.to_string());
    set("SITEGATE_TOKEN", run.token.to_string());
    set("SITEGATE_SITE", run.told.site.as_ref().map(ToString::to_string).unwrap_or_default());
    set("SITEGATE_REASON", run.told.reason.to_string());
    set("SITEGATE_DEADLINE", uptime_seconds(run.told.deadline.boot_ns));
    env
}

/// The deadline of a program that may take `within` from now on.
#[must_use]
pub fn limit_from(now: Instant, within: Duration) -> Deadline {
    now.after(duration_ns(within))
}
