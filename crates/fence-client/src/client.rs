//! The client: any number of requests under way at once on one connection, and the events that the daemon pushes.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};

use crate::request::{
    Event, Extension, FromDaemon, NotExtended, REPLY_BYTES_MAX, Reply, Request, parse_from_daemon,
    request_line,
};
use crate::status::{HistoryEntry, Status, TestedResource};
use crate::wire::{Deadline, Incarnation, Name, Reason, Receipt, Refusal, Token};

/// How many lines may wait to be written, and how many events to be read, before whoever adds more has to wait.
const QUEUE_LINES_MAX: usize = 1024;

/// A connection to `sitegate-fenced`. Clones share it; it closes with the last one.
#[derive(Clone, Debug)]
pub struct Client {
    lines: mpsc::Sender<String>,
    waiting: Arc<Waiting>,
}

/// The events pushed by the daemon, in order. The stream ends with the connection. It must be read: while it is full,
/// replies wait as well.
#[derive(Debug)]
pub struct Events(mpsc::Receiver<Event>);

impl Events {
    /// The next event; `None` once the connection has ended.
    pub async fn next(&mut self) -> Option<Event> {
        self.0.recv().await
    }
}

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody answers on the socket.
    #[error("cannot connect to sitegate-fenced at {}: is it running?", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The connection ended before the reply. Whether the request was followed is unknown; all may be repeated.
    #[error("sitegate-fenced has closed the connection")]
    Closed,
    /// The daemon refused, for a reason that lies with the resource's state.
    #[error(transparent)]
    Refused(Refusal),
    /// The daemon could not follow, or did not understand.
    #[error("sitegate-fenced: {0}")]
    Failed(String),
    /// The daemon said something that this client does not understand; most likely their versions do not fit.
    #[error("sitegate-fenced gave an answer that is not understood: are both of the same version?")]
    Unexpected,
}

#[derive(Debug, Default)]
struct Waiting(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    next_id: u64,
    closed: Option<Closed>,
    replies: HashMap<u64, oneshot::Sender<Reply>>,
}

/// Why nothing will be answered any more.
#[derive(Clone, Copy, Debug)]
enum Closed {
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

impl Client {
    /// Connects and says hello. `site` is this site's name, for the programs that the daemon runs; with `watch` set,
    /// everything that happens to any resource arrives in [`Events`].
    ///
    /// # Errors
    /// [`ClientError::Connect`]; the others as for any request.
    pub async fn connect(
        path: &Path,
        site: Option<Name>,
        watch: bool,
    ) -> Result<(Self, Events, Status), ClientError> {
        let connected = UnixStream::connect(path).await;
        let stream = connected.map_err(|source| ClientError::Connect { path: path.to_path_buf(), source })?;
        let (read, write) = stream.into_split();
        let (lines, queue) = mpsc::channel(QUEUE_LINES_MAX);
        let (events, event_queue) = mpsc::channel(QUEUE_LINES_MAX);
        let waiting = Arc::new(Waiting::default());
        tokio::spawn(write_lines(write, queue));
        tokio::spawn(read_lines(read, events, Arc::clone(&waiting)));
        let client = Self { lines, waiting };
        let status = client.ask_status(&Request::Hello { site, watch }).await?;
        Ok((client, Events(event_queue), status))
    }

    /// Arms a resource; returns the deadline in force once that is durable.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn arm(
        &self,
        resource: Name,
        token: Token,
        deadline: Deadline,
        incarnation: Incarnation,
    ) -> Result<Deadline, ClientError> {
        match self.ask(&Request::Arm { resource, token, deadline, incarnation }).await? {
            Reply::Armed { deadline } => Ok(deadline),
            _ => Err(ClientError::Unexpected),
        }
    }

    /// Sets deadlines; returns those that were refused. All others are in force.
    ///
    /// # Errors
    /// [`ClientError`]; then nothing is known to be in force.
    pub async fn extend(
        &self,
        incarnation: Incarnation,
        set: Vec<Extension>,
    ) -> Result<Vec<NotExtended>, ClientError> {
        match self.ask(&Request::Extend { incarnation, set }).await? {
            Reply::Extended { refused } => Ok(refused),
            _ => Err(ClientError::Unexpected),
        }
    }

    /// Runs `start` to its end; the inner error is why it failed.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn start(&self, resource: Name, token: Token) -> Result<Result<(), String>, ClientError> {
        match self.ask(&Request::Start { resource, token }).await? {
            Reply::Started { failed } => Ok(failed.map_or(Ok(()), Err)),
            _ => Err(ClientError::Unexpected),
        }
    }

    /// Runs `stop` to its end; the inner error is why it failed.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn stop(&self, resource: Name, token: Token) -> Result<Result<(), String>, ClientError> {
        match self.ask(&Request::Stop { resource, token }).await? {
            Reply::Stopped { failed } => Ok(failed.map_or(Ok(()), Err)),
            _ => Err(ClientError::Unexpected),
        }
    }

    /// Fences everything of the resource up to `token`; returns when there is a receipt for it, however long that
    /// takes. How it goes meanwhile can be read from [`Events`].
    ///
    /// # Errors
    /// [`ClientError`]. On [`ClientError::Closed`] connect and ask again: the answer is the same receipt.
    pub async fn fence(&self, resource: Name, token: Token, reason: Reason) -> Result<Receipt, ClientError> {
        match self.ask(&Request::Fence { resource, token, reason }).await? {
            Reply::Receipt(receipt) => Ok(receipt),
            _ => Err(ClientError::Unexpected),
        }
    }

    /// How everything stands.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn status(&self) -> Result<Status, ClientError> {
        self.ask_status(&Request::Status {}).await
    }

    /// Has the levels of plans checked, without fencing; those of one resource or of all.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn test(&self, resource: Option<Name>) -> Result<Vec<TestedResource>, ClientError> {
        match self.ask(&Request::Test { resource }).await? {
            Reply::Tested { resources } => Ok(resources),
            _ => Err(ClientError::Unexpected),
        }
    }

    /// What happened lately, oldest first: of one resource or of all, the newest `limit` or all that is remembered.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn history(
        &self,
        resource: Option<Name>,
        limit: Option<usize>,
    ) -> Result<Vec<HistoryEntry>, ClientError> {
        match self.ask(&Request::History { resource, limit }).await? {
            Reply::History { entries } => Ok(entries),
            _ => Err(ClientError::Unexpected),
        }
    }

    async fn ask_status(&self, request: &Request) -> Result<Status, ClientError> {
        match self.ask(request).await? {
            Reply::Status(status) => Ok(status),
            _ => Err(ClientError::Unexpected),
        }
    }

    async fn ask(&self, request: &Request) -> Result<Reply, ClientError> {
        let (id, reply) = self.waiting.register()?;
        let line = request_line(id, request).map_err(|e| ClientError::Failed(e.to_string()))?;
        if self.lines.send(line).await.is_err() {
            self.waiting.close(Closed::Ended);
        }
        match reply.await.map_err(|_| self.waiting.why_closed())? {
            Reply::Refused { refusal, .. } => Err(ClientError::Refused(refusal)),
            Reply::Error { why } => Err(ClientError::Failed(why)),
            reply => Ok(reply),
        }
    }
}

impl Waiting {
    fn register(&self) -> Result<(u64, oneshot::Receiver<Reply>), ClientError> {
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
    fn close(&self, why: Closed) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.closed.get_or_insert(why);
        state.replies.clear();
    }

    fn why_closed(&self) -> ClientError {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.closed.unwrap_or(Closed::Ended).into()
    }
}

async fn write_lines(mut to: OwnedWriteHalf, mut queue: mpsc::Receiver<String>) {
    while let Some(line) = queue.recv().await {
        if to.write_all(line.as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn read_lines(from: OwnedReadHalf, events: mpsc::Sender<Event>, waiting: Arc<Waiting>) {
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
