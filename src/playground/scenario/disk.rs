//! A site loses its disk.

use std::time::Duration;

use rustix::process::Signal;

use super::wishes::A_WHILE;
use crate::playground::daemon::Program;
use crate::playground::stage::{FAILOVER_MAX, Played, SETTLED, Stage, Unmet};

/// Until a member learns that the others know another identity for it.
const QUARANTINE_MAX: Duration = Duration::from_secs(10);
/// Until a readmitted member votes: recovery, and the longest lease, with time for a loaded machine.
const READMITTED_MAX: Duration = Duration::from_secs(20);

/// Lyon's state is deleted. It comes back with a new identity: quarantined, loud, and without a vote, which shows when the
/// arbitrator goes: paris has no majority and must stop. Readmitted, it votes: now paris goes on without the arbitrator.
pub(super) async fn wiped(stage: &mut Stage) -> Played {
    stage.grant("paris").await?;
    stage.steady("paris", A_WHILE).await?;
    stage.kill_members(&["lyon"]).await?;
    stage.ground.wipe("lyon")?;
    stage.timeline.note("lyon's state is deleted; it is initialised anew");
    stage.init("lyon").await?;
    stage.start_member("lyon")?;
    stage.standing("lyon", "quarantined", QUARANTINE_MAX).await?;
    loud(stage).await?;
    stage.steady("paris", A_WHILE).await?;

    let before = stage.newest_token();
    stage.signal("tiebreak", Program::Arbitrator, Signal::KILL)?;
    let stopped = || stage.nothing_runs().ok();
    stage.until("paris stopping without a majority", FAILOVER_MAX, stopped).await?;
    stage.timeline.note("paris has stopped: lyon's vote does not count");
    stage.quiet(SETTLED).await?;
    stage.start_member("tiebreak")?;
    stage.first_write("paris", before, FAILOVER_MAX).await?;

    stage.command("paris", &["member", "readmit", "lyon", "--reason", "new disk"]).await?;
    stage.standing("lyon", "voting", READMITTED_MAX).await?;
    stage.timeline.note("lyon votes again");
    stage.signal("tiebreak", Program::Arbitrator, Signal::KILL)?;
    stage.steady("paris", SETTLED).await
}

/// The quarantine must show on every member.
async fn loud(stage: &Stage) -> Played {
    for member in ["paris", "lyon", "tiebreak"] {
        let status = stage.status(member).await?;
        let marked = status["members"].as_array().into_iter().flatten();
        let marked = marked.into_iter().any(|one| one["name"] == "lyon" && one["quarantined"] == true);
        let warned = status["warnings"].as_array().is_some_and(|warnings| !warnings.is_empty());
        if !marked || !warned {
            return Err(Unmet(format!("the status of {member} does not say that lyon is quarantined")));
        }
    }
    Ok(())
}
