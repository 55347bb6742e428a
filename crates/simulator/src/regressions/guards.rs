//! Rules that chance hardly ever puts to the test: each scene needs several things at once.

use std::cell::Cell;
use std::rc::Rc;

use sitegate_protocol::{
    Ballot, Bar, Body, Command, Effects, Event, Frame, Key, Member, Note, Span, StandbyMode, Turn, Value,
};

use super::*;

/// A plan in which nobody trusts a disk that is not proven.
fn wary(mut plan: Plan) -> Plan {
    plan.settings.trust_disk = false;
    plan
}

fn ownership() -> Key {
    Key::Ownership(db())
}

fn says(frame: &Frame, is: impl Fn(&Body) -> bool) -> bool {
    frame.bodies.iter().any(is)
}

/// Otherwise it would be renewed for as long as its fence daemon stands still, with nobody to fence it.
#[test]
fn a_site_whose_fence_daemon_does_not_answer_falls_silent() {
    let mut s = Stage::held();
    let takes = 60 * SECOND;
    s.world.nodes[PARIS].fence.slow_line = Slow { until: s.world.time + takes, takes };
    s.run(4 * SECOND); // less than E
    assert!(s.noted(PARIS, |note| *note == Note::Barred(Bar::Fence)));
    s.wait_for(10 * SECOND, "lyon takes over", |s| s.holder() == Some(LYON));
}

/// A period of 250 ms: a disk counts as standing still after a quarter of E, long before the site is unheard.
fn quick() -> Plan {
    let mut plan = plan(vec![db()], 5 * MS, MS);
    plan.settings.timing.heartbeat = Span::from_millis(250);
    plan
}

fn pings(body: &Body) -> bool {
    matches!(body, Body::Ping { .. })
}

fn beats(body: &Body) -> bool {
    pings(body) || matches!(body, Body::Heartbeat { .. })
}

/// Otherwise one that is stopped again and again would be renewed whenever it runs, and never get to release.
#[test]
fn a_site_that_was_stopped_pings_until_a_commit_has_ended() {
    let mut s = Stage::held_with(quick());
    let token = s.token(PARIS);
    s.world.freeze(PARIS, 1700 * MS);
    let said = overhear(&mut s, PARIS, beats, |_| false);
    s.run(1710 * MS);
    assert!(!said.borrow().is_empty() && said.borrow().iter().all(pings), "{said:?}");
    assert!(s.noted(PARIS, |note| *note == Note::Barred(Bar::Disk)));
    said.borrow_mut().clear();
    s.run(300 * MS);
    assert!(!said.borrow().is_empty() && !said.borrow().iter().any(pings), "{said:?}");
    assert_eq!(s.token(PARIS), token);
}

/// The ticket loop is stuck: its turn gets longer and longer, and the commit of that does not end. Neither the simulator nor the
/// daemon tells a member the time while it commits, so no run comes here: what it then does is the member's own rule.
#[test]
fn a_member_that_is_told_the_time_while_its_commit_does_not_end_pings() {
    let mut s = Stage::held_with(quick());
    s.slow_disk(PARIS, 60 * SECOND);
    s.wait_for(SECOND, "a commit has begun", |s| s.process(PARIS).committing.is_some());
    let (clocks, mut disk) = (s.world.nodes[PARIS].clocks, s.world.nodes[PARIS].disk.clone());
    let mut member = s.process(PARIS).member().clone();
    let mut turn = s.process(PARIS).committing.clone().expect("it has begun");
    let mut time = s.world.time;
    for _ in 0..7 {
        time += 250 * MS;
        turn.add(member.handle(clocks.now(time), Event::Tick));
    }
    let mut end = |member: &mut Member, turn: Turn, time: Time| {
        let committed = turn.commit(&mut disk).expect("it takes nothing back");
        let Effects { frames, notes, .. } = committed.effects(member, clocks.now(time));
        let to_lyon = frames.into_iter().filter(|(to, _)| *to == id_of(LYON));
        let said: Vec<Body> = to_lyon.flat_map(|(_, frame)| frame.bodies).filter(beats).collect();
        (said, notes)
    };
    let (said, notes) = end(&mut member, turn, time);
    assert!(said.is_sorted_by_key(pings) && said.last().is_some_and(pings), "{said:?}");
    assert_eq!(notes, [Note::Barred(Bar::Disk)]);

    time += 250 * MS;
    let mut turn = Turn::new();
    turn.add(member.handle(clocks.now(time), Event::Tick));
    let (said, notes) = end(&mut member, turn, time);
    assert!(matches!(said[..], [Body::Heartbeat { .. }]), "{said:?}");
    assert_eq!(notes, [Note::Unbarred]);
}

/// The lease has run out while its beginning was written; whoever waited for it may have begun already.
#[test]
fn nothing_is_armed_by_a_commit_that_took_longer_than_the_lease() {
    let mut s = Stage::born();
    s.world.nodes[PARIS].slow_disk = Slow { until: s.world.time + 5 * SECOND, takes: 50 * MS };
    s.ask(TIEBREAK, Command::Grant(db(), id_of(PARIS)));
    let votes = |s: &Stage| s.round(PARIS).is_some_and(|round| round.accepting);
    s.wait_for(3 * SECOND, "paris asks for votes", votes);
    // The votes of the others arrive while its own is written, and are handled with this: one commit for all.
    s.world.nodes[PARIS].slow_disk = Slow { until: s.world.time + SECOND, takes: 8 * SECOND };
    s.ask(PARIS, Command::Standby(id_of(LYON), StandbyMode::Keep));
    s.run(7 * SECOND);
    assert!(s.process(PARIS).committing.is_some());
    assert!(s.token(PARIS).is_none());
    s.run(8 * SECOND);
    assert!(s.noted(PARIS, |note| matches!(note, Note::Acquired(..))), "its last words are told late");
}

/// What forbids a tenure may come in the very frame that has the last promise for it.
#[test]
fn a_site_that_hears_of_its_standby_with_its_promises_proposes_nothing() {
    let mut s = Stage::born();
    s.ask(LYON, Command::Standby(id_of(LYON), StandbyMode::Keep));
    s.run(SECOND);
    let (asks, hears, tenures) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(true)), Rc::new(Cell::new(0)));
    let (may_ask, may_hear, seen) = (Rc::clone(&asks), Rc::clone(&hears), Rc::clone(&tenures));
    s.world.lost = Some(Box::new(move |from, to, frame| {
        let asks = |body: &Body| matches!(body, Body::Prepare { key: Key::Ownership(_), .. });
        let promises = |body: &Body| matches!(body, Body::Promise { .. });
        let held = |value: &Value| value.ownership().is_some_and(|ownership| ownership.held().is_some());
        let tenure = |body: &Body| matches!(body, Body::Accept { value, .. } if held(value));
        seen.set(seen.get() + u32::from(from == PARIS && says(frame, tenure)));
        let heard = may_hear.get() || (from == TIEBREAK && says(frame, promises));
        (from == PARIS && !may_ask.get() && says(frame, asks)) || (to == PARIS && !heard)
    }));
    s.ask(TIEBREAK, Command::Grant(db(), id_of(PARIS)));
    s.wait_for(2 * SECOND, "paris asks for promises", |s| s.round(PARIS).is_some());
    hears.set(false);
    s.ask(TIEBREAK, Command::Standby(id_of(PARIS), StandbyMode::Keep));
    let standby = Key::Standby(id_of(PARIS));
    s.wait_for(2 * SECOND, "lyon votes for the standby", |s| {
        s.world.nodes[LYON].disk.durable.registers.get(&standby).is_some_and(|r| r.accepted().is_some())
    });
    s.world.freeze(TIEBREAK, SECOND); // then it finds that vote and what paris asks
    asks.set(true);
    s.wait_for(4 * SECOND, "paris knows", |s| {
        s.noted(PARIS, |note| matches!(note, Note::Standby(site, _) if *site == id_of(PARIS)))
    });
    hears.set(true);
    s.run(4 * SECOND);
    assert_eq!((tenures.get(), s.holder()), (0, None));
}

/// A number near the end of all numbers would leave no ballot for anybody else.
#[test]
fn a_round_far_above_all_others_is_not_promised() {
    let mut s = Stage::held();
    let ballot = Ballot { round: Ballot::ROUND_LEAP * 3, member: 2 };
    let wild = Body::Prepare { key: Key::Intent(db()), ballot, rank: 0 };
    for to in [PARIS, TIEBREAK] {
        let frame = s.frame_of(LYON, to, wild.clone());
        s.world.arrive(to, LYON, frame);
        s.run(SECOND);
        let promised = s.world.nodes[to].disk.durable.registers[&Key::Intent(db())].promised();
        assert!(promised.round < Ballot::ROUND_LEAP, "{promised}");
    }
}

/// What it had promised in the life that it forgot it may have broken there.
#[test]
fn a_promise_that_is_known_from_witnesses_only_is_not_given_again() {
    let mut s = Stage::held_with(wary(plan(vec![db()], 5 * MS, MS)));
    s.world.power_off(TIEBREAK);
    s.world.boot(TIEBREAK);
    s.wait_for(15 * SECOND, "it has recovered", |s| s.votes(TIEBREAK));
    let ballot = s.process(PARIS).member().register_of(&ownership()).expect("it holds").promised();
    let promises = Rc::new(Cell::new(0));
    let seen = Rc::clone(&promises);
    s.world.lost = Some(Box::new(move |from, _, frame| {
        let promised = says(frame, |body| matches!(body, Body::Promise { ballot: of, .. } if *of == ballot));
        seen.set(seen.get() + u32::from(from == TIEBREAK && promised));
        false
    }));
    let again = s.frame_of(PARIS, TIEBREAK, Body::Prepare { key: ownership(), ballot, rank: 0 });
    s.world.arrive(TIEBREAK, PARIS, again);
    s.run(SECOND);
    assert_eq!(promises.get(), 0);
}

/// Each would tell the others what none of them knows any more.
#[test]
fn those_that_may_all_have_forgotten_do_not_vouch_for_each_other() {
    let mut s = Stage::held_with(wary(five()));
    for node in 0..5 {
        s.world.power_off(node);
    }
    for node in 1..5 {
        s.world.boot(node);
    }
    s.run(60 * SECOND);
    assert!((1..5).all(|node| !s.votes(node)), "paris may know more");
    s.world.boot(PARIS);
    s.wait_for(20 * SECOND, "all vote", |s| (0..5).all(|node| s.votes(node)));
}

/// It may have promised somebody else since, and forgotten that.
#[test]
fn a_vote_from_before_a_recovery_counts_no_more() {
    let mut s = Stage::born_with(wary(plan(vec![db()], 5 * MS, MS)));
    s.isolate_from(PARIS, TIEBREAK, 60 * SECOND);
    s.isolate_from(LYON, TIEBREAK, SECOND);
    s.grant();
    assert_eq!(s.holder(), Some(PARIS), "with the vote of lyon");
    s.world.power_off(LYON);
    s.run(500 * MS);
    s.world.boot(LYON);
    s.wait_for(15 * SECOND, "it has recovered", |s| s.votes(LYON));
    s.run(2 * MS); // a commit, and no trip
    let register = s.world.nodes[LYON].disk.durable.registers.get(&ownership()).expect("it had voted");
    assert!(register.accepted().expect("it had voted").adopted, "{register:?}");
}

/// Whoever has not said that it knows everybody may yet be born with others.
#[test]
fn nobody_votes_before_all_others_have_met_everybody() {
    let mut s = Stage::of(plan(vec![db()], 5 * MS, MS));
    s.world.noted = Some(Vec::new());
    s.world.lost = Some(Box::new(|from, to, frame| {
        let knows_all = |body: &Body| matches!(body, Body::Met { identities, .. } if identities.len() == 3);
        let unheard = |at| [(TIEBREAK, PARIS), (TIEBREAK, LYON), (LYON, TIEBREAK)].contains(&at);
        unheard((from, to)) && says(frame, knows_all)
    }));
    s.run(5 * SECOND);
    assert!((PARIS..=TIEBREAK).all(|i| !s.votes(i)), "each has been told by one only");
    s.world.lost = None;
    s.wait_for(5 * SECOND, "all are born", |s| (PARIS..=TIEBREAK).all(|i| s.votes(i)));
}

/// A site that comes back without its tenure must not keep others from it by merely being there.
#[test]
fn heartbeats_of_a_new_life_do_not_renew_what_the_old_one_held() {
    let mut s = Stage::held();
    s.world.kill_member(PARIS);
    s.run(5500 * MS); // fenced at its deadline; E + A are not over
    s.world.lost = Some(Box::new(|from, _, frame| {
        from == PARIS && says(frame, |body| matches!(body, Body::Prepare { .. } | Body::Accept { .. }))
    }));
    s.world.start_member(PARIS);
    s.wait_for(4 * SECOND, "lyon takes over", |s| s.holder() == Some(LYON));
}

/// Something takes the sites down one after the other: more of the same helps nobody.
#[test]
fn a_ticket_that_is_lost_again_and_again_is_paused() {
    let mut s = Stage::held_with(with_ticket(|ticket| ticket.takeover_limit = 1));
    let mut at = PARIS;
    for takeover in 1..=2 {
        s.world.power_off(at);
        let other = LYON + PARIS - at;
        if takeover == 1 {
            s.wait_for(12 * SECOND, "the other takes over", |s| s.holder() == Some(other));
        } else {
            s.run(20 * SECOND);
        }
        s.world.boot(at);
        s.run(3 * SECOND);
        at = other;
    }
    assert!(s.noted(PARIS, |note| *note == Note::Flapping(db())));
    assert!(s.intent(TIEBREAK).paused);
    assert_eq!(s.holder(), None);
}
