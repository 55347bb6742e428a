//! The votes for a proposal, each with the sending that it answers: together they are the bases of a lease.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use sitegate_mutant::planted;

use crate::ids::{MemberId, Nonce};
use crate::time::Now;

/// Sendings of one proposal that are remembered: an answer to an older one says nothing useful any more.
const ATTEMPTS_MAX: usize = 16;
/// Who voted for a proposal, and which sending of it they answered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Votes {
    last_attempt: u32,
    attempts: Vec<(u32, Now)>,
    pub(super) by: BTreeMap<MemberId, BallotVote>,
}

/// A vote: it counts for this process of the acceptor only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct BallotVote {
    pub(super) nonce: Nonce,
    /// When the sending that it answers was sent: a base of the lease.
    pub(super) base: Now,
}

impl Votes {
    /// The number of the first sending.
    pub(crate) const FIRST: u32 = 1;

    pub(super) fn begin_attempt(&mut self, now: Now) -> u32 {
        self.last_attempt = self.last_attempt.wrapping_add(1);
        if self.attempts.len() == ATTEMPTS_MAX {
            self.attempts.remove(0);
        }
        self.attempts.push((self.last_attempt, now));
        self.last_attempt
    }

    /// Counts an answer to `attempt`; later bases win.
    pub(super) fn count(&mut self, from: MemberId, nonce: Nonce, attempt: u32) {
        let Some(&(_, base)) = self.attempts.iter().find(|(number, _)| *number == attempt) else { return };
        let base = self.attempts.last().filter(|_| planted!(VoteFromLastAttempt)).map_or(base, |last| last.1);
        let newer = self.by.get(&from).is_none_or(|vote| vote.nonce != nonce || vote.base < base);
        if newer {
            self.by.insert(from, BallotVote { nonce, base });
        }
    }
}
