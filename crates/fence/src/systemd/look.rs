//! Looking at a unit and what belongs to it, without changing anything.

use tokio::time::{Instant, timeout_at};

use super::Call;
use super::manager::{Looked, Manager, SILENT};
use super::stop::populated;

/// What of it runs or is about to, if anything does.
///
/// # Errors
/// Why that is not known.
pub(super) async fn running(call: &Call, until: Instant) -> Result<Option<String>, String> {
    let Looked { found, table, .. } = look(call.unit.as_str(), until).await?;
    for name in &found.all {
        let unit = &table[name];
        let alive = !unit.cgroup.is_empty() && populated(&unit.cgroup)?;
        if alive || !unit.is_down() {
            return Ok(Some(format!("{name} is {} ({})", unit.active, unit.sub)));
        }
    }
    Ok(None)
}

/// What a fence would stop and kill.
///
/// # Errors
/// Why it would fail.
pub(super) async fn test(call: &Call, until: Instant) -> Result<String, String> {
    let looked = look(call.unit.as_str(), until).await?;
    missing(&looked).map_or(Ok(()), Err)?;
    let warnings: String =
        otherwise(&looked).into_iter().map(|warning| format!("; WARNING: {warning}")).collect();
    Ok(format!("would stop and kill {}{warnings}", looked.found.all.join(", ")))
}

pub(super) async fn look(unit: &str, until: Instant) -> Result<Looked, String> {
    let manager = Manager::connect_until(until).await?;
    timeout_at(until, manager.look(unit)).await.unwrap_or_else(|_| Err(SILENT.to_owned()))
}

/// Why there is nothing to stop or start, if so.
pub(super) fn missing(Looked { root, table, .. }: &Looked) -> Option<String> {
    let unit = &table[root];
    let hint = if root.starts_with("sitegate-ticket@") {
        "install sitegate-ticket@.target in /etc/systemd/system, and systemctl daemon-reload"
    } else {
        "correct its name in fenced.toml, or install it"
    };
    (!unit.is_known()).then(|| format!("systemd has no usable unit {root} ({}): {hint}", unit.load))
}

/// Units that would run without their ticket: at boot, mostly.
pub(super) fn otherwise(Looked { found, table, .. }: &Looked) -> Vec<String> {
    let warning = |(unit, by): (String, Vec<String>)| {
        let by = by.join(", ");
        format!("{unit} is started by {by} too, at boot say, without its ticket: systemctl disable it there")
    };
    found.started_otherwise(table).into_iter().map(warning).collect()
}
