//! The scenarios: what is done to a formation, and what must hold. Each has a formation of its own.

use clap::ValueEnum;

use super::ground::Hooks;
use super::report::Report;
use super::stage::{Played, Stage};
use super::timeline::Timeline;
use crate::terminal::failure::Failure;

mod disk;
mod fencing;
mod loss;
mod restart;
mod wishes;

/// One scenario. `docs/cli.md` says what each is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Scenario {
    /// A grant: the site's process writes, and no other.
    Grant,
    /// A revoke: once it returns, nothing runs, and nothing starts again.
    Revoke,
    /// A move: the old process is gone before the new one writes.
    Move,
    /// Only sitegated is killed at the holder.
    DaemonKilled,
    /// Sitegated is stopped for longer than expire, then continued.
    DaemonFrozen,
    /// All processes of the holder are killed.
    SiteKilled,
    /// The lost site comes back.
    Returns,
    /// The arbitrator is killed.
    ArbitratorDown,
    /// The first level of the fence plan fails.
    FenceFails,
    /// A start hook hangs, and sitegated is killed.
    StartHangs,
    /// Everything is killed at once and started again.
    FullRestart,
    /// Each daemon is restarted in turn.
    RollingRestart,
    /// A site's state is deleted.
    WipedDisk,
}

impl Scenario {
    /// The name on the command line.
    pub(super) fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    const fn hooks(self) -> Hooks {
        match self {
            Self::FenceFails => Hooks::FenceFails,
            Self::StartHangs => Hooks::StartHangs(fencing::HANG),
            _ => Hooks::Plain,
        }
    }

    async fn play(self, stage: &mut Stage) -> Played {
        match self {
            Self::Grant => wishes::grant(stage).await,
            Self::Revoke => wishes::revoke(stage).await,
            Self::Move => wishes::move_away(stage).await,
            Self::DaemonKilled => loss::daemon_killed(stage).await,
            Self::DaemonFrozen => loss::daemon_frozen(stage).await,
            Self::SiteKilled => loss::site_killed(stage).await,
            Self::Returns => loss::returns(stage).await,
            Self::ArbitratorDown => loss::arbitrator_down(stage).await,
            Self::FenceFails => fencing::fence_fails(stage).await,
            Self::StartHangs => fencing::start_hangs(stage).await,
            Self::FullRestart => restart::full(stage).await,
            Self::RollingRestart => restart::rolling(stage).await,
            Self::WipedDisk => disk::wiped(stage).await,
        }
    }
}

/// Plays and judges a scenario, and leaves nothing running.
///
/// # Errors
/// It could not be played: a file could not be written, a program is missing.
pub(super) async fn perform(scenario: Scenario, keep: bool, timeline: Timeline) -> Result<Report, Failure> {
    let mut stage = Stage::set(scenario.hooks(), timeline)?;
    let played = match stage.begin().await {
        Ok(()) => scenario.play(&mut stage).await,
        unmet => unmet,
    };
    let mut report = stage.judge(&scenario.name(), played);
    let cleared = stage.clear().await;
    report.add_journals(&stage.ground.journals());
    if keep || !report.ok {
        let directory = stage.ground.keep();
        stage.timeline.say(&format!("  kept: {}\n", directory.display()));
    }
    cleared.map_err(|error| Failure::machine("end what was started", &error))?;
    Ok(report)
}
