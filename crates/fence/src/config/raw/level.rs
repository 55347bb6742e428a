//! A level of a plan as it is written: one table whatever its driver, so that an error can say whose a key is.

use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use sitegate_fence_client::wire::Name;
use sitegate_host::diagnostic::{Period, Spanned};

use super::Check;
use super::agent::RawOptions;
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
    unit: Option<Spanned<String>>,
    pub(super) agent: Option<Spanned<String>>,
    pub(super) options: Option<Spanned<RawOptions>>,
    pub(super) options_file: Option<Spanned<PathBuf>>,
    pub(super) plugs: Option<Spanned<Vec<Spanned<String>>>>,
    pub(super) plug_option: Option<Spanned<String>>,
    pub(super) retry_after: Option<Spanned<Period>>,
    pub(super) attempt_within: Option<Spanned<Period>>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum RawDriver {
    Command,
    Agent,
    Systemd,
    Reboot,
    Watchdog,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum RawMethod {
    Syscall,
    Sysrq,
}

impl RawDriver {
    fn name(self) -> &'static str {
        match self {
            Self::Command => "command",
            Self::Agent => "agent",
            Self::Systemd => "systemd",
            Self::Reboot => "reboot",
            Self::Watchdog => "watchdog",
        }
    }
}

impl RawLevel {
    /// The keys that are there and that nobody has taken, each with the driver that it belongs to.
    fn left(&self) -> impl Iterator<Item = (&'static str, &'static str, Range<usize>)> {
        let keys = [
            ("command", "command", self.command.as_ref().map(Spanned::span)),
            ("check", "command", self.check.as_ref().map(Spanned::span)),
            ("unit", "systemd", self.unit.as_ref().map(Spanned::span)),
            ("method", "reboot", self.method.as_ref().map(Spanned::span)),
            ("agent", "agent", self.agent.as_ref().map(Spanned::span)),
            ("options", "agent", self.options.as_ref().map(Spanned::span)),
            ("options-file", "agent", self.options_file.as_ref().map(Spanned::span)),
            ("plugs", "agent", self.plugs.as_ref().map(Spanned::span)),
            ("plug-option", "agent", self.plug_option.as_ref().map(Spanned::span)),
            ("retry-after", "agent", self.retry_after.as_ref().map(Spanned::span)),
            ("attempt-within", "agent", self.attempt_within.as_ref().map(Spanned::span)),
        ];
        keys.into_iter().filter_map(|(key, driver, at)| Some((key, driver, at?)))
    }
}

impl Check<'_> {
    /// A level, or nothing if what it needs is missing: that is among the problems then. `whose`: the resource and which of its
    /// levels it is, from 1.
    pub(super) fn level(&mut self, whose: (&Name, usize), raw: Spanned<RawLevel>) -> Option<Level> {
        let at = raw.span();
        let mut raw = raw.into_inner();
        let within = raw.within.take().map(|within| self.limit(&within));
        let level = match raw.driver.get_ref() {
            RawDriver::Command => self.command_level(at, &mut raw, within),
            RawDriver::Agent => self.agent_level(whose, at, &mut raw, within),
            RawDriver::Systemd => self.systemd_level(at, &mut raw, within),
            RawDriver::Reboot => Some(reboot_level(&mut raw, within)),
            RawDriver::Watchdog => self.watchdog_level(at, within),
        };
        let own = raw.driver.get_ref().name();
        for (key, driver, at) in raw.left().filter(|(_, driver, _)| *driver != own) {
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

    fn systemd_level(
        &mut self,
        at: Range<usize>,
        raw: &mut RawLevel,
        within: Option<Duration>,
    ) -> Option<Level> {
        let (Some(unit), Some(within)) = (raw.unit.take(), within) else {
            let hint =
                "write { driver = \"systemd\", unit = \"sitegate-ticket@TICKET.target\", within = \"8s\" }";
            self.problem(at, "driver \"systemd\" needs `unit` and `within`", hint);
            return None;
        };
        Some(Level { driver: Driver::Systemd(self.unit(&unit)?), within })
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
