//! Between a site's two daemons: orders that are merged, answers that are late, lost, or errors.

use sitegate_fence_client::wire::Reason;
use sitegate_protocol::{Bar, Command, Note, Span, TicketName};

use super::*;
use crate::fenced::name_of;

/// Heartbeats are frequent enough that several deadlines are ordered while one request is under way.
fn frequent(tickets: Vec<TicketName>) -> Plan {
    let mut plan = plan(tickets, 5 * MS, MS);
    plan.settings.timing.heartbeat = Span::from_millis(200);
    plan
}

fn freeze_fenced(s: &mut Stage, span: Time) {
    s.world.nodes[PARIS].fence.frozen_until = s.world.time + span;
}

fn is_lost(s: &Stage) -> bool {
    s.noted(PARIS, |note| matches!(note, Note::Lost(..)))
}

fn is_barred(s: &Stage) -> bool {
    s.noted(PARIS, |note| matches!(note, Note::Barred(Bar::Fence)))
}

/// Five deadlines are ordered meanwhile, and answered by one word. The next tenure must not be begun in debt.
#[test]
fn a_fence_daemon_that_stood_still_owes_nothing_once_it_goes_on() {
    let mut s = Stage::held_with(frequent(vec![db()]));
    s.run(2 * SECOND);
    freeze_fenced(&mut s, 1100 * MS); // E/4 is 1250 ms
    s.run(3 * SECOND);
    s.ask(LYON, Command::Revoke(db()));
    s.wait_for(3 * SECOND, "it is free", |s| s.ownership(LYON).held().is_none());
    s.run(5 * SECOND);
    s.ask(LYON, Command::Grant(db(), id_of(PARIS)));
    s.wait_for(3 * SECOND, "paris holds it again", |s| s.holder() == Some(PARIS));
    let token = s.token(PARIS);
    s.run(30 * SECOND);
    assert_eq!(s.token(PARIS), token);
    assert!(!is_lost(&s) && !is_barred(&s));
}

/// So long that heartbeats stop: whatever was ordered and not answered is what lets them go on.
#[test]
fn a_fence_daemon_that_stood_still_for_long_costs_no_ticket() {
    for stood in [1500, 2500, 3500, 4200] {
        let mut s = Stage::held_with(frequent(vec![db()]));
        s.run(2 * SECOND);
        let token = s.token(PARIS);
        freeze_fenced(&mut s, stood * MS);
        s.run(30 * SECOND);
        assert!(is_barred(&s), "it stood still for longer than E/4");
        assert_eq!((s.token(PARIS), is_lost(&s)), (token, false), "{stood} ms");
    }
}

/// Requests that bear deadlines fail. Heartbeats stop, so no answer to one orders another deadline: it is ordered again.
#[test]
fn leases_that_could_not_be_published_for_a_while_cost_no_ticket() {
    for failed in [500, 1500, 3000, 4200] {
        let mut s = Stage::held_with(frequent(vec![db()]));
        s.run(2 * SECOND);
        let token = s.token(PARIS);
        s.world.nodes[PARIS].fence.unpublished_until = s.world.time + failed * MS;
        s.run(30 * SECOND);
        assert_eq!((s.token(PARIS), is_lost(&s)), (token, false), "{failed} ms");
    }
}

/// Its answer is lost with the line; the next line begins without debts.
#[test]
fn a_line_that_breaks_while_deadlines_are_under_way_costs_no_ticket() {
    let mut s = Stage::held_with(frequent(vec![db()]));
    let token = s.token(PARIS);
    for after in 0..50 {
        s.run(200 * MS + after * MS / 10);
        s.world.break_line(PARIS);
    }
    s.run(10 * SECOND);
    assert_eq!((s.token(PARIS), is_lost(&s)), (token, false));
}

/// What is being fenced is extended no more, however long its plan takes. That the fence daemon refuses is an answer.
#[test]
fn a_long_fence_of_one_ticket_does_not_cost_another() {
    let other = TicketName::new("web").expect("a name");
    let mut plan = frequent(vec![db(), other.clone()]);
    plan.fence.levels = vec![60 * SECOND];
    plan.fence.worst_percent = 100;
    let mut s = Stage::held_with(plan);
    s.ask(LYON, Command::Grant(other.clone(), id_of(PARIS)));
    let held = |s: &Stage| s.process(PARIS).member().holds(&other).map(|(token, _)| token);
    s.wait_for(3 * SECOND, "paris holds both", |s| held(s).is_some());
    let (db_token, token) = (s.token(PARIS).expect("it holds db"), held(&s));
    let now = s.world.nodes[PARIS].clocks.instant(s.world.time);
    let deadman = s.world.nodes[PARIS].fence.deadman.as_mut().expect("it runs");
    deadman.fence(now, &name_of(&db()), db_token.0, Reason::stray()).expect("it is armed");
    let until = s.process(PARIS).member().holds(&db()).map(|(_, deadline)| deadline);
    s.world.carry_out_fencing(PARIS);
    s.run(3 * SECOND);
    let still = s.process(PARIS).member().holds(&db()).map(|(_, deadline)| deadline);
    assert!(still.is_none() || still == until, "what is refused is not in force");
    s.run(7 * SECOND);
    assert!(!is_barred(&s));
    assert_eq!(held(&s), token);
}

/// The lease of what was refused need not run out first.
#[test]
fn a_site_whose_fence_daemon_does_not_arm_tries_again_at_once() {
    let mut s = Stage::born_with(frequent(vec![db()]));
    s.world.nodes[PARIS].fence.unpublished_until = s.world.time + 500 * MS;
    s.ask(LYON, Command::Grant(db(), id_of(PARIS)));
    s.wait_for(4 * SECOND, "it holds, in less than E", |s| s.holder() == Some(PARIS));
}

/// Nothing could fence what it would run.
#[test]
fn a_site_whose_fence_daemon_is_gone_acquires_nothing() {
    let mut plan = frequent(vec![db()]);
    plan.fence.restart = 60 * SECOND;
    let mut s = Stage::born_with(plan);
    s.world.kill_fenced(PARIS);
    s.run(SECOND);
    s.ask(LYON, Command::Grant(db(), id_of(PARIS)));
    s.run(3 * SECOND);
    assert!(!s.noted(PARIS, |note| matches!(note, Note::Acquired(..))));
}
