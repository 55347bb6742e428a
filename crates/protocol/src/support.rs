//! An acceptor's side of leases: whose tickets it supports (`H_a[S]` in docs/protocol.md, "Heartbeats"), and how long
//! it guards each against other candidates.

use alloc::collections::BTreeMap;
use core::hash::Hasher;
use core::ops::Bound;

use siphasher::sip128::{Hasher128, SipHasher24};
use sitegate_mutant::planted;

use crate::ids::{Ballot, Incarnation, MemberId, Nonce, TicketName, Token};
use crate::message::LIST_PAGE;
use crate::mirror::Page;
use crate::register::Register;
use crate::settings::Settings;
use crate::time::{Guard, Now, Span};
use crate::value::{Ownership, Tenancy};

/// The digest of a set: the sum of its entries' hashes, so that it follows every change at the cost of one hash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Digest(pub(crate) u128);

impl Digest {
    pub(crate) fn add(&mut self, entry: u128) {
        self.0 = self.0.wrapping_add(entry);
    }

    pub(crate) fn remove(&mut self, entry: u128) {
        if planted!(DigestCountsChanges) {
            return self.add(entry);
        }
        self.0 = self.0.wrapping_sub(entry);
    }
}

/// The hash of one supported ticket under the acceptor's nonce: no two processes agree by accident.
pub(crate) fn entry_hash(nonce: Nonce, ticket: &TicketName, ballot: Ballot) -> u128 {
    if planted!(DigestCountsChanges) {
        return 1;
    }
    let mut hasher = SipHasher24::new_with_keys(nonce.0, 0);
    hasher.write_u64(ballot.round);
    hasher.write_u8(ballot.member);
    hasher.write(ticket.as_str().as_bytes());
    hasher.finish128().as_u128()
}

/// What one acceptor grants to all sites.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Support {
    nonce: Nonce,
    /// Steps up to this serial are committed.
    committed: u64,
    sites: BTreeMap<MemberId, SiteSupport>,
    guards: BTreeMap<TicketName, Lease>,
    /// What its holder counts on no more, though the registers still say so.
    forgone: BTreeMap<TicketName, Ballot>,
}

/// What an acceptor supports for one site in one life.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct SiteSupport {
    incarnation: Incarnation,
    last_heartbeat: Option<Now>,
    entries: BTreeMap<TicketName, Entry>,
    /// Of the entries that are committed.
    digest: Digest,
    /// Entries not committed yet, by the serial of their step.
    pending: BTreeMap<(u64, TicketName), ()>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Entry {
    ballot: Ballot,
    pending: Option<u64>,
}

/// A lease that an acceptor guards.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Lease {
    holder: MemberId,
    incarnation: Incarnation,
    token: Token,
    span: Span,
    /// The newest arrival but for heartbeats that came while the ticket was in the set.
    arrival: Now,
    /// Whether it is in the set now.
    supported: bool,
}

impl Support {
    pub(crate) const fn new(nonce: Nonce) -> Self {
        Self {
            nonce,
            committed: 0,
            sites: BTreeMap::new(),
            guards: BTreeMap::new(),
            forgone: BTreeMap::new(),
        }
    }

    /// Follows the ownership register of `ticket` after any change to it. `arrival` is set if the change was an accept
    /// by the holder itself, or a start or a transfer of state.
    pub(crate) fn follow(
        &mut self,
        ticket: &TicketName,
        register: &Register,
        arrival: Option<Now>,
        serial: u64,
        settings: &Settings,
    ) {
        let held = register.accepted().and_then(|a| match a.value.ownership() {
            Some(Ownership::Held(tenancy)) => Some((a, tenancy)),
            _ => None,
        });
        let supported = held.filter(|(a, t)| !a.adopted && register.promised().is_of(t.site));
        self.drop_unless(ticket, supported.map(|(a, t)| (t.site, t.incarnation, a.ballot)));
        match held {
            None => {
                self.guards.remove(ticket);
            }
            Some((_, tenancy)) => self.guard(ticket, tenancy, arrival, settings.guard_span(tenancy)),
        }
        if let Some((accepted, tenancy)) = supported {
            self.insert(ticket, tenancy, accepted.ballot, serial);
        }
    }

    fn guard(&mut self, ticket: &TicketName, tenancy: &Tenancy, arrival: Option<Now>, span: Span) {
        let before = self.guards.get(ticket).map(|lease| lease.arrival);
        // The terms change, the arrivals stay: for whomever they were, nobody acquires before they are over.
        if let Some(arrival) = arrival.into_iter().chain(before).max() {
            let lease = Lease {
                holder: tenancy.site,
                incarnation: tenancy.incarnation,
                token: tenancy.token,
                span,
                arrival,
                supported: self.guards.get(ticket).is_some_and(|lease| lease.supported),
            };
            self.guards.insert(ticket.clone(), lease);
        }
    }

    fn insert(&mut self, ticket: &TicketName, tenancy: &Tenancy, ballot: Ballot, serial: u64) {
        match self.forgone.get(ticket) {
            Some(forgone) if *forgone == ballot => return,
            Some(_) => drop(self.forgone.remove(ticket)),
            None => {}
        }
        let fresh = || SiteSupport {
            incarnation: tenancy.incarnation,
            last_heartbeat: None,
            entries: BTreeMap::new(),
            digest: Digest::default(),
            pending: BTreeMap::new(),
        };
        let incarnation = self.sites.entry(tenancy.site).or_insert_with(fresh).incarnation;
        if incarnation < tenancy.incarnation {
            self.forget_life(tenancy.site);
            self.sites.insert(tenancy.site, fresh());
        } else if incarnation > tenancy.incarnation {
            return; // a proposal of a life that is over: accepted, but nobody is there to renew it
        }
        let Some(site) = self.sites.get_mut(&tenancy.site) else { return };
        if site.entries.get(ticket).is_none_or(|entry| entry.ballot != ballot) {
            site.entries.insert(ticket.clone(), Entry { ballot, pending: Some(serial) });
            site.pending.insert((serial, ticket.clone()), ());
        }
        if let Some(lease) = self.guards.get_mut(ticket) {
            lease.supported = true;
        }
    }

    /// Takes the ticket out of every set but the one of `keep` at that very ballot.
    fn drop_unless(&mut self, ticket: &TicketName, keep: Option<(MemberId, Incarnation, Ballot)>) {
        for (&id, site) in &mut self.sites {
            let stays =
                site.entries.get(ticket).is_some_and(|e| keep == Some((id, site.incarnation, e.ballot)));
            if stays {
                continue;
            }
            let Some(entry) = site.entries.remove(ticket) else { continue };
            match entry.pending {
                Some(serial) => drop(site.pending.remove(&(serial, ticket.clone()))),
                None if planted!(AckFromOldState) => {} // not before its commit
                None => site.digest.remove(entry_hash(self.nonce, ticket, entry.ballot)),
            }
            if let Some(lease) = self.guards.get_mut(ticket) {
                lease.arrival = site.last_heartbeat.map_or(lease.arrival, |at| at.max(lease.arrival));
                lease.supported = false;
            }
        }
    }

    fn forget_life(&mut self, site: MemberId) {
        let Some(old) = self.sites.remove(&site) else { return };
        for ticket in old.entries.keys() {
            if let Some(lease) = self.guards.get_mut(ticket) {
                lease.arrival = old.last_heartbeat.map_or(lease.arrival, |at| at.max(lease.arrival));
                lease.supported = false;
            }
        }
    }

    /// Everything up to step `serial` is durable.
    pub(crate) fn committed(&mut self, serial: u64) {
        self.committed = self.committed.max(serial);
        for site in self.sites.values_mut() {
            if planted!(AckFromOldState) {
                site.digest = Digest::default();
                for (ticket, entry) in site.entries.iter().filter(|(_, entry)| entry.pending.is_none()) {
                    site.digest.add(entry_hash(self.nonce, ticket, entry.ballot));
                }
            }
            while let Some(((at, ticket), ())) = site.pending.first_key_value().map(|(k, v)| (k.clone(), *v))
            {
                if at > self.committed {
                    break;
                }
                site.pending.remove(&(at, ticket.clone()));
                if let Some(entry) = site.entries.get_mut(&ticket) {
                    entry.pending = None;
                    site.digest.add(entry_hash(self.nonce, &ticket, entry.ballot));
                }
            }
        }
    }

    /// A heartbeat of `site` in life `incarnation` has arrived: renews every guard of its set. Returns the digest of
    /// what is supported both in the committed and in the working state.
    pub(crate) fn heartbeat(&mut self, site: MemberId, incarnation: Incarnation, now: Now) -> Digest {
        if planted!(GuardNotRenewed) {
            return self.sites.get(&site).map_or(Digest::default(), |support| support.digest);
        }
        let newer =
            self.sites.get(&site).is_some_and(|s| s.incarnation < incarnation) && !planted!(LifeNotCounted);
        if newer {
            self.forget_life(site);
        }
        match self.sites.get_mut(&site) {
            Some(support) if planted!(LifeNotCounted) => {
                support.last_heartbeat = Some(now);
                support.digest
            }
            Some(support) if planted!(AckFromNewState) => {
                support.last_heartbeat = Some(now);
                let mut digest = support.digest;
                for (_, ticket) in support.pending.keys() {
                    let ballot = support.entries.get(ticket).map_or(Ballot::ZERO, |entry| entry.ballot);
                    digest.add(entry_hash(self.nonce, ticket, ballot));
                }
                digest
            }
            Some(support) if support.incarnation == incarnation => {
                support.last_heartbeat = Some(now);
                support.digest
            }
            _ => Digest::default(),
        }
    }

    /// `site` counts on these no more.
    pub(crate) fn forgo(&mut self, site: MemberId, tickets: &[(TicketName, Ballot)]) {
        for (ticket, ballot) in tickets {
            let entry = self.sites.get(&site).and_then(|s| s.entries.get(ticket));
            if entry.is_some_and(|entry| entry.ballot == *ballot) {
                self.drop_unless(ticket, None);
                self.forgone.insert(ticket.clone(), *ballot);
            }
        }
    }

    /// A page of the set that the digest is of.
    pub(crate) fn page(&self, site: MemberId, after: Option<&TicketName>) -> Page {
        let Some(support) = self.sites.get(&site) else {
            return Page { entries: alloc::vec::Vec::new(), digest: Digest::default(), last: true };
        };
        let durable = |entry: &Entry| entry.pending.is_none();
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let rest = support.entries.range((from, Bound::Unbounded)).filter(|(_, entry)| durable(entry));
        let mut entries: alloc::vec::Vec<_> =
            rest.map(|(ticket, entry)| (ticket.clone(), entry.ballot)).take(LIST_PAGE + 1).collect();
        let last = entries.len() <= LIST_PAGE;
        entries.truncate(LIST_PAGE);
        Page { entries, digest: support.digest, last }
    }

    /// The guard of `ticket`, and whose lease it is.
    pub(crate) fn guard_of(&self, ticket: &TicketName) -> Option<(MemberId, Token, Guard)> {
        let lease = self.guards.get(ticket)?;
        Some((lease.holder, lease.token, Guard::after(self.arrival_of(lease), lease.span)))
    }

    /// The tenure of `ticket` that is guarded or was until lately, and the newest arrival that its guard counts from.
    pub(crate) fn last_arrival(&self, ticket: &TicketName) -> Option<(Token, Now)> {
        let lease = self.guards.get(ticket)?;
        Some((lease.token, self.arrival_of(lease)))
    }

    fn arrival_of(&self, lease: &Lease) -> Now {
        let heartbeat = match self.sites.get(&lease.holder) {
            Some(site) if lease.supported => site.last_heartbeat,
            _ => None,
        };
        heartbeat.map_or(lease.arrival, |at| at.max(lease.arrival))
    }

    /// The sites in whose sets `ticket` stands, and at which ballot (invariant I6).
    pub(crate) fn all_of(&self, ticket: &TicketName) -> impl Iterator<Item = (MemberId, Ballot)> {
        self.sites.iter().filter_map(|(&id, site)| site.entries.get(ticket).map(|entry| (id, entry.ballot)))
    }
}
