//! Resources and plans that change while the deadman works (docs/fencing.md, "Reloading").

use super::*;

fn schedule(levels: usize) -> Schedule {
    Schedule { kill_within_ns: KILL, level_within_ns: vec![LEVEL; levels] }
}

#[test]
fn a_plan_does_not_change_in_the_middle_of_a_round() {
    let mut shell = Shell::new();
    shell.arm(10, 60).unwrap();
    shell.fence(10).unwrap();
    let refused = |shell: &mut Shell| {
        assert_eq!(shell.deadman.reschedule(&db(), &schedule(1), true), Err(InUse), "{:?}", shell.fencing());
    };
    refused(&mut shell);
    shell.kill_done(Ok(proof("killed")));
    refused(&mut shell);
    shell.level_done(0, Err("no".to_owned()));
    refused(&mut shell);
    shell.level_done(1, Ok(proof("second")));
    refused(&mut shell);
    shell.kill_done(Err("process 7 is left".to_owned()));
    assert_eq!(shell.fencing(), Some(Phase::Paused));
    shell.deadman.reschedule(&db(), &schedule(1), false).unwrap();
    shell.pass(RETRY_PAUSE_NS);
    shell.fence_succeeds();
    assert_eq!(shell.receipts()[0].level, Some(1), "the next round runs the new plan");
}

#[test]
fn a_tenure_ends_under_the_plan_it_began_with_unless_it_may_change() {
    let mut shell = Shell::new();
    shell.arm(10, 60).unwrap();
    assert_eq!(shell.deadman.reschedule(&db(), &schedule(3), false), Err(InUse));
    shell.deadman.reschedule(&db(), &schedule(1), true).unwrap();
    shell.fence(10).unwrap();
    shell.kill_done(Ok(proof("killed")));
    shell.notices();
    shell.level_done(0, Err("no".to_owned()));
    assert!(shell.notices().iter().any(|n| matches!(n, Notice::FenceFailed { .. })), "there is one level");
    shell.pass(RETRY_PAUSE_NS);
    shell.fence_succeeds();
    shell.deadman.reschedule(&db(), &schedule(3), false).unwrap();
}

#[test]
fn what_is_armed_or_fenced_does_not_go() {
    let mut shell = Shell::new();
    shell.disk_works = false;
    shell.arm(10, 60).unwrap();
    assert_eq!(shell.deadman.remove(&db()), Err(InUse), "its arming may be on the disk");
    shell.write();
    shell.disk_works = true;
    shell.turn();
    assert_eq!(shell.deadman.remove(&db()), Err(InUse));
    shell.fence(10).unwrap();
    assert_eq!(shell.deadman.remove(&db()), Err(InUse));
    shell.fence_succeeds();
    let receipt = shell.receipts().remove(0);
    assert_eq!(shell.deadman.remove(&db()), Ok(Some(receipt.clone())));
    assert_eq!(shell.arm(11, 60), Err(Refusal::UnknownResource));
    shell.deadman.add(db(), schedule(2), Some(receipt));
    assert_eq!(shell.arm(10, 60), Err(Refusal::AlreadyFenced { receipted: 10 }), "tokens go on growing");
    shell.arm(11, 60).unwrap();
}
