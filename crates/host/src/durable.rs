//! Files that are whole or not there, durable where asked for, and a directory's lock.

use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A file operation that failed; the machine's fault.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} {}", path.display())]
pub struct DurableError {
    /// What was tried: a verb.
    pub operation: &'static str,
    /// On what.
    pub path: PathBuf,
    /// Why it failed.
    pub source: io::Error,
}

impl DurableError {
    /// Names the operation and its path to an I/O error: `map_err(DurableError::on("open", path))`.
    pub fn on(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self { operation, path, source }
    }
}

/// Reads a whole file; `None` if there is none.
///
/// # Errors
/// If it is there but cannot be read.
pub fn read(path: &Path) -> Result<Option<Vec<u8>>, DurableError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(DurableError::on("read", path)(error)),
    }
}

/// Replaces a file as a whole, so that after a power failure it is either the old or the new one, and is the new one
/// once this has returned.
///
/// # Errors
/// If any step fails; then the file may be either one, and the disk should not be trusted.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), DurableError> {
    put(path, bytes, true, ANYBODY)?;
    sync_parent(path)
}

/// Replaces a file as a whole for whoever reads it, without a promise about power failures.
///
/// # Errors
/// If any step fails; then the file is the old one.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), DurableError> {
    put(path, bytes, false, ANYBODY)
}

/// The same, for those whom `mode` lets read it.
///
/// # Errors
/// As [`replace`].
pub fn replace_with_mode(path: &Path, bytes: &[u8], mode: u32) -> Result<(), DurableError> {
    put(path, bytes, false, mode)
}

/// Makes the names in the directory of `path` durable.
///
/// # Errors
/// Those of opening and syncing the directory.
pub fn sync_parent(path: &Path) -> Result<(), DurableError> {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent).and_then(|dir| dir.sync_all()).map_err(DurableError::on("sync the directory", parent))
}

/// Files may be read by whoever the umask does not keep from it.
const ANYBODY: u32 = 0o666;

fn put(path: &Path, bytes: &[u8], durable: bool, mode: u32) -> Result<(), DurableError> {
    let mut temporary = OsString::from(path);
    temporary.push(".new");
    let temporary = PathBuf::from(temporary);
    let mut create = File::options();
    create.write(true).create(true).truncate(true).mode(mode);
    let mut file = create.open(&temporary).map_err(DurableError::on("create", &temporary))?;
    file.write_all(bytes).map_err(DurableError::on("write", &temporary))?;
    if durable {
        file.sync_all().map_err(DurableError::on("sync", &temporary))?;
    }
    fs::rename(&temporary, path).map_err(DurableError::on("replace", path))
}

/// An exclusive lock, held as long as this value or the process lives.
#[derive(Debug)]
pub struct LockFile {
    _file: File,
}

/// Why a lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody else holds it.
    #[error("{} is locked by process {holder}: stop that one first", path.display())]
    Held {
        /// The lock file.
        path: PathBuf,
        /// The pid that stands in it, or `?`.
        holder: String,
    },
    /// The file cannot be used.
    #[error(transparent)]
    Failed(#[from] DurableError),
}

/// The longest pid, with room to spare; what else stands in a lock file is not ours.
const PID_BYTES_MAX: u64 = 20;

impl LockFile {
    /// Takes the lock `path`, creating it if need be, and writes our pid into it, as far as there is room: a full disk does not
    /// keep a daemon from a lock that it holds.
    ///
    /// # Errors
    /// [`LockError::Held`] with the other's pid; [`LockError::Failed`] if the file cannot be opened or locked.
    pub fn acquire(path: &Path) -> Result<Self, LockError> {
        let open = File::options().read(true).write(true).create(true).truncate(false).open(path);
        let mut file = open.map_err(DurableError::on("open", path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let read = file.take(PID_BYTES_MAX).read_to_string(&mut holder);
                let holder =
                    read.ok().map(|_| holder.trim()).filter(|h| !h.is_empty()).unwrap_or("?").to_owned();
                return Err(LockError::Held { path: path.to_path_buf(), holder });
            }
            Err(TryLockError::Error(error)) => return Err(DurableError::on("lock", path)(error).into()),
        }
        // The pid is for people. Without it, whoever comes second is told of process `?`.
        let _ = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_as_a_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        assert!(read(&path).unwrap().is_none());
        write(&path, b"one").unwrap();
        replace(&path, b"two").unwrap();
        assert_eq!(read(&path).unwrap().unwrap(), b"two");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn errors_name_operation_and_file() {
        let error = write(Path::new("/nonexistent/state"), b"").unwrap_err();
        assert_eq!(error.to_string(), "cannot create /nonexistent/state.new");
        assert_eq!(error.source.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_lock_names_its_holder() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = LockFile::acquire(&path).unwrap();
        let error = LockFile::acquire(&path).unwrap_err().to_string();
        assert!(error.contains(&format!("locked by process {}", std::process::id())), "{error}");
        drop(held);
        LockFile::acquire(&path).unwrap();
    }

    #[test]
    fn a_full_disk_does_not_cost_the_lock() {
        // Locks lie on the file, and this one is everybody's: a neighbour running the same test may hold it for a moment.
        let until = std::time::Instant::now() + std::time::Duration::from_secs(30);
        loop {
            match LockFile::acquire(Path::new("/dev/full")) {
                Ok(_) => return,
                Err(LockError::Held { .. }) if std::time::Instant::now() < until => std::thread::yield_now(),
                Err(error) => panic!("{error}"),
            }
        }
    }
}
