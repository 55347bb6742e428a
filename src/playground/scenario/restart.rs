//! Daemons and machines are restarted.

use sitegate_host::clock::boot_ns;

use super::wishes::A_WHILE;
use crate::playground::ground::MEMBERS;
use crate::playground::stage::{FAILOVER_MAX, Played, SETTLED, Stage, Unmet};

/// The power fails everywhere at once, twice: a granted ticket is held again, a revoked one stays revoked.
pub(super) async fn full(stage: &mut Stage) -> Played {
    stage.grant("paris").await?;
    stage.steady("paris", A_WHILE).await?;
    let before = stage.newest_token();
    let failed = power_fails(stage).await?;
    stage.start_all()?;
    stage.ready(&MEMBERS).await?;
    stage.timeline.note("all vote again");
    let tenure = stage.any_first_write(before, FAILOVER_MAX).await?;
    stage.made_good(&tenure, failed);
    stage.steady(&tenure.site, A_WHILE).await?;

    stage.command("tiebreak", &["revoke", "db"]).await?;
    stage.nothing_runs()?;
    power_fails(stage).await?;
    stage.start_all()?;
    stage.ready(&MEMBERS).await?;
    stage.timeline.note("all vote again");
    stage.quiet(SETTLED).await
}

/// Kills everything, and removes what does not outlive a boot.
async fn power_fails(stage: &mut Stage) -> Result<u64, Unmet> {
    let at = stage.kill_members(&MEMBERS).await?;
    MEMBERS.iter().try_for_each(|member| stage.ground.forget_boot(member))?;
    Ok(at)
}

/// Restarts each daemon in turn: the same process goes on writing under the same token.
pub(super) async fn rolling(stage: &mut Stage) -> Played {
    stage.grant("paris").await?;
    stage.steady("paris", A_WHILE).await?;
    let (from, writer, token) = (boot_ns(), stage.writers(), stage.newest_token());
    for (member, program) in stage.daemons() {
        stage.terminate(member, program).await?;
        stage.start_member(member)?;
        stage.ready(&MEMBERS).await?;
        stage.steady("paris", A_WHILE).await?;
    }
    stage.steady("paris", SETTLED).await?;
    stage.went_on_since(from)?;
    if stage.newest_token() != token {
        return Err(Unmet("the ticket was lost on the way".to_owned()));
    }
    if stage.writers() != writer {
        return Err(Unmet("the writer is not the process that it was".to_owned()));
    }
    Ok(())
}
