//! What can go wrong with a store, and whose turn it is then.

use std::path::PathBuf;

use sitegate_host::durable::{DurableError, LockError};

use super::{FORMAT_VERSION, Owner, ProofError};

/// Why there is no store to work with.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Nobody has made one; the administrator's turn.
    #[error("there is no store in {}", .0.display())]
    Missing(PathBuf),
    /// It cannot be read; the machine's fault, or of whoever wrote into it.
    #[error("the store {} is corrupt: {why}", file.display())]
    Corrupt {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Another version of sitegate has written it.
    #[error("the store {} has format {found}, but this version reads format {FORMAT_VERSION}", file.display())]
    OtherFormat {
        /// The file.
        file: PathBuf,
        /// Its format.
        found: u32,
    },
    /// It is another member's; the administrator's fault.
    #[error("the store {} belongs to {found}, but this is {expected}", file.display())]
    NotOurs {
        /// The file.
        file: PathBuf,
        /// Whose it is.
        found: Owner,
        /// Who asks.
        expected: Owner,
    },
    /// Another process works with it.
    #[error(transparent)]
    Locked(#[from] LockError),
    /// The machine does not let us.
    #[error("cannot open the store {}", file.display())]
    Failed {
        /// The file.
        file: PathBuf,
        /// Why.
        source: Box<redb::Error>,
    },
}

impl OpenError {
    /// What to do about it.
    #[must_use]
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Missing(_) => {
                "create it, once, with `sitegate init` on a site or `sitegate-arbitrator init` on an arbitrator; if this \
                 member had one, it has lost its votes: read \"Lost disks\" in docs/operations.md first"
            }
            Self::Corrupt { .. } => {
                "do not restore an old copy; move the state directory away, run `init` and then `sitegate member readmit` \
                 from another member"
            }
            Self::OtherFormat { .. } => "run the version of sitegate that wrote it, or a newer one",
            Self::NotOurs { .. } => {
                "check `name` and `state-dir` in member.toml, and `formation` in formation.toml"
            }
            Self::Locked(LockError::Held { .. }) => "only one daemon may work with a state directory",
            Self::Locked(LockError::Failed(_)) | Self::Failed { .. } => {
                "the state directory must exist and be writable for the user that this runs as"
            }
        }
    }
}

/// Why no store was created.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// There is one, and it stays.
    #[error("{} has a store already: this member was initialised before", .0.display())]
    Exists(PathBuf),
    /// Another process works there.
    #[error(transparent)]
    Locked(#[from] LockError),
    /// A step on files failed.
    #[error(transparent)]
    File(#[from] DurableError),
    /// The database could not be written.
    #[error("cannot write the store {}", file.display())]
    Failed {
        /// The file.
        file: PathBuf,
        /// Why.
        source: Box<redb::Error>,
    },
}

/// A commit that failed. It is unknown whether it is on the disk; the process must end without another word.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The database did not take it.
    #[error("cannot commit to the store {}", file.display())]
    Store {
        /// The file.
        file: PathBuf,
        /// Why.
        source: Box<redb::Error>,
    },
    /// The proof in the runtime directory could not be written.
    #[error(transparent)]
    Proof(#[from] ProofError),
}
