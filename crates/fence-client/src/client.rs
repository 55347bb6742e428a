//! The client: any number of requests under way at once on one connection, and the events that the daemon pushes.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::net::UnixStream;
use tokio::sync::mpsc;

use crate::request::{Event, Extension, NotExtended, Reply, Request, request_line};
use crate::status::{HistoryEntry, Joined, Status, TestedResource, Watched};
use crate::wire::{Deadline, Incarnation, Name, Reason, Receipt, Refusal, Token};

mod connection;

use connection::{Closed, Waiting, read_lines, write_lines};

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

    /// Has this connection's [`Events`] tell of `resource` from now on, each new deadline among it; returns how it stands now.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn watch(&self, resource: Name) -> Result<Watched, ClientError> {
        match self.ask(&Request::Watch { resource }).await? {
            Reply::Watched(watched) => Ok(*watched),
            _ => Err(ClientError::Unexpected),
        }
    }

    /// Takes this process into what a fence of `resource` kills, with all that it starts from now on.
    ///
    /// # Errors
    /// [`ClientError`]. On [`ClientError::Closed`] it may have joined.
    pub async fn join(&self, resource: Name) -> Result<Joined, ClientError> {
        match self.ask(&Request::Join { resource }).await? {
            Reply::Joined(joined) => Ok(joined),
            _ => Err(ClientError::Unexpected),
        }
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
