//! Small worlds, gone through to the last state; and worlds with something broken in them, which has to be found.

use std::collections::BTreeSet;

use sitegate_simulator::explore::{STATES_MAX, Size, planted, worlds};

#[test]
fn small_worlds_are_complete_and_break_nothing() {
    for case in worlds().into_iter().filter(|case| case.size == Size::Small) {
        let outcome = case.world.explore(STATES_MAX);
        let name = case.world.name;
        assert_eq!(outcome.violation, None, "{name}");
        assert!(outcome.complete, "{name}");
        assert_eq!((outcome.states, outcome.transitions), (case.states, case.transitions), "{name}");
    }
}

/// Nothing would be shown by worlds in which the ticket never changes hands.
#[test]
fn a_failover_is_met_and_so_is_a_return() {
    let case = worlds().into_iter().find(|case| case.world.name == "failover").unwrap();
    let tenures = case.world.explore(STATES_MAX).tenures;
    let sites: BTreeSet<u64> = tenures.iter().map(|token| token.0 & 0xff).collect();
    assert_eq!(sites, BTreeSet::from([1, 2]));
    assert!(tenures.len() > 2, "more than one takeover: {tenures:?}");
}

#[test]
fn what_is_planted_is_found() {
    for (world, invariant) in planted() {
        let outcome = world.explore(STATES_MAX);
        let violation = outcome.violation.unwrap_or_else(|| panic!("{} is not seen", world.name));
        assert_eq!(violation.invariant, invariant, "{}: {}", world.name, violation.what);
        assert!(!violation.steps.is_empty(), "{} is told", world.name);
    }
}
