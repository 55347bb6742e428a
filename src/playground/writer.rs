//! The resource that the playground gates, and its hooks: hidden subcommands of `sitegate`, so that nothing else is needed.
//!
//! `run` appends `SITE TOKEN SEQUENCE BOOT_NS` to the shared file every 50 ms until it is killed. `start` starts it, `stop` and
//! `kill` end it, `fail` is a fence level that does not work, `launch` starts it for hooks that delegate, as `systemctl start`
//! does. Every hook writes down when it ran, for whoever judges.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;
use sitegate_host::clock::boot_ns;
use sitegate_host::diagnostic::Period;
use sitegate_host::process::{self, Process};

use super::processes::{MARK, writers};
use crate::terminal::exit::Exit;
use crate::terminal::failure::Failure;

/// The hidden subcommand of `sitegate`.
pub(super) const SUBCOMMAND: &str = "playground-writer";
/// What writes.
pub(super) const RUN: &str = "run";
/// The hook `start`.
pub(super) const START: &str = "start";
/// The shared file in the playground's directory.
pub(super) const WRITES_FILE: &str = "writes";
/// Where hooks write down when they ran.
pub(super) const HOOKS_FILE: &str = "hooks";

/// Between two writes.
const EVERY: Duration = Duration::from_millis(50);
/// How long a writer may take to appear or to die.
const CHANGE_MAX: Duration = Duration::from_millis(800);
/// How long the level that does not work takes to find out: long enough to see who still writes.
const FAIL_AFTER: Duration = Duration::from_millis(200);
/// Between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// `sitegate playground-writer`.
#[derive(Debug, Subcommand)]
pub(crate) enum WriterCommand {
    /// Write until killed
    Run(RunArgs),
    /// Hook: start the writer
    Start(StartArgs),
    /// Hook: end it gracefully
    Stop(HookArgs),
    /// Fence level: kill it
    Kill(HookArgs),
    /// Fence level: fail
    Fail(HookArgs),
    /// Start writers for hooks that delegate
    Launch(SiteArgs),
}

/// Where and who.
#[derive(Debug, Clone, Args)]
pub(crate) struct SiteArgs {
    /// The playground's directory
    #[arg(long)]
    dir: PathBuf,
    /// Whose it is
    #[arg(long)]
    site: String,
}

/// Of `run`.
#[derive(Debug, Clone, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    at: SiteArgs,
    /// The fencing token
    #[arg(long)]
    token: u64,
}

/// Of every hook.
#[derive(Debug, Clone, Args)]
pub(crate) struct HookArgs {
    #[command(flatten)]
    at: SiteArgs,
    /// The fencing token
    #[arg(long, env = "SITEGATE_TOKEN")]
    token: u64,
}

/// Of `start`.
#[derive(Debug, Clone, Args)]
pub(crate) struct StartArgs {
    #[command(flatten)]
    hook: HookArgs,
    /// Hang so long first
    #[arg(long, value_name = "TIME")]
    hang: Option<Period>,
    /// Let the launcher start it
    #[arg(long)]
    delegate: bool,
}

/// Does what `command` says.
///
/// # Errors
/// It failed; hooks exit with 1.
pub(crate) fn run(command: &WriterCommand) -> Result<(), Failure> {
    let done = match command {
        WriterCommand::Run(args) => write_for_ever(args),
        WriterCommand::Start(args) => recorded("start", &args.hook, || start(args)),
        WriterCommand::Stop(args) => recorded("stop", args, || end(&args.at, Signal::TERM)),
        WriterCommand::Kill(args) => recorded("kill", args, || end(&args.at, Signal::KILL)),
        WriterCommand::Fail(args) => recorded("fail", args, || {
            sleep(FAIL_AFTER);
            Err(io::Error::other("this level never works"))
        }),
        WriterCommand::Launch(args) => launch(args),
    };
    done.map_err(|error| Failure::new(Exit::Refused, error.to_string()))
}

fn write_for_ever(args: &RunArgs) -> io::Result<()> {
    let mut file = append_to(&args.at.dir.join(WRITES_FILE))?;
    let mut next = Instant::now();
    for sequence in 1_u64.. {
        // One write for each line: with O_APPEND, no two can mix.
        file.write_all(format!("{} {} {sequence} {}\n", args.at.site, args.token, boot_ns()).as_bytes())?;
        next += EVERY;
        // After a pause of the process, it goes on from now: nothing is made up for.
        next = next.max(Instant::now());
        sleep(next.saturating_duration_since(Instant::now()));
    }
    Ok(())
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

/// Runs a hook between two lines in the record.
fn recorded(hook: &str, args: &HookArgs, run: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    let mut file = append_to(&args.at.dir.join(HOOKS_FILE))?;
    let mut line = |outcome: &str| {
        let line = format!("{} {} {hook} {} {outcome}\n", boot_ns(), args.at.site, args.token);
        file.write_all(line.as_bytes())
    };
    line("begin")?;
    let result = run();
    line(if result.is_ok() { "ok" } else { "failed" })?;
    result
}

fn start(args: &StartArgs) -> io::Result<()> {
    let HookArgs { at, token } = &args.hook;
    if let Some(hang) = args.hang {
        sleep(hang.get());
    }
    if writers_of(at).iter().any(|(_, running)| *running == Some(*token)) {
        return Ok(());
    }
    if args.delegate {
        UnixDatagram::unbound()?.send_to(token.to_string().as_bytes(), launcher_socket(at))?;
    } else {
        // It is meant to outlive this hook.
        spawn(at, *token, |_| {})?;
    }
    until(|| !writers_of(at).is_empty(), "the writer does not start")
}

fn spawn(at: &SiteArgs, token: u64, prepare: impl FnOnce(&mut Command)) -> io::Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    prepare(&mut command);
    command.args([SUBCOMMAND, RUN, "--dir"]).arg(&at.dir).args(["--site", &at.site]);
    command.args(["--token", &token.to_string()]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0).spawn()
}

fn end(at: &SiteArgs, signal: Signal) -> io::Result<()> {
    let until = Instant::now() + CHANGE_MAX;
    for (process, _) in writers_of(at) {
        let Some(held) = process::hold(process)? else { continue };
        process::signal(&held, signal)?;
        let left = until.saturating_duration_since(Instant::now());
        let limit = Timespec { tv_sec: 0, tv_nsec: i64::from(left.subsec_nanos()) };
        if poll(&mut [PollFd::from_borrowed_fd(held.as_fd(), PollFlags::IN)], Some(&limit))? == 0 {
            return Err(io::Error::other(format!("process {} does not end", process.pid)));
        }
    }
    Ok(())
}

fn writers_of(at: &SiteArgs) -> Vec<(Process, Option<u64>)> {
    let all = writers(&at.dir).into_iter();
    all.filter(|writer| writer.site == at.site).map(|writer| (writer.process, writer.token)).collect()
}

fn until(holds: impl Fn() -> bool, otherwise: &str) -> io::Result<()> {
    let until = Instant::now() + CHANGE_MAX;
    while !holds() {
        if Instant::now() > until {
            return Err(io::Error::other(otherwise));
        }
        sleep(LOOK_AGAIN);
    }
    Ok(())
}

fn launcher_socket(at: &SiteArgs) -> PathBuf {
    at.dir.join(&at.site).join("launcher.sock")
}

/// Starts a writer for each token that it is sent, as a service manager would: out of reach of whoever contains the hooks.
fn launch(at: &SiteArgs) -> io::Result<()> {
    let socket = UnixDatagram::bind(launcher_socket(at))?;
    socket.set_read_timeout(Some(EVERY))?;
    let mut children: Vec<Child> = Vec::new();
    loop {
        let mut token = [0; 20];
        match socket.recv(&mut token) {
            Ok(length) => {
                let token = std::str::from_utf8(&token[..length]).ok().and_then(|token| token.parse().ok());
                let token = token.ok_or_else(|| io::Error::other("not a token"))?;
                children.push(spawn(at, token, |command| {
                    let mark = std::env::var_os(MARK).unwrap_or_default();
                    command.env_clear().env(MARK, mark);
                })?);
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
            Err(error) => return Err(error),
        }
        children.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
    }
}
