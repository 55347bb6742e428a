//! How a peer connection begins.

use serde::{Deserialize, Serialize};

use super::{WireError, encode};
use crate::config::{Formation, FormationDigest};

/// The oldest version of frames that this one understands.
pub const VERSION_OLDEST: u16 = 1;
/// The newest version of frames that this one understands.
pub const VERSION_NEWEST: u16 = 1;

/// What a connection carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Lane {
    /// Heartbeats, pings and their answers: small, and nothing may queue before them.
    Pulse,
    /// Everything else.
    Bulk,
}

impl Lane {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Pulse, Self::Bulk];

    /// For logs and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pulse => "pulse",
            Self::Bulk => "bulk",
        }
    }
}

/// The caller's first message. Who it is says its certificate.
///
/// Its fields stay as they are in all versions; later ones may add some at the end, which are ignored here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The oldest version of frames that the caller understands.
    pub oldest: u16,
    /// The newest.
    pub newest: u16,
    /// Of the formation's name and its members' numbers, names and roles: who differs in it is refused.
    pub id_map: [u8; 32],
    /// Of the whole formation file: who differs in it is warned of.
    pub configuration: [u8; 32],
    /// What the connection is for.
    pub lane: Lane,
    /// What tells this boot of the caller's host from every other: its clock counts from there.
    pub boot: u128,
}

/// The other side's only message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// Go on.
    Welcome {
        /// Of the frames that follow.
        version: u16,
        /// As in [`Hello`].
        configuration: [u8; 32],
    },
    /// Go away.
    Refused(Refused),
}

/// Why a caller was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refused {
    /// No version that both understand.
    #[error("it speaks versions {oldest} to {newest} of the members' protocol")]
    Version {
        /// The oldest that the called one understands.
        oldest: u16,
        /// The newest.
        newest: u16,
    },
    /// The formation files differ in who is who.
    #[error("its formation.toml has other members, numbers or roles: make the files the same")]
    IdMap,
}

impl Hello {
    /// The hello of a member with `formation`.
    #[must_use]
    pub fn new(formation: &Formation, lane: Lane, boot: u128) -> Self {
        Self {
            oldest: VERSION_OLDEST,
            newest: VERSION_NEWEST,
            id_map: *FormationDigest::of_id_map(formation).as_bytes(),
            configuration: *FormationDigest::of(formation).as_bytes(),
            lane,
            boot,
        }
    }

    /// What a member with `formation` answers.
    #[must_use]
    pub fn answer(&self, formation: &Formation) -> Answer {
        if self.id_map != *FormationDigest::of_id_map(formation).as_bytes() {
            return Answer::Refused(Refused::IdMap);
        }
        let version = self.newest.min(VERSION_NEWEST);
        if version < self.oldest || version < VERSION_OLDEST {
            return Answer::Refused(Refused::Version { oldest: VERSION_OLDEST, newest: VERSION_NEWEST });
        }
        Answer::Welcome { version, configuration: *FormationDigest::of(formation).as_bytes() }
    }

    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads it; what follows its fields is a later version's.
    ///
    /// # Errors
    /// [`WireError::Garbage`].
    pub fn decode(message: &[u8]) -> Result<Self, WireError> {
        Ok(postcard::take_from_bytes(message)?.0)
    }
}

impl Answer {
    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads it; what follows its fields is a later version's.
    ///
    /// # Errors
    /// [`WireError::Garbage`].
    pub fn decode(message: &[u8]) -> Result<Self, WireError> {
        Ok(postcard::take_from_bytes(message)?.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example;

    /// acme with another heartbeat and another name for lyon.
    fn formation(heartbeat: &str, second: &str) -> Formation {
        let members = example::MEMBERS.replace("\"lyon\"", &format!("\"{second}\""));
        example::formation(&format!("heartbeat = \"{heartbeat}\"\n{members}"))
    }

    #[test]
    fn other_members_are_refused_and_other_times_are_not() {
        let ours = formation("1s", "lyon");
        let hello = |of: &Formation| Hello::new(of, Lane::Bulk, 1);
        assert!(matches!(hello(&ours).answer(&ours), Answer::Welcome { version: 1, .. }));
        let slower = formation("2s", "lyon");
        let Answer::Welcome { configuration, .. } = hello(&slower).answer(&ours) else {
            panic!("another heartbeat is no other formation")
        };
        assert_ne!(configuration, hello(&slower).configuration);
        let other = formation("1s", "nice");
        assert_eq!(hello(&other).answer(&ours), Answer::Refused(Refused::IdMap));
    }

    #[test]
    fn versions_are_agreed() {
        let ours = formation("1s", "lyon");
        let of = |oldest, newest| Hello { oldest, newest, ..Hello::new(&ours, Lane::Pulse, 1) }.answer(&ours);
        assert!(matches!(of(1, 9), Answer::Welcome { version: 1, .. }));
        assert!(matches!(of(2, 9), Answer::Refused(Refused::Version { oldest: 1, newest: 1 })));
        assert!(matches!(of(0, 0), Answer::Refused(Refused::Version { .. })));
    }

    #[test]
    fn later_fields_are_ignored() {
        let hello = Hello::new(&formation("1s", "lyon"), Lane::Pulse, 1);
        let mut bytes = hello.encode();
        bytes.extend([1, 2, 3]);
        assert_eq!(Hello::decode(&bytes).unwrap(), hello);
    }
}
