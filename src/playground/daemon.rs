//! The daemons as processes, and a supervisor that treats them as systemd does with `Restart=on-failure`, but for signals: one
//! that exits with an error is started again, one that was killed stays down, as if its machine had failed.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use sitegate_host::process::{self, Process};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::ground::{Ground, MEMBERS, SITES};
use super::processes::{MARK, mark_of, send};
use super::timeline::Timeline;
use crate::terminal::exit::Exit;
use crate::terminal::failure::Failure;

/// One of the programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Program {
    Sitegated,
    Fenced,
    Arbitrator,
}

impl Program {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Sitegated => "sitegated",
            Self::Fenced => "sitegate-fenced",
            Self::Arbitrator => "sitegate-arbitrator",
        }
    }

    fn configuration(self, directory: &Path) -> PathBuf {
        match self {
            Self::Sitegated | Self::Arbitrator => directory.to_owned(),
            Self::Fenced => directory.join("fenced.toml"),
        }
    }
}

/// How long to leave a daemon that has failed: systemd's `RestartSec`.
const RESTART_AFTER: Duration = Duration::from_millis(100);
/// How often it is started again at most: one that always fails will not get better.
const RESTARTS_MAX: usize = 20;

/// How often it is killed at most before it counts as unkillable: for 5 s.
const KILLS_MAX: usize = 50;

/// One daemon, running or not.
#[derive(Debug)]
pub(super) struct Daemon {
    pub(super) member: &'static str,
    pub(super) program: Program,
    command: CommandLine,
    timeline: Timeline,
    running: watch::Sender<Option<Process>>,
    supervisor: Option<JoinHandle<()>>,
}

/// How it is started.
#[derive(Clone, Debug)]
struct CommandLine {
    binary: PathBuf,
    configuration: PathBuf,
    mark: PathBuf,
    log: PathBuf,
    /// Where its process id is kept, for people with a second terminal.
    pid_file: PathBuf,
}

/// The five daemons of the playground: the fence daemons first, since the sites' daemons ask for them.
pub(super) fn daemons_of(ground: &Ground, timeline: &Timeline) -> Result<Vec<Daemon>, Failure> {
    let fenced = SITES.iter().map(|site| (*site, Program::Fenced));
    let members = MEMBERS.iter().map(|member| {
        (*member, if SITES.contains(member) { Program::Sitegated } else { Program::Arbitrator })
    });
    fenced.chain(members).map(|(member, program)| Daemon::new(ground, member, program, timeline)).collect()
}

/// The program of that name, beside this one.
fn binary(ground: &Ground, program: Program) -> Result<PathBuf, Failure> {
    let binary = ground.program().with_file_name(program.name());
    if binary.is_file() {
        return Ok(binary);
    }
    Err(Failure::new(Exit::Failed, format!("there is no {} beside this program", binary.display())).hint(
        "build all of it with `cargo build --release --workspace`, or run `cargo xtask playground`, which does",
    ))
}

impl Daemon {
    fn new(
        ground: &Ground,
        member: &'static str,
        program: Program,
        timeline: &Timeline,
    ) -> Result<Self, Failure> {
        let directory = ground.of(member);
        let command = CommandLine {
            binary: binary(ground, program)?,
            configuration: program.configuration(&directory),
            mark: mark_of(ground.path(), member),
            log: directory.join(format!("{}.log", program.name())),
            pid_file: directory.join(format!("{}.pid", program.name())),
        };
        let running = watch::Sender::new(None);
        Ok(Self { member, program, command, timeline: timeline.clone(), running, supervisor: None })
    }

    /// Starts it, with a supervisor.
    pub(super) fn start(&mut self) -> io::Result<()> {
        let (child, process) = self.command.spawn()?;
        self.running.send_replace(Some(process));
        let supervision = Supervision {
            name: format!("{}: {}", self.member, self.program.name()),
            command: self.command.clone(),
            timeline: self.timeline.clone(),
            running: self.running.clone(),
        };
        self.supervisor = Some(tokio::spawn(supervision.run(child)));
        Ok(())
    }

    /// The process, if it runs.
    pub(super) fn process(&self) -> Option<Process> {
        *self.running.borrow()
    }

    /// Sends a signal, if it runs.
    pub(super) fn signal(&self, signal: Signal) -> io::Result<()> {
        self.process().map_or(Ok(()), |process| send(process, signal))
    }

    /// Kills it until its supervisor gives up, which may just be starting it again.
    pub(super) async fn abandon(&mut self) -> io::Result<()> {
        let Some(mut supervisor) = self.supervisor.take() else { return Ok(()) };
        for _ in 0..KILLS_MAX {
            self.signal(Signal::KILL)?;
            if timeout(RESTART_AFTER, &mut supervisor).await.is_ok() {
                return Ok(());
            }
        }
        Err(io::Error::other(format!("{}: {} cannot be killed", self.member, self.program.name())))
    }

    /// Waits until it has ended for good.
    pub(super) async fn ended(&mut self) {
        if let Some(supervisor) = self.supervisor.take() {
            // Aborted or panicked, it supervises nothing any more.
            let _ = supervisor.await;
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(supervisor) = self.supervisor.take() {
            // The child is killed with it.
            supervisor.abort();
        }
    }
}

impl CommandLine {
    fn spawn(&self) -> io::Result<(Child, Process)> {
        let log = self.open_log()?;
        let mut command = Command::new(&self.binary);
        command.arg("--config").arg(&self.configuration).env(MARK, &self.mark);
        // What the playground's own environment says about services and members is not meant for these.
        for variable in ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID"] {
            command.env_remove(variable);
        }
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        // Ctrl-C on the terminal is for the playground alone.
        command.process_group(0).kill_on_drop(true);
        let child = command.spawn()?;
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
        let process = pid.and_then(process::stat).map(|stat| stat.process);
        let process = process.ok_or_else(|| io::Error::other("it has ended at once"))?;
        std::fs::write(&self.pid_file, format!("{}\n", process.pid))?;
        Ok((child, process))
    }

    fn open_log(&self) -> io::Result<File> {
        OpenOptions::new().append(true).create(true).open(&self.log)
    }
}

struct Supervision {
    name: String,
    command: CommandLine,
    timeline: Timeline,
    running: watch::Sender<Option<Process>>,
}

impl Supervision {
    async fn run(self, mut child: Child) {
        for _ in 0..RESTARTS_MAX {
            let status = child.wait().await;
            self.running.send_replace(None);
            let failed = match status {
                Ok(status) => {
                    self.timeline.note(&format!("{} {}", self.name, how(status)));
                    status.code().is_some_and(|code| code != 0)
                }
                Err(error) => {
                    self.timeline.note(&format!("{} cannot be waited for: {error}", self.name));
                    false
                }
            };
            if !failed {
                return;
            }
            tokio::time::sleep(RESTART_AFTER).await;
            match self.command.spawn() {
                Ok((next, process)) => {
                    self.timeline.note(&format!("{} is started again by its supervisor", self.name));
                    self.running.send_replace(Some(process));
                    child = next;
                }
                Err(error) => {
                    self.timeline.note(&format!("{} cannot be started again: {error}", self.name));
                    return;
                }
            }
        }
        self.timeline.note(&format!("{} was started again {RESTARTS_MAX} times, and no more", self.name));
    }
}

fn how(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(0), _) => "has ended".to_owned(),
        (Some(code), _) => format!("has failed with exit code {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => status.to_string(),
    }
}
