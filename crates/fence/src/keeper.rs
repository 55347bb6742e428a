//! The keeper: a small process between the daemon and each program it runs, `sitegate-fenced keeper …`.
//!
//! It is what makes everything that starts resources run under the daemon (docs/fencing.md, "What it promises") while the
//! daemon itself is away: it goes into the control group, adopts whatever the program leaves running (it is a subreaper, see
//! prctl(2)), so that this stays its descendant, and reads the program's output, so that no pipe breaks, however often the daemon
//! is restarted. Between going in and starting the program it looks whether the lease still stands: a keeper that was frozen
//! before that look finds the lease withdrawn, one frozen after it is killed by the fence.

use std::ffi::{CStr, OsString};
use std::io::{self, PipeReader, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;
use std::{fs, thread};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::retry_on_intr;
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, WaitOptions, getpid, kill_process, kill_process_group,
    set_child_subreaper, wait, waitid,
};
use rustix::time::Timespec;
use sitegate_host::cgroup::Cgroup;
use sitegate_host::process;
use sitegate_host::spawn::why_not_started;

use crate::leases::may_exec;
use crate::store::with_causes;

mod errand;
mod report;

pub use errand::{Errand, Lease};
pub use report::Report;

/// The hidden subcommand.
pub const SUBCOMMAND: &str = "keeper";

/// What keepers are called in process lists.
const PROCESS_NAME: &CStr = c"fenced-keeper";
/// How long the daemon may leave a full pipe unread before output is dropped. A program must not stand still because
/// somebody froze the daemon.
const UNREAD_MAX: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
/// How long the last output may take to be read once nobody is left to write any.
const LAST_OUTPUT: Duration = Duration::from_millis(200);

/// Runs an errand given by command line arguments (those after the subcommand). Reports on stdout, one line, how the
/// program went, and stays until nothing of it is left.
#[must_use]
pub fn run(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let Some(errand) = Errand::from_arguments(arguments) else {
        eprintln!("sitegate-fenced keeper: this is for sitegate-fenced itself");
        return ExitCode::from(2);
    };
    // It was started as /proc/self/exe, and would be listed as `exe`.
    let _ = rustix::thread::set_name(PROCESS_NAME);
    match begin(&errand) {
        Ok((child, output)) => {
            keep(child, output, errand.stay);
            ExitCode::SUCCESS
        }
        Err(report) => {
            tell(&report);
            ExitCode::FAILURE
        }
    }
}

/// Goes where it belongs, makes sure that the program may still be started, and starts it.
fn begin(errand: &Errand) -> Result<(Child, PipeReader), Report> {
    let not_started =
        |what: &str, error: &dyn std::fmt::Display| Report::NotStarted(format!("{what}: {error}"));
    set_child_subreaper(Some(getpid())).map_err(|e| not_started("cannot become a subreaper", &e))?;
    if let Some(cgroup) = &errand.cgroup {
        let joined = Cgroup::at(cgroup).join();
        joined
            .map_err(|e| not_started(&format!("cannot join the control group {}", cgroup.display()), &e))?;
    }
    if let Some(Lease { leases, resource, token }) = &errand.lease {
        // From here to the program's death, a fence finds us.
        may_exec(leases, resource, *token).map_err(Report::Refused)?;
    }
    let (output, stdout) = io::pipe().map_err(|e| not_started("cannot make a pipe", &e))?;
    let stderr = stdout.try_clone().map_err(|e| not_started("cannot make a pipe", &e))?;
    let program = PathBuf::from(&errand.argv[0]);
    let mut command = Command::new(&program);
    command.args(&errand.argv[1..]).process_group(0);
    let stdin = if errand.input { Stdio::inherit() } else { Stdio::null() };
    command.stdin(stdin).stdout(stdout).stderr(stderr);
    let spawned = if errand.stay { as_usual_priority(|| command.spawn()) } else { command.spawn() };
    let child = spawned.map_err(|e| Report::NotStarted(with_causes(&why_not_started(&program, e))))?;
    Ok((child, output))
}

/// What is started to stay gets none of the daemon's protection from the kernel's out-of-memory killer, and not its
/// priority; the keeper takes these back where it may.
fn as_usual_priority<T>(spawn: impl FnOnce() -> T) -> T {
    const OOM: &str = "/proc/self/oom_score_adj";
    let protection = fs::read_to_string(OOM).unwrap_or_default();
    let nice = rustix::process::getpriority_process(None).unwrap_or(0);
    // Giving up an advantage is always allowed; where there was none, nothing changes.
    if protection.trim_start().starts_with('-') {
        let _ = fs::write(OOM, "0");
    }
    if nice < 0 {
        let _ = rustix::process::setpriority_process(None, 0);
    }
    let spawned = spawn();
    let _ = fs::write(OOM, protection.trim());
    let _ = rustix::process::setpriority_process(None, nice);
    spawned
}

/// Waits for the program, tells how it ended, and sees to what it left behind.
fn keep(mut child: Child, output: PipeReader, stay: bool) {
    let (copied, all_copied) = mpsc::channel::<()>();
    thread::spawn(move || {
        copy(output);
        drop(copied);
    });
    if let Some(pid) = pid_of(&child) {
        // Not reaped yet, so that neither its pid nor its group can be somebody else's when it is killed.
        let _ = retry_on_intr(|| waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT));
        if !stay {
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
    match child.wait() {
        Ok(status) => tell(&report_of(status)),
        Err(error) => tell(&Report::NotStarted(format!("cannot be waited for: {error}"))),
    }
    if !stay {
        kill_children();
    }
    while reap_one() {}
    // The end of the channel, that is; a timeout says that somebody who is no child holds the pipe.
    let _ = all_copied.recv_timeout(LAST_OUTPUT);
}

/// Kills the children, then those that it inherits from them, until there are none.
fn kill_children() {
    let own = getpid().as_raw_nonzero().get();
    // Mostly there are none, and with thousands of processes on the machine it takes long to find that in the process table.
    while has_children() {
        let all = process::all().unwrap_or_default();
        let children: Vec<Pid> =
            all.iter().filter(|s| s.parent == own).filter_map(|s| Pid::from_raw(s.process.pid)).collect();
        if children.is_empty() {
            return;
        }
        for child in children {
            // Our own child, not reaped: the pid is its own.
            let _ = kill_process(child, Signal::KILL);
        }
        if !reap_one() {
            return;
        }
    }
}

/// Whether there is a child, alive or not reaped yet.
fn has_children() -> bool {
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    retry_on_intr(|| waitid(WaitId::All, look)).is_ok()
}

/// Waits for the death of a child, inherited ones too; false if there is none left.
fn reap_one() -> bool {
    retry_on_intr(|| wait(WaitOptions::empty())).is_ok()
}

/// Copies output to the daemon, as long as there is one and it reads.
fn copy(mut from: PipeReader) {
    let to = io::stderr();
    if let Ok(flags) = fcntl_getfl(&to) {
        let _ = fcntl_setfl(&to, flags | OFlags::NONBLOCK);
    }
    let mut buffer = [0_u8; 4096];
    loop {
        let count = match from.read(&mut buffer) {
            Ok(count @ 1..) => count,
            // To stop reading would break the program's pipe.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Ok(_) | Err(_) => return,
        };
        let mut rest = &buffer[..count];
        while !rest.is_empty() {
            match rustix::io::write(&to, rest) {
                Ok(written) => rest = &rest[written..],
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => {
                    let mut fds = [PollFd::new(&to, PollFlags::OUT)];
                    if !matches!(poll(&mut fds, Some(&UNREAD_MAX)), Ok(1..)) {
                        break;
                    }
                }
                Err(_) => break,
            }
        }
    }
}

fn report_of(status: ExitStatus) -> Report {
    match (status.code(), status.signal()) {
        (Some(code), _) => Report::Exited(code),
        (None, signal) => Report::Signalled(signal.unwrap_or(0)),
    }
}

/// A daemon that has gone away does not want to know.
fn tell(report: &Report) {
    let mut stdout = io::stdout().lock();
    let _ = writeln!(stdout, "{report}").and_then(|()| stdout.flush());
}

fn pid_of(child: &Child) -> Option<Pid> {
    i32::try_from(child.id()).ok().and_then(Pid::from_raw)
}
