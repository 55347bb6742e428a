//! `sitegate status`: who holds what, until when, who is reachable, and what is wrong.

use std::time::Duration;

use clap::Args;
use serde_json::Value;
use sitegate_host::diagnostic::Period;
use sitegate_member::api::types::Status;
use sitegate_member::config::TicketName;

mod render;

use render::render;

use crate::api::client::Client;
use crate::api::place::PlaceArgs;
use crate::api::view::read;
use crate::terminal::exit::Exit;
use crate::terminal::failure::Failure;
use crate::terminal::output::{print, print_json, print_json_line};
use crate::terminal::style::Style;

/// `sitegate status`.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Only this ticket
    ticket: Option<TicketName>,
    /// Print what the member answers, as JSON
    #[arg(long)]
    json: bool,
    /// Show it again and again until Ctrl-C
    #[arg(long, conflicts_with = "consistent")]
    watch: bool,
    /// How often, with --watch
    #[arg(long, value_name = "TIME", default_value = "1s", requires = "watch")]
    every: Period,
    /// Ask a majority instead of telling what this member knows; needs a TICKET
    #[arg(long, requires = "ticket")]
    consistent: bool,
    #[command(flatten)]
    place: PlaceArgs,
}

/// Shows the status.
///
/// # Errors
/// Nobody answers, there is no such ticket, or the member refuses.
pub(crate) async fn run(args: &StatusArgs) -> Result<(), Failure> {
    let client = Client::new(args.place.resolve()?);
    if !args.watch {
        return show(&fetch(&client, args).await?, args.json, Style::of_stdout());
    }
    tokio::select! {
        result = watch(&client, args) => result,
        _ = tokio::signal::ctrl_c() => Ok(()),
    }
}

/// Home, and erase all below; see console_codes(4).
const CLEAR_SCREEN: &str = "\x1b[H\x1b[2J";
/// As fast as a person can see; more would only load the member.
const EVERY_MIN: Duration = Duration::from_millis(100);

async fn watch(client: &Client, args: &StatusArgs) -> Result<(), Failure> {
    let terminal = std::io::IsTerminal::is_terminal(&std::io::stdout());
    let mut every = tokio::time::interval(args.every.get().max(EVERY_MIN));
    let style = Style::of_stdout();
    loop {
        every.tick().await;
        let answer = fetch(client, args).await;
        if args.json {
            print_json_line(&answer?)?;
            continue;
        }
        let text = match answer.and_then(|answer| read::<Status>(&answer)) {
            Ok(status) => render(&status, style),
            // The member may come back; who watches wants to see that.
            Err(failure) => format!("{failure}\n"),
        };
        print(&if terminal { format!("{CLEAR_SCREEN}{text}") } else { format!("{text}\n") })?;
    }
}

async fn fetch(client: &Client, args: &StatusArgs) -> Result<Value, Failure> {
    let Some(ticket) = &args.ticket else { return client.get("/v1/status").await };
    if args.consistent {
        return client.get(&format!("/v1/status?consistent={}", escaped(ticket.as_str()))).await;
    }
    only(client.get("/v1/status").await?, ticket)
}

/// A ticket's name in a URI: of what it may hold, only `/` means something there.
#[must_use]
pub(crate) fn escaped(ticket: &str) -> String {
    ticket.replace('/', "%2F")
}

fn only(mut answer: Value, ticket: &TicketName) -> Result<Value, Failure> {
    let all = answer.get_mut("tickets").and_then(Value::as_array_mut);
    let found = all.is_some_and(|all| {
        all.retain(|one| one["ticket"] == ticket.as_str());
        !all.is_empty()
    });
    if found {
        return Ok(answer);
    }
    Err(Failure::new(Exit::Refused, format!("there is no ticket `{ticket}`")).hint(
        "`sitegate status` lists all; a new one goes into formation.toml, followed by `sitegate reload`",
    ))
}

fn show(answer: &Value, json: bool, style: Style) -> Result<(), Failure> {
    if json { print_json(answer) } else { print(&render(&read(answer)?, style)) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn one_ticket_is_picked_by_its_whole_name() {
        let answer = json!({"tickets": [{"ticket": "db"}, {"ticket": "web/front"}]});
        let picked = only(answer.clone(), &"web/front".parse().unwrap()).unwrap();
        assert_eq!(picked, json!({"tickets": [{"ticket": "web/front"}]}));
        assert_eq!(only(answer, &"web".parse().unwrap()).unwrap_err().exit, Exit::Refused);
        assert_eq!(escaped("web/front"), "web%2Ffront");
    }
}
