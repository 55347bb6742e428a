//! What waits for a member, each kind in a bounded queue of its own, and the order in which it is taken.

use alloc::collections::VecDeque;

use sitegate_protocol::Event;

/// Frames that wait, of each kind. When there are as many, readers wait, and then the network does.
pub const FRAMES_MAX: usize = 64;
/// Requests that wait: commands, and what belongs to them.
pub const REQUESTS_MAX: usize = 64;
/// Events of the site that wait. More than that stay with the desk, which knows what becomes outdated.
pub const SITE_EVENTS_MAX: usize = 256;

/// A kind of event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Heartbeats and their answers, which may pass a running commit.
    Prompt,
    /// What the site has to say: its fence daemon and its checks.
    Site,
    /// Commands, reloads, suspicion.
    Requests,
    /// All other frames.
    Other,
}

impl Lane {
    const ALL: [Self; 4] = [Self::Prompt, Self::Site, Self::Requests, Self::Other];

    /// Where an event belongs.
    #[must_use]
    pub fn of(event: &Event) -> Self {
        match event {
            Event::Frame(_) if event.is_prompt() => Self::Prompt,
            Event::Frame(_) => Self::Other,
            Event::Fence(_) | Event::Checked(..) | Event::Unhealthy(..) => Self::Site,
            Event::Command(..) | Event::Abandon(_) | Event::Reload(_) | Event::Suspect | Event::Tick => {
                Self::Requests
            }
        }
    }

    const fn bound(self) -> usize {
        match self {
            Self::Prompt | Self::Other => FRAMES_MAX,
            Self::Site => SITE_EVENTS_MAX,
            Self::Requests => REQUESTS_MAX,
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Lanes {
    queues: [VecDeque<Event>; 4],
    /// Which is the next to take from: a fair share for each.
    next: usize,
}

impl Lanes {
    #[expect(clippy::result_large_err, reason = "whoever offers it keeps it for later")]
    pub(super) fn offer(&mut self, event: Event) -> Result<(), Event> {
        let lane = Lane::of(&event);
        if !self.has_room(lane) {
            return Err(event);
        }
        self.queues[lane as usize].push_back(event);
        Ok(())
    }

    pub(super) fn has_room(&self, lane: Lane) -> bool {
        self.queues[lane as usize].len() < lane.bound()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queues.iter().all(VecDeque::is_empty)
    }

    /// What need not wait for the commit that runs: what writes nothing, and what ends the process, after which nothing that the
    /// commit led to may be done.
    pub(super) fn take_urgent(&mut self) -> Option<Event> {
        let requests = &mut self.queues[Lane::Requests as usize];
        match requests.iter().position(|event| *event == Event::Suspect) {
            Some(place) => requests.remove(place),
            None => self.queues[Lane::Prompt as usize].pop_front(),
        }
    }

    /// Each turn begins with heartbeats.
    pub(super) const fn begin_turn(&mut self) {
        self.next = 0;
    }

    /// The next event, from each lane in turn.
    pub(super) fn take(&mut self) -> Option<Event> {
        for _ in Lane::ALL {
            let lane = self.next;
            self.next = (self.next + 1) % Lane::ALL.len();
            if let Some(event) = self.queues[lane].pop_front() {
                return Some(event);
            }
        }
        None
    }
}
