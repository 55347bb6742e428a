//! What each kind of entry says beside its kind. Fields keep their names: they are what lies on the disk.

use std::collections::BTreeMap;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sitegate_protocol::{Bar, Deadline, StandbyMode, Token};

/// Kinds that say all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nothing {}

/// Which process, of whom, by which clocks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Whose journal it is.
    pub member: Option<String>,
    /// The formation's name.
    pub formation: Option<String>,
    /// All members, with their numbers; none in journals of old versions.
    #[serde(default)]
    pub members: BTreeMap<String, u8>,
    /// What tells the clocks that this process reads from others: the boot, `/`, the time namespace. Without it nobody can
    /// compare this member's clocks with another's.
    pub clock: Option<String>,
    /// The configured bound on how far apart the rates of two clocks are, parts per million.
    pub max_clock_drift_ppm: Option<u64>,
}

/// What has changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    /// One thing each, in words.
    pub changed: Vec<String>,
}

/// How far all other clocks went on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leap {
    /// Nanoseconds.
    pub leap_ns: u64,
}

/// How many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// Entries.
    pub count: u64,
}

/// A command, by whom and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// Its name on the command line.
    pub command: String,
    /// The user or certificate.
    pub by: String,
    /// What they said for it; may be empty.
    pub reason: String,
    /// The same number is the same command.
    pub request: u64,
}

/// A ballot, written as `ROUND.MEMBER`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Ballot(pub sitegate_protocol::Ballot);

impl From<Ballot> for String {
    fn from(ballot: Ballot) -> Self {
        ballot.0.to_string()
    }
}

impl TryFrom<String> for Ballot {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl FromStr for Ballot {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('.').and_then(|(round, member)| {
            Some(sitegate_protocol::Ballot { round: round.parse().ok()?, member: member.parse().ok()? })
        });
        parts.map(Self).ok_or_else(|| format!("{text} is no ballot"))
    }
}

/// A try to acquire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acquiring {
    /// The round in which.
    pub ballot: Ballot,
}

/// A tenure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenDetail {
    /// Its token.
    pub token: Token,
}

/// A deadline by both clocks of the member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Until {
    /// `CLOCK_BOOTTIME`, ns.
    pub deadline_boot_ns: u64,
    /// `CLOCK_MONOTONIC_RAW`, ns.
    pub deadline_raw_ns: u64,
}

impl From<Deadline> for Until {
    fn from(deadline: Deadline) -> Self {
        Self { deadline_boot_ns: deadline.boot.0, deadline_raw_ns: deadline.raw.0 }
    }
}

/// A tenure that is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Armed {
    /// Its token.
    pub token: Token,
    /// When it ends if it is not renewed; none in journals of old versions.
    #[serde(flatten)]
    pub until: Option<Until>,
    /// How far away that was, ms.
    #[serde(default)]
    pub remaining_ms: u64,
}

/// A tenure that is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GivingUp {
    /// Its token.
    pub token: Token,
    /// The deadline in force: until then it is held, whenever this is read.
    #[serde(flatten)]
    pub until: Option<Until>,
}

/// Whether anybody should hold a ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Wanted {
    /// Somebody should.
    Managed,
    /// Nobody should.
    Revoked,
}

/// What is wanted for a ticket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// Grows with every change.
    pub version: u64,
    /// Whether anybody should hold it; none in journals of old versions.
    pub wanted: Option<Wanted>,
    /// Who rather.
    pub preferred: Option<String>,
    /// No new tenure.
    #[serde(default)]
    pub paused: bool,
    /// The holder of a token up to this one gives it up.
    pub vacate: Option<Token>,
    /// An operator vouches that nothing runs under a token up to this one.
    pub attested: Option<Token>,
    /// Who changed it last.
    #[serde(default)]
    pub by: String,
    /// The member that took the command.
    pub via: Option<String>,
    /// Why.
    #[serde(default)]
    pub reason: String,
}

/// A guarded lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parked {
    /// How long it is guarded yet, ms.
    pub remaining_ms: u64,
}

/// A level of a fence plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FenceLevel {
    /// The tenure that is fenced.
    pub token: Token,
    /// Which level, from 1.
    pub level: u32,
}

/// Both clocks, read at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading {
    /// `CLOCK_BOOTTIME`, ns.
    pub boot_ns: u64,
    /// `CLOCK_MONOTONIC_RAW`, ns.
    pub raw_ns: u64,
}

/// A receipt of the fence daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The largest token that it covers.
    pub token: Token,
    /// The level that succeeded, from 1; none if killing its processes was all there was to do.
    pub level: Option<u32>,
    /// When the fence began.
    pub began: Option<Reading>,
    /// When the proof was in.
    pub ended: Option<Reading>,
}

/// Witnesses of a member that may have forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Witnesses {
    /// How many had answered.
    pub answered: u8,
    /// How many it takes.
    pub needed: u8,
}

/// An epoch of the formation's identities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochDetail {
    /// Counts readmissions.
    pub epoch: u64,
}

/// A life of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Life {
    /// Counts its starts.
    pub incarnation: u64,
}

/// How far a clock runs off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offset {
    /// Parts per million.
    pub ppm: i64,
}

/// A site's standby.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mode {
    /// What it does about tickets.
    pub standby: StandbyMode,
}

/// Why heartbeats stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Silence {
    /// Why.
    pub bar: Bar,
}
