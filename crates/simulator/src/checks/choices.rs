//! I4: what was chosen, by the votes on the disks, is one chain; and nobody takes for chosen what was not.

use std::collections::BTreeMap;
use std::ops::Bound;

use sitegate_protocol::{Ballot, Durable, Key, Ownership, Record, Register, TicketName, Token, Value};

use crate::world::World;

/// All votes of a run, and what they have chosen.
#[derive(Default)]
pub(super) struct Choices {
    /// What each process has voted for and not committed: what is being committed now, and what comes after.
    voting: BTreeMap<u64, [Vec<Vote>; 2]>,
    votes: BTreeMap<Key, BTreeMap<Ballot, Votes>>,
}

struct Vote {
    key: Key,
    ballot: Ballot,
    value: Value,
}

/// The votes for one proposal.
struct Votes {
    value: Value,
    ever: Members,
    /// Those of `ever` whose disk has not been put back to before the vote.
    remembered: Members,
    /// A majority of `remembered`, when there first was one: chosen for certain and for good.
    chosen_by: Option<Members>,
}

/// A set of members, by index.
#[derive(Clone, Copy, Default)]
struct Members(u16);

impl Members {
    const fn insert(&mut self, i: usize) {
        self.0 |= 1 << i;
    }

    const fn remove(&mut self, i: usize) {
        self.0 &= !(1 << i);
    }

    const fn contains(self, i: usize) -> bool {
        self.0 & (1 << i) != 0
    }

    const fn count(self) -> usize {
        self.0.count_ones() as usize
    }
}

impl Choices {
    fn has_voted(&self, i: usize, key: &Key, ballot: Ballot) -> bool {
        let votes = self.votes.get(key).and_then(|votes| votes.get(&ballot));
        votes.is_some_and(|votes| votes.remembered.contains(i))
    }

    /// Whether a majority has ever voted for it.
    fn may_be_chosen(&self, key: &Key, ballot: Ballot, majority: usize) -> bool {
        let votes = self.votes.get(key).and_then(|votes| votes.get(&ballot));
        votes.is_some_and(|votes| votes.ever.count() >= majority)
    }

    /// Votes among the records of one event. What it writes twice it votes for twice: each counts.
    pub(super) fn voted<'a>(&mut self, i: usize, process: u64, records: impl Iterator<Item = &'a Record>) {
        for record in records {
            let Record::Register(key, register) = record else { continue };
            let Some(accepted) = register.accepted().filter(|accepted| !accepted.adopted) else { continue };
            let ballot = accepted.ballot;
            if !self.has_voted(i, key, ballot) {
                let vote = Vote { key: key.clone(), ballot, value: accepted.value.clone() };
                self.voting.entry(process).or_default()[1].push(vote);
            }
        }
    }

    pub(super) fn committing(&mut self, process: u64) {
        if let Some([now, later]) = self.voting.get_mut(&process) {
            now.append(later);
        }
    }

    pub(super) fn lost(&mut self, process: u64) {
        self.voting.remove(&process);
    }

    /// The disk of `i` was put back: what it does not know any more is no vote.
    pub(super) fn forgotten(&mut self, i: usize, disk: &Durable) {
        for (key, votes) in &mut self.votes {
            let known = accepted(disk, key);
            for (_, votes) in votes.range_mut((Bound::Excluded(known), Bound::Unbounded)) {
                votes.remembered.remove(i);
            }
        }
    }

    /// What was chosen with a vote that `i` has forgotten, and has not learnt again.
    pub(super) fn not_made_up_for(&self, i: usize, disk: &Durable) -> Option<(&Key, Ballot)> {
        self.votes.iter().find_map(|(key, votes)| {
            let mut unknown = votes.range((Bound::Excluded(accepted(disk, key)), Bound::Unbounded));
            let had_a_say = |votes: &Votes| votes.chosen_by.is_some_and(|by| by.contains(i));
            unknown.find(|(_, votes)| had_a_say(votes)).map(|(ballot, _)| (key, *ballot))
        })
    }
}

fn accepted(disk: &Durable, key: &Key) -> Ballot {
    disk.registers.get(key).and_then(Register::accepted).map_or(Ballot::ZERO, |a| a.ballot)
}

impl World {
    /// The votes of `i` that were being committed are durable.
    pub(super) fn check_votes(&mut self, i: usize) {
        let Some([votes, _]) = self.checks.choices.voting.get_mut(&self.nodes[i].generation) else { return };
        for vote in std::mem::take(votes) {
            // Whom new identities replace has no say in them.
            let identity = self.nodes[i].disk.durable.own.identity;
            let replaced =
                vote.value.identities().is_some_and(|next| next.of.get(&self.nodes[i].id) != Some(&identity));
            if !replaced {
                self.check_vote(i, vote);
            }
        }
    }

    fn check_vote(&mut self, i: usize, vote: Vote) {
        let majority = self.checks.majority();
        let Vote { key, ballot, value } = vote;
        let (ever, remembered) = (Members::default(), Members::default());
        let of_key = self.checks.choices.votes.entry(key.clone()).or_default();
        let votes = of_key.entry(ballot).or_insert_with(|| Votes {
            value: value.clone(),
            ever,
            remembered,
            chosen_by: None,
        });
        let one_value = votes.value == value;
        votes.ever.insert(i);
        if !self.checks.haunted {
            votes.remembered.insert(i);
        }
        let newly = votes.chosen_by.is_none() && votes.remembered.count() >= majority;
        if newly {
            votes.chosen_by = Some(votes.remembered);
        }
        if !one_value {
            let what = format!("{key:?} has votes for two values under {ballot}, one is {value:?}");
            self.checks.violate("I4", self.time, what);
        }
        if newly {
            self.check_chain(&key, ballot);
            self.check_begin(&key, ballot);
        }
    }

    /// A proposal that begins a tenure is chosen. One below what is chosen already is only a late vote for it.
    fn check_begin(&mut self, key: &Key, ballot: Ballot) {
        let Some(of_key) = self.checks.choices.votes.get(key) else { return };
        let above = (Bound::Excluded(ballot), Bound::Unbounded);
        let late = of_key.range(above).any(|(_, votes)| votes.chosen_by.is_some());
        let held = of_key.get(&ballot).and_then(|votes| votes.value.ownership()?.held());
        if let (Key::Ownership(ticket), Some(tenancy)) = (key, held)
            && tenancy.token == Token::of(ballot)
            && !late
        {
            let (site, token) = (tenancy.site, tenancy.token);
            self.check_allowed(ticket, site, token);
        }
    }

    /// What is chosen at `ballot` follows from what is chosen below, and what is chosen above follows from it.
    fn check_chain(&mut self, key: &Key, ballot: Ballot) {
        let Some(of_key) = self.checks.choices.votes.get(key) else { return };
        let chosen = |(_, votes): &(&Ballot, &Votes)| votes.chosen_by.is_some();
        let before = of_key.range(..ballot).rev().find(chosen);
        let after = of_key.range(ballot..).skip(1).find(chosen);
        let here = of_key.get_key_value(&ballot);
        let broken = [(before, here), (here, after)].into_iter().find_map(|pair| {
            let (Some((low, a)), Some((high, b))) = pair else { return None };
            (!follows(&a.value, &b.value, *high))
                .then(|| format!("{key:?}: {:?} is chosen at {high} after {:?} at {low}", b.value, a.value))
        });
        if let Some(what) = broken {
            self.checks.violate("I4", self.time, what);
        }
    }

    /// A member tells others that this is chosen.
    pub(super) fn check_announced(&mut self, i: usize, key: &Key, ballot: Ballot, value: &Value) {
        self.check_one_value(key, ballot, value);
        self.check_chosen(i, key, ballot, "announces");
    }

    /// A site goes by a value as chosen.
    pub(super) fn check_chosen(&mut self, i: usize, key: &Key, ballot: Ballot, does: &str) {
        if !self.checks.choices.may_be_chosen(key, ballot, self.checks.majority()) {
            let what =
                format!("{:?} {does} {key:?} at {ballot}: no majority has voted for it", self.nodes[i].id);
            self.checks.violate("I4", self.time, what);
        }
    }

    /// A site says what an ownership round has chosen.
    pub(super) fn check_settled(&mut self, i: usize, ticket: &TicketName, ownership: &Ownership) {
        let (key, majority) = (Key::Ownership(ticket.clone()), self.checks.majority());
        let same = |value: &Value| value.ownership() == Some(ownership);
        let mut proposed = self.checks.proposals.newest_first(&key).filter(|(_, value)| same(value));
        let chosen = proposed.any(|(ballot, _)| self.checks.choices.may_be_chosen(&key, ballot, majority));
        drop(proposed);
        if !chosen {
            let what = format!(
                "{:?} says that {ticket} has settled as {ownership:?}: no majority has voted for it",
                self.nodes[i].id
            );
            self.checks.violate("I4", self.time, what);
        }
    }
}

/// Whether `later`, chosen at `ballot`, may come after `earlier`: whoever proposed it has seen `earlier`, or something
/// that came of it.
pub(crate) fn follows(earlier: &Value, later: &Value, ballot: Ballot) -> bool {
    match (earlier, later) {
        (Value::Ownership(a), Value::Ownership(b)) if a.token() == b.token() => match (a.held(), b.held()) {
            (Some(a), Some(b)) => a.site == b.site,
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (None, None) => a == b,
        },
        (Value::Ownership(a), Value::Ownership(b)) => a.token() < b.token() && b.token() <= Token::of(ballot),
        (Value::Intent(a), Value::Intent(b)) => a.version < b.version || a == b,
        (Value::Standby(a), Value::Standby(b)) => a.version < b.version || a == b,
        (Value::Identities(a), Value::Identities(b)) => a.epoch < b.epoch || a == b,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sitegate_protocol::{Proof, Takeovers};

    fn free(token: u64, proof: Proof) -> Value {
        Value::Ownership(Ownership::Free { last_token: Token(token), proof, takeovers: Takeovers::NONE })
    }

    #[test]
    fn what_is_free_stays_as_it_was_freed_until_a_larger_token() {
        let ballot = Ballot { round: 9, member: 1 };
        assert!(follows(&free(257, Proof::Receipt), &free(257, Proof::Receipt), ballot));
        assert!(!follows(&free(257, Proof::Receipt), &free(257, Proof::Waited), ballot));
        assert!(follows(&free(257, Proof::Receipt), &free(514, Proof::Waited), ballot));
        assert!(!follows(&free(514, Proof::Receipt), &free(257, Proof::Receipt), ballot));
        assert!(
            !follows(&free(257, Proof::Receipt), &free(1 << 20, Proof::Waited), ballot),
            "of a later ballot"
        );
    }
}
