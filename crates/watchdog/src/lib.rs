//! A hardware watchdog: a device that resets the machine unless something is written to it in time, whatever became of the
//! programs, and of the kernel, on it.
//!
//! [`Watchdog::open`] starts it. From then on it has to be [petted](Watchdog::pet), and only [`Watchdog::disarm`] stops it: closing
//! it in any other way, by a crash say, leaves it counting.

mod ioctl;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{OFlags, major, minor};

/// What is written to stop it before it is closed: the "magic close".
const MAGIC: &[u8] = b"V";
/// What is written to pet it: anything else.
const PET: &[u8] = b"\0";

/// A watchdog that counts.
#[derive(Debug)]
pub struct Watchdog {
    device: File,
    path: PathBuf,
}

/// Why a watchdog cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WatchdogError {
    /// There is none.
    #[error("there is no watchdog at {}: load the driver of the machine's watchdog, or softdog, which is only as good as the kernel", path.display())]
    Missing {
        /// Where.
        path: PathBuf,
    },
    /// What is there is none.
    #[error("{} is no watchdog: it is neither a character device nor, for tests, a FIFO", path.display())]
    NoDevice {
        /// Where.
        path: PathBuf,
    },
    /// Somebody else has it.
    #[error("{} is held by {holder}: only one program can keep a watchdog. Give it another device, or turn its own use off (SBD_WATCHDOG_DEV of sbd, RuntimeWatchdogSec= of systemd)", path.display())]
    Busy {
        /// Where.
        path: PathBuf,
        /// Who, as far as it can be seen.
        holder: String,
    },
    /// The device takes other times only.
    #[error("{} takes {takes} s where {asked} s are asked for: a machine would be reset later than others count with. Write `timeout = \"{takes}s\"`", path.display())]
    Slower {
        /// Where.
        path: PathBuf,
        /// Asked for, s.
        asked: u64,
        /// What it took, s.
        takes: u64,
    },
    /// The machine refused something.
    #[error("cannot {what} {}", path.display())]
    Machine {
        /// What.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Watchdog {
    /// Opens the device and has it reset the machine `timeout` (whole seconds) after the last time that it was petted. A FIFO
    /// stands in for a device in tests: what is written to it is what a device would be told.
    ///
    /// # Errors
    /// [`WatchdogError`]. It may be counting then if it takes another time only; it is told to stop.
    pub fn open(path: &Path, timeout: Duration) -> Result<Self, WatchdogError> {
        let machine = |what| {
            let path = path.to_owned();
            move |source| WatchdogError::Machine { what, path, source }
        };
        let kind = match fs::metadata(path) {
            Ok(metadata) => metadata.file_type(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(WatchdogError::Missing { path: path.to_owned() });
            }
            Err(error) => return Err(machine("look at")(error)),
        };
        if !kind.is_char_device() && !kind.is_fifo() {
            return Err(WatchdogError::NoDevice { path: path.to_owned() });
        }
        // Neither a FIFO that nobody reads nor a sick device may hold up whoever pets it.
        let flags = OFlags::NONBLOCK.bits().cast_signed();
        let device = match OpenOptions::new().write(true).custom_flags(flags).open(path) {
            Ok(device) => device,
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                let holder = holder(path).unwrap_or_else(|| "another program".to_owned());
                return Err(WatchdogError::Busy { path: path.to_owned(), holder });
            }
            Err(error) => return Err(machine("open")(error)),
        };
        let watchdog = Self { device, path: path.to_owned() };
        if kind.is_char_device() {
            watchdog.set_timeout(timeout)?;
        }
        Ok(watchdog)
    }

    fn set_timeout(&self, timeout: Duration) -> Result<(), WatchdogError> {
        let asked = timeout.as_secs();
        let seconds = i32::try_from(asked).unwrap_or(i32::MAX);
        let taken = ioctl::set_timeout(&self.device, seconds).map_err(io::Error::from);
        let taken = taken.and_then(|taken| u64::try_from(taken).map_err(io::Error::other));
        let error = match taken {
            Ok(takes) if takes <= asked => return Ok(()),
            Ok(takes) => WatchdogError::Slower { path: self.path.clone(), asked, takes },
            Err(source) => {
                WatchdogError::Machine { what: "set the time-out of", path: self.path.clone(), source }
            }
        };
        // Nobody would pet it.
        let _ = self.write(MAGIC);
        Err(error)
    }

    /// Has it begin to count anew.
    ///
    /// # Errors
    /// Those of `write(2)`.
    pub fn pet(&self) -> io::Result<()> {
        self.write(PET)
    }

    /// Stops it. A device that cannot be stopped ([`cannot_be_stopped`]) goes on counting.
    ///
    /// # Errors
    /// Those of `write(2)`; then it counts.
    pub fn disarm(self) -> io::Result<()> {
        self.write(MAGIC)
    }

    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        (&self.device).write_all(bytes)
    }
}

/// Whether the device at `path` goes on counting once it was opened, whatever it is told (`nowayout`).
#[must_use]
pub fn cannot_be_stopped(path: &Path) -> bool {
    let Ok(device) = fs::metadata(path) else { return false };
    let number = format!("{}:{}\n", major(device.rdev()), minor(device.rdev()));
    // /dev/watchdog is the first of them, under a number of its own.
    const FIRST: &str = "10:130\n";
    let Ok(all) = fs::read_dir("/sys/class/watchdog") else { return false };
    all.filter_map(Result::ok).any(|entry| {
        let read = |name: &str| fs::read_to_string(entry.path().join(name)).unwrap_or_default();
        let same = read("dev") == number || (number == FIRST && entry.file_name() == "watchdog0");
        same && read("nowayout").trim() == "1"
    })
}

/// Who has opened the device, as far as this process may see.
fn holder(path: &Path) -> Option<String> {
    let device = fs::metadata(path).ok()?.rdev();
    let processes = fs::read_dir("/proc").ok()?.filter_map(Result::ok);
    for process in processes.filter(|p| p.file_name().to_string_lossy().parse::<u32>().is_ok()) {
        let Ok(open) = fs::read_dir(process.path().join("fd")) else { continue };
        let is_it =
            |fd: fs::DirEntry| fs::metadata(fd.path()).is_ok_and(|m| m.rdev() == device && device != 0);
        if open.filter_map(Result::ok).any(is_it) {
            let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            return Some(format!("{} (process {})", name.trim(), process.file_name().to_string_lossy()));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use rustix::fs::{CWD, Mode, mkfifoat};

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(10);

    #[test]
    fn what_is_no_watchdog_is_refused_with_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let missing = Watchdog::open(&dir.path().join("none"), TIMEOUT).unwrap_err().to_string();
        assert!(missing.contains("load the driver"), "{missing}");
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(matches!(Watchdog::open(&file, TIMEOUT), Err(WatchdogError::NoDevice { .. })));
        assert!(!cannot_be_stopped(&file));
        // A character device that is no watchdog refuses to be given a time-out.
        let other = Watchdog::open(Path::new("/dev/null"), TIMEOUT).unwrap_err();
        assert!(matches!(other, WatchdogError::Machine { what: "set the time-out of", .. }), "{other:?}");
    }

    #[test]
    fn it_is_petted_and_stopped_by_what_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fifo");
        mkfifoat(CWD, &path, Mode::RUSR | Mode::WUSR).unwrap();
        assert!(matches!(Watchdog::open(&path, TIMEOUT), Err(WatchdogError::Machine { what: "open", .. })));
        let mut reader = OpenOptions::new()
            .read(true)
            .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
            .open(&path)
            .unwrap();
        let watchdog = Watchdog::open(&path, TIMEOUT).unwrap();
        watchdog.pet().unwrap();
        watchdog.disarm().unwrap();
        let mut told = Vec::new();
        reader.read_to_end(&mut told).unwrap();
        assert_eq!(told, [PET, MAGIC].concat());
    }
}
