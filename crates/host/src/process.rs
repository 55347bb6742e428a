//! Other processes, as `/proc` shows them, and killing them without hitting a stranger.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

use rustix::process::{
    Pid, PidfdFlags, Signal, getpgid, kill_process_group, pidfd_open, pidfd_send_signal, test_kill_process,
};

/// A process as it was when it was looked at. Pids are used again; a pid and its start time are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Process {
    /// Its id.
    pub pid: i32,
    /// When it started, in clock ticks since boot.
    pub started: u64,
}

/// What `/proc/PID/stat` tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Which process.
    pub process: Process,
    /// Its parent's id.
    pub parent: i32,
    /// The state's letter, see proc(5).
    pub state: u8,
}

impl Stat {
    /// Whether it can still run code: neither dead nor a zombie. A zombie whose other threads run on counts as alive.
    #[must_use]
    pub fn alive(&self) -> bool {
        match self.state {
            b'X' | b'x' => false,
            b'Z' => threads(self.process.pid).count() > 1,
            _ => true,
        }
    }

    /// Whether it stands still, so that it cannot fork.
    #[must_use]
    pub fn stopped(&self) -> bool {
        matches!(self.state, b'T' | b't' | b'Z' | b'X' | b'x' | b'D')
    }
}

/// All processes that this one may see.
///
/// # Errors
/// Those of reading `/proc`.
pub fn all() -> io::Result<Vec<Stat>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        if let Some(pid) = name.to_str().and_then(|n| n.parse().ok()) {
            found.extend(stat(pid));
        }
    }
    Ok(found)
}

/// One process, if it exists.
#[must_use]
pub fn stat(pid: i32) -> Option<Stat> {
    parse_stat(pid, &fs::read(format!("/proc/{pid}/stat")).ok()?)
}

/// The second field is the program's name in parentheses and may hold anything, parentheses included.
fn parse_stat(pid: i32, line: &[u8]) -> Option<Stat> {
    let after_name = line.iter().rposition(|b| *b == b')')? + 1;
    let rest = std::str::from_utf8(line.get(after_name..)?).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let state = *fields.next()?.as_bytes().first()?;
    let parent = fields.next()?.parse().ok()?;
    // Fields 5 to 21 of proc(5) lie between.
    let started = fields.nth(17)?.parse().ok()?;
    Some(Stat { process: Process { pid, started }, parent, state })
}

/// What a look at the environment that a process was started with has shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Environment {
    /// The variable has this value.
    Has(Vec<u8>),
    /// There is no such variable.
    Lacks,
    /// It has none yet: the process is in the middle of an exec, and will have one.
    InExec,
    /// We may not look, or it has ended.
    Hidden,
}

/// The value of an environment variable that the process was started with.
#[must_use]
pub fn environment(pid: i32, variable: &str) -> Environment {
    let Ok(mut bytes) = fs::read(format!("/proc/{pid}/environ")) else { return Environment::Hidden };
    if bytes.is_empty() {
        // A first thread that has exited shows nothing; the others still do.
        let other = threads(pid).find(|tid| *tid != pid);
        let other = other.and_then(|tid| fs::read(format!("/proc/{pid}/task/{tid}/environ")).ok());
        bytes = other.unwrap_or_default();
    }
    if bytes.is_empty() {
        return if is_in_exec(pid) { Environment::InExec } else { Environment::Lacks };
    }
    let entries = bytes.split(|b| *b == 0);
    let mut values = entries.filter_map(|entry| entry.strip_prefix(variable.as_bytes())?.strip_prefix(b"="));
    values.next().map_or(Environment::Lacks, |value| Environment::Has(value.to_vec()))
}

/// Whether a process whose environment we may read, and which shows none, has not been given its own yet: fields 9 (`flags`) and
/// 51 (`env_end`) of proc(5). Threads of the kernel never have one.
fn is_in_exec(pid: i32) -> bool {
    /// `PF_KTHREAD` of the kernel's sched.h.
    const KERNEL_THREAD: u64 = 0x0020_0000;
    let Ok(line) = fs::read(format!("/proc/{pid}/stat")) else { return false };
    let Some(after_name) = line.iter().rposition(|b| *b == b')') else { return false };
    let rest = String::from_utf8_lossy(&line[after_name + 1..]);
    // The first that is left is field 3.
    let field = |number: usize| rest.split_ascii_whitespace().nth(number - 3)?.parse::<u64>().ok();
    field(9).is_some_and(|flags| flags & KERNEL_THREAD == 0) && field(51) == Some(0)
}

/// The program's name, for messages.
#[must_use]
pub fn name(pid: i32) -> String {
    let comm = fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
    String::from_utf8_lossy(OsStr::from_bytes(comm.trim_ascii_end()).as_bytes()).into_owned()
}

fn threads(pid: i32) -> impl Iterator<Item = i32> {
    let entries = fs::read_dir(format!("/proc/{pid}/task")).ok();
    let names = entries.into_iter().flatten().flatten().map(|e| e.file_name());
    names.filter_map(|n| n.to_str().and_then(|n| n.parse().ok()))
}

/// Takes hold of a process: `None` if it has ended meanwhile, even if its pid is in use again.
///
/// # Errors
/// Those of `pidfd_open(2)`, lack of descriptors for instance.
pub fn hold(process: Process) -> io::Result<Option<OwnedFd>> {
    let Some(pid) = Pid::from_raw(process.pid) else { return Ok(None) };
    let held = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(held) => held,
        Err(rustix::io::Errno::SRCH) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    // The descriptor now names one process for good; see that it is the one that was meant.
    let same = stat(process.pid).is_some_and(|now| now.process == process);
    Ok(same.then_some(held))
}

/// Sends a signal to a process that is held. One that has ended is no error.
///
/// # Errors
/// Those of `pidfd_send_signal(2)`: it is not ours to kill.
pub fn signal(held: &OwnedFd, signal: Signal) -> io::Result<()> {
    match pidfd_send_signal(held, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Asks a process to end (SIGTERM), with its process group where it leads one. One that has ended is no error.
///
/// # Errors
/// Those of `kill(2)`: it is not ours.
pub fn ask_to_end(process: Process) -> io::Result<()> {
    let Some(held) = hold(process)? else { return Ok(()) };
    let pid = Pid::from_raw(process.pid).filter(|pid| getpgid(Some(*pid)) == Ok(*pid));
    match pid.map(|group| kill_process_group(group, Signal::TERM)) {
        Some(Ok(()) | Err(rustix::io::Errno::SRCH)) => Ok(()),
        Some(Err(error)) => Err(error.into()),
        None => signal(&held, Signal::TERM),
    }
}

/// Whether we may send a process signals.
#[must_use]
pub fn may_signal(pid: i32) -> bool {
    Pid::from_raw(pid).is_some_and(|pid| test_kill_process(pid).is_ok())
}

/// The user that a process runs as: its effective user id.
#[must_use]
pub fn user(pid: i32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("Uid:"))?.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// Whether `pid` is this process or one that it descends from.
#[must_use]
pub fn is_above_us(pid: i32) -> bool {
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    let above =
        std::iter::successors(Some(own), |pid| stat(*pid).map(|stat| stat.parent).filter(|pid| *pid > 0));
    above.into_iter().any(|above| above == pid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_hold_anything() {
        let line = b"42 (a) b (c)) S 7 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 1 2 3\n";
        let stat = parse_stat(42, line).unwrap();
        assert_eq!(stat, Stat { process: Process { pid: 42, started: 987_654 }, parent: 7, state: b'S' });
        assert!(parse_stat(42, b"42 (x").is_none());
    }

    #[test]
    fn sees_itself() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let me = stat(pid).unwrap();
        assert!(me.alive());
        assert_eq!(user(pid), Some(rustix::process::geteuid().as_raw()));
        assert!(may_signal(pid) && is_above_us(pid) && is_above_us(stat(pid).unwrap().parent));
        assert!(!is_above_us(i32::MAX));
        assert!(all().unwrap().iter().any(|s| s.process == me.process));
        let Environment::Has(path) = environment(pid, "PATH") else { panic!("no PATH") };
        assert_eq!(OsStr::from_bytes(&path), std::env::var_os("PATH").unwrap());
        assert_eq!(environment(pid, "PAT"), Environment::Lacks);
    }

    #[test]
    fn an_environment_may_be_empty() {
        let mut child = std::process::Command::new("/bin/sleep").arg("600").env_clear().spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let until = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while fs::read(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim_ascii() != b"sleep")
            || environment(pid, "PATH") == Environment::InExec
        {
            assert!(std::time::Instant::now() < until, "it does not get through its exec");
        }
        assert_eq!(environment(pid, "PATH"), Environment::Lacks);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_reused_pid_is_somebody_else() {
        let mut me = stat(i32::try_from(std::process::id()).unwrap()).unwrap().process;
        assert!(hold(me).unwrap().is_some());
        me.started += 1;
        assert!(hold(me).unwrap().is_none());
    }
}
