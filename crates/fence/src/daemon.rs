//! The fence daemon: the deadman with a disk, a clock, programs, and clients.
//!
//! One task owns the deadman. Whatever comes in (requests, the alarm, the ends of programs and kills, finished writes) is
//! given to it, and what it asks for is carried out before the next turn: leases first, then writes, orders, notices.
//! Programs run in tasks, the journal is written by a thread, processes are killed by another; none of them is waited for.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sd_notify::NotifyState;
use sitegate_host::clock::Alarm;
use sitegate_host::durable::{DurableError, LockError, LockFile};
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tracing::{info, warn};

use crate::config::Config;
use crate::containment::ContainmentError;
use crate::store::with_causes;

mod core;
mod history;
mod orders;
mod pending;
mod requests;
mod session;
mod setup;
mod status;

use self::core::{Core, Done};
use session::{REQUESTS_MAX, accept};

/// Why the daemon could not start, or could not go on.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// Another daemon uses the same directory.
    #[error(transparent)]
    Locked(#[from] LockError),
    /// A directory or file cannot be used.
    #[error(transparent)]
    File(#[from] DurableError),
    /// Nothing can be contained.
    #[error(transparent)]
    Containment(#[from] ContainmentError),
    /// The socket cannot be made.
    #[error("cannot listen on {}", path.display())]
    Socket {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The machine refused something else.
    #[error("cannot {what}")]
    Machine {
        /// What.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A part of the daemon is gone, which is a bug.
    #[error("{0} has ended")]
    Gone(&'static str),
}

impl DaemonError {
    fn machine(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Machine { what, source }
    }
}

/// Runs the daemon until it is told to end by SIGTERM or SIGINT, which fences nothing: what is armed stays armed, what runs
/// stays running, and the next start carries on. Needs a tokio runtime with I/O and time.
///
/// # Errors
/// [`DaemonError`].
pub async fn run(config: Config) -> Result<(), DaemonError> {
    let (locks, mut core, mut store, mut done) = setup::set_up(config)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(DaemonError::machine("handle signals"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(DaemonError::machine("handle signals"))?;
    let mut hang_up = signal(SignalKind::hangup()).map_err(DaemonError::machine("handle signals"))?;
    let alarm = Alarm::new().map_err(DaemonError::machine("make a timer"))?;
    core.carry_out(&store);
    let listener = listen(&core.config.socket, !core.config.allow_uid.is_empty())?;
    let mut allowed = core.config.allow_uid.clone();
    allowed.extend([0, rustix::process::geteuid().as_raw()]);
    let (to_core, mut from_clients) = mpsc::channel(REQUESTS_MAX);
    let clients = tokio::spawn(accept(listener, allowed, to_core));
    tell_service_manager(&[NotifyState::Ready]);
    let mut watchdog = tokio::time::interval(watchdog_period());
    info!(socket = %core.config.socket.display(), "sitegate-fenced is ready");

    let mut messages = Vec::new();
    loop {
        set_alarm(&alarm, core.next_timeout())?;
        tokio::select! {
            rang = alarm.ring() => {
                rang.map_err(DaemonError::machine("wait for a timer"))?;
                core.tick();
            }
            Some(end) = done.recv() => {
                core.done(end);
                take_more(&mut core, &mut done);
            }
            outcome = store.outcomes.recv() => core.written(outcome.ok_or(DaemonError::Gone("the journal's thread"))?),
            count = from_clients.recv_many(&mut messages, REQUESTS_MAX) => {
                if count == 0 {
                    return Err(DaemonError::Gone("the task that accepts clients"));
                }
                messages.drain(..).for_each(|message| core.client(message));
            }
            _ = watchdog.tick() => tell_service_manager(&[NotifyState::Watchdog]),
            _ = hang_up.recv() => info!("SIGHUP changes nothing: to apply another fenced.toml, restart; that fences nothing"),
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
        core.carry_out(&store);
    }
    tell_service_manager(&[NotifyState::Stopping]);
    clients.abort();
    core.say_goodbye();
    store.finish();
    drop(locks);
    Ok(())
}

/// All ends that have come meanwhile belong to one turn.
fn take_more(core: &mut Core, done: &mut mpsc::UnboundedReceiver<Done>) {
    while let Ok(end) = done.try_recv() {
        core.done(end);
    }
}

fn set_alarm(alarm: &Alarm, due: Option<(u64, u64)>) -> Result<(), DaemonError> {
    alarm.set(due).map_err(DaemonError::machine("set a timer"))
}

/// Makes the socket; `open` to every user, who are then told apart by their credentials.
fn listen(path: &Path, open: bool) -> Result<UnixListener, DaemonError> {
    use std::os::unix::fs::PermissionsExt;

    let failed = |source| DaemonError::Socket { path: path.to_path_buf(), source };
    // The lock on the directory is ours, so a socket that is there is an earlier daemon's.
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    let mode = if open { 0o666 } else { 0o600 };
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(failed)?;
    Ok(listener)
}

/// How often the service manager hears that the loop turns, if it does not say itself.
const WATCHDOG_PERIOD: Duration = Duration::from_secs(10);

fn watchdog_period() -> Duration {
    sd_notify::watchdog_enabled().map_or(WATCHDOG_PERIOD, |limit| limit / 3).max(Duration::from_millis(1))
}

fn tell_service_manager(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        warn!("cannot tell the service manager: {}", with_causes(&error));
    }
}

/// Held for the daemon's life.
#[derive(Debug)]
struct Locks {
    /// None if the state directory cannot be used, and what is armed has to be fenced all the same.
    _state: Option<LockFile>,
    _runtime: LockFile,
}
