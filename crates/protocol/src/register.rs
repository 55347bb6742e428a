//! One register on one member: the acceptor of CASPaxos (Rystsov, "CASPaxos: Replicated State Machines without logs",
//! §2.2), which is Synod (Lamport, Paxos Made Simple, §2.2) with values that may be chosen again and again.

use serde::{Deserialize, Serialize};
use sitegate_mutant::planted;

use crate::ids::Ballot;
use crate::value::Value;

/// What a member has accepted.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Accepted {
    /// The proposal.
    pub ballot: Ballot,
    /// Its value.
    pub value: Value,
    /// Taken over from others, not voted for: it says what may have been chosen and counts towards no majority.
    pub adopted: bool,
}

/// A register as one member knows it. Neither ballot ever goes back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Register {
    promised: Ballot,
    accepted: Option<Accepted>,
}

/// A proposal that this register has promised not to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outbid {
    /// By whom.
    pub promised: Ballot,
}

/// What an accept led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vote {
    /// Now accepted: commit before saying so.
    New,
    /// Was accepted before.
    Again,
}

impl Register {
    /// The highest ballot promised or accepted.
    #[must_use]
    pub const fn promised(&self) -> Ballot {
        self.promised
    }

    /// What was accepted last.
    #[must_use]
    pub const fn accepted(&self) -> Option<&Accepted> {
        self.accepted.as_ref()
    }

    /// Promises `ballot`.
    ///
    /// # Errors
    /// Unless it is higher than all that was promised before.
    pub fn promise(&mut self, ballot: Ballot) -> Result<(), Outbid> {
        if ballot <= self.promised && !planted!(PromiseBelowPromise) {
            return Err(Outbid { promised: self.promised });
        }
        self.promised = ballot;
        Ok(())
    }

    /// Votes for `value` at `ballot`.
    ///
    /// # Errors
    /// If a higher ballot was promised.
    ///
    /// # Panics
    /// If `ballot` has another value already: then a proposer has broken the one rule that everything rests on, and
    /// nothing this member says could be trusted.
    pub fn accept(&mut self, ballot: Ballot, value: &Value) -> Result<Vote, Outbid> {
        self.assert_one_value(ballot, value);
        let outbid = match self.accepted.as_ref().map(|accepted| accepted.ballot) {
            _ if planted!(OldAcceptCounts) => false,
            accepted if planted!(AcceptBelowPromise) => accepted > Some(ballot),
            _ => ballot < self.promised,
        };
        if outbid {
            return Err(Outbid { promised: self.promised });
        }
        if self.accepted.as_ref().is_some_and(|a| a.ballot == ballot && !a.adopted) {
            return Ok(Vote::Again);
        }
        self.promised = ballot;
        self.accepted = Some(Accepted { ballot, value: value.clone(), adopted: false });
        Ok(Vote::New)
    }

    /// Takes over a value that was chosen at `ballot`, if that is news. A vote where the promise allows one.
    ///
    /// # Panics
    /// As [`Register::accept`].
    pub fn learn(&mut self, ballot: Ballot, value: &Value) -> bool {
        self.assert_one_value(ballot, value);
        if self.accepted.as_ref().is_some_and(|a| a.ballot >= ballot) {
            return false;
        }
        if self.accept(ballot, value).is_err() {
            self.accepted = Some(Accepted { ballot, value: value.clone(), adopted: true });
        }
        true
    }

    /// Recovers: nothing that this member may have promised or accepted, according to `witness`, is contradicted
    /// from here on; what it adopts is no vote.
    ///
    /// # Panics
    /// As [`Register::accept`].
    pub fn recover(&mut self, witness: &Self) {
        let promised =
            if planted!(RecoveredPromiseAnswered) { witness.promised } else { witness.promised.closed() };
        self.promised = self.promised.max(promised);
        let Some(theirs) = &witness.accepted else { return };
        self.assert_one_value(theirs.ballot, &theirs.value);
        if self.accepted.as_ref().is_none_or(|ours| ours.ballot < theirs.ballot) {
            self.accepted = Some(Accepted { adopted: true, ..theirs.clone() });
        }
    }

    /// Marks what this member itself had accepted as adopted: it may have promised otherwise since, and forgotten.
    pub fn doubt(&mut self) {
        if planted!(RecoveryWithoutDoubt) {
            return;
        }
        if let Some(accepted) = &mut self.accepted {
            accepted.adopted = true;
        }
    }

    fn assert_one_value(&self, ballot: Ballot, value: &Value) {
        if let Some(ours) = self.accepted.as_ref().filter(|ours| ours.ballot == ballot) {
            assert!(ours.value == *value, "two values under ballot {ballot}: {:?} and {value:?}", ours.value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::{Ownership, Standby};

    const B1: Ballot = Ballot { round: 1, member: 1 };
    const B2: Ballot = Ballot { round: 2, member: 2 };

    fn value() -> Value {
        Value::Ownership(Ownership::NEVER)
    }

    #[test]
    fn a_promise_holds_off_lower_ballots_and_the_same_one() {
        let mut register = Register::default();
        register.promise(B2).unwrap();
        assert_eq!(register.promise(B2), Err(Outbid { promised: B2 }));
        assert_eq!(register.accept(B1, &value()), Err(Outbid { promised: B2 }));
        assert_eq!(register.accept(B2, &value()), Ok(Vote::New));
        assert_eq!(register.accept(B2, &value()), Ok(Vote::Again));
    }

    #[test]
    fn what_is_learnt_below_a_promise_is_no_vote() {
        let mut register = Register::default();
        register.promise(B2).unwrap();
        assert!(register.learn(B1, &value()));
        assert!(register.accepted().unwrap().adopted);
        assert_eq!(register.promised(), B2);
        assert!(!register.learn(B1, &value()), "no news");
    }

    #[test]
    fn recovery_refuses_the_very_ballot_that_it_may_have_answered() {
        let (mut lost, mut witness) = (Register::default(), Register::default());
        witness.accept(B1, &value()).unwrap();
        witness.promise(B2).unwrap();
        lost.recover(&witness);
        assert!(lost.promise(B2).is_err() && lost.accept(B2, &value()).is_err());
        assert!(lost.accepted().unwrap().adopted);
        lost.promise(B2.next(crate::ids::MemberId::new(1).unwrap())).unwrap();
    }

    #[test]
    #[should_panic(expected = "two values under ballot 1.1")]
    fn one_ballot_one_value() {
        let mut register = Register::default();
        register.accept(B1, &value()).unwrap();
        let _ = register.accept(B1, &Value::Standby(Standby::initial()));
    }
}
