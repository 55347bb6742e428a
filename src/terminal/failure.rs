//! Why a command did not do what was asked: what to print, and how to exit.

use std::fmt;
use std::io;

use sitegate_host::diagnostic::{ConfigError, Rejected};

use super::exit::Exit;
use crate::pki::PkiError;

/// A failure that ends the program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// How to exit.
    pub(crate) exit: Exit,
    text: String,
    hint: Option<String>,
    /// Whether `text` is a whole message, `error:` and `hint:` included.
    rendered: bool,
}

impl Failure {
    /// Says `text`, one sentence without a full stop.
    pub(crate) fn new(exit: Exit, text: impl Into<String>) -> Self {
        Self { exit, text: text.into(), hint: None, rendered: false }
    }

    /// Adds what to do about it.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// As [`hint`](Self::hint), if there is one that says something.
    #[must_use]
    pub(crate) fn maybe_hint(mut self, hint: Option<String>) -> Self {
        self.hint = hint.filter(|hint| !hint.is_empty()).or(self.hint);
        self
    }

    /// A message that a member or library made, with its own `error:` and `hint:`.
    pub(crate) fn rendered(exit: Exit, text: impl Into<String>) -> Self {
        Self { exit, text: text.into(), hint: None, rendered: true }
    }

    /// This machine failed to `operation`.
    pub(crate) fn machine(operation: impl fmt::Display, error: &io::Error) -> Self {
        Self::new(Exit::Failed, format!("cannot {operation}: {error}"))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.rendered {
            return f.write_str(self.text.trim_end());
        }
        write!(f, "error: {}", self.text)?;
        match &self.hint {
            Some(hint) => write!(f, "\nhint: {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Failure {}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::rendered(Exit::Configuration, error.to_string())
    }
}

impl From<Rejected> for Failure {
    fn from(rejected: Rejected) -> Self {
        Self::new(Exit::Usage, rejected.cause()).maybe_hint(rejected.advice().map(str::to_owned))
    }
}

impl From<PkiError> for Failure {
    fn from(error: PkiError) -> Self {
        match error {
            PkiError::Input(error) => error.into(),
            error => Self::new(Exit::Failed, with_causes(&error)),
        }
    }
}

/// An error and what caused it, in one line.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
