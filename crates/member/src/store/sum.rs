//! A sum over everything in a store, kept in it, so that a commit adds only what it changed and a start finds out whether
//! what it has read is all that was written. redb checks its pages when a file is opened, but not those it reads again later.

use siphasher::sip128::{Hasher128, SipHasher13};
use std::hash::Hasher;

/// The sum of the hashes of all entries, whatever their order. It guards against decay, not against somebody who writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sum(u128);

impl Sum {
    pub(super) fn add(&mut self, entry: (&[u8], &[u8])) {
        self.0 = self.0.wrapping_add(hash(entry));
    }

    pub(super) fn remove(&mut self, entry: (&[u8], &[u8])) {
        self.0 = self.0.wrapping_sub(hash(entry));
    }

    pub(super) fn to_bytes(self) -> [u8; 16] {
        self.0.to_le_bytes()
    }

    pub(super) fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(u128::from_le_bytes(bytes))
    }
}

fn hash((key, value): (&[u8], &[u8])) -> u128 {
    let mut hasher = SipHasher13::new();
    hasher.write_u64(key.len() as u64);
    hasher.write(key);
    hasher.write(value);
    hasher.finish128().as_u128()
}
