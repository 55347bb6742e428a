//! Running a hook: what it is told, and what its end means.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use sitegate_host::clock::{boot_ns, duration_ns, uptime_seconds};
use sitegate_host::program::{Outcome, Program, Runner};
use sitegate_host::spawn::base_environment;
use sitegate_member::config::Hook;
use sitegate_protocol::{TicketName, Token};

/// A hook to run for a ticket.
#[derive(Clone, Debug)]
pub(super) struct Run {
    pub(super) ticket: TicketName,
    /// None before there is one.
    pub(super) token: Option<Token>,
    pub(super) site: String,
    /// `before-acquire` or `check`.
    pub(super) reason: &'static str,
    pub(super) hook: Hook,
}

impl Run {
    /// Runs it to its end or its limit; what it leaves behind is killed, as far as [`Runner::run`] says.
    pub(super) async fn run(&self, runner: &Runner) -> Outcome {
        runner.run(&self.program()).await
    }

    fn program(&self) -> Program {
        let mut command = self.hook.command.iter();
        let path = command.next().map(PathBuf::from).unwrap_or_default();
        let mut env = base_environment();
        let mut set = |name: &str, value: String| env.insert(name.to_owned(), value);
        set("SITEGATE_TICKET", self.ticket.to_string());
        set("SITEGATE_TOKEN", self.token.map(|token| token.to_string()).unwrap_or_default());
        set("SITEGATE_SITE", self.site.clone());
        set("SITEGATE_REASON", self.reason.to_owned());
        set("SITEGATE_DEADLINE", deadline(self.hook.within));
        Program {
            ticket: self.ticket.to_string(),
            path,
            arguments: command.map(OsString::from).collect(),
            env,
            within: self.hook.within,
        }
    }
}

/// When a hook is killed that may take `within` from now on, by the boot clock.
fn deadline(within: Duration) -> String {
    uptime_seconds(boot_ns().saturating_add(duration_ns(within)))
}

/// What a hook that failed left to say, in one line.
pub(super) fn complaint(outcome: &Outcome) -> String {
    let tail = outcome.tail.lines().rev().map(str::trim).find(|line| !line.is_empty());
    match tail {
        Some(line) => format!("{}: {line}", outcome.ended),
        None => outcome.ended.to_string(),
    }
}
