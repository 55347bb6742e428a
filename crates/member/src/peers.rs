//! Connections with the other members.
//!
//! Every member calls every other one twice: on the *pulse* lane it sends what must never wait (heartbeats, pings and
//! their answers), on the *bulk* lane everything else. What flows on a connection flows from its caller to the called;
//! the other direction has connections of its own. So a cut in one direction cuts one direction. While one lane is down the
//! other carries what it can for it.
//!
//! Nothing here is reliable, and nothing needs to be: what is lost the protocol says again. Queues are bounded and drop
//! the oldest, which says the least.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use sitegate_protocol::{Boot, Frame, MemberId, ValidFrame};
use tokio::sync::{Notify, mpsc, watch};

use crate::config::MemberName;
use crate::shared::Shared;
use crate::wire::{self, Lane};

mod dial;
mod outbox;
mod serve;
mod tcp;

pub use serve::{serve, serve_stream};
pub use tcp::Pace;
pub(crate) use tcp::repeat_soon;

use outbox::Outbox;

/// Frames that wait for the driver, of each kind. When it is full, readers wait, and then the network does.
pub const FRAMES_WAITING_MAX: usize = 64;

/// What may take the pulse lane while the bulk lane is down, in bytes: votes and commands, no lists.
const DETOUR_BYTES_MAX: usize = 4096;

/// The other members, and the ways to them.
#[derive(Debug)]
pub struct Peers {
    shared: Arc<Shared>,
    links: BTreeMap<MemberId, Arc<Link>>,
    inbox: Inbox,
    /// Grows when all connections have to be made anew.
    renewals: watch::Sender<u64>,
}

/// The way to one member, and back.
#[derive(Debug)]
struct Link {
    member: MemberId,
    name: MemberName,
    outboxes: BTreeMap<Lane, Outbox>,
    state: Mutex<LinkState>,
    /// The member has shown itself: call it now.
    shown: BTreeMap<Lane, Notify>,
    /// The numbers of the connections on which it reaches us. More than one is one that is dying and its successor, or
    /// two hosts with one name, of which the protocol knows the right one.
    called: BTreeMap<Lane, watch::Sender<BTreeSet<u64>>>,
}

/// What is known about the connections with one member.
#[derive(Clone, Debug, Default)]
pub struct LinkState {
    /// The lanes on which we reach it.
    pub calling: BTreeMap<Lane, Calling>,
    /// Whether it reaches us on the pulse lane.
    pub called: bool,
    /// The digest of its formation file, as of its last hello or answer.
    pub configuration: Option<[u8; 32]>,
    /// When its certificate ends.
    pub certificate_ends: Option<SystemTime>,
    /// Why we refuse each other, if we do.
    pub refused: Option<String>,
}

/// How it goes with calling a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Calling {
    /// It listens.
    Connected,
    /// It could not be reached, and why.
    Failed(String),
}

impl LinkState {
    /// Whether it reaches us and we reach it, as far as connections tell.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.calling.get(&Lane::Pulse) == Some(&Calling::Connected) && self.called
    }

    /// Why we do not reach it, if so.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        self.calling.values().find_map(|calling| match calling {
            Calling::Failed(why) => Some(why.as_str()),
            Calling::Connected => None,
        })
    }
}

/// Where frames from peers go: those that may pass a running commit, and all others.
#[derive(Clone, Debug)]
pub struct Inbox {
    prompt: mpsc::Sender<ValidFrame>,
    other: mpsc::Sender<ValidFrame>,
}

/// What the driver takes frames from.
#[derive(Debug)]
pub struct Frames {
    /// Those for which [`ValidFrame::is_prompt`] holds.
    pub prompt: mpsc::Receiver<ValidFrame>,
    /// All others.
    pub other: mpsc::Receiver<ValidFrame>,
}

impl Inbox {
    /// An inbox with its other end.
    #[must_use]
    pub fn new() -> (Self, Frames) {
        let (prompt, prompt_frames) = mpsc::channel(FRAMES_WAITING_MAX);
        let (other, other_frames) = mpsc::channel(FRAMES_WAITING_MAX);
        (Self { prompt, other }, Frames { prompt: prompt_frames, other: other_frames })
    }

    /// Hands over a frame, and waits until there is room. False once the driver has ended.
    pub async fn put(&self, frame: ValidFrame) -> bool {
        let way = if frame.is_prompt() { &self.prompt } else { &self.other };
        way.send(frame).await.is_ok()
    }
}

impl Peers {
    /// Knows all other members and calls none yet.
    #[must_use]
    pub fn new(shared: Arc<Shared>, inbox: Inbox) -> Self {
        let link = |(member, name): (MemberId, &MemberName)| {
            let link = Link {
                member,
                name: name.clone(),
                outboxes: Lane::ALL.map(|lane| (lane, Outbox::new(lane))).into(),
                state: Mutex::default(),
                shown: Lane::ALL.map(|lane| (lane, Notify::new())).into(),
                called: Lane::ALL.map(|lane| (lane, watch::Sender::default())).into(),
            };
            (member, Arc::new(link))
        };
        let links = shared.names.others().map(link).collect();
        Self { links, inbox, renewals: watch::Sender::new(0), shared }
    }

    /// Begins to call everybody, and does not stop.
    pub fn call(self: &Arc<Self>) {
        for link in self.links.values() {
            for lane in Lane::ALL {
                tokio::spawn(dial::keep_calling(Arc::clone(self), Arc::clone(link), lane));
            }
        }
    }

    /// Sends a frame, as far as there is a way. Bodies that must not wait go before the rest.
    pub fn send(&self, to: MemberId, sent: Boot, frame: Frame) {
        let Some(link) = self.links.get(&to) else { return };
        let Frame { header, bodies } = frame;
        let (prompt, other): (Vec<_>, Vec<_>) =
            bodies.into_iter().partition(sitegate_protocol::Body::is_prompt);
        for (lane, bodies) in [(Lane::Pulse, prompt), (Lane::Bulk, other)] {
            if bodies.is_empty() {
                continue;
            }
            let messages = wire::packets(sent, Frame { header: header.clone(), bodies });
            let count = &self.shared.metrics.lanes[lane];
            count.sent(messages.iter().map(Vec::len));
            let way = link.way_for(lane, &messages);
            count.dropped.add(link.outboxes[&way].put(messages));
        }
    }

    /// Makes all connections anew: with other certificates, or another file to compare.
    pub fn renew(&self) {
        self.renewals.send_modify(|count| *count += 1);
    }

    /// How it stands with each of the others.
    #[must_use]
    pub fn states(&self) -> BTreeMap<MemberId, LinkState> {
        self.links.iter().map(|(id, link)| (*id, link.state())).collect()
    }

    fn pace(&self) -> Pace {
        Pace::of(&self.shared.configuration.get().formation)
    }
}

impl Link {
    fn state(&self) -> LinkState {
        let called = !self.called[&Lane::Pulse].borrow().is_empty();
        LinkState { called, ..self.with_state(|state| state.clone()) }
    }

    /// The lane that these messages take: their own, or while that is down the other one. Where half of all packets are lost
    /// one of the two is down most of the time. Large messages wait, as they would hold up the pulse.
    fn way_for(&self, lane: Lane, messages: &[Vec<u8>]) -> Lane {
        let other = match lane {
            Lane::Pulse => Lane::Bulk,
            Lane::Bulk => Lane::Pulse,
        };
        let is_up = |state: &LinkState, lane| state.calling.get(&lane) == Some(&Calling::Connected);
        let instead = self.with_state(|state| !is_up(state, lane) && is_up(state, other));
        let small = messages.iter().map(Vec::len).sum::<usize>() <= DETOUR_BYTES_MAX;
        if instead && (small || other == Lane::Bulk) { other } else { lane }
    }

    fn with_state<T>(&self, look: impl FnOnce(&mut LinkState) -> T) -> T {
        look(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_that_is_down_is_stood_in_for() {
        let link = Link {
            member: MemberId::new(2).unwrap(),
            name: "lyon".parse().unwrap(),
            outboxes: BTreeMap::new(),
            state: Mutex::default(),
            shown: BTreeMap::new(),
            called: BTreeMap::new(),
        };
        let (small, large) = (vec![vec![0; 100]; 3], vec![vec![0; DETOUR_BYTES_MAX]; 2]);
        let ways = || [Lane::Pulse, Lane::Bulk].map(|lane| [&small, &large].map(|m| link.way_for(lane, m)));
        let connect = |lane, state| link.with_state(|s| s.calling.insert(lane, state));
        let own = [[Lane::Pulse; 2], [Lane::Bulk; 2]];
        assert_eq!(ways(), own, "nothing is up");
        connect(Lane::Bulk, Calling::Connected);
        assert_eq!(ways(), [[Lane::Bulk; 2], [Lane::Bulk; 2]]);
        connect(Lane::Pulse, Calling::Connected);
        assert_eq!(ways(), own, "all is up");
        connect(Lane::Bulk, Calling::Failed("gone".into()));
        assert_eq!(
            ways(),
            [[Lane::Pulse; 2], [Lane::Pulse, Lane::Bulk]],
            "large messages wait for their own"
        );
    }
}
