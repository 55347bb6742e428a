//! Options of agents: what may be one, and the file that holds those that are secret.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::process::geteuid;

/// The largest options file, in bytes: some dozens of options, one of them a key or a certificate perhaps.
const FILE_BYTES_MAX: u64 = 64 * 1024;
/// Those of the mode's bits that let others than the owner at a file.
const OTHERS: u32 = 0o077;
/// What the level says by itself.
const RESERVED: [&str; 2] = ["action", "option"];

/// Options out of a file. They may be secret: nothing shows their values.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Options(BTreeMap<String, String>);

/// Why an options file is not used. Never quotes what is in it.
#[derive(Debug, thiserror::Error)]
pub enum OptionsError {
    /// It cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is none.
    #[error("{} is no regular file", .0.display())]
    NoFile(PathBuf),
    /// Somebody else may read or write it.
    #[error("{} may be read or written by others than its owner (mode {mode:04o}): chmod 600 it, and change what is secret in it", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It belongs to somebody else.
    #[error("{} belongs to user {uid}: it must belong to root or to the user that sitegate-fenced runs as, {own}", path.display())]
    Owner {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        uid: u32,
        /// Who this is.
        own: u32,
    },
    /// It is too large.
    #[error("{} is larger than {FILE_BYTES_MAX} bytes: check that this is the right file", .0.display())]
    TooLarge(PathBuf),
    /// A line is wrong.
    #[error("{}:{line}: {why}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// What is wrong.
        why: String,
    },
}

impl Options {
    /// Reads a file of `key=value` lines, with empty ones and comments (`#`) between. May hang where the file system does.
    ///
    /// # Errors
    /// [`OptionsError`].
    pub fn read(path: &Path) -> Result<Self, OptionsError> {
        let cannot = |source: io::Error| OptionsError::Read { path: path.to_owned(), source };
        // A named pipe is not waited for.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = File::from(openat(CWD, path, flags, Mode::empty()).map_err(|e| cannot(e.into()))?);
        let metadata = file.metadata().map_err(cannot)?;
        // What was opened is looked at, not what now bears the name.
        if !metadata.is_file() {
            return Err(OptionsError::NoFile(path.to_owned()));
        }
        let (uid, own) = (metadata.uid(), geteuid().as_raw());
        if uid != 0 && uid != own {
            return Err(OptionsError::Owner { path: path.to_owned(), uid, own });
        }
        let mode = metadata.mode() & 0o7777;
        if mode & OTHERS != 0 {
            return Err(OptionsError::Open { path: path.to_owned(), mode });
        }
        let mut text = String::new();
        file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(cannot)?;
        if text.len() as u64 > FILE_BYTES_MAX {
            return Err(OptionsError::TooLarge(path.to_owned()));
        }
        Self::parse(&text).map_err(|(line, why)| OptionsError::Line { path: path.to_owned(), line, why })
    }

    /// From the text of such a file.
    ///
    /// # Errors
    /// The line that is wrong, from 1, and why.
    pub(super) fn parse(text: &str) -> Result<Self, (usize, String)> {
        let mut options = BTreeMap::new();
        for (number, line) in (1..).zip(text.lines()) {
            if line.trim().is_empty() || line.trim_start().starts_with('#') {
                continue;
            }
            let why = |why: &str| (number, why.to_owned());
            let (name, value) = line.split_once('=').ok_or_else(|| why("no line of the form key=value"))?;
            usable_name(name).map_err(|cause| why(&cause))?;
            usable_value(value).map_err(|cause| why(&cause))?;
            if options.insert(name.to_owned(), value.to_owned()).is_some() {
                return Err((number, format!("`{name}` stands here twice")));
            }
        }
        Ok(Self(options))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&String, &String)> {
        self.0.iter()
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Says why `name` cannot be an option.
pub(crate) fn usable_name(name: &str) -> Result<(), String> {
    if RESERVED.contains(&name) {
        return Err(format!(
            "`{name}` is not for an option to say: a level switches off and asks for the status"
        ));
    }
    let usable = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if name.is_empty() || !name.chars().all(usable) {
        return Err(
            "the name of an option has letters, digits, `_` and `-`, and no space before the `=`".to_owned()
        );
    }
    Ok(())
}

/// Says why `value` cannot be that of an option.
pub(crate) fn usable_value(value: &str) -> Result<(), String> {
    if value.contains(char::is_control) {
        return Err("a line break or another control character in a value".to_owned());
    }
    Ok(())
}

/// Whether an option of this name is a secret, which must not stand in `fenced.toml`: that is shown by diagnostics, and copied.
#[must_use]
pub(crate) fn secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    (name.contains("passw") || name.contains("secret")) && !name.ends_with("script")
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn reads_a_file_that_only_its_owner_can_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bmc");
        fs::write(&path, "# the BMC\n\nusername=fence\npassword= a=b #c \n").unwrap();
        for mode in [0o640, 0o604, 0o620, 0o601] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let error = Options::read(&path).unwrap_err();
            assert!(matches!(error, OptionsError::Open { .. }), "{mode:o}: {error}");
            assert!(error.to_string().contains("chmod 600"), "{error}");
        }
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        let options = Options::read(&path).unwrap();
        let expected = BTreeMap::from([("username", "fence"), ("password", " a=b #c ")]);
        assert_eq!(
            options.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect::<BTreeMap<_, _>>(),
            expected
        );
        assert_eq!(format!("{options:?}"), "{\"password\", \"username\"}", "values are not shown");
    }

    #[test]
    fn what_is_no_such_file_is_refused_without_hanging() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(Options::read(&dir.path().join("absent")), Err(OptionsError::Read { .. })));
        assert!(matches!(Options::read(dir.path()), Err(OptionsError::NoFile(_))));
        let pipe = dir.path().join("pipe");
        rustix::fs::mknodat(CWD, &pipe, rustix::fs::FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        assert!(matches!(Options::read(&pipe), Err(OptionsError::NoFile(_))));
        let large = dir.path().join("large");
        fs::write(&large, "#".repeat(70_000)).unwrap();
        fs::set_permissions(&large, Permissions::from_mode(0o600)).unwrap();
        assert!(matches!(Options::read(&large), Err(OptionsError::TooLarge(_))));
    }

    #[test]
    fn errors_name_the_line_and_quote_no_value() {
        for (text, line) in [
            ("a=1\nhunter2\n", 2),
            ("pass word=hunter2\n", 1),
            ("a=hunter2\na=hunter2\n", 2),
            ("=hunter2\n", 1),
            ("\n\naction=hunter2\n", 3),
            ("a=hunter2\x07\n", 1),
        ] {
            let (number, why) = Options::parse(text).unwrap_err();
            assert_eq!(number, line, "{text}");
            assert!(!why.contains("hunter2"), "{why}");
        }
    }

    #[test]
    fn knows_secrets_by_their_names() {
        for name in ["password", "passwd", "snmp_priv_passwd", "secret_key", "Password"] {
            assert!(secret(name), "{name}");
        }
        for name in ["passwd_script", "ip", "username", "identity_file"] {
            assert!(!secret(name), "{name}");
        }
    }
}
