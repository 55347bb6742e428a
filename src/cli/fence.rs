//! `sitegate fence`: what this site's fence daemon guards, and what it did.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use sitegate_fence_client::client::{Client as Fenced, ClientError};
use sitegate_fence_client::status::{Found, ResourceStatus, TestedLevel};
use sitegate_fence_client::wire::Name;

use super::status::escaped;
use crate::api::client::Client;
use crate::api::place::{PlaceArgs, fence_socket};
use crate::api::view::read;
use crate::terminal::exit::Exit;
use crate::terminal::failure::{Failure, with_causes};
use crate::terminal::output::{print, print_json, print_json_line};

mod render;

use render::{history_line, status_text, tested_text};

/// The commands of `sitegate fence`.
#[derive(Debug, Subcommand)]
pub(crate) enum FenceCommand {
    /// Show what is armed, until when, and the last receipts
    Status(FenceArgs),
    /// Show what was armed, started, stopped and fenced lately
    History(FenceHistoryArgs),
    /// Check every level of the fence plans, without fencing anything
    ///
    /// Runs each level's own check: the program that `check` names, a fence agent's `monitor` or `status`, a look whether systemd
    /// answers. Shows how long the plans would take. Changes nothing, and may be run while everything is in use.
    #[command(after_long_help = "Exit code 1 says that a level would fail as things stand.")]
    Test(FenceTestArgs),
}

/// `sitegate fence test`.
#[derive(Debug, Args)]
pub(crate) struct FenceTestArgs {
    /// Only of this ticket
    #[arg(value_parser = Name::new)]
    ticket: Option<Name>,
    /// Print what was found as JSON, one object a line for each ticket
    #[arg(long)]
    json: bool,
    /// The socket of sitegate-fenced [default: as in /etc/sitegate/member.toml]
    #[arg(long, value_name = "PATH")]
    fenced_socket: Option<PathBuf>,
}

/// `sitegate fence status`.
#[derive(Debug, Args)]
pub(crate) struct FenceArgs {
    /// Print what sitegate-fenced answers, as JSON
    #[arg(long)]
    json: bool,
    /// Ask sitegate-fenced itself on this socket, also while sitegated is down
    #[arg(long, value_name = "PATH", help_heading = "Whom to ask")]
    fenced_socket: Option<PathBuf>,
    #[command(flatten)]
    place: PlaceArgs,
}

/// `sitegate fence history`.
#[derive(Debug, Args)]
pub(crate) struct FenceHistoryArgs {
    /// Only of this ticket
    #[arg(value_parser = Name::new)]
    ticket: Option<Name>,
    #[command(flatten)]
    args: FenceArgs,
}

/// How long sitegate-fenced may take to answer: it never waits for a program to do so.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// How many tests may have to wait for each other: some levels are tested at a time, all of every ticket.
const TESTS_IN_TURN: u32 = 100;

/// Does what `command` says.
///
/// # Errors
/// Nobody answers, or the member asked has no fence daemon.
pub(crate) async fn run(command: &FenceCommand) -> Result<(), Failure> {
    match command {
        FenceCommand::Status(args) => status(args).await,
        FenceCommand::History(args) => history(args).await,
        FenceCommand::Test(args) => test(args).await,
    }
}

async fn status(args: &FenceArgs) -> Result<(), Failure> {
    let answer = match &args.fenced_socket {
        Some(path) => to_json(&ask(path, async |fenced| fenced.status().await).await?)?,
        None => Client::new(args.place.resolve()?).get("/v1/fence/status").await?,
    };
    if args.json {
        return print_json(&answer);
    }
    print(&status_text(&read(&answer)?))
}

async fn history(args: &FenceHistoryArgs) -> Result<(), Failure> {
    let answer = match &args.args.fenced_socket {
        Some(path) => {
            let resource = args.ticket.clone();
            let entries = ask(path, async |fenced| fenced.history(resource, None).await).await?;
            json!({ "entries": to_json(&entries)? })
        }
        None => {
            let query = args
                .ticket
                .as_ref()
                .map(|ticket| format!("?ticket={}", escaped(ticket.as_str())))
                .unwrap_or_default();
            Client::new(args.args.place.resolve()?).get(&format!("/v1/fence/history{query}")).await?
        }
    };
    let entries = answer["entries"].as_array().cloned().unwrap_or_default();
    if args.args.json {
        return entries.iter().try_for_each(print_json_line);
    }
    if entries.is_empty() {
        eprintln!("nothing yet");
    }
    let mut text = String::new();
    for entry in &entries {
        text.push_str(&history_line(&read(entry)?));
    }
    print(&text)
}

async fn test(args: &FenceTestArgs) -> Result<(), Failure> {
    let socket = args.fenced_socket.clone().unwrap_or_else(fence_socket);
    let plans = ask(&socket, async |fenced| fenced.status().await).await?;
    let of = |plan: &ResourceStatus| args.ticket.as_ref().is_none_or(|ticket| *ticket == plan.name);
    let within = plans.resources.iter().filter(|plan| of(plan)).map(|plan| plan.plan.within_ms).max();
    if args.ticket.is_some() && within.is_none() {
        let ticket = args.ticket.as_ref().map(ToString::to_string).unwrap_or_default();
        return Err(Failure::new(Exit::Refused, format!("sitegate-fenced knows no resource {ticket}"))
            .hint("`sitegate fence status` lists them"));
    }
    // Each level has its limit, and some of them wait for others.
    let within = Duration::from_millis(within.unwrap_or_default()).saturating_mul(TESTS_IN_TURN) + ANSWER_MAX;
    let ticket = args.ticket.clone();
    let tested = ask_within(&socket, within, async |fenced| fenced.test(ticket).await).await?;
    if args.json {
        tested.iter().try_for_each(|resource| print_json_line(&to_json(resource)?))?;
    } else {
        print(&tested_text(&tested))?;
    }
    let would_fail = |level: &TestedLevel| matches!(level.found, Found::Failed { .. });
    match tested.iter().flat_map(|resource| &resource.levels).filter(|level| would_fail(level)).count() {
        0 => Ok(()),
        1 => Err(Failure::new(Exit::Refused, "a level would fail as things stand")),
        n => Err(Failure::new(Exit::Refused, format!("{n} levels would fail as things stand"))),
    }
}

/// Connects to sitegate-fenced and asks it what it can answer at once.
async fn ask<T>(
    path: &Path,
    question: impl AsyncFnOnce(Fenced) -> Result<T, ClientError>,
) -> Result<T, Failure> {
    ask_within(path, ANSWER_MAX, question).await
}

async fn ask_within<T>(
    path: &Path,
    within: Duration,
    question: impl AsyncFnOnce(Fenced) -> Result<T, ClientError>,
) -> Result<T, Failure> {
    let asking = async {
        let (fenced, _events, _status) = Fenced::connect(path, None, false).await?;
        question(fenced).await
    };
    match tokio::time::timeout(within, asking).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(Failure::new(Exit::Unreachable, with_causes(&error))
            .hint("see whether sitegate-fenced runs here, and that you may use its socket")),
        Err(_) => {
            Err(Failure::new(Exit::Unreachable, "sitegate-fenced does not answer").hint("look at its log"))
        }
    }
}

fn to_json(value: &impl serde::Serialize) -> Result<Value, Failure> {
    serde_json::to_value(value).map_err(|error| Failure::new(Exit::Failed, error.to_string()))
}
