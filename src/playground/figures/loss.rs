//! Failovers: all processes of the holder are killed at any moment between two heartbeats.

use std::time::Duration;

use sitegate_host::clock::{boot_ns, duration_ns};
use sitegate_member::config::ClockDrift;
use sitegate_member::config::timing::guard;

use super::ask::{any_phase, give, wish};
use super::distribution::{Figure, ms};
use crate::playground::ground::{ACQUIRE_AFTER, EXPIRE};
use crate::playground::stage::{FAILOVER_MAX, Stage, Unmet};

/// From a grant to the first write.
const WRITE_MAX: Duration = Duration::from_secs(5);

/// Kills paris so many times, and brings it back each time.
pub(super) async fn measure(stage: &mut Stage, runs: u16) -> Result<Vec<Figure>, Unmet> {
    stage.begin().await?;
    let (mut in_all, mut beyond, mut after_guards) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..runs {
        let before = stage.newest_token();
        give(stage, "lyon", &wish("grant", "db", Some("paris"))).await?;
        let tenure = stage.first_write("paris", before, WRITE_MAX).await?;
        any_phase().await?;
        let killed_ns = stage.kill_members(&["paris"]).await?;
        let guarded_ns = guarded_until(stage).await?;
        let taken = stage.first_write("lyon", tenure.token, FAILOVER_MAX).await?;
        in_all.push(ms(killed_ns, taken.first_ns));
        beyond.push(ms(killed_ns + wait_ns(), taken.first_ns));
        after_guards.push(ms(guarded_ns, taken.first_ns));
        stage.start_member("paris")?;
        stage.ready(&["paris"]).await?;
        give(stage, "lyon", &wish("revoke", "db", None)).await?;
    }
    Ok(vec![
        Figure::new("failover: kill to first write elsewhere", "ms", in_all),
        Figure::new("failover: the same less (E+A)(1+rho)/(1-rho)", "ms", beyond),
        Figure::new("failover: end of the last guard to first write", "ms", after_guards),
    ])
}

/// The longest that the others may have to wait: `(E+A)(1+ρ)/(1−ρ)`, in ns.
fn wait_ns() -> u64 {
    let drift = ClockDrift::DEFAULT;
    duration_ns(drift.before_shortening(guard(EXPIRE, ACQUIRE_AFTER, drift)))
}

/// When the last of those who are left ceases to guard the lease, on `CLOCK_BOOTTIME`.
async fn guarded_until(stage: &Stage) -> Result<u64, Unmet> {
    let mut last = 0;
    for member in ["lyon", "tiebreak"] {
        let status = stage.status(member).await?;
        let left_ms = status["tickets"][0]["guard_remaining_ms"].as_u64();
        let left_ms = left_ms.ok_or_else(|| Unmet(format!("{member} guards no lease")))?;
        last = last.max(boot_ns() + left_ms * 1_000_000);
    }
    Ok(last)
}
