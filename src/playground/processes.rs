//! The process table: what of the playground runs, seen without asking any daemon.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use sitegate_host::process::{self, Process, Stat};

use super::writer::{RUN, START, SUBCOMMAND};

/// Says in the environment of every process to which member it belongs: daemons hand it on to all that they run.
pub(super) const MARK: &str = "TMPDIR";

/// The value of [`MARK`] for what belongs to `member`.
pub(super) fn mark_of(ground: &Path, member: &str) -> std::path::PathBuf {
    ground.join(member).join("tmp")
}

/// A process that writes, or is about to start one that does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Writer {
    pub(super) process: Process,
    pub(super) site: String,
    pub(super) token: Option<u64>,
}

/// The processes that write to `ground`'s file.
pub(super) fn writers(ground: &Path) -> Vec<Writer> {
    with_step(ground, RUN)
}

/// The start hooks that run.
pub(super) fn start_hooks(ground: &Path) -> Vec<Writer> {
    with_step(ground, START)
}

fn with_step(ground: &Path, step: &str) -> Vec<Writer> {
    let all = process::all().unwrap_or_default();
    let living = all.into_iter().filter(Stat::alive);
    living.filter_map(|stat| as_writer(stat.process, &arguments(stat.process.pid), ground, step)).collect()
}

fn as_writer(process: Process, arguments: &[Vec<u8>], ground: &Path, step: &str) -> Option<Writer> {
    let [_, subcommand, is, options @ ..] = arguments else { return None };
    if subcommand != SUBCOMMAND.as_bytes() || is != step.as_bytes() {
        return None;
    }
    let option = |name: &str| {
        options.chunks_exact(2).find(|pair| pair[0] == name.as_bytes()).map(|pair| pair[1].clone())
    };
    if option("--dir")? != ground.as_os_str().as_bytes() {
        return None;
    }
    let site = String::from_utf8(option("--site")?).ok()?;
    let token = option("--token").and_then(|token| String::from_utf8(token).ok()?.parse().ok());
    Some(Writer { process, site, token })
}

/// The command line of a process; empty if it has ended.
pub(super) fn arguments(pid: i32) -> Vec<Vec<u8>> {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let line = bytes.strip_suffix(b"\0").unwrap_or(&bytes);
    if line.is_empty() { Vec::new() } else { line.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect() }
}

/// Everything that belongs to a member: what bears its mark, daemons that somebody else started with its configuration,
/// and all that descends from these. Never this process.
pub(super) fn of_member(ground: &Path, member: &str) -> Vec<Process> {
    let mark = mark_of(ground, member);
    let configuration = ground.join(member);
    let all = process::all().unwrap_or_default();
    let mut children: HashMap<i32, Vec<&Stat>> = HashMap::new();
    for stat in &all {
        children.entry(stat.parent).or_default().push(stat);
    }
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    let bears = |stat: &&Stat| {
        let bears = process::environment(stat.process.pid, MARK);
        matches!(bears, process::Environment::Has(value) if value == mark.as_os_str().as_bytes())
            || is_daemon_of(&arguments(stat.process.pid), &configuration)
    };
    let mut todo: Vec<&Stat> = all.iter().filter(bears).collect();
    let mut found = Vec::new();
    while let Some(stat) = todo.pop() {
        if stat.process.pid == own || found.contains(&stat.process) {
            continue;
        }
        todo.extend(children.get(&stat.process.pid).into_iter().flatten());
        if stat.alive() {
            found.push(stat.process);
        }
    }
    found
}

fn is_daemon_of(arguments: &[Vec<u8>], configuration: &Path) -> bool {
    let Some((program, rest)) = arguments.split_first() else { return false };
    let name = Path::new(OsStr::from_bytes(program)).file_name().unwrap_or_default();
    let is_daemon =
        ["sitegated", "sitegate-fenced", "sitegate-arbitrator"].iter().any(|daemon| name == *daemon);
    is_daemon && rest.iter().any(|argument| Path::new(OsStr::from_bytes(argument)).starts_with(configuration))
}

/// Sends a signal to a process, unless it has ended.
pub(super) fn send(process: Process, signal: Signal) -> io::Result<()> {
    match process::hold(process)? {
        Some(held) => process::signal(&held, signal),
        None => Ok(()),
    }
}

/// How long the dead may take to go: SIGKILL works within milliseconds unless the machine is overloaded.
const DEATH_MAX: Duration = Duration::from_secs(5);
/// Between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Kills all that `find` finds until it finds nothing, and says how many there were.
pub(super) fn kill_all(mut find: impl FnMut() -> Vec<Process>) -> io::Result<usize> {
    let until = Instant::now() + DEATH_MAX;
    let mut killed: Vec<Process> = Vec::new();
    loop {
        let found = find();
        if found.is_empty() {
            return Ok(killed.len());
        }
        if Instant::now() > until {
            return Err(io::Error::other(format!("{} processes cannot be killed", found.len())));
        }
        for process in found {
            send(process, Signal::KILL)?;
            if !killed.contains(&process) {
                killed.push(process);
            }
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_writer_is_known_by_its_command_line() {
        let process = Process { pid: 1, started: 1 };
        let line = |text: &str| -> Vec<Vec<u8>> { text.split(' ').map(Into::into).collect() };
        let run = line("/x/sitegate playground-writer run --dir /tmp/g --site paris --token 257");
        let found = as_writer(process, &run, Path::new("/tmp/g"), RUN).unwrap();
        assert_eq!((found.site.as_str(), found.token), ("paris", Some(257)));
        assert_eq!(as_writer(process, &run, Path::new("/tmp/h"), RUN), None);
        assert_eq!(as_writer(process, &run, Path::new("/tmp/g"), START), None);
        assert_eq!(as_writer(process, &line("tail -f /tmp/g/writes"), Path::new("/tmp/g"), RUN), None);
    }

    #[test]
    fn only_daemons_are_known_by_their_configuration() {
        let line = |text: &str| -> Vec<Vec<u8>> { text.split(' ').map(Into::into).collect() };
        let paris = Path::new("/tmp/g/paris");
        assert!(is_daemon_of(&line("/x/sitegated --config /tmp/g/paris"), paris));
        assert!(is_daemon_of(&line("sitegate-fenced --config /tmp/g/paris/fenced.toml"), paris));
        assert!(!is_daemon_of(&line("sitegated --config /tmp/g/lyon"), paris));
        assert!(!is_daemon_of(&line("vi /tmp/g/paris/member.toml"), paris));
    }

    #[test]
    fn sees_what_bears_the_mark_and_kills_it() {
        let ground = tempfile::tempdir().unwrap();
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .env(MARK, mark_of(ground.path(), "paris"))
            .spawn()
            .unwrap();
        // A process that has only just come to its exec shows no environment yet.
        let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while of_member(ground.path(), "paris").is_empty() {
            assert!(std::time::Instant::now() < until, "it is not seen");
            std::thread::yield_now();
        }
        assert!(of_member(ground.path(), "lyon").is_empty());
        assert_eq!(kill_all(|| of_member(ground.path(), "paris")).unwrap(), 1);
        assert!(!child.wait().unwrap().success());
    }
}
