//! What a keeper tells the daemon about the program: one line.

use std::fmt;

/// How a program went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// It was not started because the lease does not stand; why.
    Refused(String),
    /// It could not be started; why.
    NotStarted(String),
    /// It exited with this code.
    Exited(i32),
    /// It was killed by this signal.
    Signalled(i32),
}

impl Report {
    /// From the line that `Display` writes.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let (word, rest) = line.trim_end().split_once(' ')?;
        Some(match word {
            "refused" => Self::Refused(rest.to_owned()),
            "not-started" => Self::NotStarted(rest.to_owned()),
            "exited" => Self::Exited(rest.parse().ok()?),
            "signalled" => Self::Signalled(rest.parse().ok()?),
            _ => return None,
        })
    }
}

impl fmt::Display for Report {
    /// One line, whatever the texts hold, without its end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(why) => write!(f, "refused {}", one_line(why)),
            Self::NotStarted(why) => write!(f, "not-started {}", one_line(why)),
            Self::Exited(code) => write!(f, "exited {code}"),
            Self::Signalled(signal) => write!(f, "signalled {signal}"),
        }
    }
}

fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comes_back_from_its_line() {
        for report in [
            Report::Refused("a b".to_owned()),
            Report::NotStarted("x".to_owned()),
            Report::Exited(3),
            Report::Signalled(9),
        ] {
            assert_eq!(Report::parse(&format!("{report}\n")), Some(report));
        }
        assert_eq!(Report::NotStarted("a\nb".to_owned()).to_string(), "not-started a b");
        for garbage in ["", "exited", "exited x", "hello world"] {
            assert_eq!(Report::parse(garbage), None);
        }
    }
}
