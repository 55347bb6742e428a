//! A site's own daemons and programs.

use sitegate_protocol::{Command, Done, Event, Proof, Reply, Span};

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
