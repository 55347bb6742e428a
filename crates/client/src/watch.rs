//! Following one ticket on the fence daemon's socket.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sitegate_fence_client::status::{ResourceState, Watched};
use sitegate_fence_client::wire::{Name, Notice, Token};
use sitegate_fence_client::{Client, ClientError, Event, Events};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::section::{NotHeld, Section};
use crate::tenure::{Tenure, now};

/// How long the fence daemon may take to answer: it never waits for a program to do so.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// How long to wait before connecting again, the first time; twice as long each time after that,
const AGAIN_FIRST: Duration = Duration::from_millis(50);
/// up to this. A daemon that is restarted is back within a second.
const AGAIN_MAX: Duration = Duration::from_secs(1);

/// A ticket that is watched. Only the newest state is kept, however long nobody looks. When the connection is lost, it connects
/// again for as long as this lives; what was known stands until its deadline, since nothing but a fence ends a tenure earlier.
#[derive(Debug)]
pub struct Watch {
    known: watch::Receiver<Known>,
    following: JoinHandle<()>,
}

/// What is known of a ticket.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Known {
    pub(crate) tenure: Option<Tenure>,
    pub(crate) join_within: Option<Duration>,
}

/// Why a ticket cannot be watched.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// It could not be asked, or refused.
    #[error("cannot watch the ticket {ticket}")]
    Refused {
        /// Which.
        ticket: Name,
        /// Why not.
        source: ClientError,
    },
    /// It does not answer.
    #[error("sitegate-fenced at {} does not answer within {} s", socket.display(), ANSWER_WITHIN.as_secs())]
    Silent {
        /// Where it was asked.
        socket: PathBuf,
    },
}

impl Watch {
    /// Connects to `sitegate-fenced`. Needs a tokio runtime with I/O and time.
    ///
    /// # Errors
    /// [`WatchError`]: nobody answers, there is no such ticket, or this user may not connect.
    pub async fn connect(socket: &Path, ticket: Name) -> Result<Self, WatchError> {
        let link = Link::new(socket, &ticket).await?;
        let (tell, known) = watch::channel(Known::from(&link.found));
        let following = tokio::spawn(follow(socket.to_path_buf(), ticket, link, tell));
        Ok(Self { known, following })
    }

    /// The tenure, if the ticket is held here now.
    #[must_use]
    pub fn tenure(&self) -> Option<Tenure> {
        self.known.borrow().tenure.filter(|tenure| tenure.is_valid(now()))
    }

    /// Waits until the ticket is held here.
    pub async fn held(&mut self) -> Tenure {
        loop {
            // Also marks it as seen, so that what comes after wakes.
            if let Some(tenure) = self.known.borrow_and_update().tenure.filter(|t| t.is_valid(now())) {
                return tenure;
            }
            self.changed().await;
        }
    }

    /// Waits until the tenure with this token is over: fenced, or its deadline has passed.
    pub async fn lost(&mut self, token: Token) {
        loop {
            let tenure = self.known.borrow_and_update().tenure.filter(|tenure| tenure.token == token);
            let left = tenure.map_or(Duration::ZERO, |tenure| tenure.remaining(now()));
            if left.is_zero() {
                return;
            }
            // Woken by what changes, or by the deadline; which it was is seen above.
            let _ = timeout(left, self.changed()).await;
        }
    }

    /// Waits until something has changed: most often the deadline, every second or so.
    pub async fn changed(&mut self) {
        if self.known.changed().await.is_err() {
            // Only a panic ends the task before us; then nothing is ever held again.
            std::future::pending::<()>().await;
        }
    }

    /// Enters a critical section that takes at most `needed`.
    ///
    /// # Errors
    /// [`NotHeld`].
    pub fn enter(&self, needed: Duration) -> Result<Section, NotHeld> {
        Section::enter(self.known.clone(), needed, now())
    }

    /// How long a process that has joined the ticket's resource may take to end after SIGTERM; `None` if nobody may join.
    #[must_use]
    pub fn join_within(&self) -> Option<Duration> {
        self.known.borrow().join_within
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.following.abort();
    }
}

/// A connection that tells of the ticket.
struct Link {
    /// The connection closes with it.
    _client: Client,
    events: Events,
    found: Watched,
}

impl Link {
    async fn new(socket: &Path, ticket: &Name) -> Result<Self, WatchError> {
        let connecting = async {
            let (client, events, _status) = Client::connect(socket, None, false).await?;
            let found = client.watch(ticket.clone()).await?;
            Ok(Self { _client: client, events, found })
        };
        match timeout(ANSWER_WITHIN, connecting).await {
            Ok(linked) => linked.map_err(|source| WatchError::Refused { ticket: ticket.clone(), source }),
            Err(_elapsed) => Err(WatchError::Silent { socket: socket.to_path_buf() }),
        }
    }
}

async fn follow(socket: PathBuf, ticket: Name, mut link: Link, tell: watch::Sender<Known>) {
    loop {
        while let Some(event) = link.events.next().await {
            if let Event::Resource(notice) = event {
                tell.send_if_modified(|known| known.hear(&notice));
            }
        }
        link = again(&socket, &ticket).await;
        tell.send_replace(Known::from(&link.found));
    }
}

async fn again(socket: &Path, ticket: &Name) -> Link {
    let mut wait = AGAIN_FIRST;
    loop {
        tokio::time::sleep(wait).await;
        if let Ok(link) = Link::new(socket, ticket).await {
            return link;
        }
        wait = (wait * 2).min(AGAIN_MAX);
    }
}

impl Known {
    /// Takes note of an event; true if that changes anything.
    fn hear(&mut self, notice: &Notice) -> bool {
        let tenure = match notice {
            Notice::Armed { token, deadline, .. } | Notice::Extended { token, deadline, .. } => {
                Some(Tenure { token: *token, deadline: *deadline })
            }
            Notice::Fencing { .. } => None,
            // A receipt may be that of an earlier tenure, repeated.
            Notice::Receipt(_)
            | Notice::Started { .. }
            | Notice::Stopped { .. }
            | Notice::LevelFailed { .. }
            | Notice::FenceFailed { .. } => return false,
        };
        std::mem::replace(&mut self.tenure, tenure) != tenure
    }
}

impl From<&Watched> for Known {
    fn from(found: &Watched) -> Self {
        let tenure = match &found.resource.state {
            ResourceState::Armed { token, deadline, .. } => {
                Some(Tenure { token: *token, deadline: *deadline })
            }
            ResourceState::Unarmed | ResourceState::Arming { .. } | ResourceState::Fencing { .. } => None,
        };
        Self { tenure, join_within: found.join_within_ms.map(Duration::from_millis) }
    }
}

#[cfg(test)]
mod tests {
    use sitegate_fence_client::wire::{Deadline, Instant, Proof, Reason, Receipt};

    use super::*;

    #[test]
    fn only_a_fence_ends_a_tenure() {
        let (resource, instant) = (Name::new("db").unwrap(), Instant { boot_ns: 1, raw_ns: 1 });
        let deadline = Deadline { boot_ns: 100, raw_ns: 100 };
        let mut known = Known::default();
        assert!(known.hear(&Notice::Armed { resource: resource.clone(), token: 7, deadline }));
        assert!(!known.hear(&Notice::Extended { resource: resource.clone(), token: 7, deadline }), "no news");
        // One that somebody has asked for again.
        let old = Receipt {
            resource: resource.clone(),
            token: 6,
            reason: Reason::deadline(),
            level: None,
            proof: Proof { what: "killed".to_owned(), unix_ms: 1 },
            began: instant,
            ended: instant,
        };
        assert!(!known.hear(&Notice::Receipt(old)));
        assert!(!known.hear(&Notice::Stopped { resource: resource.clone(), token: 7, failed: None }));
        assert_eq!(known.tenure, Some(Tenure { token: 7, deadline }));
        assert!(known.hear(&Notice::Fencing { resource, token: 7, reason: Reason::deadline() }));
        assert_eq!(known.tenure, None);
    }
}
