//! `start` and `stop` within a tenure.

use super::*;

fn run_of(order: &Order) -> RunId {
    match order {
        Order::Start { run, .. } | Order::Stop { run, .. } => *run,
        other => panic!("{other:?}"),
    }
}

fn started(failed: Option<&str>) -> Notice {
    Notice::Started { resource: db(), token: 10, failed: failed.map(str::to_owned) }
}

fn armed() -> Shell {
    let mut shell = Shell::new();
    shell.arm(10, 60).unwrap();
    shell.notices();
    shell
}

#[test]
fn starts_once() {
    let mut shell = armed();
    shell.start(10).unwrap();
    shell.start(10).unwrap();
    assert_eq!(shell.leases[&db()].activity, Activity::Starting);
    let run = run_of(&shell.order());
    shell.deadman.start_done(shell.now, &db(), run, None);
    shell.turn();
    assert_eq!(shell.notices(), [started(None)]);
    assert_eq!(shell.leases[&db()].activity, Activity::Started);
    shell.start(10).unwrap();
    assert_eq!(shell.notices(), [started(None)]);
    assert!(shell.orders.is_empty(), "what runs is not started again");
}

#[test]
fn a_failed_start_can_be_tried_again() {
    let mut shell = armed();
    shell.start(10).unwrap();
    let run = run_of(&shell.order());
    shell.deadman.start_done(shell.now, &db(), run, Some("exited with code 1".to_owned()));
    shell.turn();
    assert_eq!(shell.notices(), [started(Some("exited with code 1"))]);
    shell.start(10).unwrap();
    assert_ne!(run_of(&shell.order()), run);
}

#[test]
fn stops_then_starts_again() {
    let mut shell = armed();
    shell.start(10).unwrap();
    let run = run_of(&shell.order());
    shell.deadman.start_done(shell.now, &db(), run, None);
    shell.turn();
    shell.stop(10).unwrap();
    shell.stop(10).unwrap();
    assert_eq!(shell.start(10), Err(Refusal::Stopping));
    let run = run_of(&shell.order());
    shell.notices();
    shell.deadman.stop_done(shell.now, &db(), run, None);
    shell.turn();
    let stopped = Notice::Stopped { resource: db(), token: 10, failed: None };
    assert_eq!(shell.notices(), std::slice::from_ref(&stopped));
    shell.stop(10).unwrap();
    assert_eq!(shell.notices(), [stopped]);
    shell.start(10).unwrap();
    assert!(matches!(shell.order(), Order::Start { .. }));
}

#[test]
fn a_stop_gives_up_a_start_that_runs() {
    let mut shell = armed();
    shell.start(10).unwrap();
    let start = run_of(&shell.order());
    shell.stop(10).unwrap();
    assert!(matches!(shell.notices()[..], [Notice::Started { failed: Some(_), .. }]));
    assert_eq!(shell.orders.remove(0), Order::Cancel { run: start });
    let stop = run_of(&shell.order());
    shell.deadman.start_done(shell.now, &db(), start, None);
    shell.turn();
    assert!(shell.notices().is_empty(), "its end no longer matters");
    shell.deadman.stop_done(shell.now, &db(), stop, None);
    shell.turn();
    assert_eq!(shell.notices().len(), 1);
}

#[test]
fn a_fence_answers_whoever_waits_for_a_program() {
    for stopping in [false, true] {
        let mut shell = armed();
        if stopping { shell.stop(10) } else { shell.start(10) }.unwrap();
        let run = run_of(&shell.order());
        shell.pass(60 * SECOND);
        let notices = shell.notices();
        let answered = notices.iter().any(|n| {
            matches!((n, stopping), (Notice::Started { failed: Some(_), .. }, false))
                || matches!((n, stopping), (Notice::Stopped { failed: Some(_), .. }, true))
        });
        assert!(answered, "{notices:?}");
        assert_eq!(shell.orders.remove(0), Order::Cancel { run });
        assert!(!shell.may_exec(10));
        shell.deadman.start_done(shell.now, &db(), run, None);
        shell.fence_succeeds();
        assert_eq!(shell.receipts().len(), 1);
    }
}

#[test]
fn nothing_may_be_executed_from_the_deadline_on() {
    let mut shell = armed();
    shell.now.raw_ns += 60 * SECOND;
    // Not even before the deadman has noticed.
    assert!(!shell.may_exec(10));
    assert_eq!(shell.start(10), Err(Refusal::BeingFenced { fencing: 10 }));
}
