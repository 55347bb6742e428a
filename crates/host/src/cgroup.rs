//! Control groups (version 2) as boxes that a process cannot leave by forking, and that can be emptied at one blow.

use std::ffi::{CString, OsStr};
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, Mode, OFlags, open};
use rustix::io::retry_on_intr;

/// A control group, which may not exist yet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    /// The group with this path below the mount point of the cgroup file system, given with it.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The group with this path below the root of the hierarchy, as systemd and `/proc/PID/cgroup` give it; if a version 2
    /// hierarchy is mounted.
    #[must_use]
    pub fn of(path: &Path) -> Option<Self> {
        let mount = mount_point(&fs::read("/proc/self/mountinfo").ok()?)?;
        Some(Self { path: mount.join(path.strip_prefix("/").unwrap_or(path)) })
    }

    /// The group this process is in, if a version 2 hierarchy is mounted.
    #[must_use]
    pub fn own() -> Option<Self> {
        Self::of(&own_path(&fs::read("/proc/self/cgroup").ok()?)?)
    }

    /// Its directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A group below this one.
    #[must_use]
    pub fn child(&self, name: &str) -> Self {
        Self { path: self.path.join(name) }
    }

    /// Why this process cannot make groups here and move its children into them; tried, not guessed.
    ///
    /// # Errors
    /// The first thing that is missing, as a sentence.
    pub fn usable(&self) -> Result<(), String> {
        let procs = self.path.join("cgroup.procs");
        rustix::fs::access(&procs, Access::WRITE_OK)
            .map_err(|e| format!("cannot write {}: {e}", procs.display()))?;
        let probe = self.child(&format!("sitegate-probe-{}", std::process::id()));
        fs::create_dir(&probe.path).map_err(|e| format!("cannot create {}: {e}", probe.path.display()))?;
        let can_kill = probe.path.join("cgroup.kill").exists();
        fs::remove_dir(&probe.path).map_err(|e| format!("cannot remove {}: {e}", probe.path.display()))?;
        if can_kill { Ok(()) } else { Err("cgroup.kill is missing: this needs Linux 5.14".to_owned()) }
    }

    /// Makes it and all above it that is missing.
    ///
    /// # Errors
    /// Those of `mkdir(2)`.
    pub fn create(&self) -> io::Result<()> {
        fs::create_dir_all(&self.path)
    }

    /// Moves the calling process into it; all it forks later is born there.
    ///
    /// # Errors
    /// Those of writing `cgroup.procs`.
    pub fn join(&self) -> io::Result<()> {
        fs::write(self.path.join("cgroup.procs"), "0")
    }

    /// Moves a process into it, which may take as long as the kernel waits for its readers; what the process forked before stays
    /// where it is.
    ///
    /// # Errors
    /// Those of writing `cgroup.procs`.
    pub fn take_in(&self, pid: i32) -> io::Result<()> {
        fs::write(self.path.join("cgroup.procs"), pid.to_string())
    }

    /// Kills every process in it and below, those being forked right now too. A group that does not exist is empty.
    ///
    /// # Errors
    /// Those of writing `cgroup.kill`.
    pub fn kill(&self) -> io::Result<()> {
        absent_is((), fs::write(self.path.join("cgroup.kill"), "1"))
    }

    /// What kills all in it and below later, without allocating anything then.
    ///
    /// # Errors
    /// If there is a zero byte in its path.
    pub fn killer(&self) -> io::Result<Killer> {
        let file = self.path.join("cgroup.kill").into_os_string().into_vec();
        Ok(Killer { file: CString::new(file)? })
    }

    /// Whether a living process is in it or below.
    ///
    /// # Errors
    /// Those of reading `cgroup.events`.
    pub fn populated(&self) -> io::Result<bool> {
        let events = absent_is(String::new(), fs::read_to_string(self.path.join("cgroup.events")))?;
        Ok(events.lines().any(|line| line == "populated 1"))
    }

    /// Removes it and the groups below, as far as they are empty.
    pub fn remove(&self) {
        let below = fs::read_dir(&self.path).into_iter().flatten().flatten();
        for entry in below.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())) {
            Self::at(entry.path()).remove();
        }
        // One that is in use stays, and is reported where its emptiness matters.
        let _ = fs::remove_dir(&self.path);
    }
}

/// [`Cgroup::killer`].
#[derive(Clone, Debug)]
pub struct Killer {
    file: CString,
}

impl Killer {
    /// Goes the same way, and kills nothing.
    #[must_use]
    pub fn of_nothing() -> Self {
        Self { file: c"/dev/null".to_owned() }
    }

    /// As [`Cgroup::kill`].
    ///
    /// # Errors
    /// Those of opening and writing `cgroup.kill`.
    pub fn kill(&self) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let written = open(self.file.as_c_str(), flags, Mode::empty())
            .and_then(|file| retry_on_intr(|| rustix::io::write(&file, b"1")));
        absent_is((), written.map(|_| ()).map_err(io::Error::from))
    }
}

/// A group that is gone, or goes while it is looked at (ENODEV), has no processes.
fn absent_is<T>(value: T, result: io::Result<T>) -> io::Result<T> {
    match result {
        Err(error)
            if error.kind() == io::ErrorKind::NotFound
                || error.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error()) =>
        {
            Ok(value)
        }
        other => other,
    }
}

/// The mount point of the version 2 hierarchy in a `mountinfo` file, see proc(5).
fn mount_point(mountinfo: &[u8]) -> Option<PathBuf> {
    mountinfo.split(|b| *b == b'\n').find_map(|line| {
        let fields: Vec<&[u8]> = line.split(|b| *b == b' ').collect();
        let dash = fields.iter().position(|f| *f == b"-")?;
        (*fields.get(dash + 1)? == b"cgroup2").then(|| PathBuf::from(OsStr::from_bytes(fields[4])))
    })
}

/// Our own place in that hierarchy: the line of hierarchy 0 in `/proc/self/cgroup`.
fn own_path(cgroup: &[u8]) -> Option<PathBuf> {
    let line = cgroup.split(|b| *b == b'\n').find_map(|line| line.strip_prefix(b"0::"))?;
    Some(PathBuf::from(OsStr::from_bytes(line)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_hierarchy() {
        let mixed = b"29 23 0:26 / /sys/fs/cgroup ro - tmpfs tmpfs ro,mode=755\n\
            30 29 0:27 / /sys/fs/cgroup/unified rw,nosuid shared:10 - cgroup2 cgroup2 rw\n";
        assert_eq!(mount_point(mixed).unwrap(), Path::new("/sys/fs/cgroup/unified"));
        assert!(mount_point(b"29 23 0:26 / /sys rw - sysfs sysfs rw\n").is_none());
        let own = b"9:name=systemd:/x\n0::/user.slice/a.scope\n";
        assert_eq!(own_path(own).unwrap(), Path::new("/user.slice/a.scope"));
        assert!(own_path(b"9:name=systemd:/x\n").is_none());
    }

    #[test]
    fn a_group_that_is_not_there_is_empty() {
        let dir = tempfile::tempdir().unwrap();
        let group = Cgroup::at(dir.path()).child("gone");
        assert!(!group.populated().unwrap());
        group.kill().unwrap();
        group.killer().unwrap().kill().unwrap();
        Killer::of_nothing().kill().unwrap();
        group.remove();
        assert!(Cgroup::at(dir.path()).usable().is_err(), "an ordinary directory is no control group");
    }
}
