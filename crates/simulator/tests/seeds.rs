//! Some thousand runs of the simulator. What once failed is staged, not drawn: `src/regressions`.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use sitegate_simulator::{Options, run};

/// Runs that may make no progress in time, one in so many: the bounds of L1 are still too tight for a few of them.
const LATE_ONE_IN: u64 = 50;

/// Whether progress was made in time; that nothing worse happens is asserted.
fn is_in_time(options: Options) -> bool {
    let report = run(options, false);
    let Some(violation) = report.violation else { return true };
    assert!(
        !violation.is_safety(),
        "{} is violated at {} ns: {}\nreplay: {}",
        violation.invariant,
        violation.at_ns,
        violation.what,
        report.replay
    );
    false
}

/// On all cores: each run has one thread to itself.
fn check_all(seeds: Range<u64>, options: impl Fn(u64) -> Options + Sync) {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as u64;
    let runs = seeds.end - seeds.start;
    let late = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for first in 0..threads {
            let (seeds, options, late) = (seeds.clone(), &options, &late);
            scope.spawn(move || {
                for seed in seeds.filter(|seed| seed % threads == first) {
                    if !is_in_time(options(seed)) {
                        late.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let late = late.into_inner();
    assert!(late * LATE_ONE_IN <= runs, "{late} of {runs} runs made no progress in time");
}

#[test]
fn random_runs_violate_nothing() {
    check_all(0..1000, Options::of);
}

#[test]
fn calm_runs_violate_nothing() {
    check_all(0..200, |seed| Options { faults: false, ..Options::of(seed) });
}
