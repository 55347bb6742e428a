//! Starting a program and learning of its end without a race over its pid.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use tokio::io::unix::AsyncFd;

use crate::readiness::watch;

/// Why a program could not be started. Mostly the configuration's fault.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// There is none.
    #[error("{} does not exist: correct the path in the configuration, or install the program", .0.display())]
    Missing(PathBuf),
    /// It is there but cannot be executed.
    #[error("{} cannot be executed: check its owner and mode (chmod +x), and that it is no directory", .0.display())]
    NotExecutable(PathBuf),
    /// It names an interpreter that cannot be used.
    #[error("{} has no usable interpreter: check its first line (#!), or that it is built for this machine", .0.display())]
    NoInterpreter(PathBuf),
    /// The machine refused: too many processes or files, for instance.
    #[error("cannot start {}", program.display())]
    Machine {
        /// The program.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Says what is wrong with a program before it is needed, as far as can be seen from its file.
///
/// # Errors
/// [`SpawnError::Missing`] or [`SpawnError::NotExecutable`].
pub fn inspect(program: &Path) -> Result<(), SpawnError> {
    let Ok(metadata) = std::fs::metadata(program) else {
        return Err(SpawnError::Missing(program.to_path_buf()));
    };
    let executable = rustix::fs::access(program, rustix::fs::Access::EXEC_OK).is_ok();
    if metadata.is_file() && executable {
        Ok(())
    } else {
        Err(SpawnError::NotExecutable(program.to_path_buf()))
    }
}

/// What [`SpawnError`] an error of exec means for `program`.
#[must_use]
pub fn why_not_started(program: &Path, source: io::Error) -> SpawnError {
    let program = program.to_path_buf();
    match source.kind() {
        // The file is there: then what is missing is the interpreter that it names.
        io::ErrorKind::NotFound if program.exists() => SpawnError::NoInterpreter(program),
        io::ErrorKind::NotFound => SpawnError::Missing(program),
        io::ErrorKind::PermissionDenied | io::ErrorKind::IsADirectory => SpawnError::NotExecutable(program),
        _ if source.raw_os_error() == Some(rustix::io::Errno::NOEXEC.raw_os_error()) => {
            SpawnError::NoInterpreter(program)
        }
        _ => SpawnError::Machine { program, source },
    }
}

/// A running program: a child of this process in a process group of its own.
#[derive(Debug)]
pub struct Running {
    child: Child,
    exit: AsyncFd<OwnedFd>,
}

impl Running {
    /// Starts `program` with exactly the environment `env`; `argv` begins with the name it is to see itself under.
    ///
    /// # Errors
    /// [`SpawnError`] with the cause.
    pub fn spawn(
        program: &Path,
        argv: &[OsString],
        env: impl IntoIterator<Item = (String, String)>,
        stdin: Stdio,
        stdout: Stdio,
        stderr: Stdio,
    ) -> Result<Self, SpawnError> {
        let mut command = Command::new(program);
        if let Some((name, arguments)) = argv.split_first() {
            command.arg0(name).args(arguments);
        }
        command.env_clear().envs(env).process_group(0);
        command.stdin(stdin).stdout(stdout).stderr(stderr);
        let child = command.spawn().map_err(|e| why_not_started(program, e))?;
        let exit = pid(&child)
            .and_then(|pid| Ok(pidfd_open(pid, PidfdFlags::NONBLOCK)?))
            .and_then(watch)
            .map_err(|source| SpawnError::Machine { program: program.to_path_buf(), source });
        match exit {
            Ok(exit) => Ok(Self { child, exit }),
            Err(error) => {
                abandon(child);
                Err(error)
            }
        }
    }

    /// Waits until it has ended, without taking note of it: its pid and process group stay reserved. Safe to cancel.
    ///
    /// # Errors
    /// Those of epoll.
    pub async fn ended(&self) -> io::Result<()> {
        self.exit.readable().await.map(|_| ())
    }

    /// Kills it and its process group. Must come before [`reap`](Self::reap).
    pub fn kill_group(&self) {
        // A group that has no members any more is what is wanted.
        let _ = pid(&self.child).map(|pid| kill_process_group(pid, Signal::KILL));
    }

    /// Takes note of its end. Blocks unless it has ended.
    ///
    /// # Errors
    /// Those of `waitpid(2)`.
    pub fn reap(mut self) -> io::Result<ExitStatus> {
        self.child.wait()
    }
}

/// Something for a program to read on stdin: a file in memory without a name, so that nobody has to wait until it is read, as
/// with a pipe, and nothing of it lies on a disk.
///
/// # Errors
/// If the machine has no room for it.
pub fn input(bytes: &[u8]) -> io::Result<Stdio> {
    let mut file = File::from(memfd_create("input", MemfdFlags::CLOEXEC)?);
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file.into())
}

fn pid(child: &Child) -> io::Result<Pid> {
    let raw = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    raw.ok_or_else(|| io::Error::other("a process id out of range"))
}

/// A child that cannot be watched is not left to itself.
fn abandon(mut child: Child) {
    // Nothing more can be done about it here; the error that led here is reported.
    let _ = child.kill();
    let _ = child.wait();
}

/// The variables that programs get from the daemon's own environment; everything else is set on purpose.
const INHERITED: [&str; 7] =
    ["PATH", "HOME", "LANG", "TZ", "TMPDIR", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS"];
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The environment every program gets: a `PATH`, and where to find its home, language and session.
#[must_use]
pub fn base_environment() -> std::collections::BTreeMap<String, String> {
    let inherited = INHERITED.iter().filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?)));
    let mut env: std::collections::BTreeMap<_, _> = inherited.collect();
    env.entry("PATH".to_owned()).or_insert_with(|| DEFAULT_PATH.to_owned());
    env
}
