//! Files that are never overwritten by accident and never half written.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use sitegate_host::diagnostic::Diagnostic;

use super::error::PkiError;

/// Who may read a file.
#[derive(Debug, Clone, Copy)]
pub(super) enum Readers {
    /// Its owner.
    Owner,
    /// Everybody.
    All,
}

/// Makes a directory with its parents. It may be there already.
pub(super) fn make_directory(path: &Path, readers: Readers) -> Result<(), PkiError> {
    let mode = match readers {
        Readers::Owner => 0o700,
        Readers::All => 0o755,
    };
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(failed("create", parent))?;
    }
    DirBuilder::new().mode(mode).create(path).map_err(failed("create", path))
}

/// Refuses if `path` is there: nothing here overwrites what it did not make.
pub(super) fn must_be_free(path: &Path, hint: &str) -> Result<(), PkiError> {
    match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed("look at", path)(error)),
        Ok(_) => {
            Err(Diagnostic::of_file(path, "is there already, and nothing is overwritten").hint(hint).into())
        }
    }
}

/// Writes a whole file, so that a crash leaves the old one, or the new one, but never a part.
pub(super) fn write(path: &Path, text: &str, readers: Readers) -> Result<(), PkiError> {
    let mode = match readers {
        Readers::Owner => 0o600,
        Readers::All => 0o644,
    };
    let temporary = with_suffix(path, ".new");
    // One that a crash left behind may have other readers.
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(failed("remove", &temporary)(error));
        }
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&temporary)
        .map_err(failed("create", &temporary))?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed("write", &temporary))?;
    fs::rename(&temporary, path).map_err(failed("replace", path))?;
    sync_directory_of(path)
}

/// Copies `path` to `path.old`, in place of an older one.
pub(super) fn keep_old(path: &Path, readers: Readers) -> Result<PathBuf, PkiError> {
    let old = with_suffix(path, ".old");
    let text = fs::read_to_string(path).map_err(failed("read", path))?;
    write(&old, &text, readers)?;
    Ok(old)
}

/// Reads a text file that somebody named.
pub(super) fn read(path: &Path, hint: &str) -> Result<String, PkiError> {
    fs::read_to_string(path)
        .map_err(|error| Diagnostic::of_file(path, format!("cannot be read: {error}")).hint(hint).into())
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn sync_directory_of(path: &Path) -> Result<(), PkiError> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory).and_then(|open| open.sync_all()).map_err(failed("sync", directory))
}

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PkiError {
    let path = path.to_owned();
    move |source| PkiError::Write { operation, path, source }
}
