//! The level: each plug is switched off, and is off when the agent's `status` says so.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use sitegate_fence_client::wire::{Name, Token};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tracing::warn;

use super::{Action, Agent, Options};
use crate::aside::aside;
use crate::programs::{Exited, Input, Programs, Role, Run, Told};
use crate::store::with_causes;

/// On whose behalf agents are run.
#[derive(Clone, Debug)]
pub struct Case {
    /// The resource.
    pub resource: Name,
    /// The token that is fenced.
    pub token: Token,
    /// The run of the level, or of the trial; one that was there before must not come again.
    pub run: u64,
    /// What programs find in their environment.
    pub told: Told,
}

/// Switches all plugs off at once and gives, as soon as the agent's `status` has said off for each, a sentence that says so. What
/// fails is done again after a pause, until `within` is over; nothing is left running then, nor when `cancel` is sent or dropped.
/// Has to be run to its end: dropped half way, programs are left to the kill that follows a level.
///
/// # Errors
/// What failed last, for each plug that is not known to be off.
pub async fn switch_off(
    agent: Arc<Agent>,
    case: Case,
    within: Duration,
    programs: Programs,
    cancel: oneshot::Receiver<()>,
) -> Result<String, String> {
    let proof = proof(&agent);
    let runs = Runs::new(agent, case, within, programs, Role::part);
    all_plugs(runs, cancel, |runs, plug| async move { runs.off_for_certain(plug.as_deref()).await })
        .await
        .map(|_| proof)
}

fn proof(agent: &Agent) -> String {
    let name = &agent.name;
    match agent.plugs.as_slice() {
        [] => format!("{name} succeeded with off, and its status then said off"),
        [one] => format!("{name} succeeded with off for {one}, and its status then said off"),
        all => {
            format!("{name} succeeded with off for {}, and its status then said off for each", all.join(", "))
        }
    }
}

/// Does something for all plugs at once, each in a task, until all have come to an end; and gives what all have given, in the
/// order of the plugs.
///
/// # Errors
/// The failures, if any failed.
pub(super) async fn all_plugs<T, F>(
    runs: Runs,
    mut cancel: oneshot::Receiver<()>,
    work: impl Fn(Arc<Runs>, Option<String>) -> F,
) -> Result<Vec<T>, String>
where
    T: Send + 'static,
    F: Future<Output = Result<T, String>> + Send + 'static,
{
    let mut runs = runs;
    let (go_on, cancelled) = watch::channel(());
    runs.cancelled = cancelled;
    tokio::select! {
        read = runs.read_secrets() => read?,
        _ = &mut cancel => return Err("was given up before it began".to_owned()),
    }
    let targets = runs.agent.targets();
    let runs = Arc::new(runs);
    let mut tasks = JoinSet::new();
    for (number, plug) in targets.into_iter().enumerate() {
        let work = work(Arc::clone(&runs), plug);
        tasks.spawn(async move { (number, work.await) });
    }
    let mut all = pin!(async move {
        let mut ends = Vec::new();
        while let Some(end) = tasks.join_next().await {
            // One that panicked has proved nothing.
            ends.push(end.unwrap_or_else(|error| (usize::MAX, Err(error.to_string()))));
        }
        ends.sort_by_key(|(number, _)| *number);
        ends
    });
    let ends = tokio::select! {
        ends = &mut all => ends,
        _ = cancel => {
            drop(go_on);
            all.await
        }
    };
    let (good, bad): (Vec<_>, Vec<_>) = ends.into_iter().map(|(_, end)| end).partition(Result::is_ok);
    if bad.is_empty() {
        return Ok(good.into_iter().filter_map(Result::ok).collect());
    }
    Err(bad.into_iter().filter_map(Result::err).collect::<Vec<_>>().join("; "))
}

/// All runs of an agent that belong together.
#[derive(Debug)]
pub(super) struct Runs {
    pub(super) agent: Arc<Agent>,
    case: Case,
    programs: Programs,
    secrets: Options,
    role: fn(u64, u32) -> Role,
    /// How many programs were run.
    parts: AtomicU32,
    until: Instant,
    /// Its other end goes when all of this is given up.
    cancelled: watch::Receiver<()>,
}

impl Runs {
    pub(super) fn new(
        agent: Arc<Agent>,
        case: Case,
        within: Duration,
        programs: Programs,
        role: fn(u64, u32) -> Role,
    ) -> Self {
        // The other end comes with the work; see all_plugs.
        let (_, cancelled) = watch::channel(());
        let (secrets, parts, until) = (Options::default(), AtomicU32::new(0), Instant::now() + within);
        Self { agent, case, programs, secrets, role, parts, until, cancelled }
    }

    /// Reads them once for all runs, aside: a file system may hang.
    async fn read_secrets(&mut self) -> Result<(), String> {
        let Some(path) = self.agent.options_file.clone() else { return Ok(()) };
        let shown = path.display().to_string();
        let read = aside("options-file", move || Options::read(&path).map_err(|error| with_causes(&error)));
        let read = read.map_err(|error| format!("cannot start a thread: {error}"))?;
        let read = timeout(self.left(), read).await;
        let read = read.map_err(|_| format!("{shown} cannot be read in time: its file system hangs"))?;
        self.secrets = read.map_err(|_| "the thread that reads the options file has ended".to_owned())??;
        Ok(())
    }

    async fn off_for_certain(&self, plug: Option<&str>) -> Result<(), String> {
        let mut action = Action::Off;
        let mut earlier: Option<String> = None;
        for attempt in 1.. {
            let why = match (action, self.run(action, plug, self.agent.attempt_within).await) {
                (Action::Off, Ok(Exited { code: 0, .. })) => {
                    action = Action::Status;
                    continue;
                }
                (Action::Status, Ok(Exited { code: Action::IS_OFF, .. })) => return Ok(()),
                (Action::Status, Ok(Exited { code: Action::IS_ON, .. })) => {
                    action = Action::Off;
                    "off succeeded, but status says that it is still on".to_owned()
                }
                (action, Ok(exited)) => format!("{action} {exited}"),
                (action, Err(why)) => format!("{action} {why}"),
            };
            let why = format!("{}: {why}", self.shown(plug));
            // What the level's end has cut short says less than what failed before.
            let why = earlier.take().filter(|_| self.left().is_zero()).unwrap_or(why);
            if self.cancelled.has_changed().is_err() || self.left() <= self.agent.retry_after {
                return Err(format!("{why}; given up after {attempt} runs"));
            }
            warn!(ticket = %self.case.resource, "{why}; tried again after {} ms", self.agent.retry_after.as_millis());
            let mut cancelled = self.cancelled.clone();
            tokio::select! {
                () = sleep(self.agent.retry_after) => {}
                _ = cancelled.changed() => {}
            }
            earlier = Some(why);
        }
        unreachable!("attempts are numbered without end")
    }

    /// One run of the agent, to its end or its limit.
    pub(super) async fn run(
        &self,
        action: Action,
        plug: Option<&str>,
        within: Duration,
    ) -> Result<Exited, String> {
        let program = self.agent.program().display().to_string();
        let part = self.parts.fetch_add(1, Ordering::Relaxed);
        let Case { resource, token, run, told } = self.case.clone();
        let run = Run {
            resource,
            token,
            role: (self.role)(run, part),
            command: vec![program],
            input: Input::new(self.agent.input(&self.secrets, action, plug)),
            shown: format!("{} {action}", self.shown(plug)),
            within: within.min(self.left()),
            told,
        };
        let (go_on, cancel) = oneshot::channel();
        let mut ended = pin!(self.programs.exit(&run, cancel));
        let mut cancelled = self.cancelled.clone();
        tokio::select! {
            ended = &mut ended => ended,
            // Not dropped: it has to kill what it has started.
            _ = cancelled.changed() => {
                drop(go_on);
                ended.await
            }
        }
    }

    pub(super) fn shown(&self, plug: Option<&str>) -> String {
        plug.map_or_else(|| self.agent.name.clone(), |plug| format!("{} {plug}", self.agent.name))
    }

    pub(super) fn left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }
}
