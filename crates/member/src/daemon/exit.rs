//! How a daemon ends, as its service manager sees it.

use std::process::ExitCode;

/// An exit code with its meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It was told to end.
    Told,
    /// The machine or the network did not let it begin: perhaps later.
    Failed,
    /// Usage or configuration are wrong: nothing changes until somebody corrects them.
    Configuration,
    /// There is no store to work with: nothing changes until somebody acts.
    Store,
    /// A commit failed (`EX_IOERR` of sysexits.h).
    Disk,
    /// It has to start again and look for witnesses (`EX_TEMPFAIL`).
    StartAgain,
}

impl Exit {
    /// The number.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Told => 0,
            Self::Failed => 1,
            Self::Configuration => 2,
            Self::Store => 3,
            Self::Disk => 74,
            Self::StartAgain => 75,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
