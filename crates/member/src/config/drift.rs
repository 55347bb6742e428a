//! How wrong clocks may run.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer};
use sitegate_host::diagnostic::{Rejected, deserialize_text};

/// The bound ρ on how far the rate of any member's clock lies from that of true time, in parts per million.
///
/// Written as `"1000ppm"`, which is 0.1 % and the default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClockDrift {
    ppm: u32,
}

impl ClockDrift {
    /// 0.1 %: ten times what a bad quartz does when nothing disciplines it, and twice what NTP slews at most.
    pub const DEFAULT: Self = Self { ppm: 1000 };
    /// 10 %: no clock that runs so is worth a lease.
    pub const PPM_MAX: u32 = 100_000;

    /// The bound in parts per million, 1 to [`Self::PPM_MAX`].
    pub const fn ppm(self) -> u32 {
        self.ppm
    }

    /// `length · (1−ρ)`, rounded down.
    pub fn shortened(self, length: Duration) -> Duration {
        scaled(length, u128::from(MILLION - self.ppm), u128::from(MILLION))
    }

    /// `length · (1+ρ)`, rounded up.
    pub fn lengthened(self, length: Duration) -> Duration {
        scaled_up(length, u128::from(MILLION + self.ppm), u128::from(MILLION))
    }

    /// `length / (1−ρ)`, rounded up: the least that [`Self::shortened`] leaves at least `length` of.
    pub fn before_shortening(self, length: Duration) -> Duration {
        scaled_up(length, u128::from(MILLION), u128::from(MILLION - self.ppm))
    }
}

const MILLION: u32 = 1_000_000;

fn scaled(length: Duration, times: u128, over: u128) -> Duration {
    from_nanos(length.as_nanos() * times / over)
}

fn scaled_up(length: Duration, times: u128, over: u128) -> Duration {
    from_nanos((length.as_nanos() * times).div_ceil(over))
}

/// Lengths here are at most some years, which fit 64 bits of nanoseconds a hundredfold.
fn from_nanos(nanos: u128) -> Duration {
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

impl FromStr for ClockDrift {
    type Err = Rejected;

    fn from_str(text: &str) -> Result<Self, Rejected> {
        let hint = format!(
            "write parts per million from \"1ppm\" to \"{}ppm\"; 0.1 % is \"1000ppm\"",
            Self::PPM_MAX
        );
        let rejected = |cause| Rejected::new(format!("\"{text}\" {cause}"), hint.clone());
        let number = text.strip_suffix("ppm").ok_or_else(|| rejected("is not in the unit ppm"))?;
        let ppm = number.trim_end().parse().map_err(|_| rejected("has no whole number of ppm"))?;
        if (1..=Self::PPM_MAX).contains(&ppm) { Ok(Self { ppm }) } else { Err(rejected("is out of range")) }
    }
}

impl<'de> Deserialize<'de> for ClockDrift {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserialize_text(deserializer)
    }
}

impl fmt::Display for ClockDrift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ppm", self.ppm)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_to_the_safe_side() {
        let drift: ClockDrift = "1000ppm".parse().unwrap();
        assert_eq!(drift, ClockDrift::DEFAULT);
        assert_eq!(drift.shortened(Duration::from_secs(60)), Duration::from_millis(59_940));
        assert_eq!(drift.lengthened(Duration::from_secs(60)), Duration::from_millis(60_060));
        let third = Duration::from_nanos(3);
        assert_eq!(drift.shortened(third), Duration::from_nanos(2));
        assert_eq!(drift.lengthened(third), Duration::from_nanos(4));
        for nanos in [1, 999, 1000, 1001, 45_000_000_007] {
            let length = Duration::from_nanos(nanos);
            let before = drift.before_shortening(length);
            assert!(drift.shortened(before) >= length);
            assert!(drift.shortened(before - Duration::from_nanos(1)) < length);
        }
    }

    #[test]
    fn says_what_is_wrong() {
        for (bad, cause) in [
            ("0.1%", "\"0.1%\" is not in the unit ppm"),
            ("ppm", "\"ppm\" has no whole number of ppm"),
            ("0ppm", "\"0ppm\" is out of range"),
            ("200000ppm", "\"200000ppm\" is out of range"),
        ] {
            assert_eq!(bad.parse::<ClockDrift>().unwrap_err().cause(), cause);
        }
    }
}
