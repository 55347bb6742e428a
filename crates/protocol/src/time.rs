//! Time as the protocol sees it: two clocks that cannot be mixed, and what may be concluded from them.
//!
//! `CLOCK_BOOTTIME` goes on in suspend but is slewed by NTP; `CLOCK_MONOTONIC_RAW` is never slewed but stops
//! in suspend. A holder must not hold too long, so its [`Deadline`] has passed when *either* clock says so. An
//! acceptor must not let go too early, so its [`Guard`] is over when *both* say so.

use serde::{Deserialize, Serialize};
use sitegate_mutant::planted;

/// A length of time, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Span(u64);

impl Span {
    /// No time at all.
    pub const ZERO: Self = Self(0);

    /// A span of `ns` nanoseconds.
    #[must_use]
    pub const fn from_nanos(ns: u64) -> Self {
        Self(ns)
    }

    /// A span of `ms` milliseconds.
    #[must_use]
    pub const fn from_millis(ms: u64) -> Self {
        Self(ms.saturating_mul(1_000_000))
    }

    /// A span of `s` seconds.
    #[must_use]
    pub const fn from_secs(s: u64) -> Self {
        Self(s.saturating_mul(1_000_000_000))
    }

    /// This span in nanoseconds.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// This span in whole milliseconds, rounded down.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0 / 1_000_000
    }

    /// The sum, at most the largest span there is.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The difference, at least zero.
    #[must_use]
    pub const fn minus(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// `self` times `n`.
    #[must_use]
    pub const fn times(self, n: u64) -> Self {
        Self(self.0.saturating_mul(n))
    }

    /// `self` divided by `n`, rounded down. `n` must not be zero.
    #[must_use]
    pub const fn divided(self, n: u64) -> Self {
        Self(self.0 / n)
    }
}

/// The bound ρ on how far any clock of the formation may run off true time, in parts per million.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Drift {
    ppm: u32,
}

impl Drift {
    const MILLION: u128 = 1_000_000;

    /// A bound of `ppm` parts per million; `None` for a bound of 50 % or more, with which no lease makes sense.
    #[must_use]
    pub const fn from_ppm(ppm: u32) -> Option<Self> {
        if ppm < 500_000 { Some(Self { ppm }) } else { None }
    }

    /// The bound in parts per million.
    #[must_use]
    pub const fn ppm(self) -> u32 {
        self.ppm
    }

    /// `span · (1−ρ)`, rounded down: so long on a local clock is at most `span` of true time.
    #[must_use]
    pub fn at_most(self, span: Span) -> Span {
        Span(narrow(u128::from(span.0) * (Self::MILLION - u128::from(self.ppm)) / Self::MILLION))
    }

    /// `span · (1+ρ)`, rounded up: so long on a local clock is at least `span` of true time.
    #[must_use]
    pub fn at_least(self, span: Span) -> Span {
        Span(narrow((u128::from(span.0) * (Self::MILLION + u128::from(self.ppm))).div_ceil(Self::MILLION)))
    }
}

fn narrow(ns: u128) -> u64 {
    u64::try_from(ns).unwrap_or(u64::MAX)
}

/// A reading of `CLOCK_BOOTTIME`, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Boot(pub u64);

/// A reading of `CLOCK_MONOTONIC_RAW`, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Raw(pub u64);

impl Boot {
    /// The reading `span` earlier, at least zero.
    #[must_use]
    pub const fn minus(self, span: Span) -> Self {
        Self(self.0.saturating_sub(span.0))
    }

    /// The reading `span` later.
    #[must_use]
    pub const fn plus(self, span: Span) -> Self {
        Self(self.0.saturating_add(span.0))
    }

    /// The time from `earlier` to `self`, zero if `earlier` is not earlier.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Span {
        Span(self.0.saturating_sub(earlier.0))
    }
}

impl Raw {
    /// The reading `span` later.
    #[must_use]
    pub const fn plus(self, span: Span) -> Self {
        Self(self.0.saturating_add(span.0))
    }

    /// The time from `earlier` to `self`, zero if `earlier` is not earlier.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Span {
        Span(self.0.saturating_sub(earlier.0))
    }
}

/// Both clocks of this machine, read together. Ordered by the boot clock: readings of one machine never disagree
/// about their order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Now {
    /// `CLOCK_BOOTTIME`.
    pub boot: Boot,
    /// `CLOCK_MONOTONIC_RAW`.
    pub raw: Raw,
}

impl Now {
    /// The larger of the times that the two clocks saw pass since `earlier`.
    #[must_use]
    pub fn since_at_most(self, earlier: Self) -> Span {
        self.boot.since(earlier.boot).max(self.raw.since(earlier.raw))
    }

    /// Whether both clocks agree that `span` has passed since `earlier`.
    #[must_use]
    pub fn certainly_past(self, earlier: Self, span: Span) -> bool {
        Guard::after(earlier, span).is_over(self)
    }
}

/// The end of a holder's right. Passed when either clock says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Deadline {
    /// The end on `CLOCK_BOOTTIME`.
    pub boot: Boot,
    /// The end on `CLOCK_MONOTONIC_RAW`.
    pub raw: Raw,
}

impl Deadline {
    /// `span` after `base` on both clocks.
    #[must_use]
    pub const fn after(base: Now, span: Span) -> Self {
        Self { boot: base.boot.plus(span), raw: base.raw.plus(span) }
    }

    /// Whether either clock has reached it.
    #[must_use]
    pub fn has_passed(self, now: Now) -> bool {
        if planted!(DeadlineNeedsBothClocks) {
            return now.boot >= self.boot && now.raw >= self.raw;
        }
        now.boot >= self.boot || now.raw >= self.raw
    }

    /// What is left on the clock that has less left.
    #[must_use]
    pub fn remaining(self, now: Now) -> Span {
        self.boot.since(now.boot).min(self.raw.since(now.raw))
    }

    /// The earlier on each clock.
    #[must_use]
    pub fn earlier(self, other: Self) -> Self {
        Self { boot: self.boot.min(other.boot), raw: self.raw.min(other.raw) }
    }

    /// Whether `self` is no later than `other` on either clock.
    #[must_use]
    pub fn no_later_than(self, other: Self) -> bool {
        self.boot <= other.boot && self.raw <= other.raw
    }
}

/// The end of an acceptor's guard. Over when both clocks say so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Guard {
    /// The end on `CLOCK_BOOTTIME`.
    pub boot: Boot,
    /// The end on `CLOCK_MONOTONIC_RAW`.
    pub raw: Raw,
}

impl Guard {
    /// `span` after `base` on both clocks.
    #[must_use]
    pub const fn after(base: Now, span: Span) -> Self {
        Self { boot: base.boot.plus(span), raw: base.raw.plus(span) }
    }

    /// Whether both clocks have reached it.
    #[must_use]
    pub fn is_over(self, now: Now) -> bool {
        if planted!(GuardNeedsOneClock) {
            return now.boot >= self.boot || now.raw >= self.raw;
        }
        now.boot >= self.boot && now.raw >= self.raw
    }

    /// What is left on the clock that has more left.
    #[must_use]
    pub fn remaining(self, now: Now) -> Span {
        self.boot.since(now.boot).max(self.raw.since(now.raw))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now(boot: u64, raw: u64) -> Now {
        Now { boot: Boot(boot), raw: Raw(raw) }
    }

    #[test]
    fn a_deadline_passes_on_the_first_clock_and_a_guard_ends_on_the_last() {
        let base = now(100, 1000);
        let span = Span::from_nanos(50);
        let (deadline, guard) = (Deadline::after(base, span), Guard::after(base, span));
        assert!(!deadline.has_passed(now(149, 1049)));
        assert!(deadline.has_passed(now(150, 1000)) && deadline.has_passed(now(100, 1050)));
        assert!(!guard.is_over(now(150, 1049)) && !guard.is_over(now(149, 1050)));
        assert!(guard.is_over(now(150, 1050)));
    }

    #[test]
    fn drift_rounds_to_the_safe_side() {
        let drift = Drift::from_ppm(1000).unwrap();
        assert_eq!(drift.at_most(Span::from_nanos(1001)), Span::from_nanos(999));
        assert_eq!(drift.at_least(Span::from_nanos(1001)), Span::from_nanos(1003));
        assert!(Drift::from_ppm(500_000).is_none());
    }
}
