//! The command line of the daemons, by hand: an arbitrator has no room for a parser that can do more.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::config::DIRECTORY_DEFAULT;

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Be the daemon.
    Run,
    /// Create identity and store, once.
    Init,
    /// Check the configuration, and no more.
    Check,
    /// Show the usage.
    Help,
    /// Show the version.
    Version,
}

/// A command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arguments {
    /// What to do.
    pub action: Action,
    /// Where formation.toml and member.toml lie.
    pub directory: PathBuf,
}

/// A command line that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UsageError {
    /// An option or word that there is not.
    #[error("`{0}` is not known here")]
    Unknown(String),
    /// An option without its value.
    #[error("`--config` needs a directory after it")]
    NoDirectory,
    /// Two things to do at once.
    #[error("more than one thing to do")]
    TwoActions,
}

/// Reads the words after the program's name.
///
/// # Errors
/// [`UsageError`] with the first thing that makes no sense.
pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Arguments, UsageError> {
    let mut words = words.into_iter();
    let (mut action, mut directory) = (None, PathBuf::from(DIRECTORY_DEFAULT));
    while let Some(word) = words.next() {
        let asked = match word.to_str() {
            Some("init") => Action::Init,
            Some("check") => Action::Check,
            Some("-h" | "--help" | "help") => Action::Help,
            Some("-V" | "--version") => Action::Version,
            Some("-c" | "--config") => {
                directory =
                    words.next().filter(|word| !word.is_empty()).ok_or(UsageError::NoDirectory)?.into();
                continue;
            }
            Some(word) if word.starts_with("--config=") => {
                directory = word["--config=".len()..].into();
                if directory.as_os_str().is_empty() {
                    return Err(UsageError::NoDirectory);
                }
                continue;
            }
            _ => return Err(UsageError::Unknown(word.to_string_lossy().into_owned())),
        };
        if action.replace(asked).is_some() {
            return Err(UsageError::TwoActions);
        }
    }
    Ok(Arguments { action: action.unwrap_or(Action::Run), directory })
}

/// How `program` is called.
#[must_use]
pub fn usage(program: &str, what: &str) -> String {
    format!(
        "{program}: {what}\n\n\
         Usage: {program} [--config DIR] [init | check]\n\n\
         Without a word it runs as a daemon, in the foreground.\n\n\
         \x20 init             create this member's identity and store, once\n\
         \x20 check            check the configuration, and no more\n\
         \x20 -c, --config DIR where formation.toml and member.toml lie [default: {DIRECTORY_DEFAULT}]\n\
         \x20 -h, --help       this\n\
         \x20 -V, --version    the version\n\n\
         Exit codes: 0 ended as told, 1 failed, 2 wrong usage or configuration, 3 no usable store,\n\
         74 the disk failed, 75 start again (a service manager should)."
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<(Action, String), UsageError> {
        parse(line.split(' ').filter(|word| !word.is_empty()).map(OsString::from))
            .map(|arguments| (arguments.action, arguments.directory.display().to_string()))
    }

    #[test]
    fn reads_what_the_usage_shows() {
        let default = DIRECTORY_DEFAULT.to_owned();
        assert_eq!(read(""), Ok((Action::Run, default.clone())));
        assert_eq!(read("-h"), Ok((Action::Help, default.clone())));
        assert_eq!(read("--version"), Ok((Action::Version, default)));
        for line in ["-c /x init", "init --config /x", "--config=/x init"] {
            assert_eq!(read(line), Ok((Action::Init, "/x".into())), "{line}");
        }
    }

    #[test]
    fn says_what_makes_no_sense() {
        assert_eq!(read("start"), Err(UsageError::Unknown("start".into())));
        assert_eq!(read("--config"), Err(UsageError::NoDirectory));
        assert_eq!(read("--config="), Err(UsageError::NoDirectory));
        assert_eq!(read("init check"), Err(UsageError::TwoActions));
    }
}
