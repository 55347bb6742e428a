//! What a member is told by its configuration. Parsed and validated by the shell; changed by reload.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use sitegate_mutant::planted;

use crate::ids::{MemberId, TicketName};
use crate::quorum::majority;
use crate::time::{Drift, Span};
use crate::value::{Takeover, Tenancy};

/// The whole formation, the same on every member, and this member's part in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Settings {
    /// This member.
    pub me: MemberId,
    /// All members, this one included.
    pub members: BTreeMap<MemberId, Role>,
    /// The pace and the bounds on the network.
    pub timing: Timing,
    /// Whether to trust the own disk after an unproven start when too few answer within `Timing::recovery_wait`.
    pub trust_disk: bool,
    /// The tickets of the formation.
    pub tickets: BTreeMap<TicketName, TicketSettings>,
    /// What this site can run; nothing on an arbitrator.
    pub local: BTreeMap<TicketName, LocalTicket>,
}

/// A member's role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Votes and may hold tickets.
    Site,
    /// Votes, never holds.
    Arbitrator,
}

/// The pace, and the bounds on the network and on disks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Timing {
    /// P: how often a site tells everybody that it lives.
    pub heartbeat: Span,
    /// ρ.
    pub drift: Drift,
    /// The longest round trip to be expected: paces repetitions and ranks, decides nothing.
    pub rtt_max: Span,
    /// The longest commit to be expected: paces ranks, decides nothing.
    pub commit_max: Span,
    /// How long a member that may have forgotten looks for witnesses before it trusts its disk.
    pub recovery_wait: Span,
}

impl Timing {
    /// How much later each rank begins to acquire: longer than a better-ranked candidate needs.
    #[must_use]
    pub fn step(&self) -> Span {
        self.rtt_max.times(3).divided(2).plus(self.commit_max.times(2)).plus(self.rtt_max.divided(2))
    }

    /// How long to wait for an answer before asking again.
    #[must_use]
    pub fn retry(&self) -> Span {
        self.rtt_max.plus(self.commit_max)
    }
}

/// A ticket as the formation's configuration has it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TicketSettings {
    /// E.
    pub expire: Span,
    /// A.
    pub acquire_after: Span,
    /// When others may take it over.
    pub takeover: Takeover,
    /// Who acquires, best first; sites that are not named come after, by number.
    pub order: Vec<MemberId>,
    /// Whether it goes back to the preferred site once that is willing again.
    pub failback: bool,
    /// Takeovers until it is paused.
    pub takeover_limit: u32,
}

/// What this site does for a ticket.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LocalTicket {
    /// How long the check before acquiring may take.
    pub check_within: Span,
    /// How long the site stays unwilling after its health check failed.
    pub check_hold: Span,
}

impl Settings {
    /// How many members there are.
    #[must_use]
    pub fn n(&self) -> usize {
        self.members.len()
    }

    /// How many make a majority.
    #[must_use]
    pub fn majority(&self) -> usize {
        if planted!(MajorityIsHalf) { self.n() / 2 } else { majority(self.n()) }
    }

    /// Whether `member` is a site of this formation.
    #[must_use]
    pub fn is_site(&self, member: MemberId) -> bool {
        self.members.get(&member) == Some(&Role::Site)
    }

    /// All members but this one.
    pub fn others(&self) -> impl Iterator<Item = MemberId> + '_ {
        self.members.keys().copied().filter(|&m| m != self.me)
    }

    /// All sites.
    pub fn sites(&self) -> impl Iterator<Item = MemberId> + '_ {
        self.members.iter().filter(|(_, role)| **role == Role::Site).map(|(&m, _)| m)
    }

    /// Where `site` stands among those that may acquire `ticket`: 0 is best.
    #[must_use]
    pub fn rank(&self, ticket: &TicketName, preferred: Option<MemberId>, site: MemberId) -> u8 {
        let order = self.tickets.get(ticket).map_or(&[][..], |t| &t.order);
        let mut ranked: Vec<MemberId> = preferred.into_iter().collect();
        for candidate in order.iter().copied().chain(self.sites()) {
            if !ranked.contains(&candidate) {
                ranked.push(candidate);
            }
        }
        let rank = ranked.iter().position(|&m| m == site).unwrap_or(ranked.len());
        u8::try_from(rank).unwrap_or(u8::MAX)
    }

    /// How long an acceptor guards `tenancy` after its last arrival: (E+A)(1+ρ).
    #[must_use]
    pub fn guard_span(&self, tenancy: &Tenancy) -> Span {
        let lease = if planted!(GuardIgnoresAcquireAfter) { tenancy.expire } else { tenancy.lease() };
        if planted!(GuardIgnoresDrift) {
            return lease;
        }
        self.timing.drift.at_least(lease)
    }

    /// The largest (E+A)(1+ρ) of any ticket configured here.
    #[must_use]
    pub fn longest_guard(&self) -> Span {
        let longest = self.tickets.values().map(|t| t.expire.plus(t.acquire_after)).max();
        self.timing.drift.at_least(longest.unwrap_or(Span::ZERO))
    }
}
