//! Deadlines on their way to the fence daemon. One request is under way at a time; what is ordered meanwhile waits, and
//! of several deadlines for one ticket only the last matters. So a fence daemon that hangs costs an entry for each ticket.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use sitegate_protocol::{Deadline, Extension, TicketName, Token};

/// What waits to be sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Deadlines {
    waiting: BTreeMap<TicketName, (Token, Deadline)>,
    under_way: bool,
}

impl Deadlines {
    /// Something is ordered.
    pub(super) fn order(&mut self, extensions: Vec<Extension>) {
        for Extension { deadline, tickets } in extensions {
            self.waiting.extend(tickets.into_iter().map(|(ticket, token)| (ticket, (token, deadline))));
        }
    }

    /// What to send now, if it is time to send anything.
    pub(super) fn next(&mut self) -> Option<Vec<Extension>> {
        if self.under_way || self.waiting.is_empty() {
            return None;
        }
        self.under_way = true;
        let mut groups: BTreeMap<(u64, u64), Extension> = BTreeMap::new();
        for (ticket, (token, deadline)) in core::mem::take(&mut self.waiting) {
            let group = groups.entry((deadline.boot.0, deadline.raw.0));
            let group = group.or_insert_with(|| Extension { deadline, tickets: Vec::new() });
            group.tickets.push((ticket, token));
        }
        Some(groups.into_values().collect())
    }

    /// The request under way has ended.
    pub(super) const fn answered(&mut self) {
        self.under_way = false;
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use sitegate_protocol::{Boot, Raw};

    use super::*;

    fn order(name: &str, at: u64) -> Vec<Extension> {
        let deadline = Deadline { boot: Boot(at), raw: Raw(at) };
        vec![Extension { deadline, tickets: vec![(TicketName::new(name).unwrap(), Token(1))] }]
    }

    #[test]
    fn only_the_last_deadline_matters() {
        let mut deadlines = Deadlines::default();
        deadlines.order(order("db", 1));
        assert_eq!(deadlines.next(), Some(order("db", 1)));
        for at in 2..100 {
            deadlines.order(order("db", at));
            assert_eq!(deadlines.next(), None, "one is under way");
        }
        deadlines.answered();
        assert_eq!(deadlines.next(), Some(order("db", 99)));
    }

    #[test]
    fn tickets_with_one_deadline_go_together() {
        let mut deadlines = Deadlines::default();
        deadlines.order(order("a", 5));
        deadlines.order(order("b", 6));
        deadlines.order(order("c", 5));
        let sent = deadlines.next().unwrap();
        let tickets: Vec<usize> = sent.iter().map(|extension| extension.tickets.len()).collect();
        assert_eq!(tickets, [2, 1]);
    }
}
