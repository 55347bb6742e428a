//! The arithmetic behind the times of a ticket: which values go together, and what they mean for a failover.
//!
//! E is the ticket's `expire`, A its `acquire-after`, P the heartbeat period, ρ the bound on clock drift.
//! `docs/protocol.md` derives the formulas.

use std::time::Duration;

use super::ClockDrift;

/// How many heartbeats in a row a ticket must survive losing, at least.
pub const LOST_HEARTBEATS_MIN: u32 = 3;

/// How late a loop may wake up and turn around on a loaded host, and not lose a renewal by it.
pub const WAKE_LATENESS_MAX: Duration = Duration::from_millis(100);

/// How long one durable commit takes at most on a disk that is fit for the job.
pub const COMMIT_MAX: Duration = Duration::from_millis(50);

/// What stays free between the end of fencing and the moment another site may acquire.
pub const FENCE_MARGIN: Duration = Duration::from_millis(100);

/// Inequality 1: `(k+1)·P + 2·RTT + margin ≤ E(1−ρ)`, so that a ticket survives losing k heartbeats in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RenewalBudget {
    /// `(k+1)·P + 2·RTT + margin` for the k that is the least allowed.
    pub needed: Duration,
    /// `E(1−ρ)`.
    pub available: Duration,
    /// The largest k for which the inequality holds; none if it does not even hold for 0.
    pub survives: Option<u32>,
}

impl RenewalBudget {
    /// The budget of a ticket with this `expire`, under the formation's heartbeat, worst round trip and drift.
    pub fn new(expire: Duration, heartbeat: Duration, rtt_max: Duration, drift: ClockDrift) -> Self {
        let available = drift.shortened(expire);
        let fixed = 2 * rtt_max + WAKE_LATENESS_MAX;
        let periods = available.saturating_sub(fixed).as_nanos() / heartbeat.as_nanos().max(1);
        Self {
            needed: (LOST_HEARTBEATS_MIN + 1) * heartbeat + fixed,
            available,
            survives: u32::try_from(periods).unwrap_or(u32::MAX).checked_sub(1),
        }
    }

    /// Whether enough lost heartbeats are survived.
    pub fn holds(&self) -> bool {
        self.needed <= self.available
    }

    /// The least `expire` with which it holds, rounded up to a tenth of a second.
    pub fn expire_min(&self, drift: ClockDrift) -> Duration {
        round_up(drift.before_shortening(self.needed), Duration::from_millis(100))
    }
}

/// Inequality 2: `worst case of the fence plan + margin ≤ A(1−ρ)`, so that a site that lost a ticket has fenced before
/// another may acquire it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FencingBudget {
    /// Worst case of the plan, with the margin.
    pub needed: Duration,
    /// `A(1−ρ)`.
    pub available: Duration,
    /// The least `acquire-after` with which it holds, rounded up to a tenth of a second.
    pub acquire_after_min: Duration,
}

impl FencingBudget {
    /// The budget of a ticket with this `acquire-after`.
    ///
    /// `plan_worst_case` is the longest that the site's fence plan can take until its last level is done, from the moment
    /// that the deadline passes: the levels' limits, queueing behind other tickets, killing and reaping, the lateness of the
    /// wake-up and the watchdog's time-out. The fence daemon's configuration knows it.
    pub fn new(acquire_after: Duration, plan_worst_case: Duration, drift: ClockDrift) -> Self {
        let needed = plan_worst_case + FENCE_MARGIN;
        Self {
            needed,
            available: drift.shortened(acquire_after),
            acquire_after_min: round_up(drift.before_shortening(needed), Duration::from_millis(100)),
        }
    }

    /// Whether fencing ends in time.
    pub fn holds(&self) -> bool {
        self.needed <= self.available
    }
}

/// By how much each rank of candidates holds back behind the one before it: half a round trip longer than the 1.5 round
/// trips and 2 commits in which the better candidate wins.
pub fn rank_step(rtt_max: Duration) -> Duration {
    acquisition(rtt_max) + rtt_max / 2
}

/// How long an acceptor guards a lease after the holder's last word: `(E+A)(1+ρ)` on its own clock.
pub fn guard(expire: Duration, acquire_after: Duration, drift: ClockDrift) -> Duration {
    drift.lengthened(expire + acquire_after)
}

/// The longest from the loss of a holder to its ticket being held by the candidate of `rank` (from 0):
/// `(E+A)(1+ρ)/(1−ρ) + rank·step + 1.5·RTT + 2 commits`.
pub fn failover_max(
    expire: Duration,
    acquire_after: Duration,
    rank: u32,
    rtt_max: Duration,
    drift: ClockDrift,
) -> Duration {
    let wait = drift.before_shortening(guard(expire, acquire_after, drift));
    wait + rank * rank_step(rtt_max) + acquisition(rtt_max)
}

/// The longest failover from a holder that can send but not hear: `1.5·E + A`.
pub fn deaf_failover_max(expire: Duration, acquire_after: Duration) -> Duration {
    expire * 3 / 2 + acquire_after
}

/// Winning a free ticket: 1.5 round trips and 2 commits.
fn acquisition(rtt_max: Duration) -> Duration {
    rtt_max * 3 / 2 + 2 * COMMIT_MAX
}

fn round_up(length: Duration, to: Duration) -> Duration {
    let steps = length.as_nanos().div_ceil(to.as_nanos());
    to * u32::try_from(steps).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn renewal_counts_the_heartbeats_that_may_be_lost() {
        let drift = ClockDrift::DEFAULT;
        let defaults = RenewalBudget::new(60 * SECOND, SECOND, 250 * MS, drift);
        assert_eq!((defaults.needed, defaults.available), (4600 * MS, 59_940 * MS));
        assert_eq!(defaults.survives, Some(58));
        assert!(defaults.holds());

        // 4·P + 2·RTT + margin = 4.6 s; 4.7 s leave more than that of themselves, 4.6 s do not.
        assert_eq!(defaults.expire_min(drift), 4700 * MS);
        assert!(RenewalBudget::new(4700 * MS, SECOND, 250 * MS, drift).holds());
        let short = RenewalBudget::new(4600 * MS, SECOND, 250 * MS, drift);
        assert!(!short.holds());
        assert_eq!(short.survives, Some(2));
        assert_eq!(RenewalBudget::new(SECOND, SECOND, 250 * MS, drift).survives, None);
    }

    #[test]
    fn survives_and_holds_agree() {
        let drift = ClockDrift::DEFAULT;
        for expire_ms in 1..8000_u32 {
            let budget = RenewalBudget::new(expire_ms * MS, 700 * MS, 90 * MS, drift);
            assert_eq!(budget.holds(), budget.survives >= Some(LOST_HEARTBEATS_MIN), "E = {expire_ms} ms");
        }
    }

    #[test]
    fn fencing_names_the_least_acquire_after() {
        let drift = ClockDrift::DEFAULT;
        let short = FencingBudget::new(8 * SECOND, 8 * SECOND, drift);
        assert!(!short.holds());
        assert_eq!(short.acquire_after_min, 8200 * MS);
        assert!(FencingBudget::new(short.acquire_after_min, 8 * SECOND, drift).holds());
    }

    #[test]
    fn failover_is_design_9_l1() {
        let drift = ClockDrift::DEFAULT;
        let worst = failover_max(60 * SECOND, 45 * SECOND, 1, 250 * MS, drift);
        // 105 s · 1.001/0.999 = 105.2102… s, one step of 600 ms, 375 ms of round trips, 100 ms of commits.
        assert_eq!(worst.as_millis(), 106_285);
        assert_eq!(deaf_failover_max(60 * SECOND, 45 * SECOND), 135 * SECOND);
    }
}
