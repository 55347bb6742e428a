//! Exit codes, all of them. `docs/cli.md` and `sitegate --help` list them too.

use std::process::ExitCode;

/// How the program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// What was asked for holds, or was shown.
    Done,
    /// It was refused or did not succeed.
    Refused,
    /// The command line is wrong.
    Usage,
    /// No member answered; nothing was done.
    Unreachable,
    /// The time is up or the connection was lost; it may still take effect.
    Unfinished,
    /// A configuration, certificate or key is invalid.
    Configuration,
    /// The member does not let the caller.
    Forbidden,
    /// This machine failed.
    Failed,
    /// What is written down breaks what sitegate promises.
    Violated,
    /// What was given to judge by cannot be used.
    Unusable,
    /// The ticket was lost, and what ran under it has ended.
    Lost,
    /// What was to run under a ticket cannot be executed.
    Unstartable,
    /// It does not exist.
    Missing,
    /// Ctrl-C.
    Interrupted,
}

impl Exit {
    /// Every code, in ascending order.
    pub(crate) const ALL: [Self; 14] = [
        Self::Done,
        Self::Refused,
        Self::Usage,
        Self::Unreachable,
        Self::Unfinished,
        Self::Configuration,
        Self::Forbidden,
        Self::Failed,
        Self::Violated,
        Self::Unusable,
        Self::Lost,
        Self::Unstartable,
        Self::Missing,
        Self::Interrupted,
    ];

    /// The number.
    #[must_use]
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Refused => 1,
            // What clap uses too.
            Self::Usage => 2,
            Self::Unreachable => 3,
            Self::Unfinished => 4,
            Self::Configuration => 5,
            Self::Forbidden => 6,
            Self::Failed => 7,
            Self::Violated => 8,
            Self::Unusable => 9,
            // What timeout(1) gives when it has ended a command, and what shells report for commands that do not start: far from
            // the codes that commands have themselves.
            Self::Lost => 124,
            Self::Unstartable => 126,
            Self::Missing => 127,
            // What shells report for a program that SIGINT ended: 128 + 2.
            Self::Interrupted => 130,
        }
    }

    /// What it means, as in `--help`.
    #[must_use]
    pub(crate) const fn meaning(self) -> &'static str {
        match self {
            Self::Done => "what was asked for holds, or was shown",
            Self::Refused => "it was refused or did not succeed",
            Self::Usage => "the command line is wrong; nothing was done",
            Self::Unreachable => "no member answered; nothing was done",
            Self::Unfinished => "the time is up, or the connection was lost: it may still take effect",
            Self::Configuration => "a configuration, certificate or key is invalid",
            Self::Forbidden => "the member does not let you",
            Self::Failed => "this machine failed: a file could not be written, say",
            Self::Violated => "what is written down breaks a promise: two tenures overlapped, say",
            Self::Unusable => "what was given to judge by cannot be used: no journal, or a broken chain",
            Self::Lost => "run: the ticket was lost, and the command has ended",
            Self::Unstartable => "run: the command cannot be executed",
            Self::Missing => "run: there is no such command",
            Self::Interrupted => "Ctrl-C; a wish that was recorded may still come true",
        }
    }

    /// The table that ends `sitegate --help`.
    #[must_use]
    pub(crate) fn table() -> String {
        let rows = Self::ALL.iter().map(|exit| format!("  {:>3}  {}", exit.code(), exit.meaning()));
        format!("Exit codes:\n{}", rows.collect::<Vec<_>>().join("\n"))
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manual_lists_every_code() {
        let manual = include_str!("../../docs/cli.md");
        for exit in Exit::ALL {
            let row = format!("| {} | {} |", exit.code(), format!("{exit:?}").to_lowercase());
            assert!(manual.contains(&row), "docs/cli.md lacks {row}");
        }
    }
}
