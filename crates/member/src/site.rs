//! What a site has and an arbitrator has not, as the loop sees it: orders to the fence daemon and checks go out, what
//! came of them comes back. What is behind it stands in `sitegated`.

use std::collections::BTreeSet;
use std::sync::Arc;

use sitegate_protocol::{CheckId, Event, Incarnation, Order, TicketName};
use tokio::sync::mpsc;

use crate::journal::Journal;
use crate::shared::Shared;

/// Events of a site that wait for the loop.
const EVENTS_WAITING_MAX: usize = 256;

/// Something for the site to do.
#[derive(Debug)]
pub enum Work {
    /// For the fence daemon.
    Order(Order),
    /// Run the check before acquiring.
    Check(TicketName, CheckId),
    /// The configuration has changed.
    Reload,
}

/// The loop's end.
#[derive(Debug)]
pub struct SiteEnd {
    /// What the site has to say.
    pub events: mpsc::Receiver<Event>,
    /// Unbounded, as nothing may be lost and the loop may not wait; the other end empties it at once into tables with an
    /// entry for each ticket.
    work: mpsc::UnboundedSender<Work>,
}

/// The site's end.
#[derive(Debug)]
pub struct SitePort {
    /// What to do, in this order.
    pub work: mpsc::UnboundedReceiver<Work>,
    /// What came of it.
    pub events: mpsc::Sender<Event>,
    /// What the whole process shares.
    pub shared: Arc<Shared>,
    /// Where to write down what happens.
    pub journal: Journal,
    /// Which start of this member it is.
    pub incarnation: Incarnation,
}

/// The way to tell a site that the configuration has changed.
#[derive(Clone, Debug)]
pub struct SiteReload(mpsc::UnboundedSender<Work>);

impl SiteReload {
    /// Tells it.
    pub fn tell(&self) {
        // A site that has ended needs no news.
        let _ = self.0.send(Work::Reload);
    }
}

/// What both ends are made of.
#[derive(Debug)]
pub struct SiteWires {
    /// For the loop.
    pub end: SiteEnd,
    /// For [`SitePort::work`].
    pub work: mpsc::UnboundedReceiver<Work>,
    /// For [`SitePort::events`].
    pub events: mpsc::Sender<Event>,
    /// For reloads.
    pub reload: SiteReload,
}

impl SiteWires {
    /// Both ends.
    #[must_use]
    pub fn new() -> Self {
        let (events, event_queue) = mpsc::channel(EVENTS_WAITING_MAX);
        let (work, work_queue) = mpsc::unbounded_channel();
        let reload = SiteReload(work.clone());
        Self { end: SiteEnd { events: event_queue, work }, work: work_queue, events, reload }
    }
}

impl Default for SiteWires {
    fn default() -> Self {
        Self::new()
    }
}

impl SiteEnd {
    pub(crate) fn give(&self, work: impl Iterator<Item = Work>) {
        for one in work {
            // A site that has ended can do nothing more; the fence daemon knows its deadlines.
            let _ = self.work.send(one);
        }
    }
}

/// What a site tells about itself beyond the protocol, for status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SiteFacts {
    /// The tickets that its fence daemon knows, once that has said so.
    pub runnable: Option<BTreeSet<TicketName>>,
    /// Those of them with nothing to fence but their processes.
    pub unfenced: BTreeSet<TicketName>,
    /// What an operator should know.
    pub warnings: Vec<String>,
}
