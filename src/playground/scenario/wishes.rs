//! Commands, with everybody alive.

use std::time::Duration;

use crate::playground::stage::{Played, SETTLED, Stage, Unmet};

/// Long enough to see that a writer goes on.
pub(super) const A_WHILE: Duration = Duration::from_secs(1);

/// Grants to paris, which then writes, and nobody else.
pub(super) async fn grant(stage: &mut Stage) -> Played {
    stage.grant("paris").await?;
    // Longer than expire: the lease was renewed.
    stage.steady("paris", SETTLED).await
}

/// Revokes: when the command returns, nothing runs, and nothing starts again.
pub(super) async fn revoke(stage: &mut Stage) -> Played {
    stage.grant("paris").await?;
    stage.steady("paris", A_WHILE).await?;
    stage.command("lyon", &["revoke", "db"]).await?;
    stage.quiet(SETTLED).await
}

/// Moves to lyon and back: the old process is gone before the new one writes.
pub(super) async fn move_away(stage: &mut Stage) -> Played {
    stage.grant("paris").await?;
    stage.steady("paris", A_WHILE).await?;
    for (through, to) in [("tiebreak", "lyon"), ("lyon", "paris")] {
        let before = stage.newest_token();
        stage.command(through, &["move", "db", "--to", to]).await?;
        stage.first_write(to, before, A_WHILE).await?;
        stage.steady(to, A_WHILE).await?;
    }
    match stage.tenures().len() {
        3 => Ok(()),
        n => Err(Unmet(format!("{n} tenures wrote where one for the grant and one for each move should"))),
    }
}
