//! The costs that docs/protocol.md promises, counted in the simulator.

use sitegate_simulator::cost::{Cost, failover, grant, mass_failover, pulse};

#[test]
fn a_grant_takes_two_round_trips_and_two_commits() {
    assert_eq!(grant(), Cost { one_way: 4, commits: 2 });
}

#[test]
fn a_failover_takes_one_and_a_half_round_trips_and_two_commits_after_the_guard() {
    assert_eq!(failover(), Cost { one_way: 3, commits: 2 });
}

#[test]
fn renewal_costs_the_same_with_many_tickets() {
    let (one, many) = (pulse(1), pulse(20));
    assert_eq!(one, many);
    // Two sites tell two others each, and are answered.
    assert_eq!(one.frames, 8);
}

#[test]
fn many_tickets_fail_over_together() {
    let mass = mass_failover(20);
    assert_eq!(mass.held, 20);
    assert_eq!((mass.commits, mass.spread_ms), (7, 0));
}
