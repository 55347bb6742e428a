//! The port that everybody outside connects to: members to speak, people to ask.
//!
//! Whoever connects first proves who they are, in a bounded time, from a bounded number of connections. Until then they
//! cost a little memory and are told nothing.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use rustix::net::sockopt::set_ipv6_v6only;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::warn;

use crate::api::{Who, serve_connection};
use crate::config::Listen;
use crate::peers::{Peers, repeat_soon, serve};
use crate::shared::Shared;
use crate::tls::{Peer, Service, explain, principal_of, with_refusal};

mod gate;

use gate::Gate;

/// How long proving who one is may take.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(5);
/// Connections of people and programs at a time.
const API_CONNECTIONS_MAX: usize = 32;
/// How long to rest when the machine has no descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Connections that the kernel holds until they are accepted.
const BACKLOG: u32 = 128;

/// What serves the port.
#[derive(Debug)]
pub struct Port {
    shared: Arc<Shared>,
    peers: Arc<Peers>,
    router: Router,
    gate: Gate,
    api: Semaphore,
}

/// The port cannot be had; mostly the configuration's fault, or another process has it.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}")]
pub struct ListenError {
    address: SocketAddr,
    source: io::Error,
}

/// Listens as the configuration says.
///
/// # Errors
/// The first address that cannot be had.
pub fn listen(on: &Listen) -> Result<Vec<TcpListener>, ListenError> {
    let bind = |address| bind(address).map_err(|source| ListenError { address, source });
    match on {
        Listen::On(addresses) => addresses.iter().map(|address| bind(*address)).collect(),
        Listen::Everywhere(port) => {
            let both = bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, *port)));
            // A host without IPv6 has IPv4 at least.
            Ok(vec![both.or_else(|_| bind(SocketAddr::from(([0, 0, 0, 0], *port))))?])
        }
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv6() { TcpSocket::new_v6()? } else { TcpSocket::new_v4()? };
    // A daemon that is restarted takes its port back although connections of the last one are not forgotten yet.
    socket.set_reuseaddr(true)?;
    if address.is_ipv6() {
        set_ipv6_v6only(&socket, !address.ip().is_unspecified())?;
    }
    repeat_soon(&socket);
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

impl Port {
    /// For `peers` and, with `router`, for the API.
    #[must_use]
    pub fn new(shared: Arc<Shared>, peers: Arc<Peers>, router: Router) -> Self {
        Self { shared, peers, router, gate: Gate::default(), api: Semaphore::new(API_CONNECTIONS_MAX) }
    }

    /// Serves `listener` for ever.
    pub async fn serve(self: Arc<Self>, listener: TcpListener) {
        loop {
            match listener.accept().await {
                Ok((stream, address)) => self.admit(stream, address),
                Err(error) => {
                    warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn admit(self: &Arc<Self>, stream: TcpStream, address: SocketAddr) {
        let Some(pass) = self.gate.admit(address.ip()) else {
            self.shared.metrics.turned_away.add(1);
            self.shared
                .complaints
                .about(address.ip(), || "too many connections that did not say who they are".into());
            return;
        };
        let port = Arc::clone(self);
        tokio::spawn(async move {
            let tls = Arc::clone(&port.shared.tls.get().server);
            let shaken = timeout(HANDSHAKE_WITHIN, shake_hands(tls, stream)).await;
            drop(pass);
            let why = match shaken {
                Ok(Ok((stream, peer, service))) => {
                    return port.serve_known(stream, address, peer, service).await;
                }
                Ok(Err(why)) => why,
                Err(_elapsed) => format!("no TLS handshake within {HANDSHAKE_WITHIN:?}"),
            };
            port.shared.metrics.turned_away.add(1);
            port.shared.complaints.about(address.ip(), || format!("turned a connection away: {why}"));
        });
    }

    async fn serve_known(
        &self,
        stream: TlsStream<TcpStream>,
        address: SocketAddr,
        peer: Peer,
        service: Service,
    ) {
        match service {
            Service::Peer => serve(&self.peers, stream, address, &peer).await,
            Service::Api => {
                let Ok(_slot) = self.api.try_acquire() else {
                    let about: IpAddr = address.ip();
                    self.shared.metrics.turned_away.add(1);
                    self.shared.complaints.about(about, || "too many connections to the API".into());
                    return;
                };
                serve_connection(stream, self.router.clone(), Who::Certificate(peer.principal)).await;
            }
        }
    }
}

/// Finds out who is at the other end of `stream`, and what they want; or why they are turned away.
///
/// # Errors
/// In a sentence, for the log: the other end is told nothing but TLS's own alerts.
pub async fn shake_hands<S: AsyncRead + AsyncWrite + Unpin>(
    tls: Arc<ServerConfig>,
    stream: S,
) -> Result<(TlsStream<S>, Peer, Service), String> {
    let (accepted, refusal) = with_refusal(TlsAcceptor::from(tls).accept(stream)).await;
    let stream = accepted.map_err(|error| refusal.map_or_else(|| explain(&error), |why| why.to_string()))?;
    let session = stream.get_ref().1;
    let chain = session.peer_certificates().unwrap_or_default();
    let peer = principal_of(chain).map_err(|error| error.cause().to_owned())?;
    let service =
        Service::of(session.alpn_protocol(), &peer.principal).map_err(|refusal| refusal.to_string())?;
    Ok((stream, peer, service))
}
