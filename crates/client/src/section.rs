//! Critical sections: what must be done within a tenure.

use std::time::Duration;

use sitegate_fence_client::wire::{Instant, Token};
use tokio::sync::watch;

use crate::tenure::{Tenure, now};
use crate::watch::Known;

/// A critical section that was entered. Dropped, it is left without a look.
#[derive(Debug)]
#[must_use = "what was done in it counts only if `leave` says so"]
pub struct Section {
    token: Token,
    known: watch::Receiver<Known>,
}

/// The ticket is not held here, or not for long enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotHeld {
    /// Not at all.
    #[error("the ticket is not held here")]
    Elsewhere,
    /// Not for as long as the section needs.
    #[error("the ticket is held here for {} ms more, and {} ms are needed", left.as_millis(), needed.as_millis())]
    TooShort {
        /// What is left.
        left: Duration,
        /// What was asked for.
        needed: Duration,
    },
}

/// The tenure has ended within the section: another site may have acted meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the tenure with token {token} has ended before the section had")]
pub struct Lost {
    /// Of the tenure that has ended.
    pub token: Token,
}

impl Section {
    pub(crate) fn enter(
        known: watch::Receiver<Known>,
        needed: Duration,
        now: Instant,
    ) -> Result<Self, NotHeld> {
        let tenure = known.borrow().tenure.filter(|tenure| tenure.is_valid(now)).ok_or(NotHeld::Elsewhere)?;
        let left = tenure.remaining(now);
        if left < needed {
            return Err(NotHeld::TooShort { left, needed });
        }
        Ok(Self { token: tenure.token, known })
    }

    /// The fencing token, for storage that can refuse smaller ones.
    #[must_use]
    pub fn token(&self) -> Token {
        self.token
    }

    /// How much time is left, extensions since counted in; nothing once the tenure is over.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.left_at(now())
    }

    /// Ends it. All that was done in it was done within the tenure.
    ///
    /// # Errors
    /// [`Lost`] if that is not certain: then whatever was done must not be taken as done.
    pub fn leave(self) -> Result<(), Lost> {
        self.leave_at(now())
    }

    fn leave_at(self, now: Instant) -> Result<(), Lost> {
        if self.left_at(now).is_zero() { Err(Lost { token: self.token }) } else { Ok(()) }
    }

    fn left_at(&self, now: Instant) -> Duration {
        let same = |tenure: &Tenure| tenure.token == self.token;
        self.known.borrow().tenure.filter(same).map_or(Duration::ZERO, |tenure| tenure.remaining(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sitegate_fence_client::wire::Deadline;

    fn at(ns: u64) -> Instant {
        Instant { boot_ns: ns, raw_ns: ns }
    }

    fn until(token: Token, ns: u64) -> Known {
        let tenure = Tenure { token, deadline: Deadline { boot_ns: ns, raw_ns: ns } };
        Known { tenure: Some(tenure), ..Known::default() }
    }

    #[test]
    fn is_entered_only_with_enough_time_left() {
        let (tell, known) = watch::channel(Known::default());
        let enter = |now| Section::enter(known.clone(), Duration::from_nanos(10), at(now));
        assert_eq!(enter(0).unwrap_err(), NotHeld::Elsewhere);
        tell.send_replace(until(7, 100));
        assert_eq!(enter(90).unwrap().token(), 7);
        let (left, needed) = (Duration::from_nanos(9), Duration::from_nanos(10));
        assert_eq!(enter(91).unwrap_err(), NotHeld::TooShort { left, needed });
        assert_eq!(enter(100).unwrap_err(), NotHeld::Elsewhere);
    }

    #[test]
    fn says_at_its_end_whether_the_tenure_stood() {
        let (tell, known) = watch::channel(until(7, 100));
        let enter = || Section::enter(known.clone(), Duration::ZERO, at(0)).unwrap();
        assert_eq!(enter().leave_at(at(99)), Ok(()));
        assert_eq!(enter().leave_at(at(100)), Err(Lost { token: 7 }));
        let extended = enter();
        tell.send_replace(until(7, 200));
        assert_eq!(extended.leave_at(at(150)), Ok(()));
        let [taken, fenced] = [enter(), enter()];
        tell.send_replace(until(8, 300));
        assert_eq!(taken.leave_at(at(150)), Err(Lost { token: 7 }));
        tell.send_replace(Known::default());
        assert_eq!(fenced.leave_at(at(150)), Err(Lost { token: 7 }));
    }
}
