//! Commands that look at the formation: `explain`, `history`, `member list`.

use std::fmt::Write as _;

use clap::Args;
use sitegate_member::api::types::{Explanation, History, Members, NextStep};
use sitegate_member::config::TicketName;

use super::status::escaped;
use crate::api::client::Client;
use crate::api::place::PlaceArgs;
use crate::api::view::{length, read};
use crate::terminal::failure::Failure;
use crate::terminal::output::{print, print_json, print_json_line};
use crate::terminal::style::Style;
use crate::terminal::table::Table;

/// `sitegate explain`.
#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// The ticket
    ticket: TicketName,
    /// Print what the member answers, as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: PlaceArgs,
}

/// Says why a ticket is where it is.
///
/// # Errors
/// Nobody answers, there is no such ticket, or the member refuses.
pub(crate) async fn explain(args: &ExplainArgs) -> Result<(), Failure> {
    let client = Client::new(args.place.resolve()?);
    let answer = client.get(&format!("/v1/explain/{}", escaped(args.ticket.as_str()))).await?;
    if args.json {
        return print_json(&answer);
    }
    let Explanation { headline, reasons, next, .. } = read(&answer)?;
    print(&in_sentences(&headline, &reasons, &next, Style::of_stdout()))
}

fn in_sentences(headline: &str, reasons: &[String], next: &[NextStep], style: Style) -> String {
    let mut text = format!("{}\n", style.bold(headline));
    for reason in reasons {
        text.push_str("  - ");
        text.push_str(reason);
        text.push('\n');
    }
    if !next.is_empty() {
        text.push_str("What happens next:\n");
    }
    for step in next {
        let when = step.in_ms.map(|ms| format!("in {}: ", length(ms))).unwrap_or_default();
        writeln!(text, "  - {when}{}", step.what).expect("writing to a String cannot fail");
    }
    text
}

/// `sitegate history`.
#[derive(Debug, Args)]
pub(crate) struct HistoryArgs {
    /// Only what is about this ticket
    ticket: Option<TicketName>,
    /// The newest so many entries
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: u32,
    /// Print every entry as one JSON object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: PlaceArgs,
}

/// Says what happened lately.
///
/// # Errors
/// Nobody answers, or the member refuses.
pub(crate) async fn history(args: &HistoryArgs) -> Result<(), Failure> {
    let client = Client::new(args.place.resolve()?);
    let ticket = args
        .ticket
        .as_ref()
        .map(|ticket| format!("&ticket={}", escaped(ticket.as_str())))
        .unwrap_or_default();
    let answer = client.get(&format!("/v1/history?limit={}{ticket}", args.limit)).await?;
    let history: History = read(&answer)?;
    if args.json {
        return history.entries.iter().try_for_each(print_json_line);
    }
    if history.entries.is_empty() {
        eprintln!("nothing yet");
    }
    let mut text = String::new();
    for entry in &history.entries {
        let ticket = entry.ticket.as_deref().unwrap_or("-");
        writeln!(text, "{}  {ticket:12}  {}", entry.at, entry.text).expect("writing to a String cannot fail");
    }
    print(&text)
}

/// `sitegate member list`.
#[derive(Debug, Args)]
pub(crate) struct MemberListArgs {
    /// Print what the member answers, as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: PlaceArgs,
}

/// Says who votes.
///
/// # Errors
/// Nobody answers, or the member refuses.
pub(crate) async fn members(args: &MemberListArgs) -> Result<(), Failure> {
    let client = Client::new(args.place.resolve()?);
    let answer = client.get("/v1/members").await?;
    let Members { members } = read(&answer)?;
    if args.json {
        return print_json(&answer["members"]);
    }
    let mut table = Table::new(&["MEMBER", "ID", "ROLE", "REACHABLE", "CERTIFICATE", "NOTES"]);
    for member in &members {
        let certificate = member.certificate_days_left.map(|days| format!("{days} days left"));
        let quarantined = member.quarantined.then(|| "QUARANTINED".to_owned());
        table.row([
            member.name.clone(),
            member.id.to_string(),
            member.role.clone(),
            (if member.reachable { "yes" } else { "NO" }).to_owned(),
            certificate.unwrap_or_else(|| "-".to_owned()),
            quarantined.into_iter().chain(member.problem.clone()).collect::<Vec<_>>().join(", "),
        ]);
    }
    print(&table.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_explanation_reads_from_the_top() {
        let next = [
            NextStep { what: "the guard ends".into(), in_ms: Some(2_500) },
            NextStep { what: "lyon acquires".into(), in_ms: None },
        ];
        assert_eq!(
            in_sentences("db is free", &["tiebreak guards the lease of paris".into()], &next, Style::plain()),
            "db is free\n  - tiebreak guards the lease of paris\nWhat happens next:\n  \
             - in 2.5 s: the guard ends\n  - lyon acquires\n"
        );
    }
}
