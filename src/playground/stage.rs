//! What scenarios are made of: a formation, what is done to it, and what must hold.
//!
//! Commands are given with this very program as a person would give them. What must hold is read from the shared file and the
//! process table; what daemons say is only asked to know when to go on.

use std::fmt;
use std::io;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use sitegate_host::clock::boot_ns;
use sitegate_host::process::Process;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use super::daemon::{Daemon, Program, daemons_of};
use super::ground::{ACQUIRE_AFTER, EXPIRE, Ground, Hooks, MEMBERS, SITES};
use super::observer::Observer;
use super::processes::{MARK, kill_all, mark_of, of_member};
use super::timeline::Timeline;
use super::writer::SUBCOMMAND;
use crate::api::client::Client;
use crate::api::place::PlaceArgs;
use crate::terminal::failure::Failure;

mod act;
mod see;

pub(super) use act::FAILOVER_MAX;

/// What did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unmet(pub(super) String);

/// Whether all held.
pub(super) type Played = Result<(), Unmet>;

impl From<io::Error> for Unmet {
    fn from(error: io::Error) -> Self {
        Self(format!("this machine failed: {error}"))
    }
}

impl From<Failure> for Unmet {
    fn from(failure: Failure) -> Self {
        Self(failure.to_string())
    }
}

/// Until all members vote: after an unproven start they wait for `recovery-wait`, 6 s here.
const READY_MAX: Duration = Duration::from_secs(30);
/// For a daemon to end after SIGTERM.
const END_MAX: Duration = Duration::from_secs(10);
/// Long enough for anything that could still happen by itself to have happened: E + A, and a second.
pub(super) const SETTLED: Duration = Duration::from_secs(EXPIRE.as_secs() + ACQUIRE_AFTER.as_secs() + 1);
/// Between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// A formation with everybody who watches it.
#[derive(Debug)]
pub(super) struct Stage {
    hooks: Hooks,
    daemons: Vec<Daemon>,
    /// For hooks that delegate.
    launchers: Vec<Child>,
    observer: Observer,
    pub(super) timeline: Timeline,
    grant_ms: Option<u64>,
    failover_ms: Option<u64>,
    /// Last, so that it is removed when all that uses it is gone.
    pub(super) ground: Ground,
}

impl Stage {
    /// Makes a formation. Nothing runs yet.
    pub(super) fn set(hooks: Hooks, timeline: Timeline) -> Result<Self, Failure> {
        let ground = Ground::make(hooks)?;
        let daemons = daemons_of(&ground, &timeline)?;
        let observer = Observer::start(ground.path(), timeline.clone())
            .map_err(|error| Failure::machine("start a thread", &error))?;
        let launchers = Vec::new();
        Ok(Self { hooks, daemons, launchers, observer, timeline, grant_ms: None, failover_ms: None, ground })
    }

    /// Initialises every member, starts every daemon, and waits until all vote.
    pub(super) async fn begin(&mut self) -> Played {
        for member in MEMBERS {
            self.init(member).await?;
        }
        if self.hooks == Hooks::FenceFails {
            self.start_launchers()?;
        }
        self.start_all()?;
        self.ready(&MEMBERS).await?;
        self.timeline.note("paris, lyon and tiebreak have met, and vote");
        Ok(())
    }

    /// Starts what hooks delegate to, as a service manager that is there before everything else.
    fn start_launchers(&mut self) -> Played {
        for site in SITES {
            let mut command = Command::new(self.ground.program());
            command.args([SUBCOMMAND, "launch", "--dir"]).arg(self.ground.path()).args(["--site", site]);
            command.env(MARK, mark_of(self.ground.path(), site));
            command.stdin(Stdio::null()).process_group(0).kill_on_drop(true);
            self.launchers.push(command.spawn()?);
        }
        Ok(())
    }

    /// Creates a member's store.
    pub(super) async fn init(&self, member: &str) -> Played {
        let directory = self.ground.of(member);
        self.sitegate(&["init", "--config", &directory.to_string_lossy()]).await
    }

    /// Starts what does not run.
    pub(super) fn start_all(&mut self) -> Played {
        self.daemons.iter_mut().filter(|daemon| daemon.process().is_none()).try_for_each(Daemon::start)?;
        Ok(())
    }

    /// Starts those of a member's daemons that do not run.
    pub(super) fn start_member(&mut self, member: &str) -> Played {
        self.timeline.note(&format!("{member} is started again"));
        let own =
            self.daemons.iter_mut().filter(|daemon| daemon.member == member && daemon.process().is_none());
        own.into_iter().try_for_each(Daemon::start)?;
        Ok(())
    }

    /// A daemon.
    pub(super) fn daemon(&mut self, member: &str, program: Program) -> Result<&mut Daemon, Unmet> {
        let found =
            self.daemons.iter_mut().find(|daemon| daemon.member == member && daemon.program == program);
        found.ok_or_else(|| Unmet(format!("{member} has no {}", program.name())))
    }

    /// All daemons, for those who restart them in turn.
    pub(super) fn daemons(&self) -> Vec<(&'static str, Program)> {
        self.daemons.iter().map(|daemon| (daemon.member, daemon.program)).collect()
    }

    /// Sends a signal to a daemon. Gives the moment, in ns on `CLOCK_BOOTTIME`.
    pub(super) fn signal(&mut self, member: &str, program: Program, signal: Signal) -> Result<u64, Unmet> {
        let daemon = self.daemon(member, program)?;
        if daemon.process().is_none() {
            return Err(Unmet(format!("{member}: {} does not run any more", program.name())));
        }
        let at = boot_ns();
        daemon.signal(signal)?;
        Ok(at)
    }

    /// Ends a daemon with SIGTERM and waits until it has gone.
    pub(super) async fn terminate(&mut self, member: &str, program: Program) -> Played {
        self.signal(member, program, Signal::TERM)?;
        let daemon = self.daemon(member, program)?;
        if timeout(END_MAX, daemon.ended()).await.is_err() {
            return Err(Unmet(format!("{member}: {} does not end on SIGTERM", program.name())));
        }
        Ok(())
    }

    /// Kills every process of these members, whatever it is. Gives the moment before.
    pub(super) async fn kill_members(&mut self, members: &[&str]) -> Result<u64, Unmet> {
        let at = boot_ns();
        let path = self.ground.path();
        let killed = kill_all(|| members.iter().flat_map(|member| of_member(path, member)).collect())?;
        for daemon in self.daemons.iter_mut().filter(|daemon| members.contains(&daemon.member)) {
            daemon.ended().await;
        }
        self.timeline.note_at(at, &format!("all {killed} processes of {} are killed", members.join(", ")));
        Ok(at)
    }

    /// Waits until these members vote and say so.
    pub(super) async fn ready(&self, members: &[&str]) -> Played {
        for member in members {
            self.standing(member, "voting", READY_MAX).await?;
        }
        Ok(())
    }

    /// Waits until a member says that it stands so.
    pub(super) async fn standing(&self, member: &str, standing: &str, within: Duration) -> Played {
        let until = Instant::now() + within;
        let mut last = "it does not answer".to_owned();
        while Instant::now() < until {
            match self.status(member).await {
                Ok(status) if status["standing"] == standing && status["fence"] != "down" => return Ok(()),
                Ok(status) => {
                    last = format!("it is {}, its fence daemon {}", status["standing"], status["fence"]);
                }
                Err(failure) => last = failure.to_string(),
            }
            sleep(LOOK_AGAIN).await;
        }
        Err(Unmet(format!("{member} is not {standing} within {} s: {last}", within.as_secs())))
    }

    /// What a member says.
    pub(super) async fn status(&self, member: &str) -> Result<Value, Failure> {
        let place = PlaceArgs::at_socket(self.ground.socket(member)).resolve()?;
        Client::new(place).get("/v1/status").await
    }

    /// Looks until there is something.
    pub(super) async fn until<T>(
        &self,
        what: impl fmt::Display,
        within: Duration,
        mut look: impl FnMut() -> Option<T>,
    ) -> Result<T, Unmet> {
        let until = Instant::now() + within;
        loop {
            if let Some(found) = look() {
                return Ok(found);
            }
            if Instant::now() > until {
                return Err(Unmet(format!("no sign of {what} within {} s", within.as_secs())));
            }
            sleep(LOOK_AGAIN).await;
        }
    }

    /// Ends all that was started, whoever started it, and sees that nothing is left. Gives how many processes there were.
    pub(super) async fn clear(&mut self) -> io::Result<usize> {
        let found = self.everything().len();
        // Supervisors first, so that none starts anything again.
        for daemon in &mut self.daemons {
            daemon.abandon().await?;
        }
        kill_all(|| self.everything())?;
        Ok(found)
    }

    fn everything(&self) -> Vec<Process> {
        MEMBERS.iter().flat_map(|member| of_member(self.ground.path(), member)).collect()
    }
}

impl Drop for Stage {
    /// For those who were interrupted before they could [`clear`](Stage::clear): daemons that are killed are not started again.
    fn drop(&mut self) {
        if let Err(error) = kill_all(|| self.everything()) {
            self.timeline.say(&format!("  something is left running: {error}\n"));
        }
    }
}
