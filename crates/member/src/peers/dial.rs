//! Calling a member: again and again, at each of its addresses in turn.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tracing::{debug, info, warn};

use super::tcp::{Pace, repeat_soon, set_up};
use super::{Calling, Link, Peers};
use crate::config::{Address, Host};
use crate::tls::{explain, principal_of, server_name};
use crate::wire::{Answer, HELLO_BYTES_MAX, Hello, Lane, WireError, read_message, write_message};

/// The shortest pause between attempts.
const BACKOFF_MIN: Duration = Duration::from_millis(10);
/// Connections to one address that are being tried at a time.
const ATTEMPTS_AT_ONCE: usize = 4;
/// How long a member may be out of reach before the log says so.
const TELL_AFTER: Duration = Duration::from_secs(1);

/// Why a member could not be called.
#[derive(Debug, thiserror::Error)]
enum CallError {
    #[error("{address}: {why}")]
    Unreachable { address: String, why: String },
    #[error("it refuses us: {0}")]
    Refused(crate::wire::Refused),
    #[error("it answers strangely: {0}")]
    Strange(#[from] WireError),
    #[error("it is not in formation.toml any more")]
    Unknown,
}

/// Calls `link`'s member on `lane`, for ever.
pub(super) async fn keep_calling(peers: Arc<Peers>, link: Arc<Link>, lane: Lane) {
    let mut backoff = BACKOFF_MIN;
    let mut trouble = Trouble::default();
    loop {
        let pace = peers.pace();
        let began = Instant::now();
        let why = match call(&peers, &link, lane, pace).await {
            Ok(stream) => {
                info!(member = %link.name, lane = lane.name(), "connected");
                trouble = Trouble::default();
                link.with_state(|state| {
                    state.calling.insert(lane, Calling::Connected);
                    state.refused = None;
                });
                let why = carry(&peers, &link, lane, stream, pace).await;
                info!(member = %link.name, lane = lane.name(), why, "disconnected");
                if began.elapsed() > pace.backoff_max {
                    backoff = BACKOFF_MIN;
                }
                why
            }
            Err(error) => {
                let why = error.to_string();
                trouble.tell(&link, lane, &why);
                if matches!(error, CallError::Refused(_)) {
                    link.with_state(|state| state.refused = Some(why.clone()));
                }
                why
            }
        };
        link.with_state(|state| state.calling.insert(lane, Calling::Failed(why)));
        rest(&link, lane, backoff).await;
        backoff = (backoff * 2).min(pace.backoff_max);
    }
}

/// What the log says of a member that cannot be called: nothing for a moment, as it may just be starting; then each
/// reason once.
#[derive(Debug, Default)]
struct Trouble {
    since: Option<Instant>,
    told: Option<String>,
}

impl Trouble {
    fn tell(&mut self, link: &Link, lane: Lane, why: &str) {
        let since = *self.since.get_or_insert_with(Instant::now);
        if since.elapsed() < TELL_AFTER || self.told.as_deref() == Some(why) {
            debug!(member = %link.name, lane = lane.name(), why, "cannot connect");
            return;
        }
        warn!(member = %link.name, lane = lane.name(), why, "cannot connect");
        self.told = Some(why.to_owned());
    }
}

/// Waits for about `backoff`, or until the member shows itself.
async fn rest(link: &Link, lane: Lane, backoff: Duration) {
    let now = Instant::now();
    // Spread over the second half, so that members that lost each other do not knock in step.
    let spread = f64::from(getrandom::u32().unwrap_or(0)) / f64::from(u32::MAX);
    let until = now + backoff.mul_f64(0.5 + spread / 2.0);
    tokio::select! {
        () = sleep_until(until) => {}
        () = link.shown[&lane].notified() => sleep_until(now + BACKOFF_MIN).await,
    }
}

async fn call(peers: &Peers, link: &Link, lane: Lane, pace: Pace) -> Result<TlsStream<TcpStream>, CallError> {
    let configuration = peers.shared.configuration.get();
    let member = configuration.formation.member(&link.name).ok_or(CallError::Unknown)?;
    let mut failure = CallError::Unknown;
    for address in &member.addresses {
        let attempt = timeout(pace.connect_within, call_at(peers, link, lane, pace, address)).await;
        match attempt {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error @ (CallError::Refused(_) | CallError::Strange(_)))) => return Err(error),
            Ok(Err(error)) => failure = error,
            Err(_elapsed) => {
                let why = format!("no answer within {:?}", pace.connect_within);
                failure = CallError::Unreachable { address: address.to_string(), why };
            }
        }
    }
    Err(failure)
}

async fn call_at(
    peers: &Peers,
    link: &Link,
    lane: Lane,
    pace: Pace,
    address: &Address,
) -> Result<TlsStream<TcpStream>, CallError> {
    let unreachable =
        |error: &io::Error| CallError::Unreachable { address: address.to_string(), why: explain(error) };
    let stream = connect(address, pace.again_after).await.map_err(|e| unreachable(&e))?;
    repeat_soon(&stream);
    set_up(&stream, pace).map_err(|e| unreachable(&e))?;
    let tls = peers.shared.tls.get().client(&link.name).ok_or(CallError::Unknown)?;
    let connected = TlsConnector::from(tls).connect(server_name(), stream).await;
    let mut stream = connected.map_err(|e| unreachable(&e))?;
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    if let Ok(peer) = principal_of(chain) {
        link.with_state(|state| state.certificate_ends = Some(peer.validity.not_after));
    }
    let hello = Hello::new(&peers.shared.configuration.get().formation, lane, peers.shared.boot);
    write_message(&mut stream, &hello.encode()).await.map_err(|e| unreachable(&e))?;
    let answer = read_message(&mut stream, HELLO_BYTES_MAX).await;
    let answer = match answer {
        Ok(Some(answer)) => Answer::decode(&answer)?,
        Ok(None) => return Err(unreachable(&io::ErrorKind::UnexpectedEof.into())),
        // With TLS 1.3 a caller learns only now that its certificate was refused.
        Err(WireError::Io(error)) => return Err(unreachable(&error)),
        Err(error) => return Err(error.into()),
    };
    match answer {
        Answer::Refused(why) => Err(CallError::Refused(why)),
        Answer::Welcome { configuration, .. } => {
            link.with_state(|state| state.configuration = Some(configuration));
            Ok(stream)
        }
    }
}

/// Connects, or says why not. Where the first packet is lost TCP repeats it only after a second; so if nobody answers soon
/// another connection is tried beside it, and the first that comes about counts.
async fn connect(address: &Address, again_after: Duration) -> io::Result<TcpStream> {
    let mut attempts = JoinSet::new();
    loop {
        if attempts.len() < ATTEMPTS_AT_ONCE {
            attempts.spawn(connect_once(address.clone()));
        }
        match timeout(again_after, attempts.join_next()).await {
            Ok(Some(Ok(connected))) => return connected,
            Ok(Some(Err(ended))) => return Err(io::Error::other(ended)),
            Ok(None) | Err(_) => {}
        }
    }
}

async fn connect_once(address: Address) -> io::Result<TcpStream> {
    match &address.host {
        Host::Ip(ip) => TcpStream::connect((*ip, address.port)).await,
        Host::Name(name) => TcpStream::connect((name.as_str(), address.port)).await,
    }
}

/// Sends what there is to send until the connection ends; says why it did.
async fn carry(peers: &Peers, link: &Link, lane: Lane, stream: TlsStream<TcpStream>, pace: Pace) -> String {
    let (mut read, mut write) = tokio::io::split(stream);
    let outbox = &link.outboxes[&lane];
    let mut renewals = peers.renewals.subscribe();
    let mut byte = [0_u8; 1];
    loop {
        let batch = tokio::select! {
            batch = outbox.take() => batch,
            ended = read.read(&mut byte) => return match ended {
                Ok(0) => "the other side has closed it".into(),
                Ok(_) => "the other side speaks out of turn".into(),
                Err(error) => explain(&error),
            },
            _ = renewals.changed() => return "made anew after a reload".into(),
        };
        let sending = async {
            tokio::io::AsyncWriteExt::write_all(&mut write, &batch).await?;
            tokio::io::AsyncWriteExt::flush(&mut write).await
        };
        match timeout(pace.unanswered_max, sending).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return explain(&error),
            Err(_elapsed) => return format!("nothing could be sent for {:?}", pace.unanswered_max),
        }
    }
}
