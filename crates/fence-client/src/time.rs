//! Points in time on the two clocks that fencing trusts.
//!
//! `CLOCK_BOOTTIME` goes on while the machine sleeps but is slewed by time synchronisation; `CLOCK_MONOTONIC_RAW`
//! is never slewed but stands still in suspend. What has to stop, stops when *either* of them says so.

use serde::{Deserialize, Serialize};

/// A reading of both clocks, in nanoseconds, taken as close together as the reader can.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Instant {
    /// `CLOCK_BOOTTIME`, ns.
    pub boot_ns: u64,
    /// `CLOCK_MONOTONIC_RAW`, ns.
    pub raw_ns: u64,
}

impl Instant {
    /// The deadline that lies `ns` nanoseconds ahead on both clocks.
    #[must_use]
    pub fn after(self, ns: u64) -> Deadline {
        Deadline { boot_ns: self.boot_ns.saturating_add(ns), raw_ns: self.raw_ns.saturating_add(ns) }
    }
}

/// A deadline on both clocks, in nanoseconds. It has passed when either clock has reached it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deadline {
    /// `CLOCK_BOOTTIME`, ns.
    pub boot_ns: u64,
    /// `CLOCK_MONOTONIC_RAW`, ns.
    pub raw_ns: u64,
}

impl Deadline {
    /// Whether either clock has reached it.
    #[must_use]
    pub fn passed(self, now: Instant) -> bool {
        now.boot_ns >= self.boot_ns || now.raw_ns >= self.raw_ns
    }

    /// Nanoseconds left until the first of the two clocks reaches it; 0 once it has passed.
    #[must_use]
    pub fn remaining_ns(self, now: Instant) -> u64 {
        self.boot_ns.saturating_sub(now.boot_ns).min(self.raw_ns.saturating_sub(now.raw_ns))
    }

    /// Nanoseconds since the first of the two clocks has reached it; 0 while none has.
    #[must_use]
    pub fn passed_ns(self, now: Instant) -> u64 {
        now.boot_ns.saturating_sub(self.boot_ns).max(now.raw_ns.saturating_sub(self.raw_ns))
    }

    /// The earlier of the two on each clock: waking up there is never too late for either.
    #[must_use]
    pub fn earliest(self, other: Deadline) -> Deadline {
        Deadline { boot_ns: self.boot_ns.min(other.boot_ns), raw_ns: self.raw_ns.min(other.raw_ns) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn either_clock_ends_it() {
        let deadline = Deadline { boot_ns: 100, raw_ns: 50 };
        assert!(!deadline.passed(Instant { boot_ns: 99, raw_ns: 49 }));
        assert!(deadline.passed(Instant { boot_ns: 100, raw_ns: 0 }));
        assert!(deadline.passed(Instant { boot_ns: 0, raw_ns: 50 }));
        assert_eq!(deadline.remaining_ns(Instant { boot_ns: 90, raw_ns: 45 }), 5);
        assert_eq!(deadline.passed_ns(Instant { boot_ns: 90, raw_ns: 57 }), 7);
        assert_eq!(deadline.passed_ns(Instant { boot_ns: 90, raw_ns: 45 }), 0);
    }
}
