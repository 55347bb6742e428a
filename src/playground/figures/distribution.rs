//! A figure: what was measured, and how it is spread.

use serde::Serialize;

/// What was measured some times, or once.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Figure {
    pub(super) what: String,
    /// `ms`, `KiB`, `%` or `/s`.
    pub(super) unit: &'static str,
    pub(super) n: usize,
    pub(super) min: f64,
    pub(super) median: f64,
    pub(super) p90: f64,
    pub(super) max: f64,
}

impl Figure {
    /// Of samples, at least one. Each percentile is the smallest sample that so many are not above.
    pub(super) fn new(what: impl Into<String>, unit: &'static str, mut samples: Vec<f64>) -> Self {
        samples.sort_by(f64::total_cmp);
        let n = samples.len();
        let at = |percent: usize| samples[(n * percent).div_ceil(100).clamp(1, n) - 1];
        Self { what: what.into(), unit, n, min: samples[0], median: at(50), p90: at(90), max: at(100) }
    }

    /// Of a single value.
    pub(super) fn once(what: impl Into<String>, unit: &'static str, value: f64) -> Self {
        Self::new(what, unit, vec![value])
    }

    /// A line of the table. A single value stands under the median.
    pub(super) fn row(&self, wide: usize) -> String {
        let Self { what, unit, n, min, median, p90, max } = self;
        if *n == 1 {
            return format!("{what:wide$} {n:>6} {:>10} {median:>10.1} {:>10} {:>10}  {unit}\n", "", "", "");
        }
        format!("{what:wide$} {n:>6} {min:>10.1} {median:>10.1} {p90:>10.1} {max:>10.1}  {unit}\n")
    }
}

/// Between two moments in ns, in ms; negative if `to` came first.
#[expect(clippy::cast_precision_loss, reason = "a difference of less than 2^53 ns, three months, is exact")]
pub(super) fn ms(from_ns: u64, to_ns: u64) -> f64 {
    let magnitude = from_ns.abs_diff(to_ns) as f64 / 1e6;
    if to_ns < from_ns { -magnitude } else { magnitude }
}

/// A count as a figure holds it.
#[expect(clippy::cast_precision_loss, reason = "counts here stay far below 2^53")]
pub(super) fn count(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_samples() {
        let figure = Figure::new("x", "ms", (1..=10).rev().map(f64::from).collect());
        assert_eq!((figure.n, figure.min, figure.median, figure.p90, figure.max), (10, 1.0, 5.0, 9.0, 10.0));
        let one = Figure::once("x", "ms", 3.0);
        assert_eq!((one.n, one.min, one.median, one.p90, one.max), (1, 3.0, 3.0, 3.0, 3.0));
    }

    #[test]
    fn a_difference_has_a_sign() {
        assert_eq!((ms(5_000_000, 7_500_000), ms(7_500_000, 5_000_000)), (2.5, -2.5));
    }
}
