//! What the kernel counts for a process: memory, and time on a processor.

use std::fs;
use std::io;

use sitegate_host::process::Process;

use super::distribution::{Figure, count};
use crate::playground::daemon::Program;
use crate::playground::stage::{Stage, Unmet};
use crate::terminal::failure::Failure;

/// The load average of the last minute.
pub(super) fn load() -> Result<f64, Failure> {
    let read = fs::read_to_string("/proc/loadavg");
    let text = read.map_err(|error| Failure::machine("read /proc/loadavg", &error))?;
    let first = text.split(' ').next().and_then(|load| load.parse().ok());
    first.ok_or_else(|| Failure::machine("read /proc/loadavg", &io::Error::other("it is not understood")))
}

/// Memory of a process, in KiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Memory {
    /// All that is resident, with pages of the program that others share.
    pub(super) resident: u64,
    /// The most that ever was.
    pub(super) peak: u64,
    /// What is its own: heap, stacks, data that was written.
    pub(super) own: u64,
}

impl Memory {
    pub(super) fn of(process: Process) -> io::Result<Self> {
        let status = fs::read_to_string(format!("/proc/{}/status", process.pid))?;
        Self::parse(&status).ok_or_else(|| io::Error::other("/proc/PID/status is not understood"))
    }

    fn parse(status: &str) -> Option<Self> {
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            line.trim().strip_suffix(" kB")?.parse().ok()
        };
        Some(Self { resident: field("VmRSS")?, peak: field("VmHWM")?, own: field("RssAnon")? })
    }

    pub(super) fn figures(self, of: &str) -> [Figure; 3] {
        let figure = |what: &str, kib| Figure::once(format!("{of}, {what}"), "KiB", count(kib));
        [
            figure("resident", self.resident),
            figure("of that its own", self.own),
            figure("peak resident", self.peak),
        ]
    }
}

/// How long a process has run on processors, in ns: the sum over its threads, as far as they still live.
pub(super) fn processor_ns(process: Process) -> io::Result<u64> {
    let mut sum = 0;
    for task in fs::read_dir(format!("/proc/{}/task", process.pid))? {
        // A thread may have ended since.
        let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) else { continue };
        sum += text.split(' ').next().and_then(|ns| ns.parse::<u64>().ok()).unwrap_or(0);
    }
    Ok(sum)
}

/// The daemons of which there is one each to look at: those of the holder, and the arbitrator.
pub(super) const LOOKED_AT: [(&str, Program); 3] =
    [("paris", Program::Sitegated), ("paris", Program::Fenced), ("tiebreak", Program::Arbitrator)];

/// Their processes.
pub(super) fn looked_at(stage: &mut Stage) -> Result<Vec<(&'static str, Process)>, Unmet> {
    let found = LOOKED_AT.iter().map(|(member, program)| {
        let process = stage.daemon(member, *program)?.process();
        let gone = || Unmet(format!("{} does not run", program.name()));
        Ok((program.name(), process.ok_or_else(gone)?))
    });
    found.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_from_status() {
        let text = "Name:\tx\nVmHWM:\t    5000 kB\nVmRSS:\t    4000 kB\nRssAnon:\t     900 kB\n";
        assert_eq!(Memory::parse(text), Some(Memory { resident: 4000, peak: 5000, own: 900 }));
        assert_eq!(Memory::parse("Name:\tkthreadd\n"), None);
    }

    #[test]
    fn this_process_takes_memory_and_time() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let own = Process { pid, started: 0 };
        assert!(Memory::of(own).unwrap().resident > 0);
        assert!(processor_ns(own).unwrap() > 0);
    }
}
