//! Starts with the state of an earlier life: of all daemons at once, and of a holder's sitegated.

use std::time::Duration;

use sitegate_host::clock::{boot_ns, duration_ns};
use sitegate_member::config::ClockDrift;
use tokio::time::{Instant, sleep};

use super::ask::any_phase;
use super::distribution::{Figure, ms};
use crate::playground::daemon::Program;
use crate::playground::ground::{EXPIRE, MEMBERS};
use crate::playground::stage::{Stage, Unmet};

/// For a daemon to answer, or to renew.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// Between two questions.
const ASK_AGAIN: Duration = Duration::from_millis(1);

/// Starts everything at once so many times, then the holder's sitegated as often.
pub(super) async fn measure(stage: &mut Stage, runs: u16) -> Result<Vec<Figure>, Unmet> {
    stage.begin().await?;
    let (mut answers, mut votes) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        for (member, program) in stage.daemons() {
            stage.terminate(member, program).await?;
        }
        let began = boot_ns();
        stage.start_all()?;
        let (a, b, c) = tokio::try_join!(came(stage, "paris"), came(stage, "lyon"), came(stage, "tiebreak"))?;
        let last = |moment: fn(&Came) -> u64| [&a, &b, &c].map(moment).into_iter().max().unwrap_or(began);
        answers.push(ms(began, last(|came| came.answered_ns)));
        votes.push(ms(began, last(|came| came.voting_ns)));
        stage.ready(&MEMBERS).await?;
    }
    stage.grant("paris").await?;
    let (mut from_start, mut from_end) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        let renewal = restart_holder(stage).await?;
        from_start.push(ms(renewal.started_ns, renewal.renewed_ns));
        from_end.push(ms(renewal.told_ns, renewal.renewed_ns));
    }
    Ok(vec![
        Figure::new("start of three members: all answer", "ms", answers),
        Figure::new("start of three members: all answer that they vote", "ms", votes),
        Figure::new("restart of sitegated: start to its ticket renewed", "ms", from_start),
        Figure::new("restart of sitegated: SIGTERM to its ticket renewed", "ms", from_end),
    ])
}

/// When a member first answered, and first answered that it votes.
struct Came {
    answered_ns: u64,
    voting_ns: u64,
}

async fn came(stage: &Stage, member: &str) -> Result<Came, Unmet> {
    let until = Instant::now() + ANSWER_MAX;
    let mut answered_ns = None;
    while Instant::now() < until {
        if let Ok(status) = stage.status(member).await {
            let now = boot_ns();
            let answered_ns = *answered_ns.get_or_insert(now);
            if status["standing"] == "voting" {
                return Ok(Came { answered_ns, voting_ns: now });
            }
        }
        sleep(ASK_AGAIN).await;
    }
    Err(Unmet(format!("{member} does not vote within {} s", ANSWER_MAX.as_secs())))
}

/// A restart of a holder's sitegated.
struct Renewal {
    told_ns: u64,
    started_ns: u64,
    renewed_ns: u64,
}

async fn restart_holder(stage: &mut Stage) -> Result<Renewal, Unmet> {
    stage.ready(&["paris"]).await?;
    any_phase().await?;
    let token = stage.newest_token();
    let told_ns = boot_ns();
    stage.terminate("paris", Program::Sitegated).await?;
    let started_ns = boot_ns();
    stage.daemon("paris", Program::Sitegated)?.start()?;
    // No heartbeat of the earlier life gave a deadline after this.
    let old_deadline = started_ns + duration_ns(ClockDrift::DEFAULT.shortened(EXPIRE));
    let until = Instant::now() + ANSWER_MAX;
    while Instant::now() < until {
        if deadline(stage).await.is_some_and(|deadline| deadline > old_deadline) {
            let renewed_ns = boot_ns();
            return if stage.newest_token() == token {
                Ok(Renewal { told_ns, started_ns, renewed_ns })
            } else {
                Err(Unmet("the ticket was lost in a proven restart".to_owned()))
            };
        }
        sleep(ASK_AGAIN).await;
    }
    Err(Unmet(format!("paris does not renew its ticket within {} s", ANSWER_MAX.as_secs())))
}

/// The deadline with which paris' fence daemon is armed, on `CLOCK_BOOTTIME`, as paris says; rather too early than too late.
async fn deadline(stage: &Stage) -> Option<u64> {
    let asked_ns = boot_ns();
    let status = stage.status("paris").await.ok()?;
    let left_ms = status["tickets"][0]["local"]["remaining_ms"].as_u64()?;
    Some(asked_ns + left_ms * 1_000_000)
}
