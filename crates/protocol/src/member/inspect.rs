//! What the checkers of invariants look at: read only, and of no use to the protocol itself.

use super::Member;
use super::ticket::{Stage, State};
use crate::ids::{Ballot, Life, MemberId, TicketName, Token};
use crate::register::Register;
use crate::time::{Deadline, Span};
use crate::value::{Identities, Key, Tenancy};

/// The lease of a tenure that a site renews, as it counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseView {
    /// Of the tenure.
    pub token: Token,
    /// Of the value in force.
    pub ballot: Ballot,
    /// E of the value in force.
    pub expire: Span,
    /// The deadline that it ordered its fence daemon to keep.
    pub ordered: Deadline,
    /// While it is fenced to be given up: until when it counts on the lease.
    pub fencing_until: Option<Deadline>,
}

impl Member {
    /// The life of this very process.
    #[must_use]
    pub const fn life(&self) -> Life {
        self.life
    }

    /// The newest life of `member` that this one knows.
    #[must_use]
    pub fn life_of(&self, member: MemberId) -> Option<Life> {
        self.peers.get(&member).and_then(|peer| peer.life)
    }

    /// Whether it votes.
    #[must_use]
    pub const fn is_voting(&self) -> bool {
        self.votes()
    }

    /// The formation that it lives in.
    #[must_use]
    pub const fn formation(&self) -> Option<&Identities> {
        self.durable.own.formation.as_ref()
    }

    /// A register as it stands in memory; what is on the disk may be older.
    #[must_use]
    pub fn register_of(&self, key: &Key) -> Option<&Register> {
        self.register(key)
    }

    /// The tickets of which the last event may have changed what this site does: of all others
    /// [`Member::holds`], [`Member::tenancy`] and [`Member::lease`] say what they said before it, but for leases of what is
    /// fenced to be given up, which follow every answer. A ticket may come more than once.
    pub fn touched(&self) -> impl Iterator<Item = &TicketName> {
        self.locals.touched()
    }

    /// The tenure that this site believes to hold, and until when.
    #[must_use]
    pub fn holds(&self, ticket: &TicketName) -> Option<(Token, Deadline)> {
        match &self.locals.get(ticket)?.state {
            State::Held(tenure) => Some((tenure.terms.token, tenure.acknowledged()?)),
            State::Leaving(tenure, _, stage) => {
                Some((tenure.terms.token, self.leaving_until(ticket, tenure, *stage)))
            }
            _ => None,
        }
    }

    /// The value in force of the tenure that this site renews.
    #[must_use]
    pub fn tenancy(&self, ticket: &TicketName) -> Option<&Tenancy> {
        Some(&self.locals.get(ticket)?.state.tenure()?.terms)
    }

    /// The lease of that tenure.
    #[must_use]
    pub fn lease(&self, ticket: &TicketName) -> Option<LeaseView> {
        let state = &self.locals.get(ticket)?.state;
        let tenure = state.tenure()?;
        let fencing = matches!(state, State::Leaving(.., Stage::Fencing));
        Some(LeaseView {
            token: tenure.terms.token,
            ballot: tenure.ballot,
            expire: tenure.terms.expire,
            ordered: tenure.ordered(),
            fencing_until: fencing.then(|| self.leaving_until(ticket, tenure, Stage::Fencing)),
        })
    }
}
