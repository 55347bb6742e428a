//! "Did you mean …?"

/// The one of `known` that `word` was probably meant to be: at most a third of its letters wrong.
///
/// Ties go to the earlier one.
pub fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let limit = word.chars().count().div_ceil(3);
    known
        .into_iter()
        .map(|candidate| (edits(word, candidate), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// The least number of letters to insert, drop, replace or swap with their neighbour to make `b` of `a` (optimal string
/// alignment distance), by letters without case; `_` counts as `-`.
fn edits(a: &str, b: &str) -> usize {
    let (a, b) = (letters(a), letters(b));
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let dropped = rows[i - 1][j] + 1;
                let inserted = rows[i][j - 1] + 1;
                let swapped = if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                    rows[i - 2][j - 2] + 1
                } else {
                    usize::MAX
                };
                replaced.min(dropped).min(inserted).min(swapped)
            };
        }
    }
    rows[a.len()][b.len()]
}

fn letters(word: &str) -> Vec<char> {
    word.to_lowercase().replace('_', "-").chars().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_edits() {
        assert_eq!(edits("expire", "expire"), 0);
        assert_eq!(edits("acquire_after", "Acquire-After"), 0);
        assert_eq!(edits("exipre", "expire"), 1);
        assert_eq!(edits("", "abc"), 3);
        assert_eq!(edits("kitten", "sitting"), 3);
    }

    #[test]
    fn suggests_only_what_is_near() {
        let known = ["expire", "acquire-after", "takeover", "takeover-limit"];
        assert_eq!(nearest("expires", known), Some("expire"));
        assert_eq!(nearest("acquireafter", known), Some("acquire-after"));
        assert_eq!(nearest("take-over", known), Some("takeover"));
        assert_eq!(nearest("renewal-freq", known), None);
        assert_eq!(nearest("", known), None);
    }
}
