//! True time, and the clocks of a machine that runs off it.

use sitegate_fence_client::wire::{Deadline as FenceDeadline, Instant};
use sitegate_protocol::{Boot, Deadline, Now, Raw};

/// True time since the run began, in nanoseconds.
pub(crate) type Time = u64;

/// One second of true time.
pub(crate) const SECOND: Time = 1_000_000_000;
/// One millisecond of true time.
pub(crate) const MS: Time = 1_000_000;

const MILLION: i128 = 1_000_000;

/// One clock. Its rate may change under way, and it may stand still for a while.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    /// Since when it runs at its present rate.
    since: Time,
    /// What it read then, in millionths of a nanosecond, so that a change of rate loses nothing.
    reading: i128,
    /// How far its rate lies off that of true time, in parts per million.
    ppm: i64,
    stands: bool,
}

impl Clock {
    /// A clock that reads `offset` when the run begins.
    pub(crate) fn new(offset: u64, ppm: i64) -> Self {
        Self { since: 0, reading: i128::from(offset) * MILLION, ppm, stands: false }
    }

    fn rate(self) -> i128 {
        if self.stands { 0 } else { MILLION + i128::from(self.ppm) }
    }

    /// What it would read at `time`, in millionths of a nanosecond.
    fn exact(self, time: Time) -> i128 {
        self.reading + i128::from(time.saturating_sub(self.since)) * self.rate()
    }

    /// What it reads at `time`.
    pub(crate) fn at(self, time: Time) -> u64 {
        let exact = self.exact(time);
        // A run is short: this is far quicker, and fits.
        match u64::try_from(exact) {
            Ok(exact) => exact / 1_000_000,
            Err(_) => u64::try_from(exact / MILLION).unwrap_or(0),
        }
    }

    /// The first true time at which it reads `reading` or more, if its rate stays as it is.
    pub(crate) fn when(self, reading: u64) -> Time {
        let left = i128::from(reading) * MILLION - self.reading;
        if left <= 0 {
            return self.since;
        }
        if self.stands {
            return Time::MAX;
        }
        let rate = self.rate();
        let rounded_up = match (u64::try_from(left + rate - 1), u64::try_from(rate)) {
            (Ok(left), Ok(rate)) => left / rate,
            _ => u64::try_from((left + rate - 1) / rate).unwrap_or(Time::MAX),
        };
        rounded_up.saturating_add(self.since)
    }

    fn change(&mut self, time: Time, ppm: i64, stands: bool) {
        *self = Self { since: time, reading: self.exact(time), ppm, stands };
    }

    /// From `time` on it runs at another rate.
    pub(crate) fn run_at(&mut self, time: Time, ppm: i64) {
        self.change(time, ppm, self.stands);
    }
}

/// The two clocks of one machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clocks {
    pub(crate) boot: Clock,
    pub(crate) raw: Clock,
}

impl Clocks {
    pub(crate) fn now(&self, time: Time) -> Now {
        Now { boot: Boot(self.boot.at(time)), raw: Raw(self.raw.at(time)) }
    }

    pub(crate) fn instant(&self, time: Time) -> Instant {
        Instant { boot_ns: self.boot.at(time), raw_ns: self.raw.at(time) }
    }

    /// The first true time at which a holder's deadline has passed.
    pub(crate) fn when_passed(&self, deadline: Deadline) -> Time {
        self.boot.when(deadline.boot.0).min(self.raw.when(deadline.raw.0))
    }

    pub(crate) fn when_due(&self, boot: Option<Boot>, raw: Option<Raw>) -> Option<Time> {
        let boot = boot.map(|at| self.boot.when(at.0));
        let raw = raw.map(|at| self.raw.when(at.0));
        boot.into_iter().chain(raw).min()
    }

    /// The machine sleeps from `time` on: `CLOCK_BOOTTIME` goes on, `CLOCK_MONOTONIC_RAW` does not.
    pub(crate) fn sleep(&mut self, time: Time) {
        self.raw.change(time, self.raw.ppm, true);
    }

    /// The machine is awake again.
    pub(crate) fn wake(&mut self, time: Time) {
        self.raw.change(time, self.raw.ppm, false);
    }
}

pub(crate) const fn to_fence(deadline: Deadline) -> FenceDeadline {
    FenceDeadline { boot_ns: deadline.boot.0, raw_ns: deadline.raw.0 }
}

pub(crate) const fn from_fence(deadline: FenceDeadline) -> Deadline {
    Deadline { boot: Boot(deadline.boot_ns), raw: Raw(deadline.raw_ns) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_reads_what_was_waited_for_and_not_earlier() {
        for ppm in [-100_000, -3, 0, 7, 100_000] {
            let mut clock = Clock::new(17, ppm);
            for later in [0, 1, 2] {
                clock.run_at(later * 1_000_003, ppm - 5 * i64::try_from(later).unwrap());
                for ahead in [1, 1_000_000_007, 123_456_789_012] {
                    let reading = clock.at(later * 1_000_003) + ahead;
                    let at = clock.when(reading);
                    assert!(clock.at(at) >= reading);
                    assert!(clock.at(at - 1) < reading);
                }
            }
        }
    }

    #[test]
    fn changes_of_rate_lose_nothing() {
        let (mut changed, plain) = (Clock::new(5, 333), Clock::new(5, 333));
        (1..1000).for_each(|time| changed.run_at(time * 7, 333));
        assert_eq!(changed.at(1_000_000), plain.at(1_000_000));
    }

    #[test]
    fn one_clock_goes_on_in_sleep_and_the_other_does_not() {
        let clock = Clock::new(0, 0);
        let mut clocks = Clocks { boot: clock, raw: clock };
        clocks.sleep(10);
        assert_eq!((clocks.boot.at(30), clocks.raw.at(30)), (30, 10));
        assert_eq!(clocks.raw.when(11), Time::MAX);
        clocks.wake(30);
        assert_eq!((clocks.boot.at(40), clocks.raw.at(40)), (40, 20));
        assert_eq!(clocks.raw.when(11), 31);
    }
}
