//! Why a command was refused, and what to do instead.

use sitegate_protocol::{Command, CommandRefusal, MemberId, Refusal, TicketName};

use super::types::Progress;
use crate::settings::Names;

/// The last line of a refused command.
pub(super) fn refused(command: &Command, refusal: &CommandRefusal, names: &Names) -> Progress {
    let told = Told { command, names };
    Progress::Refused { code: code(refusal).into(), text: told.text(refusal), hint: told.hint(refusal) }
}

const fn code(refusal: &CommandRefusal) -> &'static str {
    match refusal {
        CommandRefusal::NotVoting => "not-voting",
        CommandRefusal::Busy => "busy",
        CommandRefusal::NoSuchTicket => "no-such-ticket",
        CommandRefusal::NotASite(_) => "not-a-site",
        CommandRefusal::HeldElsewhere(_) => "held-elsewhere",
        CommandRefusal::NotHeld => "not-held",
        CommandRefusal::Paused => "paused",
        CommandRefusal::Revoked => "revoked",
        CommandRefusal::OnStandby(_) => "on-standby",
        CommandRefusal::Unwilling(..) => "unwilling",
        CommandRefusal::Unreachable(_) => "unreachable",
        CommandRefusal::Heard(_) => "heard",
        CommandRefusal::NothingHeld(_) => "nothing-held",
        CommandRefusal::Overruled => "overruled",
        CommandRefusal::WentTo(_) => "went-elsewhere",
        CommandRefusal::NotQuarantined(_) => "not-quarantined",
        CommandRefusal::TooFewMembers => "too-few-members",
    }
}

/// A refusal in the words of the command that was refused.
struct Told<'t> {
    command: &'t Command,
    names: &'t Names,
}

impl Told<'_> {
    fn text(&self, refusal: &CommandRefusal) -> String {
        let name = |id: &MemberId| self.names.name(*id);
        let (ticket, site) = (self.ticket(), self.site());
        match refusal {
            CommandRefusal::NotVoting => format!("{} does not vote now", name(&self.names.me())),
            CommandRefusal::Busy => "too many commands wait here".into(),
            CommandRefusal::NoSuchTicket => format!("the formation has no ticket {ticket}"),
            CommandRefusal::NotASite(id) => format!("{} is not a site", name(id)),
            CommandRefusal::HeldElsewhere(id) => format!("{} holds {ticket}", name(id)),
            CommandRefusal::NotHeld => format!("nobody holds {ticket}"),
            CommandRefusal::Paused => format!("{ticket} is paused"),
            CommandRefusal::Revoked => format!("{ticket} is revoked"),
            CommandRefusal::OnStandby(id) => format!("{} is on standby", name(id)),
            CommandRefusal::Unwilling(id, why) => {
                format!("{} does not want {ticket}: {}", name(id), unwilling(*why))
            }
            CommandRefusal::Unreachable(id) => format!("{} does not answer", name(id)),
            CommandRefusal::Heard(id) => format!("{} was heard since: it is not dead", name(id)),
            CommandRefusal::NothingHeld(id) => format!("{} holds nothing that could be attested", name(id)),
            CommandRefusal::Overruled => "another command has changed the wish since".into(),
            CommandRefusal::WentTo(id) => {
                format!("{} holds {ticket} now; {site} stays the preferred site", name(id))
            }
            CommandRefusal::NotQuarantined(id) => {
                format!("{} is not in quarantine, or was not heard with its new identity", name(id))
            }
            CommandRefusal::TooFewMembers => "with two members, one cannot be readmitted".into(),
        }
    }

    fn hint(&self, refusal: &CommandRefusal) -> String {
        let (ticket, site) = (self.ticket(), self.site());
        match refusal {
            CommandRefusal::NotVoting => "`sitegate status` says why; ask another member, or wait".into(),
            CommandRefusal::Busy => "ask again in a moment, or another member".into(),
            CommandRefusal::NoSuchTicket => format!(
                "`sitegate status` lists them; a new one needs [ticket.{ticket}] in formation.toml and a reload"
            ),
            CommandRefusal::NotASite(_) => "name a site: arbitrators never hold tickets".into(),
            CommandRefusal::HeldElsewhere(_) => {
                format!("move it instead: `sitegate move {ticket} --to {site}`")
            }
            CommandRefusal::NotHeld | CommandRefusal::Revoked => {
                format!("grant it instead: `sitegate grant {ticket} --site {site}`")
            }
            CommandRefusal::Paused => format!("resume it first: `sitegate resume {ticket}`"),
            CommandRefusal::OnStandby(id) => {
                format!("take it online first: `sitegate online {}`", self.names.name(*id))
            }
            CommandRefusal::Unwilling(id, why) => unwilling_hint(*why, &self.names.name(*id), ticket),
            CommandRefusal::Unreachable(_) => {
                "nothing was changed; `sitegate status` says whether it is up, or in quarantine".into()
            }
            CommandRefusal::Heard(_) => "cut it off or switch it off first, then ask again".into(),
            CommandRefusal::NothingHeld(_) => "`sitegate status` says who holds what".into(),
            CommandRefusal::Overruled => "`sitegate history` says which".into(),
            CommandRefusal::WentTo(_) => {
                format!("`sitegate explain {ticket}` says why; `sitegate move {ticket} --to {site}` moves it")
            }
            CommandRefusal::NotQuarantined(_) => {
                "start it after `init`, and see that it reaches this member".into()
            }
            CommandRefusal::TooFewMembers => {
                "build the formation anew: read \"Lost disks\" in docs/operations.md".into()
            }
        }
    }

    fn ticket(&self) -> &str {
        let ticket = match self.command {
            Command::Grant(ticket, _)
            | Command::Move(ticket, _)
            | Command::Revoke(ticket)
            | Command::Pause(ticket)
            | Command::Resume(ticket)
            | Command::Inspect(ticket)
            | Command::AttestDead(_, Some(ticket)) => Some(ticket),
            Command::Standby(..) | Command::AttestDead(_, None) | Command::Readmit(_) => None,
        };
        ticket.map_or("TICKET", TicketName::as_str)
    }

    fn site(&self) -> String {
        match self.command {
            Command::Grant(_, site)
            | Command::Move(_, site)
            | Command::Standby(site, _)
            | Command::AttestDead(site, _) => self.names.name(*site),
            _ => "SITE".into(),
        }
    }
}

/// Why a site does not take a ticket.
pub(super) const fn unwilling(why: Refusal) -> &'static str {
    match why {
        Refusal::NotConfigured => "the ticket is not configured there, or its fence daemon does not know it",
        Refusal::Standby => "the site is on standby",
        Refusal::Resting => "its health check failed there not long ago",
        Refusal::CheckFailed => "its check before acquiring fails there",
        Refusal::NoFence => "its fence daemon does not answer",
        Refusal::NotVoting => "it does not vote now",
    }
}

fn unwilling_hint(why: Refusal, site: &str, ticket: &str) -> String {
    match why {
        Refusal::NotConfigured => {
            format!("add [resource.{ticket}] to fenced.toml there, and reload sitegate-fenced")
        }
        Refusal::Standby => format!("take it online first: `sitegate online {site}`"),
        Refusal::Resting => "a grant to that site overrides it".into(),
        Refusal::CheckFailed => format!("look into the log of {site} for what the check said"),
        Refusal::NoFence => format!("start sitegate-fenced at {site}"),
        Refusal::NotVoting => format!("`sitegate status` at {site} says why"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example;

    #[test]
    fn a_refusal_names_the_command_that_works() {
        let names = Names::of(&example::configuration("tiebreak", ""));
        let id = |number| MemberId::new(number).unwrap();
        let db = TicketName::new("db").unwrap();
        let told = |command: &Command, refusal: &CommandRefusal| match refused(command, refusal, &names) {
            Progress::Refused { code, text, hint } => [code, text, hint],
            other => panic!("{other:?}"),
        };
        assert_eq!(
            told(&Command::Grant(db.clone(), id(1)), &CommandRefusal::HeldElsewhere(id(2))),
            ["held-elsewhere", "lyon holds db", "move it instead: `sitegate move db --to paris`"]
        );
        assert_eq!(
            told(&Command::Move(db.clone(), id(2)), &CommandRefusal::Unwilling(id(2), Refusal::NoFence)),
            [
                "unwilling",
                "lyon does not want db: its fence daemon does not answer",
                "start sitegate-fenced at lyon"
            ]
        );
        assert_eq!(
            told(&Command::Pause(db), &CommandRefusal::NoSuchTicket)[1],
            "the formation has no ticket db"
        );
    }
}
