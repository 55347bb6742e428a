//! From the order or the deadline to the receipt (docs/fencing.md, "Plans").

use super::*;

#[test]
fn a_deadline_ends_in_a_durable_receipt() {
    let mut shell = Shell::new();
    shell.arm(10, 60).unwrap();
    shell.notices();
    shell.pass(60 * SECOND);
    assert!(shell.leases.is_empty(), "withdrawn before the kill");
    assert_eq!(shell.notices(), [Notice::Fencing { resource: db(), token: 10, reason: Reason::deadline() }]);
    shell.kill_done(Ok(proof("killed")));
    shell.level_done(0, Ok(proof("db-kill")));
    assert!(shell.notices().is_empty(), "no receipt before nothing is left");
    shell.disk_works = false;
    shell.kill_done(Ok(proof("killed")));
    assert!(shell.notices().is_empty(), "no receipt before it is durable");
    assert_eq!(shell.fencing(), Some(Phase::Recording));
    shell.write();
    shell.turn();
    let receipts = shell.receipts();
    assert_eq!(receipts.len(), 1);
    let receipt = &receipts[0];
    assert_eq!((receipt.token, receipt.level, receipt.proof.what.as_str()), (10, Some(1), "db-kill"));
    assert_eq!(receipt.reason, Reason::deadline());
    let record = Record { open: None, receipt: Some(receipt.clone()) };
    assert_eq!(shell.disk[&db()], record);
}

#[test]
fn a_failing_level_gives_way_to_the_next() {
    let mut shell = Shell::new();
    shell.arm(10, 60).unwrap();
    shell.fence(10).unwrap();
    shell.kill_done(Err("still there".to_owned()));
    shell.notices();
    shell.level_done(0, Err("exited with code 1".to_owned()));
    let why = "exited with code 1".to_owned();
    assert_eq!(shell.notices(), [Notice::LevelFailed { resource: db(), token: 10, level: 1, why }]);
    shell.level_done(1, Ok(proof("reboot")));
    shell.kill_done(Ok(proof("killed")));
    assert_eq!(shell.receipts()[0].level, Some(2));
}

#[test]
fn a_level_that_overruns_is_given_up() {
    let mut shell = Shell::new();
    shell.arm(10, 60).unwrap();
    shell.fence(10).unwrap();
    shell.kill_done(Ok(proof("killed")));
    let Order::Level { run: first, .. } = shell.order() else { panic!() };
    // The level's own limit, and then the time to kill it.
    shell.pass(LEVEL + KILL - 1);
    assert!(shell.orders.is_empty());
    shell.pass(1);
    assert_eq!(shell.orders.remove(0), Order::Cancel { run: first });
    shell.deadman.level_done(shell.now, &db(), first, Ok(proof("too late")));
    shell.turn();
    assert_eq!(shell.fencing(), Some(Phase::Level(2)));
    shell.level_done(1, Ok(proof("second")));
    shell.kill_done(Ok(proof("killed")));
    assert_eq!(shell.receipts()[0].proof.what, "second");
}

#[test]
fn success_counts_only_when_nothing_is_left() {
    let mut shell = Shell::new();
    shell.arm(10, 60).unwrap();
    shell.fence(10).unwrap();
    shell.kill_done(Ok(proof("killed")));
    shell.level_done(0, Ok(proof("claims success")));
    shell.kill_done(Err("process 7 is left".to_owned()));
    assert_eq!(shell.fencing(), Some(Phase::Level(2)));
    shell.level_done(1, Ok(proof("second")));
    shell.pass(KILL);
    assert!(matches!(shell.order(), Order::Kill { .. }), "the kill that hangs");
    assert_eq!(shell.fencing(), Some(Phase::Paused), "no receipt without certainty");
    assert!(shell.receipts().is_empty());
}

#[test]
fn starts_over_for_ever_when_all_levels_fail() {
    let mut shell = Shell::new();
    shell.arm(10, 60).unwrap();
    shell.fence(10).unwrap();
    for round in 1..=5 {
        shell.kill_done(Ok(proof("killed")));
        shell.level_done(0, Err("no".to_owned()));
        shell.notices();
        shell.level_done(1, Err("never".to_owned()));
        let failed =
            Notice::FenceFailed { resource: db(), token: 10, rounds: round, why: "never".to_owned() };
        assert!(shell.notices().contains(&failed));
        assert_eq!(shell.arm(11, 60), Err(Refusal::BeingFenced { fencing: 10 }));
        shell.pass(RETRY_PAUSE_NS - 1);
        assert!(shell.orders.is_empty());
        shell.pass(1);
    }
    shell.fence_succeeds();
    assert_eq!(shell.receipts().len(), 1);
}

#[test]
fn an_unfenced_resource_is_killed_and_receipted() {
    let mut shell = Shell::with(&["db"], 0, 8);
    shell.arm(10, 60).unwrap();
    shell.fence(10).unwrap();
    shell.kill_done(Err("process 7 is left".to_owned()));
    assert!(shell.receipts().is_empty());
    shell.pass(RETRY_PAUSE_NS);
    shell.kill_done(Ok(proof("killed 3 processes")));
    let receipt = shell.receipts().remove(0);
    assert_eq!((receipt.level, receipt.proof.what.as_str()), (None, "killed 3 processes"));
}

#[test]
fn ordering_again_joins_and_then_repeats_the_receipt() {
    let mut shell = Shell::new();
    shell.arm(10, 60).unwrap();
    shell.fence(10).unwrap();
    shell.notices();
    shell.fence(10).unwrap();
    shell.fence(4).unwrap();
    assert_eq!(shell.notices().len(), 2, "each is told that the fence runs");
    shell.fence_succeeds();
    let first = shell.receipts();
    for token in [10, 3] {
        shell.fence(token).unwrap();
        assert_eq!(shell.receipts(), first);
    }
    assert!(shell.orders.is_empty());
}

#[test]
fn a_token_never_armed_is_fenced_too() {
    let mut shell = Shell::new();
    shell.fence(7).unwrap();
    assert_eq!(shell.disk[&db()].open, Some(7));
    shell.fence_succeeds();
    assert_eq!(shell.receipts()[0].token, 7);
    shell.arm(10, 60).unwrap();
    shell.fence(12).unwrap();
    assert_eq!(shell.disk[&db()].open, Some(12));
    shell.fence_succeeds();
    assert_eq!(shell.receipts()[0].token, 12, "a larger token's order ends the smaller one's tenure");
}

#[test]
fn a_larger_token_ordered_meanwhile_gets_a_fence_of_its_own() {
    let mut shell = Shell::new();
    shell.fence(7).unwrap();
    shell.fence(9).unwrap();
    shell.fence(8).unwrap();
    shell.fence_succeeds();
    assert_eq!(shell.receipts()[0].token, 7);
    assert_eq!(shell.disk[&db()].open, Some(9));
    shell.fence_succeeds();
    assert_eq!(shell.receipts()[0].token, 9);
    assert!(shell.orders.is_empty());
}

#[test]
fn a_kill_that_hangs_does_not_hold_up_the_plan() {
    let mut shell = Shell::new();
    shell.fence(7).unwrap();
    let Order::Kill { run, .. } = shell.order() else { panic!() };
    shell.pass(KILL);
    shell.deadman.kill_done(shell.now, &db(), run, Ok(proof("late")));
    shell.level_done(0, Ok(proof("level 1")));
    shell.kill_done(Ok(proof("killed")));
    assert_eq!(shell.receipts().len(), 1);
}

#[test]
fn only_so_many_plans_run_at_once_first_come_first_served() {
    let mut shell = Shell::with(&["a", "b", "c"], 1, 1);
    for name in ["b", "a", "c"] {
        shell.deadman.fence(shell.now, &named(name), 5, revoked()).unwrap();
        shell.turn();
        shell.kill_done(Ok(proof("killed")));
        if name != "b" {
            assert!(shell.orders.is_empty());
            continue;
        }
        assert!(matches!(&shell.orders[0], Order::Level { resource, .. } if *resource == named("b")));
        let _first = shell.orders.split_off(0);
    }
    // b overruns and, having no further level, pauses; a has its turn.
    shell.pass(LEVEL + KILL);
    let levels: Vec<_> = shell.orders.drain(..).filter(|o| matches!(o, Order::Level { .. })).collect();
    assert!(matches!(&levels[..], [Order::Level { resource, .. }] if *resource == named("a")), "{levels:?}");
    let Order::Level { run, resource, .. } = levels[0].clone() else { panic!() };
    shell.deadman.level_done(shell.now, &resource, run, Ok(proof("x")));
    shell.turn();
    assert!(matches!(&shell.orders[..], [Order::Kill { .. }]), "its turn lasts until nothing is left");
    shell.kill_done(Ok(proof("killed")));
    assert!(matches!(&shell.orders[..], [Order::Level { resource, .. }] if *resource == named("c")));
}

#[test]
fn without_a_disk_it_still_fences_but_gives_no_receipt() {
    let mut shell = Shell::new();
    shell.arm(10, 60).unwrap();
    shell.disk_works = false;
    shell.pass(60 * SECOND);
    shell.fence_succeeds();
    let saves = std::mem::take(&mut shell.waiting);
    let (_, unsaved) = Save::write_all(saves, |_| Err(())).unwrap_err();
    unsaved.iter().for_each(|u| shell.deadman.not_saved(u));
    shell.turn();
    assert!(shell.receipts().is_empty());
    assert_eq!(shell.arm(11, 60), Err(Refusal::BeingFenced { fencing: 10 }));
}

#[test]
fn times_out_on_both_clocks_at_the_earliest() {
    let mut shell = Shell::new();
    assert_eq!(shell.deadman.next_timeout(), None);
    shell.arm(10, 60).unwrap();
    assert_eq!(shell.deadman.next_timeout(), Some(shell.deadline(60)));
    shell.fence(10).unwrap();
    assert_eq!(shell.deadman.next_timeout(), Some(shell.now.after(KILL)));
    shell.fence_succeeds();
    assert_eq!(shell.deadman.next_timeout(), None);
}

#[test]
fn a_success_told_late_has_less_time_to_be_verified() {
    let mut shell = Shell::new();
    shell.arm(10, 60).unwrap();
    shell.fence(10).unwrap();
    shell.kill_done(Ok(proof("killed")));
    shell.pass(LEVEL + KILL / 4);
    shell.level_done(0, Ok(proof("within its limit, heard late")));
    assert!(matches!(shell.order(), Order::Kill { within_ns, .. } if within_ns == KILL - KILL / 4));
    shell.pass(KILL - KILL / 4);
    assert_eq!(shell.fencing(), Some(Phase::Level(2)), "the level and a kill are all that a plan counts");
}

#[test]
fn what_runs_without_being_armed_is_fenced_under_the_last_token() {
    let mut shell = Shell::new();
    shell.arm(10, 60).unwrap();
    assert!(!shell.deadman.stray(shell.now, &db()), "it runs as it should");
    shell.fence(10).unwrap();
    shell.fence_succeeds();
    shell.notices();
    assert!(shell.deadman.stray(shell.now, &db()));
    shell.turn();
    assert!(!shell.deadman.stray(shell.now, &db()), "once is enough");
    assert_eq!(shell.notices(), [Notice::Fencing { resource: db(), token: 10, reason: Reason::stray() }]);
    assert_eq!(shell.arm(11, 60), Err(Refusal::BeingFenced { fencing: 10 }));
    shell.fence(10).unwrap();
    shell.fence(9).unwrap();
    assert!(shell.receipts().is_empty(), "the old receipt does not hold while it runs");
    shell.fence_succeeds();
    let receipts = shell.receipts();
    assert_eq!((receipts[0].token, &receipts[0].reason), (10, &Reason::stray()));
    shell.arm(11, 60).unwrap();
}

#[test]
fn what_runs_and_never_was_armed_is_fenced_too() {
    let mut shell = Shell::new();
    assert!(shell.deadman.stray(shell.now, &db()));
    shell.turn();
    shell.fence_succeeds();
    assert_eq!(shell.receipts()[0].token, 0);
    shell.arm(1, 60).unwrap();
    assert!(!shell.deadman.stray(shell.now, &named("other")));
}
