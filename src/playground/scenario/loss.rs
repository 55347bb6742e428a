//! Something is lost, and perhaps comes back.

use rustix::process::Signal;

use super::wishes::A_WHILE;
use crate::playground::daemon::Program;
use crate::playground::stage::{Played, SETTLED, Stage};

/// Kills sitegated at the holder: the fence daemon stops its writer before lyon's starts.
pub(super) async fn daemon_killed(stage: &mut Stage) -> Played {
    stage.grant("paris").await?;
    stage.steady("paris", A_WHILE).await?;
    let failed = stage.signal("paris", Program::Sitegated, Signal::KILL)?;
    stage.failover("lyon", failed).await?;
    stage.steady("lyon", A_WHILE).await
}

/// Stops sitegated at the holder for longer than expire, then lets it go on: it must find that its ticket is gone.
pub(super) async fn daemon_frozen(stage: &mut Stage) -> Played {
    stage.grant("paris").await?;
    stage.steady("paris", A_WHILE).await?;
    let failed = stage.signal("paris", Program::Sitegated, Signal::STOP)?;
    stage.timeline.note_at(failed, "paris: sitegated is stopped");
    stage.failover("lyon", failed).await?;
    stage.steady("lyon", A_WHILE).await?;
    stage.signal("paris", Program::Sitegated, Signal::CONT)?;
    stage.timeline.note("paris: sitegated goes on");
    stage.steady("lyon", SETTLED).await
}

/// Kills all that runs at the holder, its writer too.
pub(super) async fn site_killed(stage: &mut Stage) -> Played {
    stage.grant("paris").await?;
    stage.steady("paris", A_WHILE).await?;
    let failed = stage.kill_members(&["paris"]).await?;
    stage.failover("lyon", failed).await?;
    stage.steady("lyon", A_WHILE).await
}

/// As [`site_killed`], and the lost site comes back: nothing moves.
pub(super) async fn returns(stage: &mut Stage) -> Played {
    site_killed(stage).await?;
    stage.start_member("paris")?;
    stage.ready(&["paris"]).await?;
    stage.timeline.note("paris votes again");
    stage.steady("lyon", SETTLED).await
}

/// Kills the arbitrator, and lets it come back: the holder goes on.
pub(super) async fn arbitrator_down(stage: &mut Stage) -> Played {
    stage.grant("paris").await?;
    stage.steady("paris", A_WHILE).await?;
    stage.signal("tiebreak", Program::Arbitrator, Signal::KILL)?;
    stage.steady("paris", SETTLED).await?;
    stage.start_member("tiebreak")?;
    stage.ready(&["tiebreak"]).await?;
    stage.steady("paris", SETTLED).await
}
