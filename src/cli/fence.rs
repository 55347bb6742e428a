//! `sitegate fence`: what this site's fence daemon guards, and what it did.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde_json::{Value, json};
use sitegate_fence_client::client::{Client as Fenced, ClientError};
use sitegate_fence_client::status::{
    FencePhase, Found, HistoryEntry, ResourceState, ResourceStatus, Status, TestedLevel, TestedResource,
};
use sitegate_fence_client::wire::{Activity, Instant, Name, Notice, Receipt};

use super::status::escaped;
use crate::api::client::Client;
use crate::api::place::{PlaceArgs, fence_socket};
use crate::api::view::{length, read};
use crate::terminal::exit::Exit;
use crate::terminal::failure::{Failure, with_causes};
use crate::terminal::output::{print, print_json, print_json_line};
use crate::terminal::table::Table;

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

fn tested_text(tested: &[TestedResource]) -> String {
    let mut text = String::new();
    for resource in tested {
        let (alone, all) = (at_most(resource.within_ms), at_most(resource.within_all_ms));
        text.push_str(&format!(
            "{}: fenced within {alone}, within {all} if all are at once\n",
            resource.name
        ));
        let mut table = Table::new(&["LEVEL", "DRIVER", "WITHIN", "TESTED IN", "FOUND"]);
        for (number, level) in resource.levels.iter().enumerate() {
            let found = match &level.found {
                Found::Ready { what } => format!("ready: {what}"),
                Found::Untested { what } => format!("untested: {what}"),
                Found::Failed { why } => format!("WOULD FAIL: {why}"),
            };
            let row = [length(level.within_ms), length(level.took_ms), found];
            let [within, took, found] = row;
            table.row([(number + 1).to_string(), level.driver.clone(), within, took, found]);
        }
        if resource.levels.is_empty() {
            text.push_str("unfenced: its processes are killed, and that is all\n");
        } else {
            text.push_str(&table.to_string());
        }
        text.push('\n');
    }
    text
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

fn status_text(status: &Status) -> String {
    let mut text = format!("sitegate-fenced {}, containment by {}\n\n", status.version, status.containment);
    let mut table = Table::new(&["TICKET", "STATE", "TOKEN", "FENCES IN", "PROGRAM", "PLAN", "LAST RECEIPT"]);
    for resource in &status.resources {
        let [state, token, left, program] = state_cells(&resource.state, status.now);
        table.row([
            resource.name.to_string(),
            state,
            token,
            left,
            program,
            plan_text(resource),
            resource.receipt.as_ref().map_or_else(|| "-".to_owned(), receipt_text),
        ]);
    }
    text.push_str(&table.to_string());
    if let Some(why) = &status.store_failed {
        text.push_str(&format!("\nwarning: the state cannot be written, so nothing can be armed: {why}\n"));
    }
    text
}

fn state_cells(state: &ResourceState, now: Instant) -> [String; 4] {
    let none = || "-".to_owned();
    match state {
        ResourceState::Unarmed => ["not armed".to_owned(), none(), none(), none()],
        ResourceState::Arming { token } => ["being armed".to_owned(), token.to_string(), none(), none()],
        ResourceState::Armed { token, deadline, activity, .. } => [
            "armed".to_owned(),
            token.to_string(),
            length(deadline.remaining_ns(now) / 1_000_000),
            activity_text(activity),
        ],
        ResourceState::Fencing { token, rounds, phase, .. } => {
            let failed = if *rounds > 0 { format!(", FAILED {rounds} times") } else { String::new() };
            [format!("fencing: {}{failed}", phase_text(*phase)), token.to_string(), none(), none()]
        }
    }
}

fn activity_text(activity: &Activity) -> String {
    match activity {
        Activity::Idle => "not started".to_owned(),
        Activity::Starting => "start runs".to_owned(),
        Activity::Started => "started".to_owned(),
        Activity::Stopping => "stop runs".to_owned(),
        Activity::Stopped => "stopped".to_owned(),
        Activity::Failed(why) => format!("FAILED: {why}"),
        Activity::Interrupted => "interrupted".to_owned(),
    }
}

fn phase_text(phase: FencePhase) -> String {
    match phase {
        FencePhase::Killing => "kills what was started".to_owned(),
        FencePhase::Waiting => "waits for other plans".to_owned(),
        FencePhase::Level(level) => format!("level {level}"),
        FencePhase::Recording => "records the receipt".to_owned(),
        FencePhase::Paused => "all levels failed, rests before the next try".to_owned(),
    }
}

fn plan_text(resource: &ResourceStatus) -> String {
    if resource.plan.levels.is_empty() {
        return "kill only".to_owned();
    }
    format!("{}, at most {}", resource.plan.levels.join(" > "), at_most(resource.plan.within_ms))
}

/// A bound, never rounded down.
fn at_most(ms: u64) -> String {
    let shown_in = if ms < 10_000 { 100 } else { 1000 };
    length(ms.next_multiple_of(shown_in))
}

fn receipt_text(receipt: &Receipt) -> String {
    let level = receipt.level.map(|level| format!(", level {level}")).unwrap_or_default();
    format!("token {}{level}, {}, {}", receipt.token, receipt.reason, moment(receipt.proof.unix_ms))
}

fn history_line(entry: &HistoryEntry) -> String {
    let what = match &entry.event {
        Notice::Armed { token, .. } => format!("armed, token {token}"),
        Notice::Extended { token, .. } => format!("deadline set, token {token}"),
        Notice::Started { token, failed, .. } => ended("start", *token, failed.as_deref()),
        Notice::Stopped { token, failed, .. } => ended("stop", *token, failed.as_deref()),
        Notice::Fencing { token, reason, .. } => format!("fencing begins, token {token}: {reason}"),
        Notice::LevelFailed { token, level, why, .. } => {
            format!("level {level} failed, token {token}: {why}")
        }
        Notice::FenceFailed { token, rounds, why, .. } => {
            format!("ALL LEVELS FAILED {rounds} times, token {token}: {why}")
        }
        Notice::Receipt(receipt) => format!("fenced: {}: {}", receipt_text(receipt), receipt.proof.what),
    };
    format!("{}  {:12}  {what}\n", moment(entry.unix_ms), entry.event.resource().as_str())
}

fn ended(program: &str, token: u64, failed: Option<&str>) -> String {
    match failed {
        None => format!("{program} succeeded, token {token}"),
        Some(why) => format!("{program} FAILED, token {token}: {why}"),
    }
}

/// A wall-clock time in milliseconds since 1970, in RFC 3339.
fn moment(unix_ms: u64) -> String {
    let time = SystemTime::UNIX_EPOCH + Duration::from_millis(unix_ms);
    Timestamp::try_from(time).map_or_else(|_| "-".to_owned(), |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status() -> Value {
        json!({
            "protocol": 1, "version": "0.1.0", "boot_id": "b", "now": {"boot_ns": 1_000_000_000_u64, "raw_ns": 5},
            "site": "paris", "containment": "tree", "concurrency": 32, "store_failed": null,
            "resources": [
                {"name": "db", "state": "armed", "token": 257, "incarnation": 3,
                 "deadline": {"boot_ns": 3_500_000_000_u64, "raw_ns": 9_000_000_000_u64}, "activity": "started",
                 "receipt": null,
                 "plan": {"levels": ["command", "reboot"], "within_ms": 1400, "within_all_ms": 1400, "certain": true,
                          "starts": true, "stops": true}},
                {"name": "web", "state": "fencing", "token": 9, "reason": "deadline",
                 "began": {"boot_ns": 1, "raw_ns": 1}, "rounds": 2, "phase": {"level": 1},
                 "receipt": {"resource": "web", "token": 5, "reason": "deadline", "level": 2,
                             "proof": {"what": "command exited with code 0", "unix_ms": 0},
                             "began": {"boot_ns": 1, "raw_ns": 1}, "ended": {"boot_ns": 1, "raw_ns": 1}},
                 "plan": {"levels": [], "within_ms": 200, "within_all_ms": 200, "certain": false, "starts": true,
                          "stops": false}},
            ],
        })
    }

    #[test]
    fn the_table_says_what_is_armed_until_when() {
        assert_eq!(
            status_text(&read(&status()).unwrap()),
            [
                "sitegate-fenced 0.1.0, containment by tree",
                "",
                "TICKET  STATE                             TOKEN  FENCES IN  PROGRAM  PLAN                             LAST RECEIPT",
                "db      armed                             257    2.5 s      started  command > reboot, at most 1.4 s  -",
                "web     fencing: level 1, FAILED 2 times  9      -          -        kill only                        \
                 token 5, level 2, deadline, 1970-01-01T00:00:00Z",
                "",
            ]
            .join("\n")
        );
    }

    #[test]
    fn a_test_says_which_levels_would_fail() {
        let level = |driver: &str, found| TestedLevel {
            driver: driver.to_owned(),
            within_ms: 8000,
            took_ms: 120,
            found,
        };
        let levels = vec![
            level("command", Found::Failed { why: "/x exited with code 1".to_owned() }),
            level("reboot", Found::Untested { what: "reboot(2) is permitted".to_owned() }),
        ];
        let resource = |name, levels| TestedResource {
            name: Name::new(name).unwrap(),
            within_ms: 14_500,
            within_all_ms: 29_000,
            levels,
        };
        assert_eq!(
            tested_text(&[resource("db", levels), resource("web", Vec::new())]),
            [
                "db: fenced within 15 s, within 29 s if all are at once",
                "LEVEL  DRIVER   WITHIN  TESTED IN  FOUND",
                "1      command  8.0 s   0.1 s      WOULD FAIL: /x exited with code 1",
                "2      reboot   8.0 s   0.1 s      untested: reboot(2) is permitted",
                "",
                "web: fenced within 15 s, within 29 s if all are at once",
                "unfenced: its processes are killed, and that is all",
                "",
                "",
            ]
            .join("\n")
        );
    }
}
