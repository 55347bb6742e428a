//! Commands, with everybody alive; and first what the daemons take while nothing happens.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::ask::{any_phase, give, wish};
use super::distribution::{Figure, ms};
use super::proc::{Memory, looked_at};
use crate::playground::stage::{Stage, Unmet};

/// From a command's success to the write that proves it.
const WRITE_MAX: Duration = Duration::from_secs(5);
/// How long memory must not change to count as stable.
const STABLE_FOR: Duration = Duration::from_secs(10);
/// How long it may take to become stable.
const STABLE_MAX: Duration = Duration::from_secs(60);
/// Between two looks at memory.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Memory while one ticket is held; then grants at paris, moves to lyon, and revokes.
pub(super) async fn measure(stage: &mut Stage, runs: u16) -> Result<Vec<Figure>, Unmet> {
    stage.begin().await?;
    stage.grant("paris").await?;
    let mut figures = stable_memory(stage).await?;
    give(stage, "paris", &wish("revoke", "db", None)).await?;
    let mut spans = Spans::default();
    for _ in 0..runs {
        spans.add(stage).await?;
    }
    figures.extend(spans.figures());
    Ok(figures)
}

/// The memory of the daemons once it does not change any more, or after a minute.
async fn stable_memory(stage: &mut Stage) -> Result<Vec<Figure>, Unmet> {
    let processes = looked_at(stage)?;
    let look = || processes.iter().map(|(_, process)| Memory::of(*process)).collect::<Result<Vec<_>, _>>();
    let until = Instant::now() + STABLE_MAX;
    let (mut last, mut since) = (look()?, Instant::now());
    while Instant::now() < until && since.elapsed() < STABLE_FOR {
        sleep(LOOK_AGAIN).await;
        let now = look()?;
        if now != last {
            (last, since) = (now, Instant::now());
        }
    }
    let figures = processes.iter().zip(&last).flat_map(|((name, _), memory)| memory.figures(name));
    Ok(figures.collect())
}

/// How long each took, in ms.
#[derive(Default)]
struct Spans {
    grant_write: Vec<f64>,
    grant_done: Vec<f64>,
    move_write: Vec<f64>,
    move_done: Vec<f64>,
    move_gap: Vec<f64>,
    revoke_done: Vec<f64>,
}

impl Spans {
    async fn add(&mut self, stage: &mut Stage) -> Result<(), Unmet> {
        any_phase().await?;
        let before = stage.newest_token();
        let given = give(stage, "paris", &wish("grant", "db", Some("paris"))).await?;
        let tenure = stage.first_write("paris", before, WRITE_MAX).await?;
        self.grant_write.push(ms(given.sent_ns, tenure.first_ns));
        self.grant_done.push(ms(given.sent_ns, given.done_ns));

        any_phase().await?;
        let given = give(stage, "paris", &wish("move", "db", Some("lyon"))).await?;
        let moved = stage.first_write("lyon", tenure.token, WRITE_MAX).await?;
        let last = stage.last_write("paris").map_or(tenure.last_ns, |write| write.boot_ns);
        self.move_write.push(ms(given.sent_ns, moved.first_ns));
        self.move_done.push(ms(given.sent_ns, given.done_ns));
        self.move_gap.push(ms(last, moved.first_ns));

        any_phase().await?;
        let given = give(stage, "lyon", &wish("revoke", "db", None)).await?;
        stage.nothing_runs()?;
        self.revoke_done.push(ms(given.sent_ns, given.done_ns));
        Ok(())
    }

    fn figures(self) -> Vec<Figure> {
        vec![
            Figure::new("grant: command to first write", "ms", self.grant_write),
            Figure::new("grant: command to done", "ms", self.grant_done),
            Figure::new("move: command to first write elsewhere", "ms", self.move_write),
            Figure::new("move: command to done", "ms", self.move_done),
            Figure::new("move: last write here to first write elsewhere", "ms", self.move_gap),
            Figure::new("revoke: command to done", "ms", self.revoke_done),
        ]
    }
}
