//! Some thousand runs of the simulator. What once failed is staged, not drawn: `src/regressions`.

use std::ops::Range;

use sitegate_simulator::{Options, run};

/// On all cores: each run has one thread to itself.
fn check_all(seeds: Range<u64>, options: impl Fn(u64) -> Options + Sync) {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as u64;
    std::thread::scope(|scope| {
        for first in 0..threads {
            let (seeds, options) = (seeds.clone(), &options);
            scope.spawn(move || {
                for seed in seeds.filter(|seed| seed % threads == first) {
                    let report = run(options(seed), false);
                    let told =
                        report.violation.map(|violation| format!("{violation:?}; replay: {}", report.replay));
                    assert_eq!(told, None);
                }
            });
        }
    });
}

#[test]
fn random_runs_violate_nothing() {
    check_all(0..1000, Options::of);
}

#[test]
fn calm_runs_violate_nothing() {
    check_all(0..200, |seed| Options { faults: false, ..Options::of(seed) });
}
