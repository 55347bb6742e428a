//! How everything stands, as `hello`, `status` and `history` tell it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::wire::{Activity, Deadline, Incarnation, Instant, Name, Notice, Reason, Receipt, Token};

/// The state of the fence daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the protocol on this socket.
    pub protocol: u32,
    /// Version of the daemon.
    pub version: String,
    /// What tells this boot from others; all times below are of this boot, receipts' perhaps of an earlier one.
    pub boot_id: String,
    /// Now, on both clocks.
    pub now: Instant,
    /// The site's name that programs get, if it is known.
    pub site: Option<Name>,
    /// How what is started is held together: `cgroup` or `tree`.
    pub containment: String,
    /// How many plans run their levels at once.
    pub concurrency: usize,
    /// Why the state cannot be written, if so: then nothing can be armed, and no receipt given.
    pub store_failed: Option<String>,
    /// All resources, by name.
    pub resources: Vec<ResourceStatus>,
}

/// The state of one resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceStatus {
    /// Its name.
    pub name: Name,
    /// What it does.
    #[serde(flatten)]
    pub state: ResourceState,
    /// The last receipt.
    pub receipt: Option<Receipt>,
    /// What fencing it means.
    pub plan: PlanStatus,
}

/// One resource, to a client that watches it from now on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watched {
    /// Now, on both clocks.
    pub now: Instant,
    /// How it stands.
    #[serde(flatten)]
    pub resource: ResourceStatus,
    /// How long what has joined it may take to end after SIGTERM, in ms; null if nobody may join it.
    pub join_within_ms: Option<u64>,
}

/// What a process has joined.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joined {
    /// The armed token.
    pub token: Token,
    /// The deadline in force.
    pub deadline: Deadline,
    /// The variables that what it executes should find.
    pub environment: BTreeMap<String, String>,
}

/// What a resource does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum ResourceState {
    /// Nothing is armed.
    Unarmed,
    /// The arming is being recorded.
    Arming {
        /// Its token.
        token: Token,
    },
    /// Armed.
    Armed {
        /// The token.
        token: Token,
        /// The newest incarnation of the client that has spoken for it.
        incarnation: Incarnation,
        /// The deadline in force.
        deadline: Deadline,
        /// What was started.
        activity: Activity,
    },
    /// Being fenced.
    Fencing {
        /// The token being fenced.
        token: Token,
        /// Why.
        reason: Reason,
        /// Since when.
        began: Instant,
        /// How many times the whole plan has failed.
        rounds: u32,
        /// What it is at.
        phase: FencePhase,
    },
}

/// What a fence is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FencePhase {
    /// Killing what was started.
    Killing,
    /// Waiting until fewer other plans run.
    Waiting,
    /// Running this level, counted from 1, or making sure after it that nothing is left.
    Level(u32),
    /// Recording the receipt.
    Recording,
    /// All levels have failed; resting before starting over.
    Paused,
}

/// What fencing a resource means, from the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanStatus {
    /// The drivers of its levels, in order.
    pub levels: Vec<String>,
    /// The longest that the plan takes by itself until its last level is over, in ms, kills included.
    pub within_ms: u64,
    /// The longest that it takes if all resources are fenced at once, in ms.
    pub within_all_ms: u64,
    /// Whether its last level cannot fail.
    pub certain: bool,
    /// Whether there is a `start`.
    pub starts: bool,
    /// Whether there is a `stop`.
    pub stops: bool,
}

/// What a test of a resource's plan has found. Nothing was fenced for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestedResource {
    /// Its name.
    pub name: Name,
    /// The longest that the plan takes by itself, in ms.
    pub within_ms: u64,
    /// The longest that it takes if all resources are fenced at once, in ms.
    pub within_all_ms: u64,
    /// Its levels, in order.
    pub levels: Vec<TestedLevel>,
}

/// What a test of a level has found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestedLevel {
    /// Its driver.
    pub driver: String,
    /// How long it may take, in ms.
    pub within_ms: u64,
    /// How long the test took, in ms.
    pub took_ms: u64,
    /// What was found.
    #[serde(flatten)]
    pub found: Found,
}

/// What a test says of a level.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "found", rename_all = "kebab-case")]
pub enum Found {
    /// What it checks itself by has succeeded.
    Ready {
        /// What that was.
        what: String,
    },
    /// There is nothing that could be checked without fencing, or not more than this.
    Untested {
        /// What is known.
        what: String,
    },
    /// It would fail.
    Failed {
        /// Why.
        why: String,
    },
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// Wall clock, milliseconds since 1970.
    pub unix_ms: u64,
    /// What.
    #[serde(flatten)]
    pub event: Notice,
}
