//! The lines of a connection, and who waits for which.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};

use super::ClientError;
use crate::request::{Event, FromDaemon, REPLY_BYTES_MAX, Reply, parse_from_daemon};

#[derive(Debug, Default)]
pub(super) struct Waiting(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    next_id: u64,
    closed: Option<Closed>,
    replies: HashMap<u64, oneshot::Sender<Reply>>,
}

/// Why nothing will be answered any more.
#[derive(Clone, Copy, Debug)]
pub(super) enum Closed {
    Ended,
    Garbled,
}

impl From<Closed> for ClientError {
    fn from(closed: Closed) -> Self {
        match closed {
            Closed::Ended => Self::Closed,
            Closed::Garbled => Self::Unexpected,
        }
    }
}

impl Waiting {
    pub(super) fn register(&self) -> Result<(u64, oneshot::Receiver<Reply>), ClientError> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(closed) = state.closed {
            return Err(closed.into());
        }
        state.next_id += 1;
        let id = state.next_id;
        let (reply, receiver) = oneshot::channel();
        state.replies.insert(id, reply);
        Ok((id, receiver))
    }

    fn answer(&self, id: u64, reply: Reply) {
        let waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner).replies.remove(&id);
        if let Some(waiting) = waiting {
            // Whoever asked may have stopped waiting.
            let _ = waiting.send(reply);
        }
    }

    /// Answers all with an error: what the daemon says to somebody it does not serve.
    fn fail_all(&self, why: &str) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, waiting) in state.replies.drain() {
            // Whoever asked may have stopped waiting.
            let _ = waiting.send(Reply::Error { why: why.to_owned() });
        }
    }

    /// Ends all waiting: dropping the senders tells.
    pub(super) fn close(&self, why: Closed) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.closed.get_or_insert(why);
        state.replies.clear();
    }

    pub(super) fn why_closed(&self) -> ClientError {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.closed.unwrap_or(Closed::Ended).into()
    }
}

pub(super) async fn write_lines(mut to: OwnedWriteHalf, mut queue: mpsc::Receiver<String>) {
    while let Some(line) = queue.recv().await {
        if to.write_all(line.as_bytes()).await.is_err() {
            return;
        }
    }
}

pub(super) async fn read_lines(from: OwnedReadHalf, events: mpsc::Sender<Event>, waiting: Arc<Waiting>) {
    let mut reader = BufReader::new(from);
    let mut line = Vec::new();
    let why = loop {
        line.clear();
        let bounded = (&mut reader).take(REPLY_BYTES_MAX as u64).read_until(b'\n', &mut line).await;
        if !matches!(bounded, Ok(1..)) {
            break Closed::Ended;
        }
        if line.last() != Some(&b'\n') {
            break if line.len() < REPLY_BYTES_MAX { Closed::Ended } else { Closed::Garbled };
        }
        match parse_from_daemon(&line) {
            Ok(FromDaemon::Reply(Some(id), reply)) => waiting.answer(id, reply),
            Ok(FromDaemon::Event(event)) => {
                // Nobody has to care for events.
                let _ = events.send(event).await;
            }
            // Said before it hung up on us: to no request of ours, since these bear ids.
            Ok(FromDaemon::Reply(None, Reply::Error { why })) => {
                waiting.fail_all(&why);
                break Closed::Ended;
            }
            Ok(FromDaemon::Reply(None, _)) | Err(_) => break Closed::Garbled,
        }
    };
    waiting.close(why);
}
