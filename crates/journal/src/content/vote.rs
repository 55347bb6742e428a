//! Registers as they were committed.

use std::fmt;

use serde::{Deserialize, Serialize};
use sitegate_protocol::{Proof, Token};

use super::detail::{Ballot, Wanted};

/// A register of a member's acceptor, as it was committed: a promise, a vote, or what it took over from others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vote {
    /// Which.
    pub register: Register,
    /// The highest ballot promised.
    pub promised: Ballot,
    /// A vote at that ballot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accepted: Option<Proposal>,
    /// A value that was taken over from others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub learnt: Option<Proposal>,
    /// With a promise: the tenure that this member guards, and when it was renewed last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub renewed: Option<Renewal>,
}

/// Names a register: `ownership/TICKET`, `intent/TICKET`, `standby/SITE` or `identities`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Register {
    /// Who holds a ticket.
    Ownership(String),
    /// What is wanted for a ticket.
    Intent(String),
    /// Whether a site is on standby.
    Standby(String),
    /// Which identities the members have.
    Identities,
}

impl fmt::Display for Register {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ownership(ticket) => write!(f, "ownership/{ticket}"),
            Self::Intent(ticket) => write!(f, "intent/{ticket}"),
            Self::Standby(site) => write!(f, "standby/{site}"),
            Self::Identities => f.write_str("identities"),
        }
    }
}

impl From<Register> for String {
    fn from(register: Register) -> Self {
        register.to_string()
    }
}

impl TryFrom<String> for Register {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.split_once('/') {
            Some(("ownership", ticket)) => Ok(Self::Ownership(ticket.to_owned())),
            Some(("intent", ticket)) => Ok(Self::Intent(ticket.to_owned())),
            Some(("standby", site)) => Ok(Self::Standby(site.to_owned())),
            None if text == "identities" => Ok(Self::Identities),
            _ => Err(format!("there is no register {text}")),
        }
    }
}

/// A value and its ballot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal {
    /// In which it was proposed.
    pub ballot: Ballot,
    /// What.
    pub value: Value,
}

/// The value of a register, as far as it is written down. Told apart by its fields: the order of these matters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Value {
    /// A site holds the ticket.
    Held {
        /// Its name.
        holder: String,
        /// The tenure.
        token: Token,
        /// The life of the holder that renews it.
        #[serde(default)]
        incarnation: u64,
        /// E, ms.
        #[serde(default)]
        expire_ms: u64,
        /// A, ms.
        #[serde(default)]
        acquire_after_ms: u64,
        /// Since the last command.
        #[serde(default)]
        takeovers: u32,
    },
    /// Nobody holds the ticket.
    Free {
        /// Always null.
        holder: (),
        /// Of the last tenure.
        token: Token,
        /// Why nothing of that runs any more.
        proof: Proof,
    },
    /// What is wanted for the ticket.
    Intent {
        /// Grows with every change.
        version: u64,
        /// Whether anybody should hold it.
        wanted: Wanted,
        /// No new tenure.
        #[serde(default)]
        paused: bool,
        /// An operator vouches that nothing runs under a token up to this one.
        attested: Option<Token>,
    },
    /// The identities of the members.
    Identities {
        /// Counts readmissions.
        epoch: u64,
    },
    /// A site's standby; or an intent, in journals of old versions.
    Version {
        /// Grows with every change.
        version: u64,
    },
}

/// The last renewal of a lease, by the guard's clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renewal {
    /// The tenure.
    pub token: Token,
    /// `CLOCK_BOOTTIME`, ns.
    pub boot_ns: u64,
    /// `CLOCK_MONOTONIC_RAW`, ns.
    pub raw_ns: u64,
}
