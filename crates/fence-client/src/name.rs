//! Names that stand in file names, environment variables and logs, and so are checked once, on the way in.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize, Serializer};

/// The longest name of a resource, in bytes: it becomes part of file names and of environment variables.
pub const NAME_BYTES_MAX: usize = 64;
/// The longest reason of a fence order, in bytes: one log line, one environment variable.
pub const REASON_BYTES_MAX: usize = 200;

/// The name of a resource, which to `sitegated` is the name of a ticket: 1 to 64 of `A-Z a-z 0-9 . _ - /`, but not `.` or
/// `..`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Name(Arc<str>);

impl Name {
    /// The name, checked.
    ///
    /// # Errors
    /// [`NameError`] if it is empty, too long or holds another character.
    pub fn new(name: &str) -> Result<Self, NameError> {
        let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'/');
        let fits = (1..=NAME_BYTES_MAX).contains(&name.len()) && !matches!(name, "." | "..");
        if fits && name.bytes().all(good) {
            Ok(Self(name.into()))
        } else {
            Err(NameError::Resource { name: name.chars().take(NAME_BYTES_MAX).collect() })
        }
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As a single component of a path, different for different names.
    #[must_use]
    pub fn file_name(&self) -> String {
        // No name holds a `%` itself.
        self.0.replace('/', "%2f")
    }
}

impl TryFrom<String> for Name {
    type Error = NameError;

    fn try_from(name: String) -> Result<Self, NameError> {
        Self::new(&name)
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a resource is fenced: one line of 1 to 200 bytes without control characters. Programs of the plan find it in
/// `SITEGATE_REASON`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Reason(Arc<str>);

impl Reason {
    /// The reason, checked.
    ///
    /// # Errors
    /// [`NameError`] if it is empty, too long or holds a control character.
    pub fn new(reason: &str) -> Result<Self, NameError> {
        if reason.is_empty() || reason.len() > REASON_BYTES_MAX || reason.chars().any(char::is_control) {
            return Err(NameError::Reason);
        }
        Ok(Self(reason.into()))
    }

    /// The deadline passed without being extended.
    #[must_use]
    pub fn deadline() -> Self {
        Self("deadline".into())
    }

    /// It was armed or being fenced when the fence daemon (or the host) went down, and no receipt tells how it ended.
    #[must_use]
    pub fn not_receipted() -> Self {
        Self("not-receipted".into())
    }

    /// It was found running although nothing was armed: enabled at boot, say, or started by hand.
    #[must_use]
    pub fn stray() -> Self {
        Self("runs-without-ticket".into())
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Reason {
    type Error = NameError;

    fn try_from(reason: String) -> Result<Self, NameError> {
        Self::new(&reason)
    }
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A name or reason that cannot be one; the fault of whoever wrote it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not the name of a resource.
    #[error("\"{name}\" is no resource name: use 1 to {NAME_BYTES_MAX} of A-Z a-z 0-9 . _ - /")]
    Resource {
        /// The name as it was given, cut to [`NAME_BYTES_MAX`] characters.
        name: String,
    },
    /// Not a reason.
    #[error("a reason is one line of 1 to {REASON_BYTES_MAX} bytes")]
    Reason,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_one_word_and_one_file() {
        for bad in ["", ".", "..", "a b", "ü", "a%2fb", "a\n", &"x".repeat(65)] {
            assert!(Name::new(bad).is_err(), "{bad:?}");
        }
        for good in ["db", "db-1", "A.b_c", "9", "db/main", "../x", &"x".repeat(64)] {
            let file = Name::new(good).unwrap().file_name();
            assert!(!file.contains('/') && file != "..", "{good:?}: {file:?}");
        }
    }

    #[test]
    fn a_reason_is_one_line() {
        assert!(Reason::new("revoked by ann").is_ok());
        for bad in ["", "a\nb", &"x".repeat(201)] {
            assert!(Reason::new(bad).is_err(), "{bad:?}");
        }
    }
}
