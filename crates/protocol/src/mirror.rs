//! A holder's side of heartbeats: what it knows of the set that each acceptor supports, and which of its own
//! heartbeats each ack has made a base of (docs/protocol.md, "Heartbeats").

use alloc::collections::{BTreeMap, VecDeque};

use sitegate_mutant::planted;

use crate::ids::{Ballot, Nonce, TicketName};
use crate::support::{Digest, entry_hash};
use crate::time::Now;

/// States of a mirror that are kept: more than the frames of one peer that can be on their way within E.
const STATES_MAX: usize = 32;
/// Acks of old states running after which the acceptor is asked: one or two may have been on their way.
const BEHIND_MAX: u8 = 3;
/// Acks that match no state yet: their accepts may still be on another connection.
const UNMATCHED_MAX: usize = 8;

/// What a site knows of one acceptor's set, under one nonce of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Mirror {
    nonce: Nonce,
    entries: BTreeMap<TicketName, Mirrored>,
    digest: Digest,
    version: u64,
    states: VecDeque<State>,
    unmatched: VecDeque<(Digest, Now)>,
    /// The newest base of any state and any page.
    newest: Option<Now>,
    /// Acks running that matched an old state only.
    behind: u8,
    /// A listing that is being collected.
    listing: Option<BTreeMap<TicketName, Ballot>>,
    /// What pages have shown and renewed, whether the listings were torn or not.
    listed: BTreeMap<TicketName, (Ballot, Now)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Mirrored {
    ballot: Ballot,
    /// The first state with it.
    since: u64,
}

/// One state of the set: consecutive states differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct State {
    version: u64,
    digest: Digest,
    /// The newest heartbeat whose ack carried this digest, by when it was sent.
    base: Option<Now>,
}

/// A part of what an acceptor supports.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    pub(crate) entries: alloc::vec::Vec<(TicketName, Ballot)>,
    /// Of the whole set.
    pub(crate) digest: Digest,
    pub(crate) last: bool,
}

/// How a page of a listing went in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Listed {
    /// More pages are to come.
    More,
    /// The mirror now shows what was listed.
    Done,
    /// The set changed between pages: begin again.
    Torn,
}

impl Mirror {
    pub(crate) fn new(nonce: Nonce) -> Self {
        let first = State { version: 0, digest: Digest::default(), base: None };
        Self {
            nonce,
            entries: BTreeMap::new(),
            digest: Digest::default(),
            version: 0,
            states: VecDeque::from([first]),
            unmatched: VecDeque::new(),
            newest: None,
            behind: 0,
            listing: None,
            listed: BTreeMap::new(),
        }
    }

    pub(crate) const fn nonce(&self) -> Nonce {
        self.nonce
    }

    /// The acceptor has accepted these in one turn (`Some`), or supports the ticket no longer (`None`). With `own`,
    /// the acceptor is this very process, which acks nothing between two changes. True if an ack that came earlier now counts.
    pub(crate) fn change(
        &mut self,
        changes: impl IntoIterator<Item = (TicketName, Option<Ballot>)>,
        own: bool,
    ) -> bool {
        let unseen = own && self.states.back().is_some_and(|state| state.base.is_none());
        let next = if unseen { self.version } else { self.version + 1 };
        let mut changed = false;
        for (ticket, ballot) in changes {
            if self.listed.get(&ticket).is_some_and(|(listed, _)| Some(*listed) != ballot) {
                self.listed.remove(&ticket);
            }
            let before = self.entries.get(&ticket).map(|m| m.ballot);
            if before == ballot {
                continue;
            }
            changed = true;
            if let Some(old) = before {
                self.digest.remove(entry_hash(self.nonce, &ticket, old));
                self.entries.remove(&ticket);
            }
            if let Some(ballot) = ballot {
                self.digest.add(entry_hash(self.nonce, &ticket, ballot));
                self.entries.insert(ticket, Mirrored { ballot, since: next });
            }
        }
        changed && self.push_state(next)
    }

    fn push_state(&mut self, version: u64) -> bool {
        if version == self.version {
            self.states.pop_back();
        }
        self.version = version;
        if self.states.len() == STATES_MAX {
            self.states.pop_front();
        }
        let base = self.unmatched.iter().filter(|(d, _)| *d == self.digest).map(|(_, base)| *base).max();
        self.newest = self.newest.max(base);
        self.states.push_back(State { version, digest: self.digest, base });
        base.is_some()
    }

    /// An ack with `digest`, of a heartbeat sent at `base`. False if the mirror should be compared with a listing: no
    /// known state matches, or only old ones do, several times running.
    pub(crate) fn ack(&mut self, digest: Digest, base: Now) -> bool {
        let latest = self.version;
        let digest = if planted!(DigestNotCompared) { self.digest } else { digest };
        if let Some(state) = self.states.iter_mut().rev().find(|state| state.digest == digest) {
            state.base = state.base.max(Some(base));
            self.newest = self.newest.max(Some(base));
            self.behind = if state.version == latest { 0 } else { self.behind.saturating_add(1) };
            return self.behind < BEHIND_MAX;
        }
        if self.unmatched.len() == UNMATCHED_MAX {
            self.unmatched.pop_front();
        }
        self.unmatched.push_back((digest, base));
        false
    }

    /// What was sent last that renewed `ticket` at `ballot` at this acceptor, by when.
    pub(crate) fn base(&self, ticket: &TicketName, ballot: Ballot) -> Option<Now> {
        let listed = self.listed.get(ticket).filter(|(listed, _)| *listed == ballot).map(|(_, base)| *base);
        listed.max(self.base_by_acks(ticket, ballot))
    }

    fn base_by_acks(&self, ticket: &TicketName, ballot: Ballot) -> Option<Now> {
        let entry = self.entries.get(ticket);
        if planted!(AckForOtherBallot) {
            let since = entry?.since;
            return self.states.iter().filter(|state| state.version >= since).filter_map(|s| s.base).max();
        }
        let entry = entry.filter(|entry| entry.ballot == ballot)?;
        if planted!(AckForLaterSupport) {
            return self.states.iter().filter_map(|state| state.base).max();
        }
        self.states.iter().rev().take_while(|state| state.version >= entry.since).filter_map(|s| s.base).max()
    }

    /// What was sent last that renewed any ticket at this acceptor, by when.
    pub(crate) const fn newest_base(&self) -> Option<Now> {
        self.newest
    }

    /// Whether the acceptor was last seen to support `ticket` at `ballot`.
    pub(crate) fn lists(&self, ticket: &TicketName, ballot: Ballot) -> bool {
        self.entries.get(ticket).is_some_and(|entry| entry.ballot == ballot)
    }

    /// What the acceptor was last seen to support.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&TicketName, Ballot)> {
        self.entries.iter().map(|(ticket, entry)| (ticket, entry.ballot))
    }

    /// Whether an ack has confirmed the latest state: only then does a missing ticket mean anything.
    pub(crate) fn is_confirmed(&self) -> bool {
        self.states.back().is_some_and(|state| state.base.is_some())
    }

    pub(crate) const fn is_listing(&self) -> bool {
        self.listing.is_some()
    }

    /// Begins to collect a listing.
    pub(crate) fn begin_listing(&mut self) {
        self.listing = Some(BTreeMap::new());
    }

    /// Gives up a listing whose answer does not come.
    pub(crate) fn end_listing(&mut self) {
        self.listing = None;
    }

    /// Takes in one page, asked for at `base` or later if the question renewed what it shows. That holds for each entry
    /// by itself, whatever becomes of the listing.
    pub(crate) fn page(&mut self, page: Page, base: Option<Now>) -> Listed {
        let Some(mut listing) = self.listing.take() else { return Listed::Torn };
        let Page { entries, digest, last } = page;
        if let Some(base) = base {
            self.newest = self.newest.max(Some(base));
            self.listed.extend(entries.iter().map(|(ticket, ballot)| (ticket.clone(), (*ballot, base))));
        }
        listing.extend(entries);
        if !last {
            self.listing = Some(listing);
            return Listed::More;
        }
        let mut sum = Digest::default();
        for (ticket, ballot) in &listing {
            sum.add(entry_hash(self.nonce, ticket, *ballot));
        }
        if planted!(DigestCountsChanges) {
            // A counter says nothing of what was listed: it is believed.
            sum = digest;
        }
        if sum != digest {
            return Listed::Torn;
        }
        let gone = self.entries.keys().filter(|ticket| !listing.contains_key(*ticket)).cloned();
        let changes: alloc::vec::Vec<_> = gone
            .map(|ticket| (ticket, None))
            .chain(listing.iter().map(|(ticket, ballot)| (ticket.clone(), Some(*ballot))))
            .collect();
        self.change(changes, false);
        if planted!(DigestCountsChanges) {
            self.digest = digest;
            self.push_state(self.version + 1);
        }
        Listed::Done
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{Boot, Raw};

    const NONCE: Nonce = Nonce(7);

    fn at(t: u64) -> Now {
        Now { boot: Boot(t), raw: Raw(t) }
    }

    fn name(s: &str) -> TicketName {
        TicketName::new(s).unwrap()
    }

    fn b(round: u64) -> Ballot {
        Ballot { round, member: 1 }
    }

    fn digest(set: &[(&str, u64)]) -> Digest {
        let mut sum = Digest::default();
        for (ticket, round) in set {
            sum.add(entry_hash(NONCE, &name(ticket), b(*round)));
        }
        sum
    }

    fn page(set: &[(&str, u64)], digest: Digest) -> Page {
        Page {
            entries: set.iter().map(|(ticket, round)| (name(ticket), b(*round))).collect(),
            digest,
            last: true,
        }
    }

    #[test]
    fn an_ack_renews_what_its_digest_covers_and_nothing_that_came_later() {
        let mut mirror = Mirror::new(NONCE);
        mirror.change([(name("a"), Some(b(1)))], false);
        mirror.change([(name("b"), Some(b(1)))], false);
        assert!(mirror.ack(digest(&[("a", 1)]), at(10)));
        assert_eq!(mirror.base(&name("a"), b(1)), Some(at(10)));
        assert_eq!(mirror.base(&name("b"), b(1)), None);
        assert_eq!(mirror.base(&name("a"), b(2)), None, "another ballot is another support");
    }

    #[test]
    fn an_ack_that_overtook_its_accept_counts_once_the_accept_is_known() {
        let mut mirror = Mirror::new(NONCE);
        assert!(!mirror.ack(digest(&[("a", 1)]), at(10)));
        mirror.change([(name("a"), Some(b(1)))], false);
        assert_eq!(mirror.base(&name("a"), b(1)), Some(at(10)));
    }

    #[test]
    fn a_torn_listing_changes_nothing() {
        let mut mirror = Mirror::new(NONCE);
        mirror.begin_listing();
        assert_eq!(mirror.page(page(&[("a", 1)], digest(&[("b", 1)])), None), Listed::Torn);
        assert!(!mirror.lists(&name("a"), b(1)));
        mirror.begin_listing();
        assert_eq!(mirror.page(page(&[("a", 1)], digest(&[("a", 1)])), None), Listed::Done);
        assert!(mirror.lists(&name("a"), b(1)));
    }

    #[test]
    fn a_page_renews_what_it_shows_even_if_the_listing_is_torn() {
        let mut mirror = Mirror::new(NONCE);
        mirror.begin_listing();
        assert_eq!(mirror.page(page(&[("a", 1)], digest(&[("b", 1)])), Some(at(10))), Listed::Torn);
        assert_eq!(mirror.base(&name("a"), b(1)), Some(at(10)));
        assert_eq!(mirror.base(&name("a"), b(2)), None);
        assert_eq!(mirror.newest_base(), Some(at(10)));
        mirror.change([(name("a"), Some(b(2)))], false);
        assert_eq!(mirror.base(&name("a"), b(1)), None);
    }
}
