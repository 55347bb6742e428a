//! Proposals of which only some know.

use sitegate_protocol::{Body, Command, Done, Event, Reply, RequestId, Role, Takeover};

use super::*;
use crate::fenced::name_of;

/// Paris dies with a proposal in its commit that the others have accepted.
fn die_while_proposing(s: &mut Stage) {
    s.wait_for(2 * SECOND, "paris asks for promises", |s| s.round(PARIS).is_some());
    s.slow_disk(PARIS, 300 * MS);
    let known = s.ownership(LYON);
    s.wait_for(200 * MS, "lyon has accepted", |s| s.ownership(LYON) != known);
    s.run(10 * MS);
    assert_ne!(s.ownership(PARIS), known, "paris has proposed it");
    s.world.kill_member(PARIS);
    s.run(100 * MS);
    s.world.nodes[PARIS].slow_disk = Slow::default();
}

#[test]
fn a_proposal_that_only_others_accepted_is_fenced() {
    let mut s = Stage::born();
    s.ask(TIEBREAK, Command::Grant(db(), id_of(PARIS)));
    die_while_proposing(&mut s);
    let lost = s.ownership(LYON).held().map(|tenancy| tenancy.token);
    assert!(lost.is_some() && s.written(PARIS).is_none());
    s.world.start_member(PARIS);
    s.wait_for(3 * SECOND, "paris holds", |s| s.holder() == Some(PARIS));
    assert!(s.token(PARIS) > lost);
    let receipt =
        s.world.nodes[PARIS].fence.records[&name_of(&db())].receipt.as_ref().map(|r| Token(r.token));
    assert!(receipt >= lost, "before it tried again");
}

#[test]
fn a_release_that_only_others_accepted_is_finished() {
    let mut s = Stage::held();
    let revoke = s.ask(TIEBREAK, Command::Revoke(db()));
    s.wait_for(2 * SECOND, "nothing runs", |s| s.state(PARIS) == "stopped");
    die_while_proposing(&mut s);
    assert!(s.written(PARIS).is_some() && s.ownership(LYON).held().is_none());
    s.world.start_member(PARIS);
    s.wait_for(3 * SECOND, "paris knows", |s| {
        s.ownership(PARIS).held().is_none() && s.state(PARIS) == "idle"
    });
    s.wait_for(SECOND, "the revoke is answered", |s| s.answer(revoke).is_some());
    assert!(matches!(s.answer(revoke), Some(Reply::Done(Done::Free(_)))));
    let commits = s.world.commits;
    s.run(5 * SECOND);
    assert!(s.world.commits < commits + 60, "and there is nothing more to say");
}

/// Else a crash would leave a value under a ballot that the next life may use again.
#[test]
fn a_proposal_does_not_leave_before_the_own_promise_is_durable() {
    let mut s = Stage::held();
    s.cut(PARIS, TIEBREAK, Time::MAX / 2); // so that lyon is the last to let itself through
    s.run(1500 * MS);
    s.isolate(PARIS, Time::MAX / 2);
    s.wait_for(12 * SECOND, "tiebreak has promised", |s| {
        s.round(LYON).is_some_and(|round| round.agreed.contains(&id_of(TIEBREAK)))
    });
    let before = s.ownership(TIEBREAK);
    s.world.nodes[LYON].slow_disk = Slow { until: Time::MAX, takes: 400 * MS };
    s.wait_for(5 * SECOND, "lyon has a quorum", |s| s.round(LYON).is_some_and(|round| round.accepting));
    s.run(100 * MS);
    assert_eq!(s.ownership(TIEBREAK), before);
    s.world.nodes[LYON].slow_disk = Slow::default();
    s.wait_for(2 * SECOND, "lyon holds", |s| s.holder() == Some(LYON));
}

#[test]
fn a_tenure_that_nobody_else_heard_of_is_released() {
    let mut s = Stage::born();
    let proposal = |body: &Body| matches!(body, Body::Accept { key: Key::Ownership(_), .. });
    s.world.lost = Some(Box::new(move |from, _, frame| from == PARIS && frame.bodies.iter().any(proposal)));
    s.ask(TIEBREAK, Command::Grant(db(), id_of(PARIS)));
    s.wait_for(SECOND, "paris has accepted its own", |s| s.written(PARIS).is_some());
    s.world.kill_member(PARIS);
    assert!(s.ownership(LYON).held().is_none());
    s.world.lost = None;
    s.cut(LYON, PARIS, 2 * SECOND); // paris cannot try again before it has looked at what it has
    s.cut(TIEBREAK, PARIS, 2 * SECOND);
    s.world.start_member(PARIS);
    s.wait_for(6 * SECOND, "somebody holds", |s| s.holder().is_some());
    s.run(5 * SECOND);
    assert!(s.holder().is_some());
}

#[test]
fn nobody_waits_for_a_command_and_it_comes_true() {
    let mut s = Stage::born();
    let grant = s.ask(TIEBREAK, Command::Grant(db(), id_of(LYON)));
    s.wait_for(SECOND, "the wish is chosen", |s| {
        s.world.answers.iter().any(|(id, reply)| *id == grant && *reply == Reply::Recorded)
    });
    s.world.deliver(TIEBREAK, Event::Abandon(grant));
    s.run(2 * SECOND);
    assert_eq!(s.holder(), Some(LYON));
    assert_eq!(s.answer(grant), None);
}

/// Paris, lyon and tiebreak are sites, there are four arbitrators, and a round trip takes what it may. Paris holds db and
/// dies.
fn bereaved(seed: u64, check_max: Time) -> Stage {
    let mut plan = with_arbitrators(4);
    plan.options.seed = seed;
    (plan.network.delay_min, plan.network.delay_max) = (20 * MS, 25 * MS);
    plan.faults.check_max = check_max;
    plan.members[TIEBREAK].role = Role::Site;
    plan.settings.members.insert(id_of(TIEBREAK), Role::Site);
    let mut s = Stage::held_with(plan);
    s.world.power_off(PARIS);
    s
}

/// Else two candidates split the votes, and the guards that their proposals leave have to end first.
fn lyon_succeeds_at_once(s: &mut Stage, seed: u64, slow: Time) {
    let over = (LYON..7).map(|i| s.guard_over(i, &db())).max().expect("some");
    let rtt = s.world.plan.settings.timing.rtt_max.as_nanos();
    s.run(over - s.world.time - MS);
    s.slow_disk(LYON, slow);
    let within = 2 * rtt + 50 * MS + slow;
    s.wait_for(within, &format!("lyon holds, seed {seed}"), |s| s.holder() == Some(LYON));
}

#[test]
fn a_candidate_that_was_passed_over_lets_the_better_one_finish() {
    for seed in 0..20 {
        let mut s = bereaved(seed, 70 * MS);
        s.cut(LYON, TIEBREAK, 8 * SECOND); // it does not know that lyon is parked, too
        lyon_succeeds_at_once(&mut s, seed, 60 * MS);
    }
}

#[test]
fn a_candidate_does_not_begin_behind_a_better_one() {
    for seed in 0..20 {
        let mut s = bereaved(seed, 100 * MS);
        lyon_succeeds_at_once(&mut s, seed, 2 * MS);
    }
}

/// Nobody knows whether it was chosen, nobody asks, and its site does not know of it.
#[test]
fn a_confirmed_tenure_that_only_others_accepted_is_fenced_and_freed_once_it_is_revoked() {
    let plan = with_ticket(|ticket| ticket.takeover = Takeover::Confirmed);
    let mut s = Stage::born_with(plan);
    s.ask(TIEBREAK, Command::Grant(db(), id_of(PARIS)));
    die_while_proposing(&mut s);
    assert!(s.ownership(LYON).held().is_some() && s.written(PARIS).is_none());
    let revoke = s.ask(TIEBREAK, Command::Revoke(db()));
    s.run(SECOND);
    assert_eq!(s.answer(revoke), None, "it waits for the receipt");
    s.restart_member(TIEBREAK);
    s.run(20 * SECOND);
    s.world.start_member(PARIS);
    s.wait_for(20 * SECOND, "all know that it is free", |s| {
        (PARIS..=TIEBREAK).all(|i| s.ownership(i).held().is_none() && s.ownership(i).token() > Token(0))
    });
}

/// Paris, lyon, and a third site that comes after them; two arbitrators.
fn three_sites() -> Plan {
    let mut plan = five();
    plan.members[THIRD].role = Role::Site;
    plan.settings.members.insert(id_of(THIRD), Role::Site);
    plan
}

/// In the place of tiebreak.
const THIRD: usize = TIEBREAK;
const ARBITRATOR: usize = 3;

/// Less than the end of the lease and of the guards that a proposal in vain has left.
const WITHOUT_DUEL: Time = 8 * SECOND;

#[test]
fn a_settling_round_gives_way_to_a_better_candidate() {
    let mut s = Stage::held_with(three_sites());
    let ask = Body::Settle { ticket: db(), id: RequestId(1) };
    s.isolate(PARIS, 60 * SECOND);
    s.world.arrive(THIRD, ARBITRATOR, s.frame_of(ARBITRATOR, THIRD, ask));
    s.wait_for(WITHOUT_DUEL, "lyon holds", |s| s.holder() == Some(LYON));
}

#[test]
fn who_has_promised_a_candidate_lets_it_finish() {
    let mut s = Stage::held_with(three_sites());
    let ask = Body::Willing { ticket: db(), id: RequestId(1) };
    s.isolate(PARIS, 60 * SECOND);
    s.wait_for(WITHOUT_DUEL, "lyon is parked", |s| !s.ticket(THIRD).parked.is_empty());
    s.wait_for(WITHOUT_DUEL, "lyon is promised", |s| s.ticket(THIRD).parked.is_empty());
    // Something has the third site look at its ticket just now.
    s.world.arrive(THIRD, ARBITRATOR, s.frame_of(ARBITRATOR, THIRD, ask));
    s.wait_for(SECOND, "lyon holds", |s| s.holder() == Some(LYON));
}

#[test]
fn who_has_gone_waits_for_no_round() {
    let mut s = Stage::held();
    let ask = Body::Settle { ticket: db(), id: RequestId(1) };
    s.isolate(PARIS, 60 * SECOND);
    s.world.arrive(LYON, TIEBREAK, s.frame_of(TIEBREAK, LYON, ask));
    s.restart_member(TIEBREAK);
    s.wait_for(WITHOUT_DUEL, "lyon holds", |s| {
        assert!(s.round(LYON).is_none_or(|round| round.aim != "settle"));
        s.holder() == Some(LYON)
    });
}
