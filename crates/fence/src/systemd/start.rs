//! Starting what a ticket gates.

use std::path::Path;

use tokio::time::{Instant, sleep, timeout_at};

use super::manager::{Looked, Manager, SILENT};
use super::{Call, POLL, ticket};
use crate::store::with_causes;

/// Says that the ticket is held, has systemd start the unit, and waits until all that was started with it has come up.
///
/// # Errors
/// What has failed, or is not up at the end of the limit.
pub(super) async fn start(call: &Call, tickets: &Path, until: Instant) -> Result<String, String> {
    let told = |name: &str| std::env::var(name).unwrap_or_default();
    let held = ticket::hold(tickets, &call.resource, &told("SITEGATE_TOKEN"), &told("SITEGATE_SITE"));
    held.map_err(|error| with_causes(&error))?;
    let manager = Manager::connect_until(until).await?;
    let unit = call.unit.as_str();
    let begun = async {
        // What was tried without the ticket, or has failed here in an earlier tenure, counts for nothing (StartLimitBurst=).
        for name in manager.look(unit).await?.found.all {
            // A unit that nobody has loaded has nothing to forget.
            let _ = manager.reset(&name).await;
        }
        manager.start(unit).await
    };
    timeout_at(until, begun).await.unwrap_or_else(|_| Err(SILENT.to_owned()))?;
    let mut why = SILENT.to_owned();
    while let Ok(looked) = timeout_at(until, manager.look(unit)).await {
        match judge(&looked?) {
            Start::Up(units) => return Ok(format!("started {}", units.join(", "))),
            Start::Failed(failed) => return Err(failed),
            Start::Coming(coming) => why = coming,
        }
        if Instant::now() + POLL >= until {
            break;
        }
        sleep(POLL).await;
    }
    Err(why)
}

#[derive(Debug, PartialEq, Eq)]
enum Start {
    Up(Vec<String>),
    Coming(String),
    Failed(String),
}

/// The unit has to be up, and what it starts must be neither failed nor on its way; a service that has done its work is up too.
fn judge(Looked { root, found, table }: &Looked) -> Start {
    let mut units = Vec::new();
    for name in &found.all {
        let (unit, is_root) = (&table[name], name == root);
        let started = is_root || table[root].pulls.contains(name);
        match unit.active.as_str() {
            _ if unit.job != 0 => return Start::Coming(format!("{name} is still waiting for its turn")),
            "failed" if started => {
                return Start::Failed(format!("{name} has failed: systemctl status {name} shows why"));
            }
            "activating" | "deactivating" if started => {
                return Start::Coming(format!("{name} is still {} ({})", unit.active, unit.sub));
            }
            "inactive" if is_root => {
                return Start::Failed(format!(
                    "{name} was not started: systemctl status {name} shows why; it was stopped again, is {}, or what it needs has failed",
                    unit.load
                ));
            }
            "active" | "reloading" => units.push(name.clone()),
            _ => {}
        }
    }
    Start::Up(units)
}

#[cfg(test)]
mod tests {
    use super::super::members::{Members, Table, Unit};
    use super::*;

    fn looked(units: &[(&str, &str, u32)]) -> Looked {
        let unit = |(name, active, job): &(&str, &str, u32)| {
            let unit =
                Unit { id: (*name).to_owned(), active: (*active).to_owned(), job: *job, ..Unit::default() };
            ((*name).to_owned(), unit)
        };
        let mut table: Table = units.iter().map(unit).collect();
        let all: Vec<String> = units.iter().map(|(name, ..)| (*name).to_owned()).collect();
        // The last one is bound to the target, and not started by it.
        let pulls = all[1..all.len() - 1].iter().cloned().collect();
        table.get_mut(&all[0]).unwrap().pulls = pulls;
        Looked { root: all[0].clone(), found: Members { all, ..Members::default() }, table }
    }

    #[test]
    fn a_start_is_over_when_all_that_was_started_is_up() {
        let up = looked(&[("t.target", "active", 0), ("a.service", "active", 0), ("b.service", "failed", 0)]);
        assert_eq!(judge(&up), Start::Up(vec!["t.target".to_owned(), "a.service".to_owned()]));
        let done =
            looked(&[("t.target", "active", 0), ("a.service", "inactive", 0), ("b.service", "inactive", 0)]);
        assert_eq!(judge(&done), Start::Up(vec!["t.target".to_owned()]));
        for (target, service, job) in
            [("active", "activating", 0), ("active", "inactive", 5), ("activating", "active", 0)]
        {
            let coming =
                looked(&[("t.target", target, 0), ("a.service", service, job), ("b.service", "inactive", 0)]);
            assert!(matches!(judge(&coming), Start::Coming(_)), "{coming:?}");
        }
        for (target, service) in [("active", "failed"), ("inactive", "active"), ("failed", "active")] {
            let failed =
                looked(&[("t.target", target, 0), ("a.service", service, 0), ("b.service", "inactive", 0)]);
            assert!(matches!(judge(&failed), Start::Failed(_)), "{failed:?}");
        }
    }
}
