//! A site's own daemons and programs.

use sitegate_protocol::{Body, Command, Done, Event, Note, Proof, Reply, Span, StandbyMode};

use super::*;

#[test]
fn a_member_that_dies_while_its_fence_runs_releases_when_it_is_back() {
    let mut s = Stage::held();
    let revoke = s.ask(TIEBREAK, Command::Revoke(db()));
    s.wait_for(2 * SECOND, "the fence plan runs", |s| s.state(PARIS) == "fencing");
    s.restart_member(PARIS);
    s.wait_for(3 * SECOND, "the revoke is done", |s| s.answer(revoke).is_some());
    let Some(Reply::Done(Done::Free(Ownership::Free { proof, .. }))) = s.answer(revoke) else {
        panic!("{:?}", s.answer(revoke));
    };
    assert_eq!(*proof, Proof::Receipt);
    assert!(!s.runs_at(PARIS));
}

#[test]
fn a_rest_after_ill_health_survives_a_restart() {
    let mut plan = plan(vec![db()], 5 * MS, MS);
    plan.settings.local.values_mut().for_each(|local| local.check_hold = Span::from_secs(30));
    let mut s = Stage::held_with(plan);
    let token = s.token(PARIS).expect("it holds");
    s.world.deliver(PARIS, Event::Unhealthy(db(), token));
    s.wait_for(3 * SECOND, "lyon takes it", |s| s.holder() == Some(LYON));
    s.restart_member(PARIS);
    s.run(SECOND);
    s.world.power_off(LYON);
    s.run(25 * SECOND);
    assert_eq!(s.holder(), None, "paris rests");
    s.wait_for(10 * SECOND, "its rest is over", |s| s.holder() == Some(PARIS));
}

#[test]
fn a_fence_that_fails_for_long_keeps_the_ticket_until_it_succeeds() {
    let mut plan = plan(vec![db()], 5 * MS, MS);
    plan.fence.levels = vec![12 * SECOND]; // more than E + A: it is renewed all the while
    let mut s = Stage::held_with(plan);
    let moved = s.ask(TIEBREAK, Command::Move(db(), id_of(LYON)));
    s.run(10 * SECOND);
    assert_eq!((s.holder(), s.state(PARIS)), (Some(PARIS), "fencing"));
    s.wait_for(5 * SECOND, "lyon holds", |s| s.holder() == Some(LYON));
    s.run(SECOND);
    assert!(matches!(s.answer(moved), Some(Reply::Done(Done::Held(site, _))) if *site == id_of(LYON)));
}

#[test]
fn a_stop_whose_end_was_lost_with_the_line_to_the_fence_daemon_is_ordered_again() {
    let mut s = Stage::held();
    s.ask(TIEBREAK, Command::Standby(id_of(LYON), StandbyMode::Keep));
    s.run(SECOND);
    let token = s.token(PARIS).expect("it holds");
    for times in 1..=2 {
        s.world.deliver(PARIS, Event::Unhealthy(db(), token));
        let restarts = |s: &Stage| {
            let noted = s.world.noted.iter().flatten();
            noted.filter(|(_, _, note)| matches!(note, Note::RestartsHere(..))).count() == times
        };
        s.wait_for(3 * SECOND, "nobody else would take it", restarts);
        s.world.kill_fenced(PARIS);
        s.run(8 * SECOND); // it is healthy again, and may fall ill once more
    }
    assert_eq!(s.token(PARIS), Some(token));
}

/// The site that is rather to have it says that it would, and never gets it.
#[test]
fn a_failback_that_comes_to_nothing_is_not_tried_again_at_once() {
    let plan = with_ticket(|ticket| ticket.failback = true);
    let mut s = Stage::held_with(plan);
    s.world.power_off(PARIS);
    s.wait_for(20 * SECOND, "lyon holds", |s| s.holder() == Some(LYON));
    s.world.lost = Some(Box::new(|from, _, frame| {
        let tries = |body: &Body| matches!(body, Body::Prepare { key, .. } if *key == Key::Ownership(db()));
        from == PARIS && frame.bodies.iter().any(tries)
    }));
    s.world.boot(PARIS);
    s.run(600 * SECOND);
    assert_eq!(s.holder(), Some(LYON));
    let given_up = s.world.noted.iter().flatten();
    let given_up = given_up.filter(|(_, _, note)| matches!(note, Note::Released(..))).count();
    assert_eq!(given_up, 1, "once an hour at most");
}

/// Else the fence daemon seems to owe an answer for ever, and the next silence of the others ends the tenure.
#[test]
fn an_arming_that_a_fence_has_overtaken_is_not_waited_for() {
    let mut s = Stage::born();
    let slow_line = Slow { until: s.world.time + 2 * SECOND, takes: 50 * MS };
    s.world.nodes[PARIS].fence.slow_line = slow_line;
    s.ask(TIEBREAK, Command::Grant(db(), id_of(PARIS)));
    s.wait_for(SECOND, "it is being armed", |s| s.ticket(PARIS).local.is_some_and(|l| l.state == "arming"));
    s.slow_disk(PARIS, 6 * SECOND); // longer than E: what is armed too late is fenced
    s.wait_for(30 * SECOND, "paris holds", |s| s.holder() == Some(PARIS));
    s.run(3 * SECOND);
    let token = s.token(PARIS);
    assert!(token > Some(Token(257)), "under the first it never ran");
    s.isolate(PARIS, 2700 * MS);
    s.run(20 * SECOND);
    assert_eq!(s.token(PARIS), token);
}
