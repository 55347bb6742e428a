//! How programs end, in words.

use std::fmt;
use std::time::Duration;

use crate::keeper::Report;

/// A program that has run to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exited {
    /// Its exit code.
    pub code: i32,
    pub(super) tail: String,
}

impl Exited {
    /// The last that it wrote.
    #[must_use]
    pub fn said(&self) -> &str {
        &self.tail
    }
}

impl fmt::Display for Exited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&with_last_words(&format!("exited with code {}", self.code), &self.tail))
    }
}

/// How a watch ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Reported(Report),
    /// The keeper was killed: by a fence, mostly.
    Died,
    Overrun(Duration),
    Cancelled,
}

impl Ending {
    pub(super) fn succeeded(&self) -> bool {
        *self == Self::Reported(Report::Exited(0))
    }

    pub(super) fn judge(self, tail: &str) -> Result<Exited, String> {
        let why = match self {
            Self::Reported(Report::Exited(code)) => return Ok(Exited { code, tail: tail.to_owned() }),
            Self::Reported(Report::Signalled(signal)) => format!("was killed by signal {signal}"),
            Self::Reported(Report::Refused(why)) => format!("was not started: {why}"),
            Self::Reported(Report::NotStarted(why)) => why,
            Self::Died => "was killed".to_owned(),
            Self::Overrun(within) => {
                format!("took longer than its limit of {} ms and was killed", within.as_millis())
            }
            Self::Cancelled => "was given up".to_owned(),
        };
        Err(with_last_words(&why, tail))
    }
}

fn with_last_words(why: &str, tail: &str) -> String {
    if tail.is_empty() { why.to_owned() } else { format!("{why}; it wrote: {}", last_lines(tail)) }
}

/// How many lines of a program's output an error quotes.
const TAIL_LINES: usize = 3;

fn last_lines(tail: &str) -> String {
    let lines: Vec<&str> = tail.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join(" / ")
}
