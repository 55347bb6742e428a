//! One client's connection: lines in, lines out, and nothing of its own to decide.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use sitegate_fence_client::request::{
    LINE_BYTES_MAX, REPLY_BYTES_MAX, Reply, Request, parse_request, reply_line,
};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Interest};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::timeout;
use tracing::debug;

use super::access::Peer;

/// How many requests of all clients may wait for the daemon to take them.
pub(super) const REQUESTS_MAX: usize = 1024;
/// How many resources one line may extend: two for each of ten thousand. It is handled at one go.
const EXTENSIONS_MAX: usize = 20_000;
/// How many lines may wait for a client that does not read, before it is disconnected: all that ten thousand resources
/// have to say at once.
const LINES_MAX: usize = 32 * 1024;
/// How many bytes these may have: two of the longest.
pub(super) const OUT_BYTES_MAX: usize = 2 * REPLY_BYTES_MAX;
/// How long a client may take to read one line before it is disconnected.
pub(super) const WRITE_WITHIN: Duration = Duration::from_secs(10);

/// How often to look whether a client that has said its last still waits for an answer. One that closed for good must not
/// keep its place while a fence that it ordered takes its time.
const LOOK_FOR_READER: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct ClientId(pub(super) u64);

/// Lines on their way to a client, bounded in number and bytes.
#[derive(Clone, Debug)]
pub(super) struct Outbox {
    lines: mpsc::Sender<Line>,
    /// Of this client.
    room: Arc<Semaphore>,
    /// Of all clients of its kind.
    room_of_all: Arc<Semaphore>,
}

/// A line, with its shares of [`OUT_BYTES_MAX`] and of what all clients of its kind have, until it is written.
pub(super) type Line = (String, [OwnedSemaphorePermit; 2]);

impl Outbox {
    pub(super) fn new(room_of_all: Arc<Semaphore>) -> (Self, mpsc::Receiver<Line>) {
        let (lines, queue) = mpsc::channel(LINES_MAX);
        (Self { lines, room: Arc::new(Semaphore::new(OUT_BYTES_MAX)), room_of_all }, queue)
    }

    /// Adds a line; false if there is no room for it, or nobody who reads.
    pub(super) fn push(&self, line: String) -> bool {
        let share = share(line.len());
        let Ok(own) = Arc::clone(&self.room).try_acquire_many_owned(share) else { return false };
        let Ok(of_all) = Arc::clone(&self.room_of_all).try_acquire_many_owned(share) else { return false };
        self.lines.try_send((line, [own, of_all])).is_ok()
    }

    /// Adds a line, as soon as there is room for it.
    async fn add(&self, line: String) {
        let share = share(line.len());
        let Ok(own) = Arc::clone(&self.room).acquire_many_owned(share).await else { return };
        let Ok(of_all) = Arc::clone(&self.room_of_all).acquire_many_owned(share).await else { return };
        // A client that is gone needs no answer.
        let _ = self.lines.send((line, [own, of_all])).await;
    }
}

/// Lengths as semaphores take them; what is longer than they can count finds no room.
fn share(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

#[derive(Debug)]
pub(super) enum FromClient {
    Connected {
        client: ClientId,
        peer: Peer,
        outbox: Outbox,
        /// Ends the connection at once.
        cut: oneshot::Sender<()>,
    },
    Request {
        client: ClientId,
        id: Option<u64>,
        request: Request,
        /// Its share of what all clients of its kind may ask at once, until it is done.
        room: OwnedSemaphorePermit,
    },
    /// It will not ask any more, but may still wait for answers.
    Finished { client: ClientId },
    /// It is gone, or was cut off.
    Gone { client: ClientId },
}

/// What a connection needs.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) client: ClientId,
    pub(super) peer: Peer,
    pub(super) to: mpsc::Sender<FromClient>,
    /// For what all clients of its kind send.
    pub(super) room_in: Arc<Semaphore>,
    /// For what all clients of its kind are told.
    pub(super) room_out: Arc<Semaphore>,
}

impl Session {
    pub(super) async fn serve(self, stream: UnixStream, _place: OwnedSemaphorePermit) {
        let Self { client, peer, to, .. } = &self;
        let (client, peer) = (*client, *peer);
        let (read, write) = stream.into_split();
        let (outbox, queue) = Outbox::new(Arc::clone(&self.room_out));
        let (cut, is_cut) = oneshot::channel();
        if to.send(FromClient::Connected { client, peer, outbox: outbox.clone(), cut }).await.is_err() {
            return;
        }
        let reader = async {
            self.read_lines(read, outbox).await;
            // The daemon lets go of the other end of `queue` when the last answer is given; then the writer ends.
            let _ = to.send(FromClient::Finished { client }).await;
            pending::<()>().await;
        };
        tokio::select! {
            () = reader => {}
            () = write_lines(write, queue) => {}
            // Letting go of its end is no cut.
            Ok(()) = is_cut => {}
        }
        let _ = to.send(FromClient::Gone { client }).await;
        debug!(?client, "disconnected");
    }

    async fn read_lines(&self, from: OwnedReadHalf, outbox: Outbox) {
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
                    answer(&outbox, None, &Reply::Error { why }).await;
                }
                // Else the client went away in the middle of a line, which is none then.
                return;
            }
            if !self.hand_over(&line, &outbox).await {
                return;
            }
        }
    }

    /// Hands a line to the daemon, as soon as there is room; false if that is gone.
    async fn hand_over(&self, line: &[u8], outbox: &Outbox) -> bool {
        let client = self.client;
        let Ok(room) = Arc::clone(&self.room_in).acquire_many_owned(share(line.len())).await else {
            return false;
        };
        match parse_request(line) {
            Ok((id, Request::Extend { set, .. }))
                if set.iter().map(|extension| extension.resources.len()).sum::<usize>() > EXTENSIONS_MAX =>
            {
                let why = format!("at most {EXTENSIONS_MAX} resources can be extended by one line");
                answer(outbox, id, &Reply::Error { why }).await;
                true
            }
            Ok((id, request)) => {
                self.to.send(FromClient::Request { client, id, request, room }).await.is_ok()
            }
            Err((id, error)) => {
                drop(room);
                debug!(?client, "a line was not understood: {error}");
                answer(outbox, id, &Reply::Error { why: error.to_string() }).await;
                true
            }
        }
    }
}

/// Ends when there is nothing more to write, or nobody who reads.
async fn write_lines(mut to: OwnedWriteHalf, mut queue: mpsc::Receiver<Line>) {
    let mut look = tokio::time::interval(LOOK_FOR_READER);
    loop {
        tokio::select! {
            line = queue.recv() => {
                let Some((line, room)) = line else { return };
                if !matches!(timeout(WRITE_WITHIN, to.write_all(line.as_bytes())).await, Ok(Ok(()))) {
                    return;
                }
                drop(room);
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

async fn answer(outbox: &Outbox, id: Option<u64>, reply: &Reply) {
    if let Ok(line) = reply_line(id, reply) {
        outbox.add(line).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_waits_for_all_clients_together_is_bounded() {
        let all = Arc::new(Semaphore::new(5));
        let [(one, mut first), (other, _second)] = [Outbox::new(Arc::clone(&all)), Outbox::new(all)];
        assert!(one.push("three".to_owned()), "as much as there is room for");
        assert!(!other.push("x".to_owned()));
        drop(first.recv().await);
        assert!(other.push("x".to_owned()));
    }

    #[tokio::test]
    async fn what_waits_for_a_client_is_bounded_in_bytes_too() {
        let (outbox, mut queue) = Outbox::new(Arc::new(Semaphore::new(4 * OUT_BYTES_MAX)));
        let line = "x".repeat(REPLY_BYTES_MAX);
        assert!(outbox.push(line.clone()) && outbox.push(line.clone()));
        assert!(!outbox.push("x".to_owned()), "no room for a byte more");
        drop(queue.recv().await);
        assert!(outbox.push(line), "there is again, once one is written");
        drop(queue);
        assert!(!outbox.push(String::new()), "nobody reads");
    }
}
