//! The fence daemon: the deadman with a disk, a clock, programs, and clients.
//!
//! One task owns the deadman. Whatever comes in (requests, the alarm, the ends of programs and kills, finished writes) is
//! given to it, and what it asks for is carried out before the next turn: leases first, then writes, orders, notices.
//! Programs run in tasks. Threads of their own start programs, kill processes, write the journal, and read what clients send;
//! none of them is waited for.

use std::io;
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sitegate_host::clock::{Alarm, boot_ns, raw_ns};
use sitegate_host::durable::{DurableError, LockError, LockFile};
use sitegate_host::log::LogFilter;
use sitegate_host::service::ServiceManager;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Interval, MissedTickBehavior};
use tracing::{error, info};

use crate::config::Config;
use crate::containment::ContainmentError;
use crate::store::{Store, with_causes};

mod access;
mod admission;
mod bound;
mod clients;
mod core;
#[cfg(test)]
mod fixture;
mod history;
mod join;
mod levels;
mod listen;
mod orders;
mod pending;
mod pets;
mod reload;
mod requests;
mod session;
mod setup;
mod status;
mod strays;
mod trial;

use self::core::{Core, Done};
use access::Access;
use reload::{Reloader, Reread};
use session::{FromClient, REQUESTS_MAX};

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
    /// The watchdog cannot be used.
    #[error("{why}")]
    Watchdog {
        /// Why.
        why: String,
    },
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
/// stays running, and the next start carries on. On SIGHUP it reads the file `path` again, and `filter` becomes that of the
/// new file. Needs a tokio runtime with I/O and time.
///
/// # Errors
/// [`DaemonError`].
pub async fn run(config: Config, path: &Path, filter: LogFilter) -> Result<(), DaemonError> {
    let (locks, mut core, mut store, mut done) = setup::set_up(config)?;
    // Held until the process ends, since its threads may be in the middle of a kill.
    let _locks = ManuallyDrop::new(locks);
    let mut signals = Signals::new().map_err(DaemonError::machine("handle signals"))?;
    let manager = ServiceManager::from_environment();
    let alarm = Alarm::new().map_err(DaemonError::machine("make a timer"))?;
    core.carry_out(&store);
    let (to_core, mut from_clients) = mpsc::channel(REQUESTS_MAX);
    let access = begin_to_listen(&core, to_core).await?;
    let mut reloader = Reloader { reread: Reread::new(path), filter, access, manager };
    reload::keep(&core.config);
    reloader.manager.ready();
    reload::look_at_agents(&core.config, path);
    let mut watchdog = tokio::time::interval(watchdog_period(&reloader.manager));
    let mut looks = tokio::time::interval(core.config.status_every);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut pets = core.watchdog.period().map(tokio::time::interval);
    info!(socket = %core.config.socket.display(), "sitegate-fenced is ready");

    let mut messages = Vec::new();
    loop {
        let due = core.next_timeout();
        alarm.set(due).map_err(DaemonError::machine("set a timer"))?;
        tokio::select! {
            rang = alarm.ring() => {
                rang.map_err(DaemonError::machine("wait for a timer"))?;
                // What has ended in time counts, although it may be heard only now.
                take_ends(&mut core, &mut done);
                core.tick();
            }
            Some(end) = done.recv() => {
                core.done(end);
                take_ends(&mut core, &mut done);
            }
            outcome = store.outcomes.recv() => core.written(outcome.ok_or(DaemonError::Gone("the journal's thread"))?),
            count = from_clients.recv_many(&mut messages, TURN_MAX) => {
                if count == 0 {
                    return Err(DaemonError::Gone("the thread that serves clients"));
                }
                serve_clients(&mut core, &mut store, &mut done, &mut messages);
            }
            _ = watchdog.tick() => reloader.manager.alive(),
            () = next_of(&mut pets) => core.keep_watchdog(),
            _ = looks.tick() => core.look_for_strays(),
            read = reloader.reread.done() => reloader.reload(&mut core, read),
            signal = signals.next() => match signal {
                Told::Reload => reloader.begin(),
                Told::End => break,
            }
        }
        core.carry_out(&store);
    }
    reloader.manager.stopping();
    core.say_goodbye();
    store.finish();
    Ok(())
}

/// Waits for the next tick; for ever where nothing ticks. Safe to cancel.
async fn next_of(ticks: &mut Option<Interval>) {
    match ticks {
        Some(ticks) => drop(ticks.tick().await),
        None => std::future::pending().await,
    }
}

/// How often the service manager hears that the loop turns, if it does not say itself.
const WATCHDOG_PERIOD: Duration = Duration::from_secs(10);

fn watchdog_period(manager: &ServiceManager) -> Duration {
    manager.watchdog().map_or(WATCHDOG_PERIOD, |limit| limit / 3).max(Duration::from_millis(1))
}

/// How many requests one turn takes at most: enough to share one sync and one file of leases, few enough that nothing else
/// waits for long.
const TURN_MAX: usize = 256;

/// For how long requests are served before looking at what has ended meanwhile, ns: far below any limit, long enough to share the
/// work that such a look may lead to.
const LOOK_EVERY_NS: u64 = 10_000_000;

/// A turn of requests. However many there are and whatever they cost, nothing else waits for longer than one of them takes.
fn serve_clients(
    core: &mut Core,
    store: &mut Store,
    done: &mut mpsc::Receiver<Done>,
    messages: &mut Vec<FromClient>,
) {
    let mut due = core.next_timeout();
    let mut looked = raw_ns();
    for message in messages.drain(..) {
        core.client(message);
        let is_due = due.is_some_and(|(boot, raw)| boot_ns() >= boot || raw_ns() >= raw);
        if is_due || raw_ns() - looked >= LOOK_EVERY_NS {
            take_ends(core, done);
            while let Ok(outcome) = store.outcomes.try_recv() {
                core.written(outcome);
            }
            core.tick();
            core.carry_out(store);
            due = core.next_timeout();
            looked = raw_ns();
        }
    }
}

/// All ends that have come meanwhile belong to one turn.
fn take_ends(core: &mut Core, done: &mut mpsc::Receiver<Done>) {
    while let Ok(end) = done.try_recv() {
        core.done(end);
    }
}

/// Lets clients connect; gives what decides who may. A socket that cannot be made ends the start, but not if something is armed
/// or being fenced: then fencing that, unheard, is better than not to be there.
async fn begin_to_listen(core: &Core, to: mpsc::Sender<FromClient>) -> Result<Access, DaemonError> {
    let (access, gate) = Access::new(&core.config);
    let made = listen::start(core.config.socket.clone(), gate, to)?;
    match made.await.unwrap_or(Err(DaemonError::Gone("the thread that serves clients"))) {
        Ok(()) => {}
        Err(error) if core.is_idle() => return Err(error),
        Err(error) => error!(
            "NOBODY CAN CONNECT: what is armed is fenced at its deadline, and nothing is extended, until this is repaired: {}",
            with_causes(&error)
        ),
    }
    Ok(access)
}

/// What a service manager or an administrator tells by signals.
#[derive(Debug)]
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Reload,
    End,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Safe to cancel.
    async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.hang_up.recv() => Told::Reload,
            _ = self.terminate.recv() => Told::End,
            _ = self.interrupt.recv() => Told::End,
        }
    }
}

/// Held for the daemon's life.
#[derive(Debug)]
struct Locks {
    /// None if the state directory cannot be used, and what is armed has to be fenced all the same.
    _state: Option<LockFile>,
    _runtime: LockFile,
}

#[cfg(test)]
mod tests {
    use sitegate_fence_client::status::FencePhase;
    use sitegate_fence_client::wire::{Name, Reason};

    use super::session::ClientId;
    use super::*;
    use crate::deadman::State;
    use crate::journal::Journal;
    use crate::leases;
    use crate::reboot::Restarter;

    #[tokio::test]
    async fn a_kill_that_ended_in_time_is_not_late_because_a_client_was_served() {
        let dir = tempfile::tempdir().unwrap();
        let text = "kill-within = \"2s\"\n[resource.db]\nfence = []\nunfenced = true\n";
        let restarter = Restarter::start(|_| String::new()).unwrap();
        let (mut core, mut done) = fixture::core(dir.path(), text, restarter);
        let (journal, _disk) = Journal::on_hanging_disk(dir.path());
        let mut store = Store::start(Ok(journal)).unwrap();
        let db = Name::new("db").unwrap();
        core.deadman.fence(leases::now(), &db, 1, Reason::not_receipted()).unwrap();
        core.carry_out(&store);
        while done.is_empty() {
            tokio::task::yield_now().await;
        }
        // A request that takes until the kill's limit has passed.
        let (due, _) = core.next_timeout().unwrap();
        while boot_ns() < due {
            tokio::time::sleep(Duration::from_nanos(due - boot_ns())).await;
        }
        serve_clients(&mut core, &mut store, &mut done, &mut vec![FromClient::Gone { client: ClientId(1) }]);
        let state = core.deadman.view(&db).unwrap().state;
        assert!(matches!(state, State::Fencing { phase: FencePhase::Recording, .. }), "{state:?}");
    }
}
