//! `sitegate playground --figures`: what the real programs take on this machine. `docs/figures.md` holds a run of it.
//!
//! Nothing is judged by how long it takes, only that it happens: a slow machine gives larger figures, not an error. That no two
//! writers overlap is judged here too.

use serde::Serialize;

use super::ground::Hooks;
use super::stage::{Played, Stage, Unmet};
use super::timeline::Timeline;
use crate::terminal::exit::Exit;
use crate::terminal::failure::Failure;
use crate::terminal::output::{print, print_json_line};

mod ask;
mod distribution;
mod idle;
mod loss;
mod proc;
mod start;
mod wishes;

use distribution::Figure;

/// How often the quick things are measured, unless told otherwise.
pub(super) const RUNS_DEFAULT: u16 = 30;

/// Everything that was measured. The object of `--json`; `docs/cli.md` lists the fields.
#[derive(Debug, Serialize)]
struct Figures {
    version: &'static str,
    /// Processors that this process may use.
    processors: usize,
    /// The load average of the last minute, before and after.
    load_before: f64,
    load_after: f64,
    figures: Vec<Figure>,
}

/// What is measured together, in a formation of its own.
#[derive(Clone, Copy, Debug)]
enum Part {
    Wishes,
    Loss,
    Start,
    Idle,
}

impl Part {
    const ALL: [Self; 4] = [Self::Wishes, Self::Loss, Self::Start, Self::Idle];

    const fn title(self) -> &'static str {
        match self {
            Self::Wishes => "memory, grants, moves and revokes",
            Self::Loss => "failovers",
            Self::Start => "starts",
            Self::Idle => "idle tickets",
        }
    }

    async fn measure(self, stage: &mut Stage, runs: u16) -> Result<Vec<Figure>, Unmet> {
        match self {
            Self::Wishes => wishes::measure(stage, runs).await,
            Self::Loss => loss::measure(stage, runs.div_ceil(3)).await,
            Self::Start => start::measure(stage, runs.div_ceil(3)).await,
            Self::Idle => idle::measure(stage).await,
        }
    }
}

/// Measures and prints everything.
///
/// # Errors
/// Something did not happen, or could not be played.
pub(super) async fn run(runs: u16, json: bool, keep: bool, timeline: Timeline) -> Result<(), Failure> {
    let load_before = proc::load()?;
    let mut figures = Vec::new();
    for part in Part::ALL {
        timeline.say(&format!("{}\n", part.title()));
        figures.extend(perform(part, runs, keep, timeline.clone()).await?);
    }
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let load_after = proc::load()?;
    let version = env!("CARGO_PKG_VERSION");
    let all = Figures { version, processors, load_before, load_after, figures };
    if json { print_json_line(&all) } else { print(&all.table()) }
}

async fn perform(part: Part, runs: u16, keep: bool, timeline: Timeline) -> Result<Vec<Figure>, Failure> {
    let mut stage = Stage::set(Hooks::Plain, timeline)?;
    let measured = part.measure(&mut stage, runs).await;
    let report = stage.judge(part.title(), played(&measured));
    let cleared = stage.clear().await;
    if keep || !report.ok {
        let directory = stage.ground.keep();
        stage.timeline.say(&format!("  kept: {}\n", directory.display()));
    }
    cleared.map_err(|error| Failure::machine("end what was started", &error))?;
    match (measured, report.why) {
        (Ok(figures), None) => Ok(figures),
        (_, why) => {
            Err(Failure::new(Exit::Refused, format!("{}: {}", part.title(), why.unwrap_or_default())))
        }
    }
}

fn played(measured: &Result<Vec<Figure>, Unmet>) -> Played {
    measured.as_ref().map(|_| ()).map_err(Clone::clone)
}

impl Figures {
    fn table(&self) -> String {
        let wide = self.figures.iter().map(|figure| figure.what.chars().count()).max().unwrap_or(0);
        let mut text = format!(
            "sitegate {}, {} processors, load {:.2} before and {:.2} after\n\n{:wide$} {:>6} {:>10} {:>10} {:>10} {:>10}\n",
            self.version,
            self.processors,
            self.load_before,
            self.load_after,
            "",
            "n",
            "min",
            "median",
            "p90",
            "max"
        );
        for figure in &self.figures {
            text.push_str(&figure.row(wide));
        }
        text
    }
}
