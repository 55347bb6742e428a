//! The socket: made at the start, or, where that fails while something is armed, as soon as it can be made.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::runtime;
use tokio::sync::{mpsc, oneshot};
use tracing::info;

use super::DaemonError;
use super::access::Gate;
use super::admission::accept;
use super::session::FromClient;

/// How long to wait before trying again to make a socket.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// Serves clients from now on, on a thread and in a runtime of their own: whatever they send, and however much of it, is read and
/// understood there, and the loop that fences gets what was understood. Tells whether the socket could be made; if not, it is
/// tried again for ever.
pub(super) fn start(
    path: PathBuf,
    gate: Gate,
    to: mpsc::Sender<FromClient>,
) -> Result<oneshot::Receiver<Result<(), DaemonError>>, DaemonError> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(DaemonError::machine("make a runtime"))?;
    let (tell, made) = oneshot::channel();
    let thread = move || runtime.block_on(serve(path, gate, to, tell));
    thread::Builder::new()
        .name("clients".to_owned())
        .spawn(thread)
        .map_err(DaemonError::machine("start a thread"))?;
    Ok(made)
}

async fn serve(
    path: PathBuf,
    gate: Gate,
    to: mpsc::Sender<FromClient>,
    made: oneshot::Sender<Result<(), DaemonError>>,
) {
    // Whoever has asked has given up the start meanwhile, or wants to know.
    let listener = match listen(&path, gate.open()).await {
        Ok(listener) => {
            let _ = made.send(Ok(()));
            listener
        }
        Err(error) => {
            let _ = made.send(Err(error));
            listen_at_last(&path, &gate).await
        }
    };
    accept(listener, gate, to).await;
}

async fn listen_at_last(path: &Path, gate: &Gate) -> UnixListener {
    loop {
        tokio::time::sleep(TRY_AGAIN).await;
        let open = gate.open();
        if let Ok(listener) = listen(path, open).await {
            info!(socket = %path.display(), "clients can connect");
            return listener;
        }
    }
}

/// Makes the socket, or says why not.
async fn listen(path: &Path, open: bool) -> Result<UnixListener, DaemonError> {
    let failed = |source| DaemonError::Socket { path: path.to_path_buf(), source };
    remove_left_over(path).await.map_err(failed)?;
    let listener = UnixListener::bind(path).map_err(failed)?;
    admit_users(path, open).map_err(failed)?;
    Ok(listener)
}

/// The socket is `open` to every user, who are then told apart by their credentials, or to root and our own user.
pub(super) fn admit_users(path: &Path, open: bool) -> io::Result<()> {
    fs::set_permissions(path, Permissions::from_mode(if open { 0o666 } else { 0o600 }))
}

/// Removes the socket of an earlier daemon. Nothing else, and none where somebody listens: the directories are locked, but
/// `socket` may name any path.
async fn remove_left_over(path: &Path) -> io::Result<()> {
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    if !found.file_type().is_socket() {
        return Err(io::Error::other(
            "something else is there, which is no socket: correct `socket`, or remove it",
        ));
    }
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        // Its queue may be full.
        Ok(_) => Err(io::Error::other("another program listens there: correct `socket`, or stop that one")),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            Err(io::Error::other("another program listens there: correct `socket`, or stop that one"))
        }
        Err(error) => Err(error),
    }
}
