//! Commands, in words.

use sitegate_protocol::{Caller, Command, StandbyMode};

use super::content::Command as CommandDetail;
use super::{Content, Draft};
use crate::settings::Names;

/// That `caller` gave `command` to this member.
#[must_use]
pub fn describe_command(command: &Command, caller: &Caller, names: &Names) -> Draft {
    let (name, ticket, member, what) = parts(command, names);
    let because = if caller.reason.is_empty() { String::new() } else { format!(": {}", caller.reason) };
    Draft {
        ticket,
        member,
        text: format!("{} wants {what}{because}", caller.who),
        content: Content::Command(CommandDetail {
            command: name.to_owned(),
            by: caller.who.clone(),
            reason: caller.reason.clone(),
            request: caller.request,
        }),
    }
}

/// Its name, its ticket, its member, and what it asks for.
fn parts(command: &Command, names: &Names) -> (&'static str, Option<String>, Option<String>, String) {
    let ticket = |ticket: &sitegate_protocol::TicketName| Some(ticket.to_string());
    let member = |id: &sitegate_protocol::MemberId| Some(names.name(*id));
    match command {
        Command::Grant(t, site) => {
            ("grant", ticket(t), member(site), format!("{} to hold {t}", names.name(*site)))
        }
        Command::Revoke(t) => ("revoke", ticket(t), None, format!("nobody to hold {t}")),
        Command::Move(t, site) => {
            ("move", ticket(t), member(site), format!("{t} to go to {}", names.name(*site)))
        }
        Command::Pause(t) => ("pause", ticket(t), None, format!("no new tenure of {t}")),
        Command::Resume(t) => ("resume", ticket(t), None, format!("new tenures of {t} again")),
        Command::Standby(site, StandbyMode::Online) => {
            ("online", None, member(site), format!("{} to take tickets again", names.name(*site)))
        }
        Command::Standby(site, StandbyMode::Keep) => {
            ("standby", None, member(site), format!("{} to take no new tickets", names.name(*site)))
        }
        Command::Standby(site, StandbyMode::Vacate) => (
            "standby",
            None,
            member(site),
            format!("{} to take no tickets and give up its own", names.name(*site)),
        ),
        Command::AttestDead(site, t) => {
            let what = t.as_ref().map_or_else(|| "all its tickets".to_owned(), ToString::to_string);
            let text = format!("{} to count as dead for {what}, and vouches for it", names.name(*site));
            ("attest-dead", t.as_ref().map(ToString::to_string), member(site), text)
        }
        Command::Readmit(id) => {
            ("readmit", None, member(id), format!("{} back with its new identity", names.name(*id)))
        }
        Command::Inspect(t) => ("inspect", ticket(t), None, format!("to know what a majority knows of {t}")),
    }
}
