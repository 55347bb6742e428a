//! Who is who: members, their lives, ballots, tokens and ticket names.

use alloc::string::String;
use alloc::sync::Arc;
use core::fmt;
use core::num::NonZeroU8;

use serde::{Deserialize, Serialize};

/// The number of a member in the configuration, 1 to 255; never reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MemberId(NonZeroU8);

impl MemberId {
    /// The member with number `id`; `None` for 0, which is nobody.
    #[must_use]
    pub const fn new(id: u8) -> Option<Self> {
        match NonZeroU8::new(id) {
            Some(id) => Some(Self(id)),
            None => None,
        }
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0.get()
    }
}

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Debug for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "m{}", self.0)
    }
}

/// What `init` made up for a member: a member that lost its disk comes back with another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Identity(pub u128);

/// Counts the changes of the set of identities; 0 at birth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Epoch(pub u64);

/// Counts the starts of one member, durably.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Incarnation(pub u64);

/// What one process made up at its start: two processes never share one, whatever their disks say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Nonce(pub u64);

/// One life of a member: newer lives have larger incarnations; two lives of one incarnation are a rolled-back disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Life {
    /// Which start of the member.
    pub incarnation: Incarnation,
    /// Which process.
    pub nonce: Nonce,
}

/// Counts the commits of one member's store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Lsn(pub u64);

/// Orders the proposals for one register (Lamport, Paxos Made Simple, §2.2).
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Ballot {
    /// Compared first. At most [`Ballot::ROUND_MAX`].
    pub round: u64,
    /// Breaks ties; 0 is nobody and stands only in bounds.
    pub member: u8,
}

impl Ballot {
    /// Below every proposal.
    pub const ZERO: Self = Self { round: 0, member: 0 };
    /// A token has 56 bits for the round.
    pub const ROUND_MAX: u64 = (1 << 56) - 1;
    /// How far above its own round an acceptor follows a proposer; a wild round could use up all there are.
    pub const ROUND_LEAP: u64 = 1 << 40;

    /// The ballot of `member` in the round after this one.
    ///
    /// # Panics
    /// After 2^56 rounds.
    #[must_use]
    pub fn next(self, member: MemberId) -> Self {
        assert!(self.round < Self::ROUND_MAX, "ballot rounds are used up");
        Self { round: self.round + 1, member: member.get() }
    }

    /// Whether `member` made this ballot.
    #[must_use]
    pub const fn is_of(self, member: MemberId) -> bool {
        self.member == member.get()
    }

    /// The least bound above every ballot of this round: nobody's, so no promise to anybody.
    #[must_use]
    pub const fn closed(self) -> Self {
        Self { round: self.round + 1, member: 0 }
    }
}

impl fmt::Display for Ballot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.round, self.member)
    }
}

impl fmt::Debug for Ballot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b{self}")
    }
}

/// The fencing token of one tenure: the ballot that began it, in one number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Token(pub u64);

impl Token {
    /// The token of the tenure that `ballot` begins.
    #[must_use]
    pub const fn of(ballot: Ballot) -> Self {
        Self((ballot.round << 8) | ballot.member as u64)
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The name of a ticket: 1 to 63 of letters, digits, `-`, `_`, `.` and `/`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TicketName(Arc<str>);

/// What is wrong with a ticket name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadTicketName;

impl fmt::Display for BadTicketName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "a ticket name is 1 to {} of letters, digits, '-', '_', '.' and '/'",
            TicketName::LENGTH_MAX
        )
    }
}

impl core::error::Error for BadTicketName {}

impl TicketName {
    /// As in booth; also keeps every message short.
    pub const LENGTH_MAX: usize = 63;

    /// Parses a name.
    ///
    /// # Errors
    /// If it is empty, too long, or has another character than those allowed.
    pub fn new(name: &str) -> Result<Self, BadTicketName> {
        let allowed = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.' | b'/');
        if name.is_empty() || name.len() > Self::LENGTH_MAX || !name.bytes().all(allowed) {
            return Err(BadTicketName);
        }
        Ok(Self(name.into()))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for TicketName {
    type Error = BadTicketName;
    fn try_from(name: String) -> Result<Self, BadTicketName> {
        Self::new(&name)
    }
}

impl From<TicketName> for String {
    fn from(name: TicketName) -> Self {
        name.as_str().into()
    }
}

impl fmt::Display for TicketName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TicketName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
