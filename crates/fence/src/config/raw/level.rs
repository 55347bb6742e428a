//! A level of a plan as it is written: one table whatever its driver, so that an error can say whose a key is.

use std::ops::Range;
use std::time::Duration;

use serde::Deserialize;
use sitegate_host::diagnostic::{Period, Spanned};

use super::Check;
use crate::plan::{Driver, Level, Program, RebootMethod};

/// How long a reboot may take to happen before the level counts as failed.
pub(in crate::config) const DEFAULT_REBOOT_WITHIN: Duration = Duration::from_secs(5);

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawLevel {
    driver: Spanned<RawDriver>,
    within: Option<Spanned<Period>>,
    command: Option<Spanned<Vec<String>>>,
    check: Option<Spanned<Vec<String>>>,
    method: Option<Spanned<RawMethod>>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum RawDriver {
    Command,
    Reboot,
    Watchdog,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum RawMethod {
    Syscall,
    Sysrq,
}

impl RawLevel {
    /// The keys that nobody has taken, each with the driver that it belongs to.
    fn left(&self) -> impl Iterator<Item = (&'static str, &'static str, Range<usize>)> {
        let command = self.command.as_ref().map(|key| ("command", "command", key.span()));
        let check = self.check.as_ref().map(|key| ("check", "command", key.span()));
        let method = self.method.as_ref().map(|key| ("method", "reboot", key.span()));
        [command, check, method].into_iter().flatten()
    }
}

impl Check<'_> {
    /// A level, or nothing if what it needs is missing: that is among the problems then.
    pub(super) fn level(&mut self, raw: Spanned<RawLevel>) -> Option<Level> {
        let at = raw.span();
        let mut raw = raw.into_inner();
        let within = raw.within.take().map(|within| self.limit(&within));
        let level = match raw.driver.get_ref() {
            RawDriver::Command => self.command_level(at, &mut raw, within),
            RawDriver::Reboot => Some(reboot_level(&mut raw, within)),
            RawDriver::Watchdog => self.watchdog_level(at, within),
        };
        for (key, driver, at) in raw.left() {
            self.problem(at, format!("`{key}` belongs to driver \"{driver}\""), "remove it");
        }
        level
    }

    fn command_level(
        &mut self,
        at: Range<usize>,
        raw: &mut RawLevel,
        within: Option<Duration>,
    ) -> Option<Level> {
        let (Some(command), Some(within)) = (raw.command.take(), within) else {
            let hint = "write { driver = \"command\", command = [\"/path\", …], within = \"8s\" }";
            self.problem(at, "driver \"command\" needs `command` and `within`", hint);
            return None;
        };
        let check = raw.check.take().map(|check| self.command(check));
        Some(Level { driver: Driver::Command(Program { command: self.command(command), check }), within })
    }

    fn watchdog_level(&mut self, at: Range<usize>, within: Option<Duration>) -> Option<Level> {
        let Some(watchdog) = &self.watchdog else {
            let hint = "add [watchdog] with device = \"/dev/watchdog\" and timeout = \"10s\"";
            self.problem(at, "driver \"watchdog\" without a watchdog", hint);
            return None;
        };
        let least = watchdog.within();
        let within = within.unwrap_or(least);
        if within < least {
            let cause = "the level would be over before the watchdog has reset the machine";
            let hint = format!("leave `within` out, or write {} s or more", least.as_secs());
            self.problem(at, cause, hint);
        }
        Some(Level { driver: Driver::Watchdog, within })
    }
}

fn reboot_level(raw: &mut RawLevel, within: Option<Duration>) -> Level {
    let method = match raw.method.take().map(Spanned::into_inner) {
        None | Some(RawMethod::Syscall) => RebootMethod::Syscall,
        Some(RawMethod::Sysrq) => RebootMethod::Sysrq,
    };
    Level { driver: Driver::Reboot(method), within: within.unwrap_or(DEFAULT_REBOOT_WITHIN) }
}
