//! I4 (one value per ballot), I8, I10: what is proposed.

use std::collections::{BTreeMap, BTreeSet};

use sitegate_protocol::{Ballot, Key, Ownership, Proof, Takeover, TicketName, Token, Value};

use crate::clock::Time;
use crate::fenced::name_of;
use crate::world::World;

/// Everything that was ever proposed.
#[derive(Default)]
pub(super) struct Proposals {
    /// One value per ballot.
    values: BTreeMap<Key, BTreeMap<Ballot, Value>>,
    /// The terms of each tenure: the least A, and the newest takeover.
    terms: BTreeMap<(TicketName, Token), (Time, Takeover)>,
    /// Tenures that were freed, and by which proof.
    freed: BTreeSet<(TicketName, Token, String)>,
}

impl Proposals {
    pub(super) fn terms(&self, ticket: &TicketName, token: Token) -> Option<(Time, Takeover)> {
        self.terms.get(&(ticket.clone(), token)).copied()
    }

    /// The values that were proposed for `key`, newest first.
    pub(super) fn newest_first(&self, key: &Key) -> impl Iterator<Item = (Ballot, &Value)> {
        self.values.get(key).into_iter().flat_map(|values| values.iter().rev().map(|(b, v)| (*b, v)))
    }
}

impl World {
    /// I4: whoever speaks of `ballot` means the same value. True if nobody had spoken of it.
    pub(super) fn check_one_value(&mut self, key: &Key, ballot: Ballot, value: &Value) -> bool {
        let values = match self.checks.proposals.values.get_mut(key) {
            Some(values) => values,
            None => self.checks.proposals.values.entry(key.clone()).or_default(),
        };
        let Some(known) = values.get(&ballot) else {
            values.insert(ballot, value.clone());
            return true;
        };
        if known != value {
            let what = format!("{key:?} has two values under {ballot}: {known:?} and {value:?}");
            self.checks.violate("I4", self.time, what);
        }
        false
    }

    pub(super) fn check_proposed(&mut self, i: usize, key: &Key, ballot: Ballot, value: &Value) {
        let new = self.check_one_value(key, ballot, value);
        if let (Key::Ownership(ticket), Value::Ownership(ownership), true) = (key, value, new) {
            self.check_proposal(i, ticket, ownership);
        }
    }

    fn check_proposal(&mut self, i: usize, ticket: &TicketName, ownership: &Ownership) {
        match ownership {
            Ownership::Held(tenancy) => {
                if !self.nodes[i].is_site() {
                    self.checks.violate("I10", self.time, format!("an arbitrator proposes {tenancy:?}"));
                }
                let terms = (tenancy.acquire_after.as_nanos(), tenancy.takeover);
                // A may change under way; the least that was agreed is what the plan was given.
                let key = (ticket.clone(), tenancy.token);
                let known = self.checks.proposals.terms.entry(key).or_insert(terms);
                *known = (known.0.min(terms.0), terms.1);
            }
            Ownership::Free { last_token, proof, .. } => {
                self.check_proof(i, ticket, *last_token, *proof);
            }
        }
    }

    /// I8. What was freed once may be committed again by anybody.
    fn check_proof(&mut self, i: usize, ticket: &TicketName, token: Token, proof: Proof) {
        if !self.checks.proposals.freed.insert((ticket.clone(), token, format!("{proof:?}"))) {
            return;
        }
        let name = name_of(ticket);
        let takeover = self.checks.proposals.terms(ticket, token).map(|(_, takeover)| takeover);
        let holder = self.nodes.iter().position(|n| u64::from(n.id.get()) == token.0 & 0xff);
        let wrong = match proof {
            Proof::Receipt => {
                let receipted = |j: usize| {
                    let record = self.nodes[j].fence.records.get(&name);
                    record.and_then(|r| r.receipt.as_ref()).is_some_and(|r| r.token >= token.0)
                };
                holder.is_some_and(|j| !receipted(j))
            }
            Proof::Waited => takeover == Some(Takeover::Confirmed) || holder == Some(i),
            Proof::Attested => !self.is_attested(ticket, token),
            Proof::Never => {
                let newest = self.checks.newest.get(ticket);
                newest.is_some_and(|(newest, _)| token != Token(0) && *newest == token)
            }
        };
        if wrong {
            let what = format!("{:?} frees {ticket} of {token} with {proof:?}", self.nodes[i].id);
            self.checks.violate("I8", self.time, what);
        }
    }
}
