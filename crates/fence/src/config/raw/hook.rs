//! What starts, stops or tells of a resource, as it is written.

use std::ops::Range;

use serde::Deserialize;
use sitegate_host::diagnostic::{Period, Spanned};

use super::Check;
use crate::config::{Hook, Work};
use crate::plan::Plan;
use crate::systemd::UnitName;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawHook {
    command: Option<Spanned<Vec<String>>>,
    unit: Option<Spanned<String>>,
    within: Spanned<Period>,
}

impl Check<'_> {
    pub(super) fn hook(&mut self, raw: RawHook) -> Hook {
        let within = self.limit(&raw.within);
        let work = match (raw.command, raw.unit) {
            (Some(command), None) => Work::Command(self.command(command)),
            (None, Some(unit)) => match self.unit(&unit) {
                Some(unit) => Work::Unit(unit),
                // A problem already; nothing comes of it.
                None => Work::Command(Vec::new()),
            },
            (command, _) => {
                let hint = "write { command = [\"/path\", …], within = \"…\" } or { unit = \"….service\", within = \"…\" }";
                let cause = if command.is_some() {
                    "both `command` and `unit`"
                } else {
                    "neither `command` nor `unit`"
                };
                self.problem(raw.within.span(), cause, hint);
                Work::Command(Vec::new())
            }
        };
        Hook { work, within }
    }

    /// The same for what starts it, beside the plan that has to stop it.
    pub(super) fn start(&mut self, raw: RawHook, plan: &Plan) -> Hook {
        let at = raw.unit.as_ref().map(Spanned::span);
        let hook = self.hook(raw);
        if let (Some(at), Work::Unit(unit)) = (at, &hook.work) {
            self.is_stopped(at, unit, plan);
        }
        hook
    }

    /// Processes of systemd's are none of the daemon's, so killing those does not stop it.
    fn is_stopped(&mut self, at: Range<usize>, unit: &UnitName, plan: &Plan) {
        if !plan.stops(unit) {
            let cause = format!("{unit} is started, and `fence` does not begin with stopping it");
            let hint = format!(
                "add {{ driver = \"systemd\", unit = \"{unit}\", within = \"8s\" }} to `fence`, before all others"
            );
            self.problem(at, cause, hint);
        }
    }

    pub(super) fn unit(&mut self, written: &Spanned<String>) -> Option<UnitName> {
        match UnitName::new(written.get_ref()) {
            Ok(unit) => Some(unit),
            Err(why) => {
                let hint =
                    "write the name with its ending, as in \"sitegate-ticket@db.target\" or \"mydb.service\"";
                self.problem(written.span(), why, hint);
                None
            }
        }
    }

    pub(super) fn command(&mut self, command: Spanned<Vec<String>>) -> Vec<String> {
        match command.get_ref().first() {
            Some(program) if program.starts_with('/') => {}
            Some(program) => {
                let cause = format!("\"{program}\" is no absolute path");
                self.problem(
                    command.span(),
                    cause,
                    "write the program's path from / on; there is no shell and no PATH",
                );
            }
            None => self.problem(
                command.span(),
                "an empty command",
                "write [\"/path/to/program\", \"argument\", …]",
            ),
        }
        if command.get_ref().iter().any(|argument| argument.contains('\0')) {
            self.problem(command.span(), "a NUL character in a command", "remove it");
        }
        command.into_inner()
    }
}
