//! Whose a store is.

use std::fmt;

use serde::{Deserialize, Serialize};
use sitegate_protocol::Identity;

use crate::config::Configuration;

/// A member of a formation, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    formation: String,
    member: String,
}

impl Owner {
    /// Member `member` of `formation`.
    #[must_use]
    pub fn new(formation: &str, member: &str) -> Self {
        Self { formation: formation.into(), member: member.into() }
    }

    /// The member that `configuration` is for.
    #[must_use]
    pub fn of(configuration: &Configuration) -> Self {
        Self::new(configuration.formation.name.as_str(), configuration.local.name.as_str())
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "member {} of formation {}", self.member, self.formation)
    }
}

/// What `init` writes, once.
#[derive(Serialize, Deserialize)]
pub(super) struct OwnerRecord {
    formation: String,
    member: String,
    identity: Identity,
}

impl OwnerRecord {
    pub(super) fn new(owner: &Owner, identity: Identity) -> Self {
        Self { formation: owner.formation.clone(), member: owner.member.clone(), identity }
    }

    pub(super) fn owner(&self) -> Owner {
        Owner { formation: self.formation.clone(), member: self.member.clone() }
    }

    pub(super) const fn identity(&self) -> Identity {
        self.identity
    }
}
