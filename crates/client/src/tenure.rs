//! A tenure, as the fence daemon knows it.

use std::time::Duration;

use sitegate_fence_client::wire::{Deadline, Instant, Token};
use sitegate_host::clock::{boot_ns, raw_ns};

/// The site holds the ticket, up to a deadline that is moved on as long as it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tenure {
    /// Larger than that of every tenure before, at whatever site.
    pub token: Token,
    /// When the fence daemon fences unless it is extended: on two clocks, whichever is the first.
    pub deadline: Deadline,
}

impl Tenure {
    /// Whether the deadline still lies ahead.
    #[must_use]
    pub fn is_valid(&self, now: Instant) -> bool {
        !self.deadline.passed(now)
    }

    /// How much time is left; nothing once it has passed.
    #[must_use]
    pub fn remaining(&self, now: Instant) -> Duration {
        Duration::from_nanos(self.deadline.remaining_ns(now))
    }
}

/// Now, on both clocks: `CLOCK_BOOTTIME` and `CLOCK_MONOTONIC_RAW`.
#[must_use]
pub fn now() -> Instant {
    Instant { boot_ns: boot_ns(), raw_ns: raw_ns() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_over_on_either_clock() {
        let tenure = Tenure { token: 1, deadline: Deadline { boot_ns: 100, raw_ns: 50 } };
        assert!(tenure.is_valid(Instant { boot_ns: 99, raw_ns: 49 }));
        assert!(!tenure.is_valid(Instant { boot_ns: 100, raw_ns: 0 }));
        assert!(!tenure.is_valid(Instant { boot_ns: 0, raw_ns: 50 }));
        assert_eq!(tenure.remaining(Instant { boot_ns: 90, raw_ns: 45 }), Duration::from_nanos(5));
        assert!(tenure.is_valid(now()) == (now().boot_ns < 100 && now().raw_ns < 50));
    }
}
