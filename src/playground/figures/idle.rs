//! What held tickets cost while nothing happens, one and a thousand; and how long it takes to grant so many.

use std::sync::Arc;
use std::time::Duration;

use sitegate_host::clock::boot_ns;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::ask::{Counts, client, counts, give_to, wish};
use super::distribution::{Figure, count, ms};
use super::proc::{Memory, looked_at, processor_ns};
use crate::api::client::Client;
use crate::playground::ground::{HEARTBEAT, MEMBERS};
use crate::playground::stage::{SETTLED, Stage, Unmet};

/// The tickets beside `db`, which gate nothing.
const OTHERS: u16 = 999;
/// Commands under way at once: a quarter of the connections that a member takes on its socket.
const AT_ONCE: u16 = 16;
/// Heartbeats whose numbers are a byte shorter on the wire than the next 16 000 are: not to be compared with these.
const NUMBERS_GROW: u32 = 128;
/// How long traffic is counted: thirty heartbeats and more.
const WINDOW: Duration = Duration::from_secs(15);

/// Looks at the formation while paris holds `db`, grants it the other tickets, and looks again.
pub(super) async fn measure(stage: &mut Stage) -> Result<Vec<Figure>, Unmet> {
    stage.ground.add_tickets(&(0..OTHERS).map(name).collect::<Vec<_>>())?;
    stage.begin().await?;
    stage.grant("paris").await?;
    sleep(HEARTBEAT * NUMBERS_GROW).await;
    let mut figures = idle(stage, "1 idle ticket").await?;
    figures.extend(grant_others(stage).await?);
    figures.extend(idle(stage, "1000 idle tickets").await?);
    all_held(stage).await?;
    for (name, process) in looked_at(stage)? {
        figures.push(Figure::once(
            format!("1000 idle tickets: {name}, resident"),
            "KiB",
            count(Memory::of(process)?.resident),
        ));
    }
    Ok(figures)
}

fn name(number: u16) -> String {
    format!("idle-{number}")
}

/// Grants the others, some at once, each as soon as one before it is done.
async fn grant_others(stage: &Stage) -> Result<Vec<Figure>, Unmet> {
    let client = Arc::new(client(stage, "paris")?);
    let began = boot_ns();
    let mut lanes = JoinSet::new();
    for first in 0..AT_ONCE {
        let client = Arc::clone(&client);
        lanes.spawn(async move { grant_every(&client, first).await });
    }
    let mut took = Vec::new();
    while let Some(lane) = lanes.join_next().await {
        took.extend(lane.map_err(|error| Unmet(error.to_string()))??);
    }
    let in_all = ms(began, boot_ns());
    Ok(vec![
        Figure::once(format!("granting {OTHERS} tickets, {AT_ONCE} at once: in all"), "ms", in_all),
        Figure::once("granting them: in all, divided by their number", "ms", in_all / f64::from(OTHERS)),
        Figure::new("granting them: command to done, each", "ms", took),
    ])
}

/// Grants every [`AT_ONCE`]th of the others, from `first`, and says how long each took in ms.
async fn grant_every(client: &Client, first: u16) -> Result<Vec<f64>, Unmet> {
    let mut took = Vec::new();
    for number in (first..OTHERS).step_by(AT_ONCE.into()) {
        let given = give_to(client, &wish("grant", &name(number), Some("paris"))).await?;
        took.push(ms(given.sent_ns, given.done_ns));
    }
    Ok(took)
}

/// What is counted over a while.
struct Look {
    at_ns: u64,
    members: Vec<Counts>,
    processors: Vec<(&'static str, u64)>,
}

impl Look {
    async fn now(stage: &mut Stage) -> Result<Self, Unmet> {
        let mut members = Vec::new();
        for member in MEMBERS {
            members.push(counts(stage, member).await?);
        }
        let processors = looked_at(stage)?.into_iter();
        let processors = processors.map(|(name, process)| Ok((name, processor_ns(process)?)));
        let processors = processors.collect::<Result<Vec<_>, Unmet>>()?;
        Ok(Self { at_ns: boot_ns(), members, processors })
    }

    /// Of all members.
    fn sum(&self, family: &str) -> u64 {
        self.members.iter().map(|counts| counts.sum(family)).sum()
    }
}

/// Traffic between the members, commits, and what each daemon takes of a processor.
async fn idle(stage: &mut Stage, with: &str) -> Result<Vec<Figure>, Unmet> {
    // What the last command set off has gone by then.
    sleep(SETTLED).await;
    let before = Look::now(stage).await?;
    sleep(WINDOW).await;
    let after = Look::now(stage).await?;
    let span_ms = ms(before.at_ns, after.at_ns);
    let rate = |what: &str, family: &str| {
        let more = after.sum(family).saturating_sub(before.sum(family));
        Figure::once(format!("{with}: {what}"), "/s", count(more) * 1000.0 / span_ms)
    };
    let mut figures = vec![
        rate("frames of all members", "sitegate_messages_sent_total"),
        rate("bytes of all members", "sitegate_bytes_sent_total"),
        rate("commits of all members", "sitegate_commit_seconds_count"),
    ];
    for ((name, before), (_, after)) in before.processors.iter().zip(&after.processors) {
        let share = ms(*before, *after) * 100.0 / span_ms;
        figures.push(Figure::once(format!("{with}: {name} on a processor"), "%", share));
    }
    Ok(figures)
}

/// Paris must hold all of them.
async fn all_held(stage: &Stage) -> Result<(), Unmet> {
    let status = stage.status("paris").await?;
    let held =
        status["tickets"].as_array().into_iter().flatten().filter(|ticket| ticket["holder"] == "paris");
    match held.count() {
        1000 => Ok(()),
        n => Err(Unmet(format!("paris holds {n} of 1000 tickets"))),
    }
}
