//! Running the programs of resources: `start`, `stop`, and the levels of plans.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::pin::pin;
use std::process::Stdio;
use std::time::Duration;

use sitegate_fence_client::wire::{self, Deadline, Name, Reason, Token};
use sitegate_host::clock::{duration_ns, uptime_seconds};
use sitegate_host::output::Collector;
use sitegate_host::spawn::{self, Running, base_environment};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::unix::pipe;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

pub use crate::containment::Role;
use crate::containment::{Contained, Containment, StartError};
use crate::keeper::{Errand, Lease, Report};
use crate::store::with_causes;

mod ending;
mod places;

use ending::Ending;
pub use ending::Exited;
pub use places::Places;

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
    /// What it reads on stdin.
    pub input: Input,
    /// What the log calls it.
    pub shown: String,
    /// How long it may take.
    pub within: Duration,
    /// What it is told.
    pub told: Told,
}

/// What a program reads on stdin. It may hold secrets: nothing shows it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Input(Vec<u8>);

impl Input {
    /// These bytes.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    fn stdin(&self) -> io::Result<Stdio> {
        if self.0.is_empty() { Ok(Stdio::null()) } else { spawn::input(&self.0) }
    }
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Input({} bytes)", self.0.len())
    }
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

/// Runs programs, contained.
#[derive(Clone, Debug)]
pub struct Programs {
    /// Where.
    pub containment: Containment,
    /// The file with the leases.
    pub leases: PathBuf,
    /// How long killing may take.
    pub kill_within: Duration,
    /// Where `start` and `stop` run.
    pub places: Places,
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
    pub async fn run(&self, run: &Run, cancel: oneshot::Receiver<()>) -> Result<(), String> {
        let exited = self.exit(run, cancel).await?;
        if exited.code == 0 { Ok(()) } else { Err(exited.to_string()) }
    }

    /// The same where other exit codes than 0 may be good news.
    ///
    /// # Errors
    /// Why it did not run to its end, or left something that would not die; as a sentence for people.
    pub async fn exit(&self, run: &Run, mut cancel: oneshot::Receiver<()>) -> Result<Exited, String> {
        let role = run.role.name();
        let mut _place = None;
        if run.role.of_tenure() {
            // What an earlier run leaves is killed before this one begins, and not with it.
            _place = tokio::select! {
                place = self.places.take(&run.resource, &role) => Some(place),
                _ = &mut cancel => return Err(StartError::GivenUp.to_string()),
            };
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
            input: !run.input.0.is_empty(),
            argv: run.command.iter().map(Into::into).collect(),
        };
        let stdin = run.input.stdin().map_err(|e| format!("there is no room for its input: {e}"))?;
        let began = Instant::now();
        let started =
            self.containment.run(errand, run.role, run.within, environment(run), stdin, &mut cancel).await;
        let (contained, given_up) = started.map_err(|e| with_causes(&e))?;
        if given_up {
            // It has told that once, and would not do so again.
            cancel = oneshot::channel().1;
        }
        let (outcome, left_over) =
            self.watch(run, contained, run.within.saturating_sub(began.elapsed()), cancel).await;
        if left_over && let Err(left) = self.kill(&run.resource, &role).await {
            return Err(match outcome {
                Ok(Exited { code: 0, .. }) => left,
                Ok(exited) => format!("{exited}; {left}"),
                Err(why) => format!("{why}; {left}"),
            });
        }
        outcome
    }

    fn lease(&self, run: &Run) -> Option<Lease> {
        let lease =
            || Lease { leases: self.leases.clone(), resource: run.resource.clone(), token: run.token };
        run.role.of_tenure().then(lease)
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
        left: Duration,
        cancel: oneshot::Receiver<()>,
    ) -> (Result<Exited, String>, bool) {
        let Contained { keeper, report, mut output } = contained;
        let mut collector = Collector::new(run.resource.as_str(), &run.shown);
        let ending = {
            let mut report = pin!(timeout(left, read_report(report)));
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
            return (Ok(Exited { code: 0, tail: String::new() }), false);
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

fn environment(run: &Run) -> BTreeMap<String, String> {
    let mut env = base_environment();
    env.extend(variables(&run.resource, run.token, &run.told));
    env
}

/// What every program is told (docs/fencing.md, "Programs").
pub(crate) fn variables(resource: &Name, token: Token, told: &Told) -> [(String, String); 5] {
    [
        ("SITEGATE_TICKET", resource.to_string()),
        ("SITEGATE_TOKEN", token.to_string()),
        ("SITEGATE_SITE", told.site.as_ref().map(ToString::to_string).unwrap_or_default()),
        ("SITEGATE_REASON", told.reason.to_string()),
        ("SITEGATE_DEADLINE", uptime_seconds(told.deadline.boot_ns)),
    ]
    .map(|(name, value)| (name.to_owned(), value))
}

/// The deadline of a program that may take `within` from now on.
#[must_use]
pub fn limit_from(now: wire::Instant, within: Duration) -> Deadline {
    now.after(duration_ns(within))
}
