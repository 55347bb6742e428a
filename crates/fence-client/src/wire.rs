//! What the deadman and its clients say to each other about resources, in the form it has on the socket.

use serde::{Deserialize, Serialize};

pub use crate::name::{Name, NameError, Reason};
pub use crate::time::{Deadline, Instant};

/// A fencing token: strictly larger for every later tenure of a resource.
pub type Token = u64;
/// Grows each time the client starts; an older one no longer speaks for a tenure that a newer one has touched.
pub type Incarnation = u64;

/// What the `start` and `stop` programs of an armed resource have done so far.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Activity {
    /// Nothing was started in this tenure.
    Idle,
    /// `start` runs.
    Starting,
    /// `start` has succeeded.
    Started,
    /// `stop` runs.
    Stopping,
    /// `stop` has succeeded.
    Stopped,
    /// `start` or `stop` failed, and why.
    Failed(String),
    /// The fence daemon went down while `start` or `stop` ran; how it ended is unknown.
    Interrupted,
}

/// How it was proven that a resource no longer runs.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Proof {
    /// What succeeded, for people: the driver and what it reported.
    pub what: String,
    /// Wall clock when it did, milliseconds since 1970; for people only, nothing is decided by it.
    pub unix_ms: u64,
}

/// The durable record that nothing of `resource` from a tenure with a token up to `token` runs at this site.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Receipt {
    /// The resource.
    pub resource: Name,
    /// The largest token it covers; every smaller one is covered too.
    pub token: Token,
    /// Why it was fenced.
    pub reason: Reason,
    /// The level of the plan that succeeded, counted from 1; null if the resource is `unfenced` and its processes
    /// being killed was all there was to do.
    pub level: Option<u32>,
    /// What proved it.
    pub proof: Proof,
    /// When the fence began.
    pub began: Instant,
    /// When the proof was in.
    pub ended: Instant,
}

/// Why a request was not followed. Whatever it asked for has not happened and will not.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "code", rename_all = "kebab-case")]
pub enum Refusal {
    /// `fenced.toml` has no such resource.
    #[error("no such resource: add [resource.NAME] to fenced.toml and reload sitegate-fenced")]
    UnknownResource,
    /// Nothing is armed.
    #[error("the resource is not armed")]
    NotArmed,
    /// Another token is armed.
    #[error("the resource is armed with token {armed}")]
    ArmedOtherwise {
        /// The token that is armed.
        armed: Token,
    },
    /// A fence of the resource runs; the token asked for is over or has to wait.
    #[error("the resource is being fenced (token {fencing})")]
    BeingFenced {
        /// The token being fenced.
        fencing: Token,
    },
    /// There is a receipt for this token or a later one: its tenure is over for good.
    #[error("the resource was fenced up to token {receipted}")]
    AlreadyFenced {
        /// The token of the last receipt.
        receipted: Token,
    },
    /// A newer incarnation of the client has spoken for this tenure.
    #[error("incarnation {newest} of the client has taken over")]
    OlderIncarnation {
        /// The newest incarnation seen.
        newest: Incarnation,
    },
    /// The deadline asked for has passed on one of the clocks.
    #[error("the deadline has already passed")]
    DeadlinePast,
    /// `stop` runs, or, for what wants to join, has succeeded.
    #[error("the resource is being stopped")]
    Stopping,
    /// The configuration does not let this user do that.
    #[error(
        "user {uid} may not do that: list the user in `join` of the resource in fenced.toml, or in allow-uid, and reload"
    )]
    NotAllowed {
        /// Who asked.
        uid: u32,
    },
    /// The fence daemon cannot write its state: nothing new may be armed until that is repaired.
    #[error("sitegate-fenced cannot write its state: {cause}")]
    StoreFailed {
        /// The failure, naming the file.
        cause: String,
    },
}

/// Something that happened to a resource. Each is the answer to the requests that wait for it, and is pushed to
/// clients that watch.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Notice {
    /// Armed, durably; from here on the deadline decides.
    Armed {
        /// The resource.
        resource: Name,
        /// Its token.
        token: Token,
        /// The deadline in force.
        deadline: Deadline,
    },
    /// The deadline in force is now this one.
    Extended {
        /// The resource.
        resource: Name,
        /// Its token.
        token: Token,
        /// The deadline in force.
        deadline: Deadline,
    },
    /// `start` ended.
    Started {
        /// The resource.
        resource: Name,
        /// Its token.
        token: Token,
        /// Null if it succeeded, else why not.
        failed: Option<String>,
    },
    /// `stop` ended.
    Stopped {
        /// The resource.
        resource: Name,
        /// Its token.
        token: Token,
        /// Null if it succeeded, else why not.
        failed: Option<String>,
    },
    /// A fence has begun: the tenure is over.
    Fencing {
        /// The resource.
        resource: Name,
        /// The token being fenced.
        token: Token,
        /// Why.
        reason: Reason,
    },
    /// A level of the plan failed or overran; the next one is tried.
    LevelFailed {
        /// The resource.
        resource: Name,
        /// The token being fenced.
        token: Token,
        /// The level, counted from 1.
        level: u32,
        /// Why it failed.
        why: String,
    },
    /// All levels failed. The plan starts over after a pause.
    FenceFailed {
        /// The resource.
        resource: Name,
        /// The token being fenced.
        token: Token,
        /// How many times the whole plan has failed by now.
        rounds: u32,
        /// Why the last level failed.
        why: String,
    },
    /// The resource no longer runs here, durably recorded.
    Receipt(Receipt),
}

impl Notice {
    /// The resource it is about.
    #[must_use]
    pub fn resource(&self) -> &Name {
        match self {
            Self::Armed { resource, .. }
            | Self::Extended { resource, .. }
            | Self::Started { resource, .. }
            | Self::Stopped { resource, .. }
            | Self::Fencing { resource, .. }
            | Self::LevelFailed { resource, .. }
            | Self::FenceFailed { resource, .. } => resource,
            Self::Receipt(receipt) => &receipt.resource,
        }
    }
}
