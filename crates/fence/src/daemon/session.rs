//! One client's connection: lines in, lines out, and nothing of its own to decide.

use std::sync::Arc;
use std::time::Duration;

use sitegate_fence_client::request::{LINE_BYTES_MAX, Reply, Request, parse_request, reply_line};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Interest};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;
use tracing::{debug, warn};

/// How many clients may be connected: a site daemon, its successor, some status queries; more is a mistake.
const CLIENTS_MAX: usize = 64;
/// How many requests of all clients may wait for the daemon to take them.
pub(super) const REQUESTS_MAX: usize = 1024;
/// How many lines may wait for a client that does not read, before it is disconnected: all that ten thousand resources
/// have to say at once.
const LINES_MAX: usize = 32 * 1024;
/// How long a client may take to read one line before it is disconnected.
const WRITE_WITHIN: Duration = Duration::from_secs(10);

/// How often to look whether a client that has said its last still waits for an answer. One that closed for good must not
/// keep its place while a fence that it ordered takes its time.
const LOOK_FOR_READER: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct ClientId(u64);

#[derive(Debug)]
pub(super) enum FromClient {
    Connected {
        client: ClientId,
        lines: mpsc::Sender<String>,
    },
    Request {
        client: ClientId,
        id: Option<u64>,
        request: Request,
    },
    /// It will not ask any more, but may still wait for answers.
    Finished {
        client: ClientId,
    },
    /// It is gone, or was cut off.
    Gone {
        client: ClientId,
    },
}

/// Accepts clients for ever.
pub(super) async fn accept(listener: UnixListener, allowed: Vec<u32>, to: mpsc::Sender<FromClient>) {
    let room = Arc::new(Semaphore::new(CLIENTS_MAX));
    let mut next = 0;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                next += 1;
                admit(stream, ClientId(next), &allowed, &room, &to);
            }
            Err(error) => {
                warn!("cannot accept a client: {error}");
                // Out of descriptors, most likely: until one is free there is nothing to do but to try again.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

fn admit(
    stream: UnixStream,
    client: ClientId,
    allowed: &[u32],
    room: &Arc<Semaphore>,
    to: &mpsc::Sender<FromClient>,
) {
    let why = match (stream.peer_cred(), Arc::clone(room).try_acquire_owned()) {
        (Ok(peer), Ok(place)) if allowed.contains(&peer.uid()) => {
            debug!(?client, uid = peer.uid(), pid = peer.pid(), "connected");
            tokio::spawn(serve(stream, client, to.clone(), place));
            return;
        }
        (Ok(peer), Ok(_)) => {
            warn!(
                uid = peer.uid(),
                pid = peer.pid(),
                "a client of a user that is not allowed to connect was refused"
            );
            let uid = peer.uid();
            format!("user {uid} may not use this socket: add it to allow-uid in fenced.toml, or ask as root")
        }
        (Ok(_), Err(_)) => format!("{CLIENTS_MAX} clients are connected: close some"),
        (Err(error), _) => format!("cannot tell who you are: {error}"),
    };
    tokio::spawn(turn_away(stream, why));
}

async fn turn_away(mut stream: UnixStream, why: String) {
    if let Ok(line) = reply_line(None, &Reply::Error { why }) {
        // Whether it still wants to know is its own affair.
        let _ = timeout(WRITE_WITHIN, stream.write_all(line.as_bytes())).await;
    }
}

async fn serve(
    stream: UnixStream,
    client: ClientId,
    to: mpsc::Sender<FromClient>,
    _place: OwnedSemaphorePermit,
) {
    let (read, write) = stream.into_split();
    let (lines, queue) = mpsc::channel(LINES_MAX);
    if to.send(FromClient::Connected { client, lines: lines.clone() }).await.is_err() {
        return;
    }
    let mut writer = tokio::spawn(write_lines(write, queue));
    tokio::select! {
        () = read_lines(read, client, &to, lines) => {
            // The daemon lets go of the other end of `queue` when the last answer is given; then the writer ends.
            let _ = to.send(FromClient::Finished { client }).await;
            let _ = writer.await;
        }
        _ = &mut writer => {}
    }
    let _ = to.send(FromClient::Gone { client }).await;
    debug!(?client, "disconnected");
}

/// Ends when there is nothing more to write, or nobody who reads.
async fn write_lines(mut to: OwnedWriteHalf, mut queue: mpsc::Receiver<String>) {
    let mut look = tokio::time::interval(LOOK_FOR_READER);
    loop {
        tokio::select! {
            line = queue.recv() => {
                let Some(line) = line else { return };
                if !matches!(timeout(WRITE_WITHIN, to.write_all(line.as_bytes())).await, Ok(Ok(()))) {
                    return;
                }
            }
            _ = look.tick() => {
                let ready = timeout(WRITE_WITHIN, to.ready(Interest::WRITABLE)).await;
                if !matches!(ready, Ok(Ok(ready)) if !ready.is_write_closed()) {
                    return;
                }
            }
        }
    }
}

async fn read_lines(
    from: OwnedReadHalf,
    client: ClientId,
    to: &mpsc::Sender<FromClient>,
    lines: mpsc::Sender<String>,
) {
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = (&mut from).take(LINE_BYTES_MAX as u64).read_until(b'\n', &mut line).await;
        if !matches!(read, Ok(1..)) {
            return;
        }
        if line.last() != Some(&b'\n') {
            if line.len() >= LINE_BYTES_MAX {
                let why = format!("a line longer than {LINE_BYTES_MAX} bytes; closing the connection");
                answer(&lines, None, &Reply::Error { why }).await;
            }
            // Else the client went away in the middle of a line, which is none then.
            return;
        }
        match parse_request(&line) {
            Ok((id, request)) => {
                if to.send(FromClient::Request { client, id, request }).await.is_err() {
                    return;
                }
            }
            Err((id, error)) => {
                debug!(?client, "a line was not understood: {error}");
                answer(&lines, id, &Reply::Error { why: error.to_string() }).await;
            }
        }
    }
}

async fn answer(lines: &mpsc::Sender<String>, id: Option<u64>, reply: &Reply) {
    if let Ok(line) = reply_line(id, reply) {
        // A client that is gone needs no answer.
        let _ = lines.send(line).await;
    }
}
