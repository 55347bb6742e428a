//! A daemon's life: everything is put together here, and here it ends.

use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use axum::Router;
use sitegate_host::clock::{boot_id, clock_id};
use sitegate_host::durable::DurableError;
use sitegate_host::log::{self, LogFilter};
use sitegate_protocol::{Nonce, Start};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Instant, interval, sleep_until};
use tracing::{error, info, warn};

use super::goodbye::{say_goodbye, status_line};
use super::reload::Reloader;
use super::{Exit, Failure, Program, Setup};
use crate::api::{Api, Glance, Server, serve_socket};
use crate::arguments::Arguments;
use crate::config::Configuration;
use crate::driver::{self, Driver, Ended, Handle, Parts};
use crate::journal::content::{Nothing, Process};
use crate::journal::{Content, Draft, Journal, Moment};
use crate::peers::{Inbox, Peers};
use crate::port::{Port, listen};
use crate::service::Service;
use crate::shared::Shared;
use crate::site::{SitePort, SiteWires};
use crate::store::{self, Loaded, OpenError, Owner, Proof};
use crate::tls::MemberTls;

/// The journal's directory in the state directory.
const JOURNAL: &str = "journal";
/// Requests to reload that wait: each would find what the one before it has loaded.
const RELOADS_WAITING_MAX: usize = 4;
/// How often the service manager hears how it goes.
const STATUS_EVERY: Duration = Duration::from_secs(5);
/// How long the end of a running commit is waited for when told to stop.
const STOP_WITHIN: Duration = Duration::from_secs(5);
/// How long the journal may take to reach the disk at the end.
const SYNC_WITHIN: Duration = Duration::from_secs(2);
/// Sockets lie here; their own modes say who may use them.
const RUNTIME_DIR_MODE: u32 = 0o755;

/// Runs until told to stop, or until something ends it.
pub(super) fn run(
    program: &Program,
    arguments: &Arguments,
    configuration: Configuration,
    warnings: &[String],
) -> Result<Exit, Failure> {
    let failed = |error: &dyn std::error::Error, hint: &str| Failure::new(Exit::Failed, error, hint);
    let logging =
        log::start(&configuration.local.log).map_err(|e| failed(&e, "choose another [log] format"))?;
    let exit =
        begin(program, arguments, configuration, warnings, logging.filter()).unwrap_or_else(|failure| {
            // Not to standard error itself: a process that has something to say before it ends must end all the same.
            logging.say(&failure.text);
            failure.exit
        });
    logging.flush();
    Ok(exit)
}

fn begin(
    program: &Program,
    arguments: &Arguments,
    configuration: Configuration,
    warnings: &[String],
    filter: LogFilter,
) -> Result<Exit, Failure> {
    let failed = |error: &dyn std::error::Error, hint: &str| Failure::new(Exit::Failed, error, hint);
    let found = find(&configuration)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| failed(&e, ""))?;
    warnings.iter().for_each(|warning| warn!("{warning}"));
    let setup = Setup { program: *program, arguments: Arc::new(arguments.clone()) };
    let ended = runtime.block_on(live(&setup, configuration, filter, found));
    // What is left in other threads can only be reading: it need not be waited for.
    runtime.shutdown_background();
    ended
}

/// What the disk and the machine gave.
struct Found {
    tls: MemberTls,
    loaded: Loaded,
    proof: Proof,
    proven: bool,
    boot: u128,
    journal: Journal,
}

fn find(configuration: &Configuration) -> Result<Found, Failure> {
    let local = &configuration.local;
    let tls = MemberTls::load(&local.tls, &configuration.formation, &local.name)?;
    let owner = Owner::of(configuration);
    let loaded = store::open(&local.state_dir, &owner).map_err(|error| {
        let exit = match error {
            OpenError::Locked(_) | OpenError::Failed { .. } => Exit::Failed,
            _ => Exit::Store,
        };
        Failure::new(exit, &error, error.advice())
    })?;
    let machine = |error: &dyn std::error::Error, hint: &str| Failure::new(Exit::Failed, error, hint);
    make_runtime_dir(&local.runtime_dir)
        .map_err(|e| machine(&e, "correct `runtime-dir` in member.toml, or its owner and mode"))?;
    let boot_id = boot_id().map_err(|e| machine(&e, "is /proc mounted?"))?;
    let proof = Proof::open(&local.runtime_dir, &boot_id, loaded.durable.own.identity)
        .map_err(|e| machine(&e, "correct the owner and mode of `runtime-dir`"))?;
    let journal = Journal::open(&local.state_dir.join(JOURNAL))
        .map_err(|e| machine(&e, "correct the owner and mode of `state-dir`"))?;
    let proven = proof.proves(loaded.lsn);
    let boot = u128::from_str_radix(&boot_id.replace('-', ""), 16).unwrap_or_default();
    Ok(Found { tls, loaded, proof, proven, boot, journal })
}

fn make_runtime_dir(directory: &Path) -> Result<(), DurableError> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true).mode(RUNTIME_DIR_MODE);
    builder.create(directory).map_err(DurableError::on("create the directory", directory))
}

/// All that runs beside the loop.
struct Alive {
    shared: Arc<Shared>,
    handle: Handle,
    journal: Journal,
    service: Service,
    reloads: mpsc::Sender<crate::api::Reload>,
}

async fn live(
    setup: &Setup,
    configuration: Configuration,
    filter: LogFilter,
    found: Found,
) -> Result<Exit, Failure> {
    let failed = |error: &dyn std::error::Error, hint: &str| Failure::new(Exit::Failed, error, hint);
    let mut signals = Signals::new().map_err(|e| failed(&e, ""))?;
    let listeners = listen(&configuration.local.listen).map_err(|e| {
        failed(&e, "is the daemon running already? `listen` in member.toml says where to listen")
    })?;
    let socket = configuration.local.socket.clone();
    let (driver, alive, router) = assemble(setup, configuration, filter, found, listeners)?;
    let server = Server::bind(&socket, router)
        .map_err(|e| failed(&e, "correct `socket` in member.toml, or the owner and mode of its directory"))?;
    tokio::spawn(serve_socket(server));
    alive.service.ready();
    alive.note_start(setup);
    let ended = watch(driver, &alive, &mut signals).await;
    alive.service.stopping();
    let exit = alive.end(&ended);
    // A socket that nobody serves helps nobody.
    let _ = std::fs::remove_file(&socket);
    Ok(exit)
}

fn assemble(
    setup: &Setup,
    configuration: Configuration,
    filter: LogFilter,
    found: Found,
    listeners: Vec<TcpListener>,
) -> Result<(Driver, Alive, Router), Failure> {
    let machine = |error: &dyn std::error::Error| Failure::new(Exit::Failed, error, "");
    let Found { tls, loaded, proof, proven, boot, journal } = found;
    let shared = Arc::new(Shared::new(configuration, tls, boot));
    let (inbox, frames) = Inbox::new();
    let peers = Arc::new(Peers::new(Arc::clone(&shared), inbox));
    let wires = setup.program.attach.map(|attach| (attach, SiteWires::new()));
    let (site, to_attach) = match wires {
        Some((attach, SiteWires { end, work, events, reload })) => {
            (Some(end), Some((attach, work, events, reload)))
        }
        None => (None, None),
    };
    let random = || getrandom::u64().map_err(|error| machine(&error));
    let service = Service::from_environment();
    let parts = Parts {
        durable: loaded.durable,
        store: loaded.store,
        proof,
        start: Start { nonce: Nonce(random()?), seed: random()?, lsn: loaded.lsn, proven },
        shared: Arc::clone(&shared),
        peers: Arc::clone(&peers),
        frames,
        journal: journal.clone(),
        site,
        service: service.clone(),
    };
    let (driver, handle) = Driver::start(parts).map_err(|error| machine(&error))?;
    let mut site_reload = None;
    let more = to_attach.map(|(attach, work, events, reload)| {
        site_reload = Some(reload);
        let incarnation = driver.life().incarnation;
        attach(SitePort { work, events, shared: Arc::clone(&shared), journal: journal.clone(), incarnation })
    });
    let (reloads, queue) = mpsc::channel(RELOADS_WAITING_MAX);
    let api = Arc::new(Api {
        shared: Arc::clone(&shared),
        peers: Arc::clone(&peers),
        handle: handle.clone(),
        journal: journal.clone(),
        reloads: reloads.clone(),
        commands: AtomicU64::new(1),
        glance: Glance::default(),
    });
    let router = api.router(more.unwrap_or_default());
    let port = Arc::new(Port::new(Arc::clone(&shared), Arc::clone(&peers), router.clone()));
    for listener in listeners {
        tokio::spawn(Arc::clone(&port).serve(listener));
    }
    peers.call();
    let reloader = Reloader {
        setup: setup.clone(),
        shared: Arc::clone(&shared),
        peers,
        handle: handle.clone(),
        filter,
        site: site_reload,
        service: service.clone(),
        journal: journal.clone(),
    };
    tokio::spawn(reloader.serve(queue));
    Ok((driver, Alive { shared, handle, journal, service, reloads }, router))
}

/// Runs the loop, and hears signals, until it ends.
async fn watch(driver: Driver, alive: &Alive, signals: &mut Signals) -> Ended {
    let mut driver = std::pin::pin!(driver.run());
    let mut status = interval(STATUS_EVERY);
    let mut stop_by: Option<Instant> = None;
    loop {
        tokio::select! {
            ended = &mut driver => return ended,
            () = sleep_until(stop_by.unwrap_or_else(Instant::now)), if stop_by.is_some() => {
                warn!("a commit has been running for too long to be waited for");
                return Ended::Stopped;
            }
            told = signals.next() => match told {
                Told::Reload => alive.reload(),
                Told::End if stop_by.is_none() => {
                    stop_by = Some(Instant::now() + STOP_WITHIN);
                    tokio::spawn(say_goodbye(alive.handle.clone(), Arc::clone(&alive.shared)));
                }
                Told::End => {}
            },
            _ = status.tick() => {
                tokio::spawn(status_line(alive.handle.clone(), Arc::clone(&alive.shared), alive.service.clone()));
            }
        }
    }
}

impl Alive {
    fn reload(&self) {
        let (reply, _nobody_waits) = tokio::sync::oneshot::channel();
        if self.reloads.try_send(reply).is_err() {
            info!("a reload is about to happen anyway");
        }
    }

    /// The first entry of a process, with what a verifier needs to know about all that follow.
    fn note_start(&self, setup: &Setup) {
        let text = format!("{} {} has started", setup.program.name, env!("CARGO_PKG_VERSION"));
        let formation = &self.shared.configuration.get().formation;
        let process = Process {
            member: Some(self.shared.names.name(self.shared.names.me())),
            formation: Some(formation.name.to_string()),
            members: formation.members.iter().map(|m| (m.name.to_string(), m.id.get())).collect(),
            // Without it nobody can compare this member's clocks with another's; the rest of the entry holds all the same.
            clock: clock_id().ok(),
            max_clock_drift_ppm: Some(formation.max_clock_drift.ppm().into()),
        };
        self.note(text, Content::Started(process));
    }

    fn note(&self, text: String, content: Content) {
        info!("{text}");
        let draft = Draft::new(text, content);
        self.shared.metrics.journal_lost.add(self.journal.write(vec![draft], Moment::new(driver::now())));
    }

    fn end(&self, ended: &Ended) -> Exit {
        let mut text = ended.to_string();
        let mut cause = std::error::Error::source(ended);
        while let Some(error) = cause {
            text.push_str(&format!(": {error}"));
            cause = error.source();
        }
        let exit = match ended {
            Ended::Stopped => Exit::Told,
            Ended::Commit(_) => Exit::Disk,
            Ended::StartAgain => Exit::StartAgain,
            Ended::DiskGone | Ended::Alarm(_) => Exit::Failed,
        };
        if exit != Exit::Told {
            error!("{text}");
        }
        self.note(text, Content::Stopped(Nothing {}));
        self.journal.sync(SYNC_WITHIN);
        exit
    }
}

/// The signals that a daemon heeds.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for the next. Safe to cancel.
    async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.terminate.recv() => Told::End,
            _ = self.interrupt.recv() => Told::End,
            _ = self.hangup.recv() => Told::Reload,
        }
    }
}

/// What a signal means.
enum Told {
    /// SIGTERM, SIGINT.
    End,
    /// SIGHUP.
    Reload,
}
