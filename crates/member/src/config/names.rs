//! Names that stand in configurations, certificates, messages and paths.
//!
//! All of them are plain ASCII without anything that a shell, a URI or a file system reads specially, so none ever needs
//! escaping.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer};
use sitegate_host::diagnostic::{Rejected, deserialize_text};

/// The longest name, in bytes: as in booth; it also keeps every message short.
pub const NAME_LENGTH_MAX: usize = 63;

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $what:literal, $extra:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(Arc<str>);

        impl $type {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = Rejected;

            fn from_str(text: &str) -> Result<Self, Rejected> {
                check(text, $what, $extra).map(|()| Self(text.into()))
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserialize_text(deserializer)
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

name!(
    /// The name of a formation: 1 to 63 letters, digits, `-`, `_` and `.`.
    FormationName, "formation", "-_."
);
name!(
    /// The name of a member: 1 to 63 letters, digits, `-`, `_` and `.`.
    MemberName, "member", "-_."
);
name!(
    /// The name of a ticket: 1 to 63 letters, digits, `-`, `_`, `.` and `/`.
    TicketName, "ticket", "-_./"
);
name!(
    /// The name of a person or program that gives commands or watches: 1 to 63 letters, digits, `-`, `_` and `.`.
    PersonName, "person", "-_."
);

fn check(text: &str, what: &str, extra: &str) -> Result<(), Rejected> {
    let hint = || {
        let extra: Vec<String> = extra.chars().map(|c| format!("`{c}`")).collect();
        format!("use 1 to {NAME_LENGTH_MAX} letters, digits, {}", extra.join(", "))
    };
    if text.is_empty() {
        return Err(Rejected::new(format!("the name of a {what} is empty"), hint()));
    }
    if text.len() > NAME_LENGTH_MAX {
        let cause = format!("the name of a {what} is {} bytes long", text.len());
        return Err(Rejected::new(cause, hint()));
    }
    match text.chars().find(|c| !c.is_ascii_alphanumeric() && !extra.contains(*c)) {
        Some(bad) => Err(Rejected::new(format!("`{}` in the name of a {what}", bad.escape_debug()), hint())),
        // As a name of a directory these mean another one.
        None if matches!(text, "." | "..") => {
            Err(Rejected::new(format!("`{text}` as the name of a {what}"), hint()))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_what_issue_2_names() {
        for good in ["a", "paris-2", "A.b_c", &"x".repeat(63)] {
            assert_eq!(good.parse::<MemberName>().unwrap().as_str(), good);
        }
        assert!("db/main".parse::<TicketName>().is_ok());
    }

    #[test]
    fn says_what_is_wrong_with_a_name() {
        for (bad, cause) in [
            ("", "the name of a member is empty"),
            ("a b", "` ` in the name of a member"),
            ("a/b", "`/` in the name of a member"),
            ("zürich", "`ü` in the name of a member"),
            ("a\nb", "`\\n` in the name of a member"),
            ("..", "`..` as the name of a member"),
        ] {
            let rejected = bad.parse::<MemberName>().unwrap_err();
            assert_eq!(rejected.cause(), cause);
            assert_eq!(rejected.advice(), Some("use 1 to 63 letters, digits, `-`, `_`, `.`"));
        }
        let long = "x".repeat(64).parse::<TicketName>().unwrap_err();
        assert_eq!(long.cause(), "the name of a ticket is 64 bytes long");
    }
}
