//! What the fence daemon says, for people.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use sitegate_fence_client::status::{
    FencePhase, Found, HistoryEntry, ResourceState, ResourceStatus, Status, TestedResource,
};
use sitegate_fence_client::wire::{Activity, Instant, Notice, Receipt};

use crate::api::view::length;
use crate::terminal::table::Table;

pub(super) fn status_text(status: &Status) -> String {
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

pub(super) fn tested_text(tested: &[TestedResource]) -> String {
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

pub(super) fn history_line(entry: &HistoryEntry) -> String {
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
    use serde_json::{Value, json};
    use sitegate_fence_client::status::TestedLevel;
    use sitegate_fence_client::wire::Name;

    use super::*;
    use crate::api::view::read;

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
