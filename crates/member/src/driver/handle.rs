//! How others ask the loop.

use std::collections::BTreeSet;
use std::sync::Arc;

use sitegate_protocol::{Caller, Command, CommandId, Now, Reply, TicketName, View};
use tokio::sync::{mpsc, oneshot};

/// Requests that wait for the loop.
const REQUESTS_WAITING_MAX: usize = 64;
/// Replies that one command can get: recorded, and its end.
const REPLIES_MAX: usize = 4;

/// What others ask of the loop.
#[derive(Debug)]
pub enum Request {
    /// Somebody gives a command; what becomes of it goes to the sender.
    Command(CommandId, Command, Caller, mpsc::Sender<Reply>),
    /// Whoever gave it no longer waits.
    Abandon(CommandId),
    /// How it all stands, once what led there is durable.
    Look(oneshot::Sender<Arc<Observed>>),
    /// The settings have changed.
    Reload,
    /// Ends the loop, between two commits.
    Stop,
}

/// How a member stands.
#[derive(Debug)]
pub struct Observed {
    /// When.
    pub now: Now,
    /// What the protocol says.
    pub view: View,
    /// Tickets whose fencing fails.
    pub failing: BTreeSet<TicketName>,
}

/// The way to ask the loop. Clones share it.
#[derive(Clone, Debug)]
pub struct Handle {
    requests: mpsc::Sender<Request>,
}

/// The loop has ended: this process is about to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this member is ending")]
pub struct Gone;

impl Handle {
    /// A way, with its other end.
    pub(super) fn new() -> (Self, mpsc::Receiver<Request>) {
        let (requests, queue) = mpsc::channel(REQUESTS_WAITING_MAX);
        (Self { requests }, queue)
    }

    /// Asks.
    ///
    /// # Errors
    /// If there is nobody to ask any more.
    pub async fn ask(&self, request: Request) -> Result<(), Gone> {
        self.requests.send(request).await.map_err(|_| Gone)
    }

    /// How it all stands.
    ///
    /// # Errors
    /// As [`Handle::ask`].
    pub async fn look(&self) -> Result<Arc<Observed>, Gone> {
        let (reply, answer) = oneshot::channel();
        self.ask(Request::Look(reply)).await?;
        answer.await.map_err(|_| Gone)
    }

    /// Replies to a command go through a channel of this size.
    #[must_use]
    pub fn replies() -> (mpsc::Sender<Reply>, mpsc::Receiver<Reply>) {
        mpsc::channel(REPLIES_MAX)
    }
}
