//! Quorum arithmetic, all of it.

use sitegate_mutant::planted;

/// How many of `n` members any two quorums need to share one.
#[must_use]
pub const fn majority(n: usize) -> usize {
    n / 2 + 1
}

/// How many *others* a member that may have forgotten must ask, so that every majority that it was part of has one
/// of them: `n − majority + 1`.
#[must_use]
pub const fn witnesses(n: usize) -> usize {
    n - majority(n) + 1
}

/// How many members must agree to take in a member with a new identity, itself not among them.
#[must_use]
pub fn readmitters(n: usize) -> usize {
    if planted!(ReadmittedByHalf) {
        return n / 2;
    }
    n / 2 + 1
}

/// The `k`-th largest of `values` (1 is the largest): with `k` a majority, at least `k` of them are as large.
#[must_use]
pub(crate) fn kth_newest<T: Ord + Copy>(values: &mut [T], k: usize) -> Option<T> {
    if k == 0 || values.len() < k {
        return None;
    }
    values.sort_unstable_by(|a, b| b.cmp(a));
    Some(values[k - 1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn majorities_meet_each_other_and_the_witnesses() {
        for n in 2..=15 {
            assert!(2 * majority(n) > n);
            // A majority with the forgetful member has `majority − 1` of the `n − 1` others.
            assert!(majority(n) - 1 + witnesses(n) > n - 1);
            assert!(readmitters(n) + majority(n) > n);
        }
    }

    #[test]
    fn the_kth_newest_is_backed_by_k_values() {
        assert_eq!(kth_newest(&mut [1, 5, 3], 2), Some(3));
        assert_eq!(kth_newest(&mut [1], 2), None);
    }
}
