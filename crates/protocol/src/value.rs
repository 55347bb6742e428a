//! What the replicated registers hold.

use alloc::collections::BTreeMap;
use alloc::string::String;

use serde::{Deserialize, Serialize};
use sitegate_mutant::planted;

use crate::ids::{Epoch, Identity, Incarnation, MemberId, TicketName, Token};
use crate::time::Span;

/// Names one register. Ordered, so that all of them can be listed in pages.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Key {
    /// Who holds a ticket.
    Ownership(TicketName),
    /// What the administrators want for a ticket.
    Intent(TicketName),
    /// Whether a site is on standby.
    Standby(MemberId),
    /// Which identities the members have.
    Identities,
}

impl Key {
    /// The ticket that the register is about, if any.
    #[must_use]
    pub fn ticket(&self) -> Option<&TicketName> {
        match self {
            Self::Ownership(ticket) | Self::Intent(ticket) => Some(ticket),
            Self::Standby(_) | Self::Identities => None,
        }
    }

    /// Whether `value` is of the kind that this register holds.
    #[must_use]
    pub fn fits(&self, value: &Value) -> bool {
        matches!(
            (self, value),
            (Self::Ownership(_), Value::Ownership(_))
                | (Self::Intent(_), Value::Intent(_))
                | (Self::Standby(_), Value::Standby(_))
                | (Self::Identities, Value::Identities(_))
        )
    }
}

/// A value of any register; [`Key::fits`] says which goes where.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Value {
    /// Of [`Key::Ownership`].
    Ownership(Ownership),
    /// Of [`Key::Intent`].
    Intent(Intent),
    /// Of [`Key::Standby`].
    Standby(Standby),
    /// Of [`Key::Identities`].
    Identities(Identities),
}

impl Value {
    /// The ownership in it.
    #[must_use]
    pub const fn ownership(&self) -> Option<&Ownership> {
        match self {
            Self::Ownership(ownership) => Some(ownership),
            _ => None,
        }
    }

    /// The intent in it.
    #[must_use]
    pub const fn intent(&self) -> Option<&Intent> {
        match self {
            Self::Intent(intent) => Some(intent),
            _ => None,
        }
    }

    /// The standby wish in it.
    #[must_use]
    pub const fn standby(&self) -> Option<&Standby> {
        match self {
            Self::Standby(standby) => Some(standby),
            _ => None,
        }
    }

    /// The identities in it.
    #[must_use]
    pub const fn identities(&self) -> Option<&Identities> {
        match self {
            Self::Identities(identities) => Some(identities),
            _ => None,
        }
    }
}

/// Who holds a ticket.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Ownership {
    /// Nobody.
    Free {
        /// The token of the last tenure.
        last_token: Token,
        /// Why it is certain that nobody runs its resources.
        proof: Proof,
        /// Carried on from the last tenure.
        takeovers: Takeovers,
    },
    /// A site.
    Held(Tenancy),
}

impl Ownership {
    /// Before the first grant.
    pub const NEVER: Self =
        Self::Free { last_token: Token(0), proof: Proof::Never, takeovers: Takeovers::NONE };

    /// The tenancy, if held.
    #[must_use]
    pub const fn held(&self) -> Option<&Tenancy> {
        match self {
            Self::Held(tenancy) => Some(tenancy),
            Self::Free { .. } => None,
        }
    }

    /// The token of the tenure that runs or ran last.
    #[must_use]
    pub const fn token(&self) -> Token {
        match self {
            Self::Free { last_token, .. } => *last_token,
            Self::Held(tenancy) => tenancy.token,
        }
    }

    /// The takeovers counted so far.
    #[must_use]
    pub const fn takeovers(&self) -> Takeovers {
        match self {
            Self::Free { takeovers, .. } => *takeovers,
            Self::Held(tenancy) => tenancy.takeovers,
        }
    }
}

/// The terms of a tenure. They travel in the value, so that members whose files disagree cannot disagree about a
/// running lease.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Tenancy {
    /// The holder.
    pub site: MemberId,
    /// The life of the holder that renews it.
    pub incarnation: Incarnation,
    /// The fencing token.
    pub token: Token,
    /// E: how long the holder may go on without hearing a majority.
    pub expire: Span,
    /// A: the holder's time to fence, which others wait on top of E.
    pub acquire_after: Span,
    /// When others may take it over.
    pub takeover: Takeover,
    /// Takeovers so far.
    pub takeovers: Takeovers,
}

impl Tenancy {
    /// E + A.
    #[must_use]
    pub const fn lease(&self) -> Span {
        self.expire.plus(self.acquire_after)
    }
}

/// When a lost ticket may be taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Takeover {
    /// After E + A.
    Timed,
    /// Never without the receipt or an operator's attestation.
    Confirmed,
}

/// Why it is certain that a free ticket's resources do not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Proof {
    /// There never was a tenure.
    Never,
    /// The holder's fence daemon wrote a receipt.
    Receipt,
    /// A majority waited until E + A were over.
    Waited,
    /// An operator vouched for it.
    Attested,
}

/// Takeovers after a loss or a failed check, since the last command for the ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Takeovers {
    /// How many.
    pub count: u32,
    /// The version of the intent under which they were counted; under another version they count from 0.
    pub under: u64,
}

impl Takeovers {
    /// None.
    pub const NONE: Self = Self { count: 0, under: 0 };

    /// As it stands under intent `version`.
    #[must_use]
    pub const fn under(self, version: u64) -> Self {
        if self.under == version { self } else { Self { count: 0, under: version } }
    }

    /// One more under intent `version`.
    #[must_use]
    pub const fn another(self, version: u64) -> Self {
        let now = self.under(version);
        Self { count: now.count.saturating_add(1), under: version }
    }
}

/// What the administrators want for a ticket.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Intent {
    /// Grows with every change.
    pub version: u64,
    /// Whether anybody should hold it, and who rather.
    pub wanted: Wanted,
    /// The holder of a token up to this one gives it up.
    pub vacate: Option<Token>,
    /// An operator vouches that nothing runs under a token up to this one.
    pub attested: Option<Token>,
    /// No new tenure.
    pub paused: bool,
    /// Who changed it last.
    pub author: Author,
    /// Why.
    pub reason: String,
    /// The request that made this version: a command whose reply was lost is not carried out twice.
    pub request: u64,
}

impl Intent {
    /// Before the first command: nobody asked for anything.
    #[must_use]
    pub const fn initial() -> Self {
        Self {
            version: 0,
            wanted: Wanted::Revoked,
            vacate: None,
            attested: None,
            paused: false,
            author: Author::none(),
            reason: String::new(),
            request: 0,
        }
    }

    /// Whether `token` is attested dead.
    #[must_use]
    pub fn attests(&self, token: Token) -> bool {
        if planted!(AnyAttestation) {
            return self.attested.is_some();
        }
        self.attested.is_some_and(|attested| token <= attested)
    }
}

/// Whether anybody should hold a ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Wanted {
    /// Somebody should, preferably `preferred`.
    Managed {
        /// Asked first.
        preferred: Option<MemberId>,
    },
    /// Nobody should.
    Revoked,
}

/// Who gave a command, for the record.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Author {
    /// The user or certificate, at most [`Author::LENGTH_MAX`] bytes.
    pub who: String,
    /// The member that took the command; `None` before the first.
    pub via: Option<MemberId>,
}

impl Author {
    /// Bounds what every member stores per ticket.
    pub const LENGTH_MAX: usize = 128;

    /// Nobody.
    #[must_use]
    pub const fn none() -> Self {
        Self { who: String::new(), via: None }
    }
}

/// Whether a site is on standby.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Standby {
    /// Grows with every change.
    pub version: u64,
    /// What it does about tickets.
    pub mode: StandbyMode,
    /// Who changed it last.
    pub author: Author,
    /// The request that made this version.
    pub request: u64,
}

/// What a site does about tickets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum StandbyMode {
    /// Takes and keeps them.
    Online,
    /// Takes no new ones, keeps what it has.
    Keep,
    /// Takes no new ones, gives up what it has.
    Vacate,
}

impl Standby {
    /// Before the first command.
    #[must_use]
    pub const fn initial() -> Self {
        Self { version: 0, mode: StandbyMode::Online, author: Author::none(), request: 0 }
    }
}

/// The identities of all members, at one epoch.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Identities {
    /// 0 at birth, one more with each readmission.
    pub epoch: Epoch,
    /// One for every member of the formation.
    pub of: BTreeMap<MemberId, Identity>,
}
