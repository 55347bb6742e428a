//! What was armed and not receipted is fenced, unless the same boot's deadline still lies ahead
//! (docs/fencing.md, "Restarts, reboots, lost state").

use super::*;

#[test]
fn carries_on_on_the_same_boot() {
    let mut shell = Shell::new();
    shell.arm(10, 60).unwrap();
    shell.extend(10, 90, 4).unwrap();
    shell.start(10).unwrap();
    let Order::Start { run, .. } = shell.order() else { panic!() };
    shell.deadman.start_done(shell.now, &db(), run, None);
    shell.turn();
    let before = shell.leases.clone();
    shell.restart(true);
    assert!(shell.orders.is_empty());
    assert_eq!(shell.leases, before);
    assert_eq!(shell.extend(10, 90, 3), Err(Refusal::OlderIncarnation { newest: 4 }));
    shell.extend(10, 90, 4).unwrap();
    shell.pass(90 * SECOND);
    shell.fence_succeeds();
    assert_eq!(shell.receipts()[0].reason, Reason::deadline());
}

#[test]
fn what_ran_when_it_went_down_is_unknown() {
    for stopping in [false, true] {
        let mut shell = Shell::new();
        shell.arm(10, 60).unwrap();
        if stopping { shell.stop(10) } else { shell.start(10) }.unwrap();
        shell.restart(true);
        assert_eq!(shell.leases[&db()].activity, Activity::Interrupted);
        shell.start(10).unwrap();
        assert!(matches!(shell.order(), Order::Start { .. }), "may be started anew");
    }
}

#[test]
fn fences_when_the_deadline_passed_meanwhile() {
    let mut shell = Shell::new();
    shell.arm(10, 60).unwrap();
    shell.now.boot_ns += 60 * SECOND;
    shell.restart(true);
    assert!(shell.leases.is_empty());
    shell.fence_succeeds();
    let receipt = shell.receipts().remove(0);
    assert_eq!((receipt.token, receipt.reason), (10, Reason::not_receipted()));
}

#[test]
fn fences_after_a_reboot() {
    let mut shell = Shell::new();
    shell.arm(10, 60).unwrap();
    shell.now = Instant { boot_ns: 5 * SECOND, raw_ns: 5 * SECOND };
    shell.restart(false);
    shell.fence_succeeds();
    assert_eq!(shell.receipts()[0].token, 10);
}

#[test]
fn fences_what_was_being_fenced() {
    let mut shell = Shell::new();
    shell.arm(10, 60).unwrap();
    shell.fence(10).unwrap();
    // The deadline lies ahead, but the lease was withdrawn when the fence began.
    shell.restart(true);
    shell.fence_succeeds();
    assert_eq!(shell.receipts()[0].token, 10);
    shell.fence(12).unwrap();
    shell.restart(true);
    shell.fence_succeeds();
    assert_eq!(shell.receipts()[0].token, 12, "a token never armed is not forgotten either");
}

#[test]
fn remembers_receipts() {
    let mut shell = Shell::new();
    shell.arm(10, 60).unwrap();
    shell.fence(10).unwrap();
    shell.fence_succeeds();
    let receipts = shell.receipts();
    for same_boot in [true, false] {
        shell.restart(same_boot);
        assert!(shell.orders.is_empty());
        assert_eq!(shell.arm(10, 60), Err(Refusal::AlreadyFenced { receipted: 10 }));
        shell.fence(10).unwrap();
        assert_eq!(shell.receipts(), receipts);
    }
}

#[test]
fn a_lease_of_another_tenure_is_none() {
    let mut shell = Shell::new();
    shell.arm(10, 60).unwrap();
    let stale = shell.leases.clone();
    shell.fence(10).unwrap();
    shell.fence_succeeds();
    shell.arm(11, 60).unwrap();
    shell.leases = stale;
    shell.restart(true);
    assert_eq!(shell.fencing(), Some(Phase::Killing));
}

#[test]
fn a_receipt_on_its_way_to_the_disk_is_not_given() {
    let mut shell = Shell::new();
    shell.arm(10, 60).unwrap();
    shell.fence(10).unwrap();
    shell.disk_works = false;
    shell.fence_succeeds();
    shell.restart(true);
    shell.disk_works = true;
    assert_eq!(shell.fencing(), Some(Phase::Killing), "all of it again");
    shell.fence_succeeds();
    assert_eq!(shell.receipts().len(), 1);
}

#[test]
#[should_panic(expected = "without a schedule")]
fn a_record_nobody_would_fence_is_a_bug() {
    let records = BTreeMap::from([(named("gone"), Record { open: Some(1), receipt: None })]);
    let now = Instant { boot_ns: 1, raw_ns: 1 };
    let _ = Deadman::recover(now, 1, schedules(&["db"], 1), records, &Leases::new());
}
