//! The playground without a scenario: a formation that runs until Ctrl-C, what happens in it, and what to try.

use std::io::{self, IsTerminal};
use std::time::Duration;

use serde_json::Value;
use sitegate_host::clock::boot_ns;
use sitegate_host::process::{self, Stat};
use tokio::time::{MissedTickBehavior, interval};

use super::ground::{Ground, Hooks, MEMBERS, SITES};
use super::interrupted;
use super::processes::{Writer, of_member};
use super::stage::{Stage, Unmet};
use super::timeline::{Timeline, To};
use crate::api::view::length;
use crate::terminal::exit::Exit;
use crate::terminal::failure::Failure;

/// Between two looks.
const EVERY: Duration = Duration::from_millis(300);
/// How long ago a write may be to count as going on, in ns: four periods.
const WRITES_NOW_NS: u64 = 200_000_000;

/// Runs a formation until Ctrl-C, and leaves nothing behind.
///
/// # Errors
/// It could not be started, or something could not be ended.
pub(super) async fn run(keep: bool) -> Result<(), Failure> {
    let timeline = Timeline::new(To::Data);
    let mut stage = Stage::set(Hooks::Plain, timeline.clone())?;
    let shown = tokio::select! {
        shown = show(&mut stage) => shown,
        result = interrupted() => result.map_err(Unmet::from),
    };
    timeline.say("\n");
    let ended = stage.clear().await.map_err(|error| Failure::machine("end what was started", &error))?;
    if keep || shown.is_err() {
        timeline.say(&format!("{ended} processes ended; kept: {}\n", stage.ground.keep().display()));
    } else {
        timeline.say(&format!("{ended} processes ended; {} removed\n", stage.ground.path().display()));
    }
    shown.map_err(|unmet| Failure::new(Exit::Refused, unmet.0))
}

async fn show(stage: &mut Stage) -> Result<(), Unmet> {
    let timeline = stage.timeline.clone();
    timeline
        .say(&format!("Two sites and an arbitrator are starting in {}.\n\n", stage.ground.path().display()));
    stage.begin().await?;
    stage.grant("paris").await?;
    timeline.say(&commands(&stage.ground));
    if io::stdout().is_terminal() { redraw(stage).await } else { tell_changes(stage).await }
}

/// What to try, for a second terminal.
fn commands(ground: &Ground) -> String {
    let [program, directory] = [ground.program(), ground.path()].map(|path| path.display().to_string());
    let bin = ground.program().parent().unwrap_or(ground.path()).display().to_string();
    format!(
        "\nIn a second terminal:\n\n\
         \x20 export SITEGATE_SOCKET={directory}/lyon/member.sock\n\
         \x20 alias sitegate={program}\n\n\
         \x20 sitegate status                     who holds what, until when\n\
         \x20 sitegate explain db                 and why\n\
         \x20 sitegate move db --to lyon          stop at paris, fence, start at lyon\n\
         \x20 sitegate revoke db                  nobody runs it, until the next grant\n\
         \x20 sitegate grant db --site paris\n\
         \x20 sitegate history db                 what happened so far\n\
         \x20 kill -9 $(cat {directory}/paris/sitegated.pid)\n\
         \x20                                     the site loses its ticket, fences itself, the other takes over\n\
         \x20 {bin}/sitegated --config {directory}/paris\n\
         \x20                                     and comes back\n\
         \x20 kill -STOP $(cat {directory}/lyon/sitegated.pid)     or freezes; -CONT lets it go on\n\
         \x20 tail -f {directory}/writes\n\
         \x20 sitegate status --member {address} --cert {directory}/pki/operator-you/you.pem\n\n\
         Ctrl-C here ends it all.\n\n",
        address = ground.address("tiebreak"),
    )
}

async fn redraw(stage: &Stage) -> Result<(), Unmet> {
    let mut every = interval(EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        every.tick().await;
        let mut lines: Vec<String> = MEMBERS.iter().map(|member| member_line(stage, member)).collect();
        lines.push(ticket_line(stage).await);
        stage.timeline.show_block(&lines);
    }
}

async fn tell_changes(stage: &Stage) -> Result<(), Unmet> {
    let mut every = interval(EVERY);
    let mut last = String::new();
    loop {
        every.tick().await;
        let now = match stage.writers().first() {
            Some(writer) => format!("the writer of {} runs", writer.site),
            None => "no writer runs".to_owned(),
        };
        if now != last {
            stage.timeline.note(&now);
            last = now;
        }
    }
}

fn member_line(stage: &Stage, member: &str) -> String {
    let processes = of_member(stage.ground.path(), member);
    let daemon = |name: &str| {
        let found = processes.iter().find(|process| is_main(process.pid, name));
        match found {
            None => format!("{name} DOWN"),
            Some(process) if is_stopped(process.pid) => format!("{name} {} STOPPED", process.pid),
            Some(process) => format!("{name} {}", process.pid),
        }
    };
    if !SITES.contains(&member) {
        return format!("{member:10}{}", daemon("sitegate-arbitrator"));
    }
    let daemons = format!("{:24}{:32}", daemon("sitegated"), daemon("sitegate-fenced"));
    format!("{member:10}{daemons}{}", writer_text(stage, member))
}

/// Whether this is the daemon itself: sitegate-fenced runs a keeper beside each program.
fn is_main(pid: i32, name: &str) -> bool {
    let arguments = super::processes::arguments(pid);
    let [program, option, ..] = &arguments[..] else { return false };
    program.ends_with(name.as_bytes()) && option == b"--config"
}

fn is_stopped(pid: i32) -> bool {
    process::stat(pid).is_some_and(|stat: Stat| matches!(stat.state, b'T' | b't'))
}

fn writer_text(stage: &Stage, site: &str) -> String {
    let writers: Vec<Writer> = stage.writers().into_iter().filter(|writer| writer.site == site).collect();
    let last = stage.last_write(site);
    match (&writers[..], last) {
        ([], _) => "nothing runs".to_owned(),
        ([writer, ..], Some(write)) if boot_ns().saturating_sub(write.boot_ns) < WRITES_NOW_NS => {
            format!("writer {}, token {}, line {}", writer.process.pid, write.token, write.sequence)
        }
        ([writer, ..], _) => format!("writer {}, SILENT", writer.process.pid),
    }
}

/// The ticket as the first member that answers sees it; the holder first, which knows most.
async fn ticket_line(stage: &Stage) -> String {
    let mut answer = None;
    for member in MEMBERS {
        let Ok(status) = stage.status(member).await else { continue };
        let ticket = status["tickets"][0].clone();
        let holds = ticket["holder"] == member;
        if answer.is_none() || holds {
            answer = Some((member, ticket));
        }
        if holds {
            break;
        }
    }
    match answer {
        None => "db        no member answers".to_owned(),
        Some((member, ticket)) => format!("db        {}, as {member} sees it", ticket_text(&ticket)),
    }
}

fn ticket_text(ticket: &Value) -> String {
    let Some(holder) = ticket["holder"].as_str() else { return "is free".to_owned() };
    let left = ticket["local"]["remaining_ms"].as_u64().or_else(|| ticket["guard_remaining_ms"].as_u64());
    let left = left.map(|ms| format!(", {} left or renewed", length(ms))).unwrap_or_default();
    format!("held by {holder}, token {}{left}", ticket["token"])
}
