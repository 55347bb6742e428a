//! `[ticket.NAME]` of `member.toml`: the programs that say whether this site may have, and keep, a ticket.

use std::num::NonZeroU32;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use sitegate_host::diagnostic::{Diagnostic, Period, Problems, Source, Spanned};

/// The longest that a hook may be allowed, and that a site may stay unwilling: more is a slip of the unit.
const HOOK_MAX: Period = Period::from_secs(3600);
const BEFORE_ACQUIRE_WITHIN_DEFAULT: Period = Period::from_secs(10);
const CHECK_EVERY_DEFAULT: Period = Period::from_secs(10);
const CHECK_WITHIN_DEFAULT: Period = Period::from_secs(5);
const CHECK_FAILURES_DEFAULT: NonZeroU32 = NonZeroU32::new(3).expect("3 is not 0");
const CHECK_HOLD_DEFAULT: Period = Period::from_secs(600);
const CHECK_HOLD_MAX: Period = Period::from_secs(30 * 24 * 3600);

/// The hooks of one ticket on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalTicket {
    /// Must succeed before this site tries to acquire.
    pub before_acquire: Option<Hook>,
    /// Watches over what runs while this site holds the ticket.
    pub check: Option<Check>,
    /// How long this site stays unwilling after its check failed.
    pub check_hold: Duration,
}

/// A program with its arguments and the time it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// The absolute path of the program, and its arguments.
    pub command: Vec<String>,
    /// After this it is killed, and has failed. Never zero.
    pub within: Duration,
}

/// A program that runs again and again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What runs.
    pub hook: Hook,
    /// From one start to the next; at least the time the hook has.
    pub every: Duration,
    /// How many failures in a row mean that this site cannot keep the ticket.
    pub failures: NonZeroU32,
}

/// A table as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct LocalTicketEntry {
    before_acquire: Option<HookEntry>,
    check: Option<CheckEntry>,
    check_hold: Option<Spanned<Period>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct HookEntry {
    command: Spanned<Vec<String>>,
    within: Option<Spanned<Period>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CheckEntry {
    command: Spanned<Vec<String>>,
    every: Option<Spanned<Period>>,
    within: Option<Spanned<Period>>,
    failures: Option<NonZeroU32>,
}

impl LocalTicketEntry {
    pub(super) fn resolve(self, source: &Source, problems: &mut Problems) -> LocalTicket {
        let hold = self.check_hold.as_ref();
        let hold = bounded(hold, CHECK_HOLD_DEFAULT, CHECK_HOLD_MAX, source, problems);
        LocalTicket {
            before_acquire: self.before_acquire.map(|hook| Hook {
                command: resolve_command(hook.command, source, problems),
                within: bounded(
                    hook.within.as_ref(),
                    BEFORE_ACQUIRE_WITHIN_DEFAULT,
                    HOOK_MAX,
                    source,
                    problems,
                ),
            }),
            check: self.check.map(|check| check.resolve(source, problems)),
            check_hold: hold,
        }
    }
}

impl CheckEntry {
    fn resolve(self, source: &Source, problems: &mut Problems) -> Check {
        let every = bounded(self.every.as_ref(), CHECK_EVERY_DEFAULT, HOOK_MAX, source, problems);
        let within = bounded(self.within.as_ref(), CHECK_WITHIN_DEFAULT, HOOK_MAX, source, problems);
        if within > every {
            let at = self.within.as_ref().or(self.every.as_ref()).map_or(self.command.span(), Spanned::span);
            let cause = format!("a check that may take {within:?} cannot run every {every:?}");
            problems.add(Diagnostic::at(source, at, cause).hint("make `every` at least as long as `within`"));
        }
        Check {
            hook: Hook { command: resolve_command(self.command, source, problems), within },
            every,
            failures: self.failures.unwrap_or(CHECK_FAILURES_DEFAULT),
        }
    }
}

fn resolve_command(written: Spanned<Vec<String>>, source: &Source, problems: &mut Problems) -> Vec<String> {
    let hint = "write the absolute path of a program and its arguments, as in [\"/etc/sitegate/db-ready\", \"--quick\"]";
    let cause = match written.get_ref().first() {
        None => Some("no command".to_owned()),
        Some(program) if !Path::new(program).is_absolute() => {
            Some(format!("`{program}` is not an absolute path"))
        }
        Some(_) => None,
    };
    if let Some(cause) = cause {
        problems.add(Diagnostic::at(source, written.span(), cause).hint(hint));
    }
    written.into_inner()
}

/// A period above zero and up to `most`.
fn bounded(
    written: Option<&Spanned<Period>>,
    default: Period,
    most: Period,
    source: &Source,
    problems: &mut Problems,
) -> Duration {
    let Some(written) = written else { return default.get() };
    let period = *written.get_ref();
    if period.get().is_zero() || period > most {
        let hint = format!("write more than 0 and at most {most}; the default is {default}");
        problems
            .add(Diagnostic::at(source, written.span(), format!("{period} is out of range here")).hint(hint));
    }
    period.get()
}
