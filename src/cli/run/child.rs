//! The command while it runs: signals for it, SIGTERM ahead of a deadline that nobody extends, and how it has ended.

use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{self, ExitCode, ExitStatus};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use sitegate_client::{Deadline, Token, Watch, now};
use sitegate_fence_client::status::ResourceState;
use sitegate_fence_client::wire::Activity;
use tokio::signal::unix::{self, SignalKind};
use tokio::time::{Instant, sleep_until};

use super::args::RunArgs;
use super::joined::RunJoinedArgs;
use crate::terminal::failure::Failure;

/// This program, also when its file has been replaced by an upgrade.
const OWN_PROGRAM: &str = "/proc/self/exe";

/// The command, in a process group of its own.
#[derive(Debug)]
pub(super) struct Child {
    child: tokio::process::Child,
    group: Pid,
}

/// How it has ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// We were told to end, and have told it.
    Told(ExitCode),
    /// Because its time was up.
    InTime,
    /// For a reason that it knows, or the fence daemon.
    ByItself(ExitCode),
}

impl Child {
    pub(super) fn start(args: &RunArgs, socket: &Path) -> Result<Self, Failure> {
        let failed = |error| Failure::machine("start the command", &error);
        let own = i32::try_from(process::id()).map_err(|error| failed(io::Error::other(error)))?;
        let joined = RunJoinedArgs {
            ticket: args.ticket.clone(),
            fenced_socket: socket.to_path_buf(),
            parent: own,
            command: args.command.clone(),
        };
        let mut command = process::Command::new(OWN_PROGRAM);
        command.arg0("sitegate").args(joined.to_arguments()).process_group(0);
        let child = tokio::process::Command::from(command).spawn().map_err(failed)?;
        let group = child.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        let group = group.ok_or_else(|| failed(io::Error::other("it has no process id")))?;
        Ok(Self { child, group })
    }

    /// Waits until it has ended. It is told to by the signals that we get; by SIGTERM `within` before the deadline, or at half of
    /// what the last extension has left; and by SIGKILL at the deadline, should the fence daemon be gone.
    pub(super) async fn see_through(
        &mut self,
        watch: &mut Watch,
        token: Token,
        within: Duration,
        signals: &mut Signals,
    ) -> Result<Ended, Failure> {
        let mut due = Due::of(watch, token, within);
        let (mut told, mut asked) = (false, false);
        loop {
            let next = if asked { due.kill } else { due.ask };
            tokio::select! {
                status = self.child.wait() => {
                    let status = status.map_err(|error| Failure::machine("wait for the command", &error))?;
                    let code = code(status);
                    return Ok(match (told, asked) {
                        (true, _) => Ended::Told(code),
                        (false, true) => Ended::InTime,
                        (false, false) => Ended::ByItself(code),
                    });
                }
                signal = signals.next() => {
                    told = true;
                    self.signal(signal);
                }
                () = watch.changed() => due = due.after_change(watch, token, within),
                () = sleep_until(next) => {
                    if asked {
                        self.signal(Signal::KILL);
                        // Once is enough; what a kill does not end, another one does not.
                        due.kill += FAR;
                    } else {
                        eprintln!("the ticket is not renewed: ending the command");
                        asked = true;
                        self.signal(Signal::TERM);
                    }
                }
            }
        }
    }

    fn signal(&self, signal: Signal) {
        // Not reaped yet, so the group is its own; that all of it has ended is what is wanted.
        let _ = kill_process_group(self.group, signal);
    }
}

/// Never, for a command that is being killed.
const FAR: Duration = Duration::from_secs(3600);

/// When to do what, unless the deadline is moved on.
#[derive(Clone, Copy, Debug)]
struct Due {
    deadline: Option<Deadline>,
    ask: Instant,
    kill: Instant,
}

impl Due {
    fn of(watch: &Watch, token: Token, within: Duration) -> Self {
        let tenure = watch.tenure().filter(|tenure| tenure.token == token);
        let left = tenure.map_or(Duration::ZERO, |tenure| tenure.remaining(now()));
        let kill = Instant::now() + left;
        Self { deadline: tenure.map(|tenure| tenure.deadline), ask: kill - within.min(left / 2), kill }
    }

    /// Half of what is left is half of what an extension has left, not of what is left by now.
    fn after_change(self, watch: &Watch, token: Token, within: Duration) -> Self {
        let new = Self::of(watch, token, within);
        if new.deadline == self.deadline { self } else { new }
    }
}

/// Whether what runs under `token` may go on.
pub(super) fn goes_on(state: &ResourceState, token: Token) -> bool {
    let ends = |activity: &Activity| matches!(activity, Activity::Stopping | Activity::Stopped);
    match state {
        ResourceState::Armed { token: armed, activity, deadline, .. } => {
            *armed == token && !ends(activity) && !deadline.passed(now())
        }
        ResourceState::Unarmed | ResourceState::Arming { .. } | ResourceState::Fencing { .. } => false,
    }
}

/// As shells report it.
fn code(status: ExitStatus) -> ExitCode {
    match (status.code(), status.signal()) {
        (Some(code), _) => ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)),
        (None, signal) => code_of_signal(signal.unwrap_or_default()),
    }
}

pub(super) fn code_of_signal(signal: i32) -> ExitCode {
    ExitCode::from(u8::try_from(128 + signal).unwrap_or(u8::MAX))
}

/// What we are told, and pass on.
#[derive(Debug)]
pub(super) struct Signals([(unix::Signal, Signal); 3]);

impl Signals {
    pub(super) fn new() -> io::Result<Self> {
        let of = |kind, signal| Ok::<_, io::Error>((unix::signal(kind)?, signal));
        Ok(Self([
            of(SignalKind::terminate(), Signal::TERM)?,
            of(SignalKind::interrupt(), Signal::INT)?,
            of(SignalKind::hangup(), Signal::HUP)?,
        ]))
    }

    /// Safe to cancel.
    pub(super) async fn next(&mut self) -> Signal {
        let [(term, is_term), (int, is_int), (hup, is_hup)] = &mut self.0;
        tokio::select! {
            _ = term.recv() => *is_term,
            _ = int.recv() => *is_int,
            _ = hup.recv() => *is_hup,
        }
    }
}
