//! Stopping a unit and all that belongs to it, gracefully or not.
//!
//! A fence goes in rounds, each of which can follow on any other: what belongs is looked up anew, its stop queued (which takes a
//! queued start out of the queue, and ends automatic restarts), and what is left in the control groups killed. A control group
//! that was seen once stays in view, as systemd no longer tells it when the unit is down. Only when nothing is left in two rounds
//! running it is over: PID 1 takes what waits on its connections in turn, so whatever a `start` that was killed had still sent,
//! it has seen before it answered the second.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use sitegate_host::cgroup::Cgroup;
use tokio::time::{Instant, sleep, timeout_at};

use super::look::missing;
use super::manager::{Looked, Manager, SILENT};
use super::members::{Table, Unit};
use super::{Call, POLL, ticket};
use crate::store::with_causes;

/// How many rounds in a row have to find nothing.
const QUIET_ROUNDS: u32 = 2;
/// How long systemd may give no answer: longer than it takes to execute itself anew, or the bus to be restarted; short enough that
/// what may take minutes to stop does not wait for them in vain.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// Stops it as its units say, and kills nothing. The ticket's file goes last: `ExecStop=` may want the token.
///
/// # Errors
/// What still runs at the end of the limit, or why that is not known.
pub(super) async fn stop(call: &Call, tickets: &Path, until: Instant) -> Result<String, String> {
    let members = Stopping::new(call, false).carry_through(|| Ok(()), until).await?;
    ticket::release(tickets, &call.resource).map_err(|error| with_causes(&error))?;
    Ok(format!("stopped {members}"))
}

/// Makes certain that nothing of it runs, or is about to. The ticket's file goes first: without it nothing starts again.
///
/// # Errors
/// What still runs at the end of the limit, or why that is not known.
pub(super) async fn fence(call: &Call, tickets: &Path, until: Instant) -> Result<String, String> {
    let withdraw = || ticket::release(tickets, &call.resource).map_err(|error| with_causes(&error));
    let members = Stopping::new(call, true).carry_through(withdraw, until).await?;
    Ok(format!(
        "{members}: systemd says that all are down with no job queued, and their control groups are empty"
    ))
}

/// A unit on its way down.
#[derive(Debug)]
struct Stopping<'a> {
    call: &'a Call,
    kills: bool,
    /// All that was found to belong, in any round.
    seen: Vec<String>,
    /// All control groups that any of it had.
    groups: BTreeMap<String, BTreeSet<String>>,
    /// Why it is not known what belongs, if so.
    unknown: Option<String>,
}

impl<'a> Stopping<'a> {
    fn new(call: &'a Call, kills: bool) -> Self {
        Self { call, kills, seen: Vec::new(), groups: BTreeMap::new(), unknown: None }
    }

    /// Rounds until nothing is left, each after `before`; gives what is stopped then.
    async fn carry_through(
        mut self,
        before: impl Fn() -> Result<(), String>,
        until: Instant,
    ) -> Result<String, String> {
        let (mut manager, mut quiet, mut why) = (None, 0, None);
        let mut answered = Instant::now();
        while Instant::now() < until.min(answered + SILENCE_MAX) {
            let round = async {
                before()?;
                let connected = match manager.take() {
                    Some(connected) => connected,
                    None => Manager::connect().await?,
                };
                // A connection that fails is not used again.
                let left = self.round(&connected).await?;
                manager = Some(connected);
                Ok::<_, String>(left)
            };
            let ended = timeout_at(until.min(answered + SILENCE_MAX), round).await;
            if matches!(ended, Ok(Ok(_))) {
                answered = Instant::now();
            }
            match ended {
                Err(_) => {
                    return Err(why.map_or_else(|| SILENT.to_owned(), |why| format!("{why}; then {SILENT}")));
                }
                Ok(Err(failed)) => (quiet, why) = (0, Some(failed)),
                Ok(Ok(left)) if left.is_empty() => {
                    quiet += 1;
                    if quiet == QUIET_ROUNDS {
                        return self.unknown.map_or_else(|| Ok(self.seen.join(", ")), Err);
                    }
                }
                Ok(Ok(left)) => (quiet, why) = (0, Some(left.join("; "))),
            }
            sleep(POLL).await;
        }
        Err(why.unwrap_or_else(|| SILENT.to_owned()))
    }

    /// Looks, queues stops, kills, and tells what is left.
    async fn round(&mut self, manager: &Manager) -> Result<Vec<String>, String> {
        let table = self.look(manager).await?;
        let mut refused = Vec::new();
        for name in self.seen.iter().filter(|name| !table[*name].is_down()) {
            // Some may only be stopped with others (RefuseManualStop=), and what became of them is seen in the next round.
            refused.extend(manager.stop(name).await.err());
        }
        if self.kills {
            self.kill(manager).await;
        }
        let mut left = left(&self.seen, &table, &self.groups, populated);
        if !left.is_empty() {
            left.extend(refused);
        }
        Ok(left)
    }

    /// What is seen now, and what was seen before.
    async fn look(&mut self, manager: &Manager) -> Result<Table, String> {
        let looked = manager.look(self.call.unit.as_str()).await?;
        // What was found of it is stopped all the same.
        self.unknown = missing(&looked);
        let Looked { found, mut table, .. } = looked;
        for name in found.all {
            if !self.seen.contains(&name) {
                self.seen.push(name);
            }
        }
        for name in &self.seen {
            if !table.contains_key(name) {
                let unit = manager.unit(name).await?;
                table.insert(name.clone(), unit);
            }
            let Unit { cgroup, .. } = &table[name];
            if !matches!(cgroup.as_str(), "" | "/") {
                self.groups.entry(name.clone()).or_default().insert(cgroup.clone());
            }
        }
        Ok(table)
    }

    /// By systemd, which knows a main process wherever it is, and by the kernel, which lets nobody get away by forking.
    async fn kill(&self, manager: &Manager) {
        for (name, groups) in &self.groups {
            let full: Vec<&String> = groups.iter().filter(|group| populated(group) != Ok(false)).collect();
            if full.is_empty() {
                continue;
            }
            // Whether it has helped is seen in the control groups.
            let _ = manager.kill(name).await;
            for group in full {
                let _ = at(group).map(|group| group.kill());
            }
        }
    }
}

fn at(group: &str) -> Option<Cgroup> {
    Cgroup::of(Path::new(group))
}

pub(super) fn populated(group: &str) -> Result<bool, String> {
    let cgroup = at(group).ok_or("no control groups of version 2 are mounted")?;
    cgroup.populated().map_err(|error| format!("{}: {error}", cgroup.path().display()))
}

/// What is not down, and which control groups are not empty, or not known to be.
fn left(
    names: &[String],
    table: &Table,
    groups: &BTreeMap<String, BTreeSet<String>>,
    populated: impl Fn(&str) -> Result<bool, String>,
) -> Vec<String> {
    let mut left = Vec::new();
    for name in names {
        let Unit { active, sub, job, .. } = &table[name];
        let group = groups.get(name).into_iter().flatten().find_map(|group| match populated(group) {
            Ok(false) => None,
            Ok(true) => Some(format!("has processes in {group}")),
            Err(why) => Some(why),
        });
        let state = (!table[name].is_down()).then(|| match job {
            0 => format!("is {active} ({sub})"),
            job => format!("is {active} ({sub}), job {job} is queued"),
        });
        let what: Vec<String> = state.into_iter().chain(group).collect();
        if !what.is_empty() {
            left.push(format!("{name} {}", what.join(" and ")));
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_down_that_runs_waits_or_has_processes() {
        let unit = |active: &str, job| Unit {
            active: active.to_owned(),
            sub: "x".to_owned(),
            job,
            ..Unit::default()
        };
        let names = ["a", "b", "c", "d", "e"].map(str::to_owned);
        let units = [
            unit("inactive", 0),
            unit("active", 0),
            unit("failed", 7),
            unit("failed", 0),
            unit("inactive", 0),
        ];
        let table: Table = names.iter().cloned().zip(units).collect();
        let groups =
            ["a", "d", "e"].map(|name| (name.to_owned(), BTreeSet::from([format!("/{name}")]))).into();
        let populated = |group: &str| match group {
            "/a" => Ok(false),
            "/d" => Ok(true),
            _ => Err("cannot be read".to_owned()),
        };
        assert_eq!(
            left(&names, &table, &groups, populated),
            [
                "b is active (x)",
                "c is failed (x), job 7 is queued",
                "d has processes in /d",
                "e cannot be read"
            ]
        );
    }
}
