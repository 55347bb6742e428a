//! Lengths of time as configuration files write them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{self, Deserialize, Deserializer, Visitor};

use super::Rejected;

/// The longest period that a configuration may state: a year. What is longer is a slip of the unit.
pub const PERIOD_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

/// A length of time in whole milliseconds, written as `"300ms"`, `"8s"`, `"5m"` or `"1h"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Period(Duration);

impl Period {
    /// Of so many milliseconds. For defaults.
    pub const fn from_millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }

    /// Of so many seconds. For defaults.
    pub const fn from_secs(secs: u64) -> Self {
        Self(Duration::from_secs(secs))
    }

    /// As the standard library's type.
    pub const fn get(self) -> Duration {
        self.0
    }
}

impl From<Period> for Duration {
    fn from(period: Period) -> Self {
        period.0
    }
}

const UNITS: &str = "the units are ms, s, m and h";

impl FromStr for Period {
    type Err = Rejected;

    fn from_str(text: &str) -> Result<Self, Rejected> {
        let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = (&text[..split], text[split..].trim());
        if number.is_empty() {
            return Err(Rejected::new(
                format!("\"{text}\" is not a length of time"),
                format!("write a whole number and a unit, as in \"30s\"; {UNITS}"),
            ));
        }
        let too_long =
            || Rejected::new(format!("\"{text}\" is longer than a year"), format!("check the unit; {UNITS}"));
        let number: u64 = number.parse().map_err(|_| too_long())?;
        if unit.is_empty() {
            return Err(no_unit(number));
        }
        let millis = unit_millis(unit).ok_or_else(|| wrong_unit(text, number, unit))?;
        let period = Duration::from_millis(number.checked_mul(millis).ok_or_else(too_long)?);
        if period > PERIOD_MAX { Err(too_long()) } else { Ok(Self(period)) }
    }
}

fn unit_millis(unit: &str) -> Option<u64> {
    match unit {
        "ms" => Some(1),
        "s" => Some(1000),
        "m" => Some(60 * 1000),
        "h" => Some(60 * 60 * 1000),
        _ => None,
    }
}

fn no_unit(number: u64) -> Rejected {
    Rejected::new(
        format!("the length of time {number} has no unit"),
        format!("write \"{number}s\" if seconds are meant; {UNITS}"),
    )
}

fn wrong_unit(text: &str, number: u64, unit: &str) -> Rejected {
    let meant = match unit.to_lowercase().as_str() {
        "msec" | "msecs" | "millis" | "millisecond" | "milliseconds" => Some(format!("{number}ms")),
        "sec" | "secs" | "second" | "seconds" => Some(format!("{number}s")),
        "min" | "mins" | "minute" | "minutes" => Some(format!("{number}m")),
        "hr" | "hrs" | "hour" | "hours" => Some(format!("{number}h")),
        "d" | "day" | "days" => Some(format!("{}h", number.saturating_mul(24))),
        _ => None,
    };
    let cause = match unit.chars().next() {
        Some('.' | ',') => format!("\"{text}\" is not a whole number of a unit"),
        Some(first) if first.is_alphabetic() && unit.chars().all(char::is_alphabetic) => {
            format!("\"{unit}\" in \"{text}\" is not a unit of time")
        }
        _ => format!("\"{text}\" is not one number and one unit"),
    };
    let hint = match meant {
        Some(meant) => format!("write \"{meant}\"; {UNITS}"),
        None => format!("write one whole number and one unit, as in \"1500ms\" or \"90m\"; {UNITS}"),
    };
    Rejected::new(cause, hint)
}

impl fmt::Display for Period {
    /// In the largest unit that leaves a whole number; it parses to the same period again.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        let (number, unit) = [(3_600_000, "h"), (60_000, "m"), (1000, "s")]
            .into_iter()
            .find(|(length, _)| millis.is_multiple_of(*length) && millis > 0)
            .map_or((millis, "ms"), |(length, unit)| (millis / length, unit));
        write!(f, "{number}{unit}")
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PeriodVisitor)
    }
}

struct PeriodVisitor;

impl Visitor<'_> for PeriodVisitor {
    type Value = Period;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a length of time such as \"30s\"")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Period, E> {
        text.parse().map_err(E::custom)
    }

    // A bare number is the commonest slip: say what is missing rather than "invalid type".
    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Period, E> {
        Err(match u64::try_from(number) {
            Ok(number) => E::custom(no_unit(number)),
            Err(_) => E::invalid_value(de::Unexpected::Signed(number), &self),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes() {
        for (text, millis) in [("300ms", 300), ("8s", 8000), ("5m", 300_000), ("1h", 3_600_000), ("0ms", 0)] {
            let period: Period = text.parse().unwrap();
            assert_eq!(period.get(), Duration::from_millis(millis));
            assert_eq!(period.to_string(), text);
        }
        assert_eq!("90s".parse::<Period>().unwrap().to_string(), "90s");
        assert_eq!("60s".parse::<Period>().unwrap().to_string(), "1m");
        assert_eq!("7 s".parse::<Period>().unwrap(), Period::from_secs(7));
    }

    #[test]
    fn teaches_units() {
        for (text, cause, hint) in [
            ("30", "the length of time 30 has no unit", "write \"30s\" if seconds are meant"),
            ("30sec", "\"sec\" in \"30sec\" is not a unit of time", "write \"30s\""),
            ("2 days", "\"days\" in \"2 days\" is not a unit of time", "write \"48h\""),
            ("5us", "\"us\" in \"5us\" is not a unit of time", "write one whole number and one unit"),
            ("1.5s", "\"1.5s\" is not a whole number of a unit", "as in \"1500ms\""),
            ("1h30m", "\"1h30m\" is not one number and one unit", "or \"90m\""),
            ("-5s", "\"-5s\" is not a length of time", "write a whole number and a unit"),
            ("", "\"\" is not a length of time", "write a whole number and a unit"),
            ("99999999h", "\"99999999h\" is longer than a year", "check the unit"),
            ("99999999999999999999s", "\"99999999999999999999s\" is longer than a year", "check the unit"),
        ] {
            let rejected = text.parse::<Period>().unwrap_err();
            assert_eq!(rejected.cause(), cause);
            assert!(rejected.advice().unwrap().contains(hint), "{text}: {rejected}");
        }
    }
}
