//! A CA for one formation, without openssl: it issues, renews, shows and revokes the certificates of members, operators
//! and viewers.
//!
//! Everything lies in one directory: `ca/` with the CA's key, which belongs on no member, and one *pack* for each
//! certificate, which is what its owner needs: `ca.pem`, `NAME.pem` and `NAME.key`.
//!
//! Keys are ECDSA on P-256 with SHA-256 rather than Ed25519: TLS libraries, browsers, smart cards and FIPS-bound hosts all
//! take them, so an operator's certificate works wherever it is carried, and a CA outlives many of those.

use std::io;
use std::path::PathBuf;

use sitegate_host::diagnostic::{ConfigError, Diagnostic};

mod authority;
mod cli;
mod files;
mod pack;
mod revoke;
mod show;

pub use authority::Authority;
pub use cli::{InitArgs, IssueArgs, PkiCommand, RenewArgs, RevokeArgs, ShowArgs, run};
pub use pack::{FormationCertificates, Pack};
pub use show::{Shown, ShownKey};

/// How long a CA is valid, in days: 20 years. Replacing it touches every host.
pub const CA_DAYS: u32 = 7305;
/// How long a member's certificate is valid, in days: 5 years. Warnings begin 60 days before its end.
pub const MEMBER_DAYS: u32 = 1826;
/// How long the certificate of an operator or viewer is valid, in days: a year. It ends for real.
pub const PERSON_DAYS: u32 = 365;
/// The longest that can be asked for, in days: what a CA is valid for.
pub const DAYS_MAX: u32 = CA_DAYS;

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
    fn making(what: &'static str) -> impl FnOnce(rcgen::Error) -> Self {
        move |source| Self::Make { what, source }
    }
}
