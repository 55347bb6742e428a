//! Serving HTTP/1.1 on one connection at a time, with bounds on all of it.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use sitegate_host::durable::DurableError;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tracing::{debug, warn};

use super::Who;

/// Connections on the Unix socket at a time: scripts that poll, and people.
const LOCAL_CONNECTIONS_MAX: usize = 64;
/// How long a client may take to send a request's head, and may keep a connection idle.
const HEAD_WITHIN: Duration = Duration::from_secs(10);
/// How much of a request is buffered, in bytes: its head must fit.
const BUFFER_BYTES_MAX: usize = 16 * 1024;
/// Headers of a request.
const HEADERS_MAX: usize = 32;
/// How long to rest when the machine has no descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Everybody in the group may talk to the daemon; nobody else.
const SOCKET_MODE: u32 = 0o660;

/// What serves the Unix socket.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    router: Router,
}

impl Server {
    /// Listens on `path`, in place of whatever an earlier process left there. Who may, has locked the state directory.
    ///
    /// # Errors
    /// Those of `bind(2)` and `chmod(2)`, with the path.
    pub fn bind(path: &Path, router: Router) -> Result<Self, DurableError> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(DurableError::on("remove", path)(error));
            }
            _ => {}
        }
        let listener = UnixListener::bind(path).map_err(DurableError::on("listen on", path))?;
        let mode = std::fs::Permissions::from_mode(SOCKET_MODE);
        std::fs::set_permissions(path, mode).map_err(DurableError::on("set the mode of", path))?;
        Ok(Self { listener, router })
    }
}

/// Serves the Unix socket for ever.
pub async fn serve_socket(server: Server) {
    let slots = Arc::new(Semaphore::new(LOCAL_CONNECTIONS_MAX));
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        match server.listener.accept().await {
            Ok((stream, _)) => {
                let router = server.router.clone();
                tokio::spawn(async move {
                    serve_local(stream, router).await;
                    drop(slot);
                });
            }
            Err(error) => {
                warn!(%error, "cannot accept on the API's socket");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve_local(stream: UnixStream, router: Router) {
    // Of a client in an outer PID namespace (this daemon is in a container) the kernel tells the user, but no process.
    match stream.peer_cred() {
        Ok(peer) => serve_connection(stream, router, Who::Local { uid: peer.uid() }).await,
        Err(error) => warn!(%error, "the kernel does not say who connects to the API's socket"),
    }
}

/// Serves one connection of `who` until it ends.
pub async fn serve_connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    who: Who,
) {
    let service = TowerToHyperService::new(router.layer(Extension(who)));
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .max_buf_size(BUFFER_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        debug!(%error, "a connection to the API ended early");
    }
}
