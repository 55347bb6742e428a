//! What was found, as types.

use std::time::Duration;

use serde::Serialize;

/// A configuration that could be loaded. In JSON with the names of the fields; times are in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Checked {
    /// The name of the formation.
    pub formation: String,
    /// The digest of the formation file's meaning, the same on every member that agrees.
    pub digest: String,
    /// How many members there are.
    pub members: usize,
    /// How many of them are a majority.
    pub majority: usize,
    /// Which member this host is; none without a member.toml.
    pub me: Option<String>,
    /// `heartbeat`.
    pub heartbeat_ms: u64,
    /// `rtt-max`.
    pub rtt_max_ms: u64,
    /// `max-clock-drift`.
    pub max_clock_drift_ppm: u32,
    /// `recovery-wait`, also where it is not written.
    pub recovery_wait_ms: u64,
    /// Every ticket, by name.
    pub tickets: Vec<CheckedTicket>,
    /// What breaks a promise: the configuration should not be used as it is.
    pub problems: Vec<String>,
    /// What deserves a look.
    pub warnings: Vec<String>,
}

/// One ticket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckedTicket {
    /// Its name.
    pub name: String,
    /// E.
    pub expire_ms: u64,
    /// A.
    pub acquire_after_ms: u64,
    /// `timed` or `confirmed`.
    pub takeover: String,
    /// All sites, best first.
    pub order: Vec<String>,
    /// Inequality 1.
    pub renewal: CheckedRenewal,
    /// Inequality 2; none where this host has no fence plan for the ticket.
    pub fencing: Option<CheckedFencing>,
    /// The longest from losing the holder to the first in the order holding it, where takeover is `timed`.
    pub failover_ms: Option<u64>,
    /// The same where only the last in the order is willing.
    pub failover_last_ms: Option<u64>,
    /// The same where the holder can send but not hear.
    pub deaf_failover_ms: Option<u64>,
}

/// Inequality 1: `(k+1)·P + 2·RTT + margin ≤ E(1−ρ)`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckedRenewal {
    /// Its left side for the least k.
    pub needed_ms: u64,
    /// Its right side.
    pub available_ms: u64,
    /// How many heartbeats in a row can be lost.
    pub lost_heartbeats: u32,
}

/// Inequality 2: `worst case of the fence plan + margin ≤ A(1−ρ)`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckedFencing {
    /// The longest that the plan takes.
    pub plan_ms: u64,
    /// Its left side.
    pub needed_ms: u64,
    /// Its right side.
    pub available_ms: u64,
    /// The least acquire-after with which it holds.
    pub acquire_after_min_ms: u64,
    /// Whether it holds. It need not where takeover is `confirmed`.
    pub holds: bool,
}

impl Checked {
    /// Whether nothing breaks a promise.
    pub fn is_good(&self) -> bool {
        self.problems.is_empty()
    }
}

pub(crate) fn millis(length: Duration) -> u64 {
    u64::try_from(length.as_millis()).unwrap_or(u64::MAX)
}
