//! What a command waits for, and what holds once it is done: a sentence each.

use std::collections::BTreeMap;

use sitegate_protocol::{Command, Done, MemberId, StandbyMode, TicketName, TicketView};

use crate::api::types::{MemberStatus, Progress};
use crate::api::{Api, explain};
use crate::driver::Observed;
use crate::settings::Names;

/// All that is known of tickets here.
type Tickets = BTreeMap<TicketName, TicketView>;

/// What `command` waits for; `recorded` once its wish is chosen.
pub(super) fn waits_for(api: &Api, command: &Command, recorded: bool, observed: &Observed) -> String {
    let names = &api.shared.names;
    let members = api.members(observed);
    let majority = api.lacks_majority(observed).map(|who| format!("waits for a majority: {who}"));
    let obstacle = majority.or_else(|| match command {
        Command::Move(ticket, site) if !recorded => {
            Some(format!("asks {} whether it would take {ticket}", names.name(*site)))
        }
        Command::Grant(ticket, site) | Command::Move(ticket, site)
            if is_silent(&names.name(*site), &members)
                && holder(ticket, &observed.view.tickets) == Some(*site) =>
        {
            let site = names.name(*site);
            Some(format!(
                "{site} holds {ticket}, but does not answer: waits for it, or for the end of its lease"
            ))
        }
        Command::Grant(ticket, _)
        | Command::Move(ticket, _)
        | Command::Revoke(ticket)
        | Command::Pause(ticket)
        | Command::Resume(ticket)
        | Command::Inspect(ticket) => explain::obstacle(api, ticket, observed),
        Command::Standby(site, StandbyMode::Vacate) => gives_up(*site, &observed.view.tickets, names),
        Command::AttestDead(..) => Some("asks the other members whether they still hear it".into()),
        Command::Standby(..) | Command::Readmit(_) => None,
    });
    obstacle.unwrap_or_else(|| "waits until a majority agrees".into())
}

impl Api {
    /// Who is missing, if it is too many to agree on anything.
    pub(in crate::api) fn lacks_majority(&self, observed: &Observed) -> Option<String> {
        lacks_majority(&self.members(observed), self.shared.settings.get().majority())
    }
}

fn lacks_majority(members: &[MemberStatus], majority: usize) -> Option<String> {
    let names = |which: fn(&&MemberStatus) -> bool| {
        members.iter().filter(which).map(|member| member.name.as_str()).collect::<Vec<_>>()
    };
    if names(|member| member.reachable && !member.quarantined).len() >= majority {
        return None;
    }
    let (silent, quarantined) = (names(|member| !member.reachable), names(|m| m.reachable && m.quarantined));
    let silent = (!silent.is_empty()).then(|| format!("no answer from {}", silent.join(", ")));
    let quarantined = (!quarantined.is_empty()).then(|| format!("in quarantine: {}", quarantined.join(", ")));
    let why: Vec<String> = silent.into_iter().chain(quarantined).collect();
    Some(why.join("; "))
}

fn is_silent(name: &str, members: &[MemberStatus]) -> bool {
    members.iter().any(|member| member.name == name && !member.reachable)
}

fn holder(ticket: &TicketName, tickets: &Tickets) -> Option<MemberId> {
    tickets.get(ticket)?.ownership.held().map(|tenancy| tenancy.site)
}

/// What `site` holds yet and is to give up; `None` if nothing.
fn gives_up(site: MemberId, tickets: &Tickets, names: &Names) -> Option<String> {
    let held = tickets.iter().filter(|(_, view)| view.ownership.held().is_some_and(|t| t.site == site));
    let held: Vec<&str> = held.map(|(ticket, _)| ticket.as_str()).collect();
    (!held.is_empty()).then(|| format!("{} still gives up {}", names.name(site), held.join(", ")))
}

/// The last line of a command whose time is up while it was waiting for `what`.
pub(super) fn out_of_time(recorded: bool, what: &str) -> Progress {
    let what = if what.is_empty() { "waits until a majority agrees" } else { what.trim_end_matches('.') };
    let outlook = if recorded {
        "the wish is recorded and will come true once it can; nobody waits for it any more"
    } else {
        "the wish is not recorded; it may still take effect"
    };
    Progress::Timeout { text: format!("{what}; {outlook}") }
}

/// What holds now. `tickets` are as this member knows them, if it could say; `request` is the command's number.
pub(super) fn done(
    command: &Command,
    request: u64,
    done: &Done,
    tickets: Option<&Tickets>,
    names: &Names,
) -> Progress {
    let ticket = match command {
        Command::Grant(ticket, _) | Command::Move(ticket, _) | Command::Revoke(ticket) => ticket.as_str(),
        _ => "it",
    };
    let (text, holder, token) = match done {
        Done::Held(site, token) => {
            let site = names.name(*site);
            (format!("{site} holds {ticket}, with token {token}"), Some(site), Some(token.0))
        }
        Done::Free(ownership) => {
            let text = format!("nobody holds {ticket}, and nobody will until it is granted");
            (text, None, Some(ownership.token().0))
        }
        Done::Wish => (wish(command, request, tickets, names), None, None),
        Done::Readmitted(epoch) => {
            let text = match command {
                Command::Readmit(member) => format!("{} is a member again", names.name(*member)),
                _ => "it is a member again".into(),
            };
            (format!("{text}, in epoch {}; it votes once it has recovered", epoch.0), None, None)
        }
        Done::Inspected { ownership, .. } => {
            let holder = ownership.held().map(|tenancy| names.name(tenancy.site));
            ("a majority has answered".into(), holder, Some(ownership.token().0))
        }
    };
    Progress::Done { text, holder, token }
}

fn wish(command: &Command, request: u64, tickets: Option<&Tickets>, names: &Names) -> String {
    match command {
        Command::Pause(ticket) => match tickets.map(|tickets| holder(ticket, tickets)) {
            Some(Some(site)) => format!("{ticket} is paused; {} goes on holding it", names.name(site)),
            Some(None) => format!("{ticket} is paused, and nobody holds it"),
            None => format!("{ticket} is paused"),
        },
        Command::Resume(ticket) => format!("{ticket} is resumed"),
        Command::Standby(site, mode) => {
            let site = names.name(*site);
            match mode {
                StandbyMode::Online => format!("{site} is online"),
                StandbyMode::Keep => {
                    format!("{site} is on standby: it takes no more tickets, and keeps what it holds")
                }
                StandbyMode::Vacate => format!("{site} is on standby and holds nothing"),
            }
        }
        Command::AttestDead(site, _) => attested(*site, request, tickets, names),
        Command::Grant(..)
        | Command::Revoke(_)
        | Command::Move(..)
        | Command::Readmit(_)
        | Command::Inspect(_) => "the wish holds".into(),
    }
}

/// Which tenures command `request` vouched for, by what it wrote.
fn attested(site: MemberId, request: u64, tickets: Option<&Tickets>, names: &Names) -> String {
    let wrote = |(ticket, view): (&TicketName, &TicketView)| {
        let intent = view.intent.as_ref().filter(|intent| intent.request == request)?;
        Some(format!("{ticket} (token {})", intent.attested?))
    };
    let what: Vec<String> = tickets.into_iter().flatten().filter_map(wrote).collect();
    let site = names.name(site);
    if what.is_empty() {
        return format!("{site} is attested dead");
    }
    format!("{site} is attested dead for {}", what.join(", "))
}

#[cfg(test)]
mod tests {
    use sitegate_protocol::{Intent, Ownership, Proof, Takeovers, Tenancy, Token};

    use super::*;
    use crate::api::status::nothing_known;
    use crate::example;

    const REQUEST: u64 = 7;

    fn db() -> TicketName {
        TicketName::new("db").unwrap()
    }

    fn id(number: u8) -> MemberId {
        MemberId::new(number).unwrap()
    }

    /// What is known of db: its holder, and an attestation that command `REQUEST` wrote.
    fn tickets(holder: Option<MemberId>, attested: Option<Token>) -> Tickets {
        let ownership = match holder {
            Some(site) => Ownership::Held(Tenancy { site, ..example::tenancy() }),
            None => {
                Ownership::Free { last_token: Token(257), proof: Proof::Receipt, takeovers: Takeovers::NONE }
            }
        };
        let intent = Intent { attested, request: REQUEST, ..Intent::initial() };
        BTreeMap::from([(db(), TicketView { ownership, intent: Some(intent), ..nothing_known() })])
    }

    fn said(command: &Command, result: &Done, tickets: &Tickets) -> String {
        let names = Names::of(&example::configuration("tiebreak", ""));
        match done(command, REQUEST, result, Some(tickets), &names) {
            Progress::Done { text, .. } => text,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_holds_is_said_by_name() {
        let held = tickets(Some(id(1)), Some(Token(257)));
        let free = tickets(None, None);
        let standby = |mode| Command::Standby(id(2), mode);
        for (command, tickets, expected) in [
            (Command::Pause(db()), &held, "db is paused; paris goes on holding it"),
            (Command::Pause(db()), &free, "db is paused, and nobody holds it"),
            (Command::Resume(db()), &held, "db is resumed"),
            (standby(StandbyMode::Vacate), &held, "lyon is on standby and holds nothing"),
            (
                standby(StandbyMode::Keep),
                &held,
                "lyon is on standby: it takes no more tickets, and keeps what it holds",
            ),
            (standby(StandbyMode::Online), &held, "lyon is online"),
            (Command::AttestDead(id(1), None), &held, "paris is attested dead for db (token 257)"),
        ] {
            assert_eq!(said(&command, &Done::Wish, tickets), expected);
        }
        let grant = Command::Grant(db(), id(1));
        assert_eq!(said(&grant, &Done::Held(id(1), Token(257)), &held), "paris holds db, with token 257");
    }

    #[test]
    fn who_gives_up_says_what() {
        let names = Names::of(&example::configuration("tiebreak", ""));
        let held = tickets(Some(id(1)), None);
        assert_eq!(gives_up(id(1), &held, &names).as_deref(), Some("paris still gives up db"));
        assert_eq!(gives_up(id(2), &held, &names), None);
    }

    #[test]
    fn whoever_is_missing_for_a_majority_is_named() {
        let member = |name: &str, reachable, quarantined| MemberStatus {
            reachable,
            quarantined,
            ..example::member_status(name)
        };
        let paris = member("paris", false, false);
        let lyon = member("lyon", true, false);
        let missing = |tiebreak| lacks_majority(&[paris.clone(), lyon.clone(), tiebreak], 2);
        assert_eq!(missing(member("tiebreak", true, false)), None);
        assert_eq!(
            missing(member("tiebreak", false, false)).as_deref(),
            Some("no answer from paris, tiebreak")
        );
        assert_eq!(
            missing(member("tiebreak", true, true)).as_deref(),
            Some("no answer from paris; in quarantine: tiebreak")
        );
        let Progress::Timeout { text } =
            out_of_time(false, "waits for a majority: no answer from paris, tiebreak")
        else {
            panic!("the time is up")
        };
        assert_eq!(
            text,
            "waits for a majority: no answer from paris, tiebreak; the wish is not recorded; it may still take effect"
        );
    }
}
