//! Which tickets the observer looks at after an event. With many tickets an event is about one of them, or about few.

use std::collections::BTreeSet;

use sitegate_protocol::TicketName;

use super::Checks;
use crate::world::World;

/// Of which process of one machine everything was looked at, and what is to be looked at again.
#[derive(Default)]
pub(super) struct Seen {
    process: u64,
    /// The clocks of the machine run at other rates now: rights end at other times.
    pub(super) clocks_changed: bool,
    /// Tickets that are fenced to be given up.
    pub(super) fencing: BTreeSet<usize>,
}

impl Checks {
    pub(super) fn place_of(&self, ticket: &TicketName) -> Option<usize> {
        self.places.get(ticket).copied()
    }

    /// Rights of `i` end at other true times now.
    pub(crate) fn clocks_changed(&mut self, i: usize) {
        self.seen[i].clocks_changed = true;
    }
}

impl World {
    /// The tickets of which something that is checked after an event of site `i` may have changed. What is checked are its
    /// leases and rights, by what its process says of them, its clocks, and what else was seen. Of tickets that the
    /// process has not touched it says what it said before, unless they are fenced to be given up. What was seen
    /// changes on its own only in ways that cannot make wrong what was right: time passes, answers justify later deadlines,
    /// operators vouch for more; a right that begins elsewhere is compared with all others there.
    pub(super) fn tickets_to_look_at(&mut self, i: usize) -> Vec<usize> {
        let Some(process) = &self.nodes[i].process else { return Vec::new() };
        let (generation, seen) = (self.nodes[i].generation, &mut self.checks.seen[i]);
        if std::mem::take(&mut seen.clocks_changed) || seen.process != generation {
            seen.process = generation;
            return (0..self.checks.tickets.len()).collect();
        }
        let touched = process.member().touched().filter_map(|ticket| self.checks.place_of(ticket));
        let mut places: Vec<usize> = touched.chain(self.checks.seen[i].fencing.iter().copied()).collect();
        places.sort_unstable();
        places.dedup();
        places
    }
}
