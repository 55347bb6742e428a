//! Chosen values reach everybody: by announcement, and by comparing digests where one was lost
//! (docs/protocol.md, "Messages").

use alloc::vec::Vec;
use core::hash::{Hash, Hasher};
use core::ops::Bound;

use siphasher::sip128::{Hasher128, SipHasher24};

use super::Member;
use crate::event::Note;
use crate::ids::{Ballot, MemberId};
use crate::message::{Body, COMPARE_PAGE};
use crate::register::Register;
use crate::time::Now;
use crate::value::{Key, Value};

fn chosen_hash(key: &Key, ballot: Ballot) -> u128 {
    let mut hasher = SipHasher24::new();
    key.hash(&mut hasher);
    hasher.write_u64(ballot.round);
    hasher.write_u8(ballot.member);
    hasher.finish128().as_u128()
}

impl Member {
    /// What this member accepted last at `ballot` is chosen.
    pub(super) fn mark_chosen(&mut self, key: &Key, ballot: Ballot) -> bool {
        let current = self.register(key).and_then(Register::accepted).is_some_and(|a| a.ballot == ballot);
        if !current || self.chosen.get(key) == Some(&ballot) {
            return false;
        }
        self.forget_chosen(key);
        self.chosen.insert(key.clone(), ballot);
        self.chosen_digest.add(chosen_hash(key, ballot));
        true
    }

    pub(super) fn forget_chosen(&mut self, key: &Key) {
        if let Some(ballot) = self.chosen.remove(key) {
            self.chosen_digest.remove(chosen_hash(key, ballot));
        }
    }

    pub(super) fn is_chosen(&self, key: &Key) -> bool {
        self.chosen.contains_key(key)
    }

    pub(super) fn on_chosen(&mut self, now: Now, key: &Key, ballot: Ballot, value: &Value) {
        if self.leaps(key, ballot) || !self.may_open(key) {
            return;
        }
        let mut register = self.register(key).cloned().unwrap_or_default();
        if register.learn(ballot, value) {
            self.register_changed(key, register, Some(now));
        }
        if self.mark_chosen(key, ballot) {
            self.value_chosen(now, key, value);
        }
    }

    /// News about a register: acts on it.
    pub(super) fn value_chosen(&mut self, now: Now, key: &Key, value: &Value) {
        match (key, value) {
            (Key::Intent(ticket), Value::Intent(intent)) => {
                self.note(Note::Intent(ticket.clone(), intent.clone()));
            }
            (Key::Standby(site), Value::Standby(standby)) => {
                self.note(Note::Standby(*site, standby.mode));
            }
            (Key::Identities, Value::Identities(identities)) => {
                let ballot = self.chosen.get(key).copied().unwrap_or(Ballot::ZERO);
                self.on_epoch(now, ballot, &identities.clone());
            }
            _ => {}
        }
        self.look_again(now, key, None);
        self.commands_soon(now);
    }

    /// `from` acked with the digest of what it knows to be chosen. Asks around if it differs twice running: once is
    /// what an announcement on its way looks like.
    pub(super) fn compare_chosen(&mut self, from: MemberId, theirs: u128) {
        let ours = self.chosen_digest.0;
        let Some(peer) = self.peers.get_mut(&from) else { return };
        if theirs == ours {
            peer.differed = None;
        } else if peer.differed == Some((ours, theirs)) {
            peer.differed = None;
            self.send_comparison(from);
        } else {
            peer.differed = Some((ours, theirs));
        }
    }

    fn send_comparison(&mut self, to: MemberId) {
        let all: Vec<(Key, Ballot)> =
            self.chosen.iter().map(|(key, ballot)| (key.clone(), *ballot)).collect();
        let mut pages = all.chunks(COMPARE_PAGE).peekable();
        if pages.peek().is_none() {
            self.send(to, Body::Compare { after: None, entries: Vec::new(), last: true });
        }
        let mut after = None;
        while let Some(page) = pages.next() {
            let last = pages.peek().is_none();
            self.send(to, Body::Compare { after: after.clone(), entries: page.to_vec(), last });
            after = page.last().map(|(key, _)| key.clone());
        }
    }

    /// Tells what this member knows better, asks for what it knows worse.
    pub(super) fn on_compare(
        &mut self,
        from: MemberId,
        after: Option<Key>,
        entries: &[(Key, Ballot)],
        last: bool,
    ) {
        let begin = after.map_or(Bound::Unbounded, Bound::Excluded);
        let end = match entries.last() {
            Some((key, _)) if !last => Bound::Included(key.clone()),
            _ => Bound::Unbounded,
        };
        if !last && entries.is_empty() {
            return;
        }
        let theirs = |key: &Key| entries.binary_search_by(|(k, _)| k.cmp(key)).ok().map(|i| entries[i].1);
        let newer: Vec<Key> = self
            .chosen
            .range((begin, end))
            .filter(|(key, ballot)| theirs(key).is_none_or(|b| b < **ballot))
            .map(|(key, _)| key.clone())
            .collect();
        let older = |(key, ballot): &&(Key, Ballot)| self.chosen.get(key).is_none_or(|ours| ours < ballot);
        let keys: Vec<Key> =
            entries.iter().filter(older).take(COMPARE_PAGE).map(|(k, _)| k.clone()).collect();
        self.send_chosen(from, &newer);
        if !keys.is_empty() {
            self.send(from, Body::Want { keys });
        }
    }

    pub(super) fn on_want(&mut self, from: MemberId, keys: &[Key]) {
        self.send_chosen(from, &keys[..keys.len().min(COMPARE_PAGE)]);
    }

    fn send_chosen(&mut self, to: MemberId, keys: &[Key]) {
        for key in keys.iter().filter(|key| self.is_chosen(key)).cloned().collect::<Vec<_>>() {
            if let Some(accepted) = self.register(&key).and_then(Register::accepted).cloned() {
                self.send(to, Body::Chosen { key, ballot: accepted.ballot, value: accepted.value });
            }
        }
    }
}
