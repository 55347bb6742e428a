//! Small worlds, gone through to the last state; and worlds with something broken in them, which has to be found.

use std::collections::BTreeSet;

use sitegate_simulator::explore::{Case, Outcome, STATES_MAX, Size, deadman, planted, worlds};

#[test]
fn small_worlds_are_complete_and_break_nothing() {
    complete(worlds(), |world| (world.name, world.explore(STATES_MAX)));
}

#[test]
fn small_worlds_of_the_deadman_are_complete_and_break_nothing() {
    complete(deadman::worlds(), |world| (world.name, world.explore(STATES_MAX)));
}

fn complete<W>(cases: Vec<Case<W>>, explore: impl Fn(&W) -> (&'static str, Outcome)) {
    for case in cases.into_iter().filter(|case| case.size == Size::Small) {
        let (name, outcome) = explore(&case.world);
        assert_eq!(outcome.violation, None, "{name}");
        assert!(outcome.complete && !outcome.tenures.is_empty(), "{name}");
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
    let members = planted().into_iter().map(|(w, breaks)| (w.name, breaks, w.explore(STATES_MAX)));
    let of_deadman =
        deadman::planted().into_iter().map(|(w, breaks)| (w.name, breaks, w.explore(STATES_MAX)));
    for (name, breaks, outcome) in members.chain(of_deadman) {
        let violation = outcome.violation.unwrap_or_else(|| panic!("{name} is not seen"));
        assert_eq!(violation.invariant, breaks, "{name}: {}", violation.what);
        assert!(!violation.steps.is_empty(), "{name} is told");
    }
}
