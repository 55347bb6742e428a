//! Letting clients in: as many as there are places for, those who may only join apart from those who may do everything, so that
//! none of them can keep a site daemon out, or have it wait.

use std::sync::Arc;
use std::time::Duration;

use sitegate_fence_client::request::{LINE_BYTES_MAX, Reply, reply_line};
use tokio::io::AsyncWriteExt;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;
use tracing::{debug, warn};

use super::access::{Gate, Peer, Rights};
use super::session::{ClientId, FromClient, OUT_BYTES_MAX, Session, WRITE_WITHIN};

/// How many clients of each kind may be connected: a site daemon, its successor, some status queries; more is a mistake. Of those
/// who join, as many as a site has programs that watch their ticket.
const CLIENTS_MAX: usize = 64;
/// How many bytes all requests that are under way may have had as lines, those that are being understood among them. A client that
/// sends more waits until those before are done, so that the memory they take stays small: four of the longest lines.
const REQUEST_BYTES_MAX: usize = 4 * LINE_BYTES_MAX;
/// How many bytes may wait for all clients together: that of four that read nothing. It bounds the daemon's memory; more than a
/// site daemon and some status queries have to be told is a mistake.
const OUT_BYTES_OF_ALL_MAX: usize = 4 * OUT_BYTES_MAX;

/// Room for the clients of one kind.
#[derive(Debug)]
struct Room {
    places: Arc<Semaphore>,
    bytes_in: Arc<Semaphore>,
    bytes_out: Arc<Semaphore>,
}

impl Room {
    fn new(bytes_in: usize, bytes_out: usize) -> Self {
        let semaphore = |permits| Arc::new(Semaphore::new(permits));
        let (places, bytes_in) = (semaphore(CLIENTS_MAX), semaphore(bytes_in));
        Self { places, bytes_in, bytes_out: semaphore(bytes_out) }
    }

    fn session(&self, client: ClientId, peer: Peer, to: mpsc::Sender<FromClient>) -> Session {
        let (room_in, room_out) = (Arc::clone(&self.bytes_in), Arc::clone(&self.bytes_out));
        Session { client, peer, to, room_in, room_out }
    }
}

/// Room for all clients.
#[derive(Debug)]
struct Rooms {
    everything: Room,
    join: Room,
}

impl Rooms {
    fn new() -> Self {
        Self {
            everything: Room::new(REQUEST_BYTES_MAX, OUT_BYTES_OF_ALL_MAX),
            join: Room::new(LINE_BYTES_MAX, OUT_BYTES_MAX),
        }
    }

    fn of(&self, rights: Rights) -> &Room {
        match rights {
            Rights::Everything => &self.everything,
            Rights::Join => &self.join,
        }
    }
}

/// Accepts clients for ever.
pub(super) async fn accept(listener: UnixListener, gate: Gate, to: mpsc::Sender<FromClient>) {
    let rooms = Rooms::new();
    let mut next = 0;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                next += 1;
                match admit(&stream, &gate, &rooms) {
                    Ok((peer, place)) => {
                        let client = ClientId(next);
                        debug!(?client, ?peer, "connected");
                        let session = rooms.of(peer.rights).session(client, peer, to.clone());
                        tokio::spawn(session.serve(stream, place));
                    }
                    Err(why) => drop(tokio::spawn(turn_away(stream, why))),
                }
            }
            Err(error) => {
                warn!("cannot accept a client: {error}");
                // Out of descriptors, most likely: until one is free there is nothing to do but to try again.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Who has connected, and a place for it; or why it is turned away.
fn admit(stream: &UnixStream, gate: &Gate, rooms: &Rooms) -> Result<(Peer, OwnedSemaphorePermit), String> {
    let credentials = stream.peer_cred().map_err(|error| format!("cannot tell who you are: {error}"))?;
    let uid = credentials.uid();
    let Some(peer) = gate.admits(credentials) else {
        let pid = credentials.pid();
        warn!(uid, pid, "a client of a user that is not allowed to connect was refused");
        return Err(format!(
            "user {uid} may not use this socket: add it to allow-uid in fenced.toml, or ask as root"
        ));
    };
    let place = Arc::clone(&rooms.of(peer.rights).places).try_acquire_owned();
    let place = place.map_err(|_| format!("{CLIENTS_MAX} clients are connected: close some"))?;
    Ok((peer, place))
}

async fn turn_away(mut stream: UnixStream, why: String) {
    if let Ok(line) = reply_line(None, &Reply::Error { why }) {
        // Whether it still wants to know is its own affair.
        let _ = timeout(WRITE_WITHIN, stream.write_all(line.as_bytes())).await;
    }
}
