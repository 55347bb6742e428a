//! What goes wrong between the two daemons of a site, and with what runs there.

use sitegate_protocol::Token;
use sitegate_shell::site::Line;

use crate::clock::{MS, SECOND, Time};
use crate::fenced::ticket_of;
use crate::line::Message;
use crate::node::Slow;
use crate::world::{Happening, World};

impl World {
    pub(super) fn slow_line(&mut self, i: usize, span: Time) -> bool {
        let takes = self.rng.range(100 * MS, 3 * SECOND);
        self.trace(i, || format!("the line to the fence daemon takes {takes} ns for {span} ns"));
        self.nodes[i].fence.slow_line = Slow { until: self.time + span, takes };
        self.nodes[i].is_site()
    }

    /// Nobody fences while the fence daemon stands still: for that there is a watchdog, and none here. So it goes on before the
    /// next deadline, and stands still only while no plan runs.
    pub(super) fn freeze_fenced(&mut self, i: usize) -> bool {
        let node = &self.nodes[i];
        if !self.nodes[i].is_site() || node.fence.deadman.is_none() || self.fences(i) {
            return false;
        }
        let now = node.clocks.instant(self.time);
        let left = node.fence.leases.values().map(|lease| lease.deadline.remaining_ns(now)).min();
        let most = left.unwrap_or(10 * SECOND) / 10 * 9;
        let until = self.time + self.rng.range(most / 9, most.max(1));
        self.trace(i, || format!("fence daemon frozen until {}", crate::world::trace_seconds(until)));
        self.nodes[i].fence.frozen_until = until;
        true
    }

    /// The health check of something that runs has failed too often.
    pub(super) fn find_ill(&mut self, i: usize) -> bool {
        let running: Vec<_> = self.nodes[i].fence.running.clone().into_iter().collect();
        if running.is_empty() || !self.runs(i) {
            return false;
        }
        let (name, token) = self.rng.pick(&running);
        let message = Message::Ill(ticket_of(name), Token(*token));
        let generation = self.nodes[i].generation;
        let at = self.time + self.rng.range(0, 50 * MS); // on its way it may be overtaken
        self.schedule(at, Happening::Line { node: i, generation, line: Line::default(), message });
        true
    }
}
