//! What the configuration of a site has to agree with: the fence daemon's file, where this daemon may read it.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::time::Duration;

use sitegate_fence_client::status::{ResourceStatus, Status};
use sitegate_host::diagnostic::{ConfigError, Diagnostic, Problems};
use sitegate_member::config::timing::FencingBudget;
use sitegate_member::config::{Configuration, FORMATION_FILE, Formation, Takeover};
use sitegate_protocol::TicketName;

use sitegate_check::Checked;

/// The fence daemon's file beside the two others.
const FENCED_FILE: &str = "fenced.toml";

/// Checks that every ticket leaves this site the time to fence (inequality 2). Gives what an operator should know.
///
/// # Errors
/// Every ticket that does not, and everything that is wrong with fenced.toml.
pub fn check(directory: &Path, _: &Configuration) -> Result<Vec<String>, ConfigError> {
    let fenced = directory.join(FENCED_FILE);
    if let Err(error) = File::open(&fenced) {
        return Ok(vec![format!(
            "{} cannot be read ({error}): whether acquire-after leaves this site the time to fence was not checked",
            fenced.display()
        )]);
    }
    let checked = sitegate_check::check(directory)?;
    let mut problems = Problems::new();
    for (ticket, fencing) in too_short(&checked) {
        let cause = format!(
            "ticket {ticket}: acquire-after leaves {} ms to fence (A·(1−ρ)), but the plan in {FENCED_FILE} takes up to {} ms with \
             its margin",
            fencing.available_ms, fencing.needed_ms
        );
        let hint = format!(
            "raise acquire-after to {} ms or more on every member, or shorten the plan's limits",
            fencing.acquire_after_min_ms
        );
        problems.add(Diagnostic::of_file(directory.join(FORMATION_FILE), cause).hint(hint));
    }
    let without_plan = checked.tickets.iter().filter(|ticket| ticket.fencing.is_none()).map(|ticket| {
        let name = &ticket.name;
        format!("{FENCED_FILE} has no [resource.{name}]: this site never acquires ticket {name}")
    });
    let warnings = without_plan.chain(checked.warnings.iter().cloned()).collect();
    problems.finish(Some(warnings))
}

/// The same with the plans that the fence daemon works with, whatever its file says by now: the tickets that it might still be
/// fencing here when another site takes them over, each with a sentence about it.
pub(super) fn late_plans(formation: &Formation, status: &Status) -> BTreeMap<TicketName, String> {
    let resources: BTreeMap<&str, &ResourceStatus> =
        status.resources.iter().map(|resource| (resource.name.as_str(), resource)).collect();
    let late = formation.tickets.iter().filter(|(_, terms)| terms.takeover == Takeover::Timed).filter_map(
        |(name, terms)| {
            let plan = worst_case(status, resources.get(name.as_str())?);
            let budget = FencingBudget::new(terms.acquire_after, plan, formation.max_clock_drift);
            let text = format!(
                "ticket {name}: sitegate-fenced works with a plan that takes up to {} ms with its margin, and acquire-after \
                 leaves {} ms: this site does not acquire it; raise acquire-after to {} ms or more on every member",
                budget.needed.as_millis(),
                budget.available.as_millis(),
                budget.acquire_after_min.as_millis()
            );
            (!budget.holds()).then_some((TicketName::new(name.as_str()).ok()?, text))
        },
    );
    late.collect()
}

/// As long as every plan has its turn at once, none waits for another.
fn worst_case(status: &Status, resource: &ResourceStatus) -> Duration {
    let alone = status.resources.len() <= status.concurrency;
    Duration::from_millis(if alone { resource.plan.within_ms } else { resource.plan.within_all_ms })
}

/// Tickets that are taken over after E + A although this site may still be fencing then.
fn too_short(checked: &Checked) -> impl Iterator<Item = (&str, &sitegate_check::CheckedFencing)> {
    let timed = checked.tickets.iter().filter(|ticket| ticket.takeover == "timed");
    let with_plan = timed.filter_map(|ticket| Some((ticket.name.as_str(), ticket.fencing.as_ref()?)));
    with_plan.filter(|(_, fencing)| !fencing.holds)
}
