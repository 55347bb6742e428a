//! Why something on certificates fails.

use std::io;
use std::path::PathBuf;

use sitegate_host::diagnostic::{ConfigError, Diagnostic};

/// Why a command on certificates failed.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A file is missing, in the way or not what it should be; the fault of whoever gave it.
    #[error(transparent)]
    Input(#[from] ConfigError),
    /// A file could not be written; the machine's fault.
    #[error("cannot {operation} {}", path.display())]
    Write {
        /// What was tried.
        operation: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The results could not be shown.
    #[error("cannot write the output")]
    Output(#[source] io::Error),
    /// A certificate, key or list could not be made; our fault.
    #[error("cannot make the {what}")]
    Make {
        /// What was to be made.
        what: &'static str,
        /// Why it failed.
        source: rcgen::Error,
    },
    /// The system gave no random numbers; the machine's fault.
    #[error("the system gives no random numbers")]
    NoRandomness,
}

impl From<Diagnostic> for PkiError {
    fn from(diagnostic: Diagnostic) -> Self {
        Self::Input(diagnostic.into())
    }
}

impl PkiError {
    pub(super) fn making(what: &'static str) -> impl FnOnce(rcgen::Error) -> Self {
        move |source| Self::Make { what, source }
    }
}
