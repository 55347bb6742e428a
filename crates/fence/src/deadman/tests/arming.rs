//! Arm and extend, and when they are refused (docs/fencing.md, "The socket").

use super::*;

#[test]
fn armed_only_once_durable() {
    let mut shell = Shell::new();
    shell.disk_works = false;
    shell.arm(10, 60).unwrap();
    assert!(shell.notices().is_empty() && shell.leases.is_empty() && !shell.is_armed());
    assert!(!shell.may_exec(10));
    assert_eq!(shell.start(10), Err(Refusal::NotArmed));
    assert_eq!(shell.extend(10, 60, 1), Err(Refusal::NotArmed));
    shell.write();
    shell.turn();
    assert_eq!(shell.disk[&db()].open, Some(10));
    let deadline = shell.deadline(60);
    assert_eq!(shell.notices(), [Notice::Armed { resource: db(), token: 10, deadline }]);
    assert_eq!(shell.leases[&db()].deadline, deadline);
    assert!(shell.may_exec(10));
    assert!(!shell.may_exec(11));
}

#[test]
fn a_failed_disk_arms_nothing() {
    let mut shell = Shell::new();
    shell.disk_works = false;
    shell.arm(10, 60).unwrap();
    let saves = std::mem::take(&mut shell.waiting);
    let (_, unsaved) = Save::write_all(saves, |_| Err(())).unwrap_err();
    for unsaved in &unsaved {
        shell.deadman.not_saved(unsaved);
    }
    shell.turn();
    assert!(matches!(shell.deadman.view(&db()).unwrap().state, State::Unarmed));
    assert!(shell.notices().is_empty());
    shell.pass(61 * SECOND);
    assert!(shell.orders.is_empty(), "nothing to fence");
}

#[test]
fn what_rests_on_unpublished_leases_is_not_told() {
    let mut shell = Shell::new();
    shell.arm(10, 60).unwrap();
    shell.notices();
    let deadline = shell.deadline(90);
    shell.deadman.extend(shell.now, &db(), 10, deadline, 1).unwrap();
    let (acts, written) = shell.deadman.take().publish(|_| Err("no space"));
    assert_eq!(written, Err("no space"));
    assert!(acts.notices.is_empty());
    shell.deadman.fence(shell.now, &db(), 10, revoked()).unwrap();
    let (acts, _) = shell.deadman.take().publish(|_| Err("no space"));
    assert!(matches!(acts.orders[..], [Order::Kill { .. }]), "kills never wait");
}

#[test]
fn refuses_what_it_does_not_know() {
    let mut shell = Shell::new();
    let other = named("other");
    let deadline = shell.deadline(60);
    let now = shell.now;
    assert_eq!(shell.deadman.arm(now, &other, 1, deadline, 1), Err(Refusal::UnknownResource));
    assert_eq!(shell.deadman.extend(now, &other, 1, deadline, 1), Err(Refusal::UnknownResource));
    assert_eq!(shell.deadman.start(now, &other, 1), Err(Refusal::UnknownResource));
    assert_eq!(shell.deadman.stop(now, &other, 1), Err(Refusal::UnknownResource));
    assert_eq!(shell.deadman.fence(now, &other, 1, revoked()), Err(Refusal::UnknownResource));
    assert!(shell.deadman.take().is_empty());
}

#[test]
fn refuses_a_past_deadline() {
    let mut shell = Shell::new();
    assert_eq!(shell.arm(10, 0), Err(Refusal::DeadlinePast));
    // Past on one clock is past.
    let deadline = Deadline { boot_ns: shell.now.boot_ns, raw_ns: u64::MAX };
    assert_eq!(shell.arm_as(10, deadline, 1), Err(Refusal::DeadlinePast));
    shell.arm(10, 60).unwrap();
    assert_eq!(shell.extend(10, 0, 1), Err(Refusal::DeadlinePast));
    assert_eq!(shell.arm(10, 0), Err(Refusal::DeadlinePast));
    assert!(shell.is_armed());
}

#[test]
fn refuses_tokens_up_to_the_receipt() {
    let mut shell = Shell::new();
    shell.arm(10, 60).unwrap();
    shell.fence(10).unwrap();
    for token in [9, 10, 11] {
        assert_eq!(shell.arm(token, 60), Err(Refusal::BeingFenced { fencing: 10 }));
        assert_eq!(shell.extend(token, 60, 1), Err(Refusal::BeingFenced { fencing: 10 }));
        assert_eq!(shell.start(token), Err(Refusal::BeingFenced { fencing: 10 }));
    }
    shell.fence_succeeds();
    for token in [9, 10] {
        assert_eq!(shell.arm(token, 60), Err(Refusal::AlreadyFenced { receipted: 10 }));
        assert_eq!(shell.extend(token, 60, 1), Err(Refusal::AlreadyFenced { receipted: 10 }));
        assert_eq!(shell.stop(token), Err(Refusal::AlreadyFenced { receipted: 10 }));
    }
    assert_eq!(shell.extend(11, 60, 1), Err(Refusal::NotArmed));
    shell.arm(11, 60).unwrap();
    assert!(shell.is_armed());
    assert_eq!(shell.disk[&db()].receipt.as_ref().unwrap().token, 10, "arming keeps the receipt");
}

#[test]
fn refuses_another_token_than_the_armed_one() {
    let mut shell = Shell::new();
    shell.arm(10, 60).unwrap();
    for token in [9, 11] {
        assert_eq!(shell.arm(token, 60), Err(Refusal::ArmedOtherwise { armed: 10 }));
        assert_eq!(shell.extend(token, 60, 1), Err(Refusal::ArmedOtherwise { armed: 10 }));
        assert_eq!(shell.start(token), Err(Refusal::ArmedOtherwise { armed: 10 }));
        assert_eq!(shell.stop(token), Err(Refusal::ArmedOtherwise { armed: 10 }));
    }
    assert_eq!(
        shell.fence(9),
        Err(Refusal::ArmedOtherwise { armed: 10 }),
        "a stale order spares a later tenure"
    );
}

#[test]
fn a_newer_incarnation_takes_over_and_the_older_is_refused() {
    let mut shell = Shell::new();
    shell.arm(10, 60).unwrap();
    let deadline = shell.deadline(70);
    shell.arm_as(10, deadline, 2).unwrap();
    assert_eq!(shell.leases[&db()].incarnation, 2);
    assert_eq!(shell.extend(10, 80, 1), Err(Refusal::OlderIncarnation { newest: 2 }));
    assert_eq!(shell.arm(10, 80), Err(Refusal::OlderIncarnation { newest: 2 }));
    shell.extend(10, 80, 3).unwrap();
    assert_eq!(shell.extend(10, 80, 2), Err(Refusal::OlderIncarnation { newest: 3 }));
}

#[test]
fn a_take_over_comes_too_late_once_the_deadline_has_passed() {
    let mut shell = Shell::new();
    shell.arm(10, 60).unwrap();
    shell.now.boot_ns += 60 * SECOND;
    // No tick has come between.
    let deadline = shell.deadline(60);
    assert_eq!(shell.arm_as(10, deadline, 2), Err(Refusal::BeingFenced { fencing: 10 }));
    assert!(matches!(shell.order(), Order::Kill { .. }));
    assert!(shell.leases.is_empty());
}

#[test]
fn an_extend_sets_the_deadline_also_to_an_earlier_one() {
    let mut shell = Shell::new();
    shell.arm(10, 60).unwrap();
    shell.extend(10, 5, 1).unwrap();
    assert_eq!(shell.deadman.next_timeout(), Some(shell.deadline(5)));
    shell.pass(5 * SECOND - 1);
    assert!(shell.is_armed());
    shell.pass(1);
    assert_eq!(shell.fencing(), Some(Phase::Killing));
}

#[test]
fn an_extend_comes_too_late_at_the_deadline() {
    let mut shell = Shell::new();
    shell.arm(10, 60).unwrap();
    shell.now.raw_ns += 60 * SECOND;
    assert_eq!(shell.extend(10, 60, 1), Err(Refusal::BeingFenced { fencing: 10 }));
    assert!(matches!(shell.order(), Order::Kill { .. }));
}

#[test]
fn either_clock_fences() {
    for on_raw in [false, true] {
        let mut shell = Shell::new();
        shell.arm(10, 60).unwrap();
        let clock = if on_raw { &mut shell.now.raw_ns } else { &mut shell.now.boot_ns };
        *clock += 60 * SECOND;
        shell.pass(0);
        assert_eq!(shell.fencing(), Some(Phase::Killing));
    }
}

#[test]
fn a_deadline_that_passes_while_the_arming_is_recorded_fences() {
    let mut shell = Shell::new();
    shell.disk_works = false;
    shell.arm(10, 1).unwrap();
    shell.pass(2 * SECOND);
    shell.disk_works = true;
    shell.write();
    shell.turn();
    assert!(shell.notices().iter().all(|n| !matches!(n, Notice::Armed { .. })));
    shell.fence_succeeds();
    assert_eq!(shell.receipts()[0].token, 10);
    assert_eq!(shell.disk[&db()].open, None);
}
