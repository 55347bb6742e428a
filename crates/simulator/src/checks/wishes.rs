//! I9: what administrators were told holds, and what may still undo it.

use std::collections::BTreeMap;

use sitegate_protocol::{Command, MemberId, StandbyMode, TicketName, Token};

use crate::clock::Time;
use crate::world::World;

/// What nobody may act against, and since when.
#[derive(Default)]
pub(crate) struct Wishes {
    /// Tickets whose revoke was confirmed, until the next grant is given.
    revoked: BTreeMap<TicketName, Time>,
    /// Tickets that are paused, and sites on standby, for certain, until somebody allows tenures again.
    paused: BTreeMap<TicketName, Time>,
    standing_by: BTreeMap<MemberId, Time>,
    /// Until when a grant, a resume or an online may have come true that was given before.
    granted: BTreeMap<TicketName, Time>,
    resumed: BTreeMap<TicketName, Time>,
    online: BTreeMap<MemberId, Time>,
}

impl Wishes {
    /// From now on a tenure may begin again.
    pub(crate) fn given(&mut self, command: &Command, time: Time) {
        match command {
            Command::Grant(ticket, _) => drop(self.revoked.remove(ticket)),
            Command::Resume(ticket) => drop(self.paused.remove(ticket)),
            Command::Standby(site, StandbyMode::Online) => drop(self.standing_by.remove(site)),
            _ => {}
        }
        self.may_have_come_true(command, time);
    }

    /// It was answered, or the process that had it is dead: what it asks may have come true at any time until now. Later
    /// it cannot: a dead process proposes nothing, and what it had proposed lies below every ballot of a later wish
    /// that was chosen (docs/protocol.md, "When a wish is confirmed").
    pub(crate) fn may_have_come_true(&mut self, command: &Command, time: Time) {
        match command {
            Command::Grant(ticket, _) => drop(self.granted.insert(ticket.clone(), time)),
            Command::Resume(ticket) => drop(self.resumed.insert(ticket.clone(), time)),
            Command::Standby(site, StandbyMode::Online) => drop(self.online.insert(*site, time)),
            _ => {}
        }
    }

    /// A command that was given at `given` is answered as done, while those in `open` are not answered.
    pub(crate) fn confirmed<'a>(
        &mut self,
        command: &Command,
        given: Time,
        time: Time,
        mut open: impl Iterator<Item = &'a Command>,
    ) {
        let since = |at: Option<&Time>| at.is_some_and(|at| *at >= given);
        match command {
            Command::Revoke(ticket) => {
                let undone = since(self.granted.get(ticket))
                    || open.any(|c| matches!(c, Command::Grant(t, _) if t == ticket));
                if !undone {
                    self.revoked.insert(ticket.clone(), time);
                }
            }
            Command::Pause(ticket) => {
                let undone = since(self.resumed.get(ticket))
                    || open.any(|c| matches!(c, Command::Resume(t) if t == ticket));
                if !undone {
                    self.paused.insert(ticket.clone(), time);
                }
            }
            Command::Standby(site, StandbyMode::Vacate | StandbyMode::Keep) => {
                let undone = since(self.online.get(site))
                    || open.any(|c| matches!(c, Command::Standby(s, StandbyMode::Online) if s == site));
                if !undone {
                    self.standing_by.insert(*site, time);
                }
            }
            _ => {}
        }
    }
}

impl World {
    /// Something begins to run under a ticket that was revoked.
    pub(super) fn check_not_revoked(&mut self, ticket: &TicketName, token: Token) {
        if let Some(since) = self.checks.wishes.revoked.get(ticket).copied() {
            let what = format!("{ticket} starts under {token}; its revoke was confirmed at {since}");
            self.checks.violate("I9", self.time, what);
        }
    }

    /// A tenure begins, as its proposal is chosen, while there is to be none. Its site may learn of that much later.
    pub(super) fn check_allowed(&mut self, ticket: &TicketName, site: MemberId, token: Token) {
        let wishes = &self.checks.wishes;
        let revoked = wishes.revoked.get(ticket);
        let since = revoked.max(wishes.paused.get(ticket)).max(wishes.standing_by.get(&site)).copied();
        if let Some(since) = since {
            let what = format!(
                "a tenure of {ticket} begins at {site:?} under {token}; none was allowed since {since}"
            );
            self.checks.violate("I9", self.time, what);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket() -> TicketName {
        TicketName::new("t").unwrap()
    }

    #[test]
    fn a_grant_that_died_unanswered_may_undo_the_revoke_that_was_open_with_it() {
        let (grant, revoke) =
            (Command::Grant(ticket(), MemberId::new(1).unwrap()), Command::Revoke(ticket()));
        let mut wishes = Wishes::default();
        wishes.given(&grant, 5);
        wishes.may_have_come_true(&grant, 20); // its process is killed
        wishes.confirmed(&revoke, 10, 30, [].iter());
        assert!(wishes.revoked.is_empty());
        wishes.confirmed(&revoke, 25, 40, [].iter());
        assert_eq!(wishes.revoked.get(&ticket()), Some(&40), "a later revoke is above all of it");
    }
}
