//! What the protocol costs, counted: one-way trips and commits in sequence, frames, and what 10 000 tickets change
//! (docs/figures.md, "Counted"). Two runs that differ in one delay only tell how often it counts.

use sitegate_protocol::{Command, Note, TicketName};

use crate::clock::{MS, SECOND, Time};
use crate::script::{LYON, PARIS, Stage, TIEBREAK, member, plan};

/// How often each delay counts in an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Messages one way, one after the other.
    pub one_way: u64,
    /// Commits, one after the other.
    pub commits: u64,
}

/// What a site says in one heartbeat period while nothing happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pulse {
    /// Frames of the whole formation.
    pub frames: u64,
    /// Commits of the whole formation.
    pub commits: u64,
}

/// What the failover of many tickets takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mass {
    /// Tickets that the other site holds in the end.
    pub held: u64,
    /// Commits of the new holder from the end of the guard until it holds the last.
    pub commits: u64,
    /// From the first ticket held to the last, in true time.
    pub spread_ms: u64,
}

const ONE_WAY: Time = 5 * MS;
const COMMIT: Time = MS;

/// From the wish being chosen, as the preferred site knows, to the ticket being acquired; without the check.
#[must_use]
pub fn grant() -> Cost {
    count(|one_way, commit| {
        let noted = granted(one_way, commit);
        at(&noted, PARIS, |note| matches!(note, Note::Acquired(..)))
            - at(&noted, PARIS, |note| matches!(note, Note::Intent(..)))
    })
}

/// From the end of the guard at the arbitrator to the ticket being acquired elsewhere.
#[must_use]
pub fn failover() -> Cost {
    count(|one_way, commit| {
        let mut stage = Stage::of(plan(tickets(1), one_way, commit));
        stage.run(2 * SECOND);
        stage.world.command(PARIS, Command::Grant(tickets(1).remove(0), member(1)));
        stage.run(SECOND);
        stage.world.noted = Some(Vec::new());
        stage.world.power_off(PARIS);
        stage.run(SECOND);
        let over = stage.guard_over(TIEBREAK, &tickets(1)[0]);
        stage.run(12 * SECOND);
        let noted = stage.world.noted.take().unwrap_or_default();
        at(&noted, LYON, |note| matches!(note, Note::Acquired(..))) - over
    })
}

/// One heartbeat period of three members, one of which holds `n` tickets.
#[must_use]
pub fn pulse(n: usize) -> Pulse {
    let mut stage = Stage::of(plan(tickets(n), ONE_WAY, COMMIT));
    grant_all(&mut stage, n);
    let (frames, commits) = (stage.world.frames, stage.world.commits);
    stage.run(10 * SECOND);
    Pulse { frames: (stage.world.frames - frames) / 10, commits: (stage.world.commits - commits) / 10 }
}

/// The holder of `n` tickets loses its power.
#[must_use]
pub fn mass_failover(n: usize) -> Mass {
    let mut stage = Stage::of(plan(tickets(n), ONE_WAY, COMMIT));
    grant_all(&mut stage, n);
    stage.world.noted = Some(Vec::new());
    stage.world.power_off(PARIS);
    stage.run(6 * SECOND);
    let lsn = stage.world.nodes[LYON].disk.lsn;
    stage.run(6 * SECOND);
    let noted = stage.world.noted.take().unwrap_or_default();
    let held: Vec<Time> = noted
        .iter()
        .filter(|(_, i, n)| *i == LYON && matches!(n, Note::Held(..)))
        .map(|(t, ..)| *t)
        .collect();
    let spread = held.iter().max().copied().unwrap_or(0) - held.iter().min().copied().unwrap_or(0);
    Mass { held: held.len() as u64, commits: stage.world.nodes[LYON].disk.lsn - lsn, spread_ms: spread / MS }
}

fn grant_all(stage: &mut Stage, n: usize) {
    stage.run(2 * SECOND);
    for ticket in tickets(n) {
        stage.world.command(PARIS, Command::Grant(ticket, member(1)));
        stage.run(100 * MS);
    }
    stage.run(30 * SECOND);
}

fn granted(one_way: Time, commit: Time) -> Vec<(Time, usize, Note)> {
    let mut stage = Stage::of(plan(tickets(1), one_way, commit));
    stage.run(2 * SECOND);
    stage.world.noted = Some(Vec::new());
    stage.world.command(PARIS, Command::Grant(tickets(1).remove(0), member(1)));
    stage.run(SECOND);
    stage.world.noted.take().unwrap_or_default()
}

/// Compares runs with a longer trip, and with a longer commit, to a plain one.
fn count(span: impl Fn(Time, Time) -> Time) -> Cost {
    const MORE: Time = MS;
    let plain = span(ONE_WAY, COMMIT);
    let rounded = |longer: Time| (longer.saturating_sub(plain) + MORE / 2) / MORE;
    Cost { one_way: rounded(span(ONE_WAY + MORE, COMMIT)), commits: rounded(span(ONE_WAY, COMMIT + MORE)) }
}

fn at(noted: &[(Time, usize, Note)], node: usize, is: impl Fn(&Note) -> bool) -> Time {
    noted.iter().find(|(_, i, note)| *i == node && is(note)).map_or(0, |(time, ..)| *time)
}

fn tickets(n: usize) -> Vec<TicketName> {
    (0..n).filter_map(|i| TicketName::new(&format!("t{i}")).ok()).collect()
}
