//! True time, and the clocks of a machine that runs off it.

use sitegate_fence_client::wire::{Deadline as FenceDeadline, Instant};
use sitegate_protocol::{Boot, Deadline, Now, Raw};

/// True time since the run began, in nanoseconds.
pub(crate) type Time = u64;

/// One second of true time.
pub(crate) const SECOND: Time = 1_000_000_000;
/// One millisecond of true time.
pub(crate) const MS: Time = 1_000_000;

/// One clock: an offset and a rate in parts per million off true time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    pub(crate) offset: u64,
    pub(crate) ppm: i64,
}

impl Clock {
    const MILLION: i128 = 1_000_000;

    /// What it reads at `time`.
    pub(crate) fn at(self, time: Time) -> u64 {
        let rate = Self::MILLION + i128::from(self.ppm);
        self.offset + u64::try_from(i128::from(time) * rate / Self::MILLION).unwrap_or(0)
    }

    /// The first true time at which it reads `reading` or more.
    pub(crate) fn when(self, reading: u64) -> Time {
        let rate = Self::MILLION + i128::from(self.ppm);
        let passed = i128::from(reading.saturating_sub(self.offset));
        u64::try_from((passed * Self::MILLION + rate - 1) / rate).unwrap_or(Time::MAX)
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
            let clock = Clock { offset: 17, ppm };
            for reading in [17, 18, 1_000_000_007, 123_456_789_012] {
                let at = clock.when(reading);
                assert!(clock.at(at) >= reading);
                assert!(at == 0 || clock.at(at - 1) < reading);
            }
        }
    }
}
