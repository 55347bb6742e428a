//! A status as text.

use sitegate_member::api::types::{MemberStatus, Status, TicketStatus};

use crate::api::view::length;
use crate::terminal::style::Style;
use crate::terminal::table::Table;

/// For people; each line with a newline.
pub(crate) fn render(status: &Status, style: Style) -> String {
    let standing = match status.standing.as_str() {
        "voting" => style.good("voting"),
        other => style.bad(other),
    };
    let mut text = format!(
        "formation {}, as {} ({}, {standing}) sees it\n",
        style.bold(&status.formation),
        style.bold(&status.member),
        status.role
    );
    text.push_str(&format!("\n{}\n{}", members(status), tickets(status)));
    let warnings = warnings(status);
    if !warnings.is_empty() {
        text.push('\n');
        let word = style.bad("warning:");
        text.extend(warnings.iter().map(|warning| format!("{word} {warning}\n")));
    }
    text
}

fn members(status: &Status) -> Table {
    let mut table = Table::new(&["MEMBER", "ROLE", "REACHABLE", "NOTES"]);
    for member in &status.members {
        table.row([
            member.name.clone(),
            member.role.clone(),
            reachable(member, member.name == status.member),
            member_notes(member).join(", "),
        ]);
    }
    table
}

fn reachable(member: &MemberStatus, is_asked: bool) -> String {
    match (member.reachable, member.heard_ago_ms) {
        _ if is_asked => "this one".to_owned(),
        (true, Some(ago)) => format!("yes, {} ago", length(ago)),
        // Two arbitrators have nothing to say to each other.
        (true, None) => "yes".to_owned(),
        (false, Some(ago)) => format!("NO, for {}", length(ago)),
        (false, None) => "NO, never heard".to_owned(),
    }
}

fn member_notes(member: &MemberStatus) -> Vec<String> {
    let mut notes = Vec::new();
    match member.standby.as_deref() {
        Some("keep") => notes.push("standby, keeps what it has".to_owned()),
        Some("vacate") => notes.push("standby".to_owned()),
        _ => {}
    }
    if member.quarantined {
        notes.push("QUARANTINED: its identity is not the formation's".to_owned());
    }
    if member.clock_off {
        notes.push("clock runs off".to_owned());
    }
    notes.extend(member.problem.clone());
    notes
}

fn tickets(status: &Status) -> String {
    if status.tickets.is_empty() {
        return "no tickets\n".to_owned();
    }
    let mut table = Table::new(&["TICKET", "HOLDER", "TOKEN", "UNTIL", "WANTED", "NOTES"]);
    for ticket in &status.tickets {
        let here = ticket.holder.as_ref() == Some(&status.member);
        // Who does not vote may have forgotten all of it.
        let unknown = ticket.wanted == "unset" && status.standing != "voting";
        table.row([
            ticket.ticket.clone(),
            ticket.holder.clone().unwrap_or_else(|| "-".to_owned()),
            if ticket.token == 0 { "-".to_owned() } else { ticket.token.to_string() },
            until(ticket, here),
            if unknown { "not known".to_owned() } else { wanted(ticket) },
            ticket_notes(ticket, unknown).join(", "),
        ]);
    }
    table.to_string()
}

/// Until when the holder may go on unless it renews: its own deadline if it was asked, else when others may take over.
fn until(ticket: &TicketStatus, here: bool) -> String {
    let own =
        ticket.local.as_ref().filter(|local| local.state == "held").and_then(|local| local.remaining_ms);
    match (own, ticket.guard_remaining_ms) {
        (Some(left), _) => format!("{} more, or renewed", length(left)),
        (None, Some(left)) if !here => format!("guarded {}, or renewed", length(left)),
        (None, _) => "-".to_owned(),
    }
}

fn wanted(ticket: &TicketStatus) -> String {
    match (ticket.wanted.as_str(), &ticket.preferred) {
        ("managed", Some(site)) => format!("prefers {site}"),
        ("managed", None) => "at any site".to_owned(),
        ("unset", _) => "never granted".to_owned(),
        (other, _) => other.to_owned(),
    }
}

fn ticket_notes(ticket: &TicketStatus, unknown: bool) -> Vec<String> {
    let mut notes = Vec::new();
    if ticket.paused {
        notes.push("PAUSED".to_owned());
    }
    if ticket.takeovers > 0 {
        notes.push(format!("taken over {}×", ticket.takeovers));
    }
    if let Some(local) = &ticket.local {
        notes.extend(stage(&local.state).map(|stage| format!("here: {stage}")));
        if local.fence_failing {
            notes.push("FENCE FAILING here".to_owned());
        }
        if local.unfenced {
            notes.push("unfenced".to_owned());
        }
        if let (Some(why), None) = (&local.refusal, &ticket.holder) {
            notes.push(format!("not here: {why}"));
        }
    }
    if !ticket.parked.is_empty() {
        notes.push(format!("{} waits for the guard to end", ticket.parked.join(", ")));
    }
    if let Some(round) = ticket.round.as_ref().filter(|round| round.aim != "renew") {
        notes.push(format!("round to {}, agreed: {}", round.aim, list_or_nobody(&round.agreed)));
    }
    if let (None, Some(proof), false) = (&ticket.holder, &ticket.proof, unknown) {
        notes.push(free_because(proof).to_owned());
    }
    notes
}

/// What goes on, where that is more than holding or not.
fn stage(state: &str) -> Option<&str> {
    match state {
        "idle" | "held" => None,
        "resuming" => Some("asks to go on after a restart"),
        "arming" => Some("arms its fence daemon"),
        "stopping" => Some("is being stopped"),
        "fencing" => Some("has to be fenced"),
        "stopped" => Some("fenced, and yet to be released"),
        other => Some(other),
    }
}

fn list_or_nobody(names: &[String]) -> String {
    if names.is_empty() { "nobody yet".to_owned() } else { names.join(", ") }
}

fn free_because(proof: &str) -> &'static str {
    match proof {
        "never" => "never held",
        "receipt" => "free: fenced with a receipt",
        "waited" => "free: its holder had the time to fence",
        "attested" => "free: its holder was attested dead",
        _ => "free",
    }
}

fn warnings(status: &Status) -> Vec<String> {
    let mut warnings = status.warnings.clone();
    match status.bar.as_deref() {
        Some("disk") => {
            warnings.push("this site renews nothing: its disk does not commit in time".to_owned());
        }
        Some("unheard") => warnings.push("this site renews nothing: it hears no majority".to_owned()),
        _ => {}
    }
    if status.fence == "down" {
        warnings
            .push("sitegate-fenced does not answer: this site takes no tickets and renews none".to_owned());
    }
    if !status.config_differs.is_empty() && !warnings.iter().any(|warning| warning.contains("formation.toml"))
    {
        warnings.push(format!("formation.toml means something else on {}", status.config_differs.join(", ")));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::api::view::read;
    use crate::terminal::exit::Exit;

    fn answer() -> Value {
        serde_json::from_str(include_str!("answer.json")).unwrap()
    }

    #[test]
    fn the_table_says_who_holds_what_until_when() {
        let shown = render(&read(&answer()).unwrap(), Style::plain());
        assert_eq!(
            shown,
            "formation acme, as paris (site, voting) sees it\n\
             \n\
             MEMBER    ROLE        REACHABLE       NOTES\n\
             paris     site        this one\n\
             lyon      site        NO, for 12 s    standby, QUARANTINED: its identity is not the formation's, connection refused\n\
             tiebreak  arbitrator  yes, 0.2 s ago\n\
             \n\
             TICKET     HOLDER  TOKEN  UNTIL                   WANTED         NOTES\n\
             db         paris   257    2.8 s more, or renewed  prefers paris  lyon waits for the guard to end\n\
             web/front  -       -      -                       never granted  PAUSED, not here: its check failed, \
             round to settle, agreed: nobody yet, never held\n\
             \n\
             warning: lyon is not reachable\n\
             warning: formation.toml means something else on lyon\n"
        );
    }

    #[test]
    fn an_answer_of_another_kind_is_an_error() {
        let failure = read::<Status>(&json!({"member": "paris"})).unwrap_err();
        assert_eq!(failure.exit, Exit::Failed);
    }
}
