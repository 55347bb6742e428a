//! All that survives a crash, in one struct.

use alloc::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::{Identity, Incarnation, Life, Lsn, MemberId, TicketName};
use crate::register::Register;
use crate::value::{Identities, Key};

/// What a member must not forget.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Durable {
    /// About itself.
    pub own: Own,
    /// Whom it has met before it was born.
    pub met: BTreeMap<MemberId, Identity>,
    /// The newest life of every other member that it has heard from itself.
    pub lives: BTreeMap<MemberId, Life>,
    /// All registers. Emptied, never deleted.
    pub registers: BTreeMap<Key, Register>,
    /// Tickets that this site does not want for now, each with the version of the intent at the time.
    pub resting: BTreeMap<TicketName, u64>,
}

/// What a member knows about itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Own {
    /// Made up by `init`.
    pub identity: Identity,
    /// Grows with every start.
    pub incarnation: Incarnation,
    /// Added to the store's count of commits: a rolled-back disk counts on from where it is known to have been.
    pub lsn_base: u64,
    /// The formation it votes in; `None` before birth.
    pub formation: Option<Identities>,
    /// What it has to do before it may vote again, whatever the shell says of its start.
    pub duty: Duty,
}

/// What a member must do before it votes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Duty {
    /// Nothing.
    None,
    /// Look for witnesses: it may have forgotten. Durable, since a process that dies while it looks is followed by one
    /// whose start looks proven.
    Look,
    /// Look for witnesses, and never trust the own disk: it was seen to be older than what others know.
    Recover,
    /// Look for witnesses, and wait for the longest lease: it was readmitted with an empty disk.
    Settle,
}

impl Durable {
    /// What `init` writes.
    #[must_use]
    pub const fn new(identity: Identity) -> Self {
        Self {
            own: Own {
                identity,
                incarnation: Incarnation(0),
                lsn_base: 0,
                formation: None,
                duty: Duty::None,
            },
            met: BTreeMap::new(),
            lives: BTreeMap::new(),
            registers: BTreeMap::new(),
            resting: BTreeMap::new(),
        }
    }

    /// Takes over one record of a commit.
    pub fn apply(&mut self, record: &Record) {
        match record {
            Record::Own(own) => self.own = own.clone(),
            Record::Met(member, identity) => {
                self.met.insert(*member, *identity);
            }
            Record::Life(member, life) => {
                match life {
                    Some(life) => self.lives.insert(*member, *life),
                    None => self.lives.remove(member),
                };
            }
            Record::Register(key, register) => {
                self.registers.insert(key.clone(), register.clone());
            }
            Record::Resting(ticket, version) => {
                match version {
                    Some(version) => self.resting.insert(ticket.clone(), *version),
                    None => self.resting.remove(ticket),
                };
            }
            Record::Touch => {}
        }
    }
}

/// One thing to write. Each replaces what was written under its key before.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Record {
    /// About the member itself.
    Own(Own),
    /// It has met this identity.
    Met(MemberId, Identity),
    /// It has heard this life, or knows none any more.
    Life(MemberId, Option<Life>),
    /// A register.
    Register(Key, Register),
    /// A ticket that it does not want for now, or wants again.
    Resting(TicketName, Option<u64>),
    /// Nothing: shows that the disk still works.
    Touch,
}

/// Where a record lies: a later record in the same slot replaces an earlier one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Slot {
    /// Of [`Record::Own`].
    Own,
    /// Of [`Record::Met`].
    Met(MemberId),
    /// Of [`Record::Life`].
    Life(MemberId),
    /// Of [`Record::Register`].
    Register(Key),
    /// Of [`Record::Resting`].
    Resting(TicketName),
    /// Of [`Record::Touch`].
    Touch,
}

impl Record {
    /// Where it lies.
    #[must_use]
    pub fn slot(&self) -> Slot {
        match self {
            Self::Own(_) => Slot::Own,
            Self::Met(member, _) => Slot::Met(*member),
            Self::Life(member, _) => Slot::Life(*member),
            Self::Register(key, _) => Slot::Register(key.clone()),
            Self::Resting(ticket, _) => Slot::Resting(ticket.clone()),
            Self::Touch => Slot::Touch,
        }
    }
}

/// What a store must do. One commit at a time; a failure is final.
pub trait Store {
    /// What can go wrong.
    type Error;

    /// Makes all of `records` durable together and returns the new count of commits.
    ///
    /// # Errors
    /// If that is not certain. The member must not go on.
    fn commit<'a>(&mut self, records: impl Iterator<Item = &'a Record>) -> Result<Lsn, Self::Error>;
}
