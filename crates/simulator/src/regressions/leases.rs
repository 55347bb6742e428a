//! Leases: holders that stand still, do not hear, or change their terms; supporters that are not told.

use sitegate_protocol::{Body, Command, Event, Refusal, RequestId, Span, Takeover};

use super::*;

#[test]
fn support_that_a_site_counts_on_no_more_is_forgone() {
    let mut plan = plan(vec![db()], 5 * MS, MS);
    plan.fence.restart = 5200 * MS; // the deadline passes meanwhile
    plan.fence.levels = vec![60 * SECOND]; // and paris is long about its fence
    let mut s = Stage::held_with(plan);
    let heard = s.world.time + 6 * SECOND;
    let forgoes = |body: &Body| matches!(body, Body::Forgo { .. });
    s.world.kill_fenced(PARIS);
    s.world.lost = Some(Box::new(move |from, _, frame| from == PARIS && frame.bodies.iter().any(forgoes)));
    s.run(heard - s.world.time);
    s.world.lost = None;
    // Paris beats again, as its fence daemon answers; that must not renew what it has lost.
    s.wait_for(10 * SECOND, "lyon takes over", |s| s.holder() == Some(LYON));
    assert_eq!(s.state(PARIS), "fencing");
}

#[test]
fn a_holder_that_was_stopped_past_its_deadline_holds_no_more() {
    let mut s = Stage::held();
    let token = s.token(PARIS);
    s.world.freeze(PARIS, 12 * SECOND);
    s.wait_for(8 * SECOND, "lyon takes over", |s| s.holder() == Some(LYON));
    assert!(!s.runs_at(PARIS), "fenced by its fence daemon");
    let later = s.token(LYON);
    assert!(later > token);
    s.run(10 * SECOND);
    assert_eq!((s.state(PARIS), s.token(LYON)), ("idle", later));
}

#[test]
fn a_holder_that_was_suspended_past_its_deadline_holds_no_more() {
    let mut s = Stage::held();
    s.world.suspend(PARIS, 12 * SECOND);
    s.wait_for(8 * SECOND, "lyon takes over", |s| s.holder() == Some(LYON));
    let later = s.token(LYON);
    s.run(10 * SECOND);
    assert_eq!((s.state(PARIS), s.token(LYON)), ("idle", later));
    assert!(!s.runs_at(PARIS));
    assert!(s.noted(PARIS, |note| matches!(note, sitegate_protocol::Note::Lost(..))));
}

#[test]
fn a_deaf_holder_is_failed_over_in_one_and_a_half_e_and_a() {
    let mut s = Stage::held();
    s.run(3 * SECOND);
    s.cut(LYON, PARIS, Time::MAX / 2);
    s.cut(TIEBREAK, PARIS, Time::MAX / 2);
    let took = s.wait_for(20 * SECOND, "lyon takes over", |s| s.holder() == Some(LYON));
    // It beats until half of E is over since it was heard last; then come E + A, on clocks of one rate, and a round.
    let (half, lease, round) = (2500 * MS, 7 * SECOND, 200 * MS);
    assert!(took <= half + lease + round, "{took}");
    assert!(took > lease, "{took}");
}

/// Everybody reads a configuration with another E.
fn reload(s: &mut Stage, expire: Span) {
    for i in 0..s.world.nodes.len() {
        let mut settings = s.world.nodes[i].settings.clone();
        settings.tickets.values_mut().for_each(|ticket| ticket.expire = expire);
        s.world.nodes[i].settings = settings.clone();
        s.world.deliver(i, Event::Reload(settings));
    }
}

/// The observer sees any moment in which the holder, its deadman and those who wait for them go by different terms.
fn changes_e_while_the_fence_daemon_is_slow(expire: Span) {
    for alone_after in (0..4000).step_by(250) {
        let mut s = Stage::held();
        s.world.nodes[PARIS].fence.slow_line = Slow { until: Time::MAX, takes: 600 * MS };
        s.run(2 * SECOND);
        reload(&mut s, expire);
        s.run(alone_after * MS);
        s.isolate(PARIS, 30 * SECOND);
        s.wait_for(25 * SECOND, "lyon takes over", |s| s.token(LYON).is_some());
        assert!(!s.runs_at(PARIS));
    }
}

#[test]
fn e_may_shrink_while_the_fence_daemon_is_slow() {
    changes_e_while_the_fence_daemon_is_slow(Span::from_secs(3));
}

#[test]
fn e_may_grow_while_the_fence_daemon_is_slow() {
    changes_e_while_the_fence_daemon_is_slow(Span::from_secs(15));
}

/// The round was begun for a longer E, and decides what to propose when the configuration has a shorter one. Where the fence
/// daemon has not taken the shorter deadline by then it goes on with the old terms, and the shorter E counts all the same.
#[test]
fn e_may_shrink_while_a_round_runs() {
    for takes in [MS / 33, 100 * MS, 250 * MS, 600 * MS] {
        let mut s = Stage::held();
        s.run(2 * SECOND);
        [LYON, TIEBREAK].into_iter().for_each(|i| s.cut(i, PARIS, 300 * MS));
        reload(&mut s, Span::from_secs(15));
        s.wait_for(SECOND, "paris asks for promises", |s| s.round(PARIS).is_some());
        s.world.nodes[PARIS].fence.slow_line = Slow { until: s.world.time + 5 * SECOND, takes };
        reload(&mut s, Span::from_secs(3));
        s.run(8 * SECOND);
        assert_eq!(s.ownership(LYON).held().map(|tenancy| tenancy.expire), Some(Span::from_secs(3)));
    }
}

/// A round that confirms a wish chooses the old terms again, which must not make E count in full again.
#[test]
fn a_smaller_e_goes_on_counting_when_a_round_chooses_the_old_one() {
    let mut s = Stage::held();
    s.isolate(LYON, 60 * SECOND);
    s.run(2 * SECOND);
    s.world.nodes[PARIS].fence.slow_line = Slow { until: Time::MAX, takes: 800 * MS };
    reload(&mut s, Span::from_secs(3));
    let lease = |s: &Stage| s.process(PARIS).member().lease(&db()).expect("paris holds");
    let left = |s: &Stage| lease(s).ordered.remaining(s.world.nodes[PARIS].now(s.world.time));
    s.wait_for(3 * SECOND, "a shorter deadline is ordered", |s| left(s) <= Span::from_secs(3));
    let before = lease(&s).ballot;
    let ask = Body::Settle { ticket: db(), id: RequestId(1) };
    s.world.arrive(PARIS, TIEBREAK, s.frame_of(TIEBREAK, PARIS, ask));
    s.wait_for(SECOND, "paris has confirmed its tenure", |s| lease(s).ballot != before);
    assert_eq!(lease(&s).expire, Span::from_secs(5));
    assert!(left(&s) <= Span::from_secs(3), "{:?}", left(&s));
}

#[test]
fn a_rest_that_is_over_on_one_clock_only_is_waited_for() {
    let mut s = Stage::held();
    s.world.change_clocks(PARIS, |clocks, time| clocks.raw.run_at(time, -500_000));
    let token = s.token(PARIS).expect("it holds");
    s.world.deliver(PARIS, Event::Unhealthy(db(), token));
    s.wait_for(3 * SECOND, "lyon takes it", |s| s.holder() == Some(LYON));
    let refusal = |s: &Stage| s.ticket(PARIS).local.and_then(|local| local.refusal);
    let events = s.world.events;
    s.run(12 * SECOND);
    assert_eq!(refusal(&s), Some(Refusal::Resting), "8 s are over on the boot clock, and not on the other");
    assert!(s.world.events < events + 2000, "{} events", s.world.events - events);
    s.run(5 * SECOND);
    assert_eq!(refusal(&s), None);
}

/// Only the holder and the arbitrator know that it was released, and neither knows that this was chosen.
#[test]
fn a_confirmed_tenure_whose_release_few_have_heard_of_is_found_to_be_over() {
    let plan = with_ticket(|ticket| ticket.takeover = Takeover::Confirmed);
    let mut s = Stage::held_with(plan);
    s.world.lost = Some(Box::new(|from, to, frame| {
        let releases = |body: &Body| match body {
            Body::Accept { key, value, .. } => {
                *key == Key::Ownership(db()) && value.ownership().is_some_and(|o| o.held().is_none())
            }
            _ => false,
        };
        (from, to) == (PARIS, LYON) && frame.bodies.iter().any(releases)
    }));
    s.ask(TIEBREAK, Command::Move(db(), id_of(LYON)));
    s.wait_for(5 * SECOND, "tiebreak has voted", |s| s.ownership(TIEBREAK).held().is_none());
    s.world.power_off(PARIS);
    assert!(s.ownership(LYON).held().is_some());
    s.wait_for(20 * SECOND, "lyon holds", |s| s.holder() == Some(LYON));
}

/// Lyon does not hear paris, and has promised itself what the others have not: it supports paris no more, and tries on.
#[test]
fn a_candidate_that_nobody_answers_is_won_over() {
    let mut s = Stage::held_with(with_arbitrators(1));
    let token = s.token(PARIS);
    s.cut(PARIS, LYON, 60 * SECOND);
    s.run(65 * SECOND);
    // Four members, three of which are needed.
    s.isolate(TIEBREAK, 20 * SECOND);
    s.run(15 * SECOND);
    assert_eq!(s.token(PARIS), token);
}

#[test]
fn a_confirmed_ticket_is_not_taken_over_before_somebody_vouches() {
    let plan = with_ticket(|ticket| ticket.takeover = Takeover::Confirmed);
    let mut s = Stage::held_with(plan);
    s.world.power_off(PARIS);
    s.run(30 * SECOND);
    assert_eq!(s.holder(), None);
    s.ask(TIEBREAK, Command::AttestDead(id_of(PARIS), Some(db())));
    s.wait_for(5 * SECOND, "lyon holds", |s| s.holder() == Some(LYON));
}
