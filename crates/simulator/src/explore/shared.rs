//! Values that many states have in common, known by a hash of 128 bits.

use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;

use siphasher::sip128::{Hasher128, SipHasher13};

/// The hash of `value`: the same in every process.
pub(crate) fn hash_of<T: Hash + ?Sized>(value: &T) -> u128 {
    let mut hasher = SipHasher13::new();
    value.hash(&mut hasher);
    hasher.finish128().as_u128()
}

/// A value that is never changed, and its hash. Two are taken for equal if their hashes are
/// (docs/testing.md, "Exhaustive exploration", says how unlikely it is that they are not).
#[derive(Debug)]
pub(crate) struct Shared<T>(Arc<(u128, T)>);

impl<T: Hash> Shared<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Arc::new((hash_of(&value), value)))
    }
}

impl<T> Shared<T> {
    pub(crate) fn hash(&self) -> u128 {
        self.0.0
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0.1
    }
}

impl<T> PartialEq for Shared<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0.0 == other.0.0
    }
}

impl<T> Eq for Shared<T> {}

impl<T> Hash for Shared<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u128(self.0.0);
    }
}
