//! Commands that look at the formation: `explain`, `history`, `member list`.

use std::fmt::Write as _;

use clap::Args;
use serde_json::Value;
use sitegate_member::config::TicketName;

use super::client::Client;
use super::failure::Failure;
use super::output::{print, print_json, print_json_line};
use super::place::PlaceArgs;
use super::status::escaped;
use super::style::Style;
use super::table::Table;
use super::view::{Entry, Explanation, History, length, read};

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
    let answer = client.get(&format!("/v1/explain/{}", escaped(&args.ticket))).await?;
    if args.json {
        return print_json(&answer);
    }
    print(&in_sentences(&read(&answer)?, Style::of_stdout()))
}

fn in_sentences(explanation: &Explanation, style: Style) -> String {
    let mut text = format!("{}\n", style.bold(&explanation.headline));
    for reason in &explanation.reasons {
        text.push_str("  - ");
        text.push_str(reason);
        text.push('\n');
    }
    if !explanation.next.is_empty() {
        text.push_str("What happens next:\n");
    }
    for next in &explanation.next {
        let when = next.in_ms.map(|ms| format!("in {}: ", length(ms))).unwrap_or_default();
        writeln!(text, "  - {when}{}", next.what).expect("writing to a String cannot fail");
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
    let ticket =
        args.ticket.as_ref().map(|ticket| format!("&ticket={}", escaped(ticket))).unwrap_or_default();
    let answer = client.get(&format!("/v1/history?limit={}{ticket}", args.limit)).await?;
    let history: History = read(&answer)?;
    if args.json {
        return history.entries.iter().try_for_each(print_json_line);
    }
    let mut text = String::new();
    for entry in &history.entries {
        let Entry { at, ticket, text: what } = read(entry)?;
        writeln!(text, "{at}  {:12}  {what}", ticket.as_deref().unwrap_or("-"))
            .expect("writing to a String cannot fail");
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
    let members = answer.get("members").unwrap_or(&answer);
    if args.json {
        return print_json(members);
    }
    let mut table = Table::new(&["MEMBER", "ROLE", "REACHABLE", "IDENTITY", "CERTIFICATE"]);
    for member in members.as_array().into_iter().flatten() {
        table.row([
            text_of(&member["name"]),
            text_of(&member["role"]),
            (if member["reachable"] == true { "yes" } else { "NO" }).to_owned(),
            identity_of(member),
            member["certificate_days_left"]
                .as_i64()
                .map_or_else(|| "-".to_owned(), |days| format!("{days} days left")),
        ]);
    }
    print(&table.to_string())
}

fn identity_of(member: &Value) -> String {
    let identity = text_of(&member["identity"]);
    if member["quarantined"] == true { format!("{identity} QUARANTINED") } else { identity }
}

/// A field for people: strings without their quotes, what is missing as a dash.
fn text_of(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::view::Next;

    #[test]
    fn an_explanation_reads_from_the_top() {
        let explanation = Explanation {
            headline: "db is free, and lyon will take it".into(),
            reasons: vec!["tiebreak guards the lease of paris".into()],
            next: vec![
                Next { what: "the guard ends".into(), in_ms: Some(2_500) },
                Next { what: "lyon acquires".into(), in_ms: None },
            ],
        };
        assert_eq!(
            in_sentences(&explanation, Style::plain()),
            "db is free, and lyon will take it\n  - tiebreak guards the lease of paris\nWhat happens next:\n  \
             - in 2.5 s: the guard ends\n  - lyon acquires\n"
        );
    }
}
