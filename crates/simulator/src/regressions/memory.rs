//! Members that may have forgotten, their witnesses, and lives that are over.

use std::cell::Cell;
use std::rc::Rc;

use sitegate_protocol::{
    Ballot, Body, Command, CommandRefusal, Identity, Incarnation, Key, Life, Nonce, Note, Ownership,
    Register, Reply, Span, TicketName, Value,
};

use super::*;
use crate::node::Disk;

#[test]
fn a_process_that_died_while_it_recovered_is_followed_by_one_that_recovers() {
    let mut s = Stage::held();
    s.world.power_off(TIEBREAK);
    s.isolate(TIEBREAK, 4 * SECOND);
    s.world.boot(TIEBREAK);
    s.run(1500 * MS);
    assert!(s.noted(TIEBREAK, |note| *note == Note::Recovering));
    // What /run says now is of this boot, and of the commits of a process that had not recovered.
    s.restart_member(TIEBREAK);
    s.run(SECOND);
    assert!(!s.votes(TIEBREAK));
    s.run(3 * SECOND);
    assert!(s.votes(TIEBREAK), "the others answer again");
}

#[test]
fn a_witness_that_has_restarted_is_asked_again() {
    let mut s = Stage::held();
    s.world.power_off(TIEBREAK);
    s.cut(LYON, TIEBREAK, 5 * SECOND);
    s.world.boot(TIEBREAK);
    s.run(1500 * MS); // paris has told all that it knows
    assert!(!s.votes(TIEBREAK));
    s.restart_member(PARIS);
    s.run(6 * SECOND);
    assert!(s.votes(TIEBREAK), "both have told, in the lives that they live now");
    assert!(!s.noted(TIEBREAK, |note| matches!(note, Note::TrustsDisk { .. })));
}

#[test]
fn a_promise_of_an_earlier_life_is_asked_for_again() {
    let (third, fourth, fifth) = (TIEBREAK, 3, 4);
    let mut s = Stage::born_with(five());
    s.ask(third, Command::Grant(db(), id_of(LYON)));
    s.run(SECOND);
    s.ask(third, Command::Revoke(db()));
    s.run(SECOND);
    s.world.power_off(PARIS);
    s.world.power_off(fifth);
    s.ask(third, Command::Grant(db(), id_of(LYON)));
    s.wait_for(SECOND, "the wish is known", |s| s.ticket(LYON).local.is_some_and(|l| l.check == "running"));
    s.cut(LYON, fourth, 2 * SECOND);
    s.wait_for(SECOND, "one has promised", |s| {
        s.round(LYON).is_some_and(|round| round.agreed.contains(&id_of(third)))
    });
    s.restart_member(third);
    s.run(4 * SECOND);
    assert_eq!(s.holder(), Some(LYON), "three of five agree");
}

#[test]
fn a_readmitted_site_begins_above_the_lives_of_its_earlier_identity() {
    let mut s = Stage::held();
    s.restart_member(PARIS);
    s.run(SECOND);
    let before = s.world.nodes[PARIS].disk.durable.own.incarnation;
    s.world.power_off(PARIS);
    s.world.nodes[PARIS].disk = Disk::new(Identity(99));
    s.run(8 * SECOND);
    s.world.boot(PARIS);
    s.run(3 * SECOND);
    s.ask(TIEBREAK, Command::Readmit(id_of(PARIS)));
    s.run(12 * SECOND);
    assert!(s.votes(PARIS));
    assert!(s.world.nodes[PARIS].disk.durable.own.incarnation > before);
    s.ask(TIEBREAK, Command::Move(db(), id_of(PARIS)));
    s.run(15 * SECOND);
    let token = s.token(PARIS);
    assert!(token.is_some());
    s.world.power_off(TIEBREAK);
    s.run(20 * SECOND);
    assert_eq!(s.token(PARIS), token, "it counts its own answers too");
}

/// What it has promised before it found out may contradict what it has forgotten.
#[test]
fn a_process_that_finds_out_that_it_has_forgotten_says_nothing_more() {
    let mut s = Stage::held();
    let promised = Rc::new(Cell::new(false));
    let seen = Rc::clone(&promised);
    s.world.lost = Some(Box::new(move |from, _, frame| {
        let promises = frame.bodies.iter().any(|body| matches!(body, Body::Promise { .. }));
        seen.set(seen.get() || (from == TIEBREAK && promises));
        false
    }));
    s.slow_disk(TIEBREAK, 300 * MS);
    s.ask(LYON, Command::Revoke(db()));
    let committing = |s: &Stage| s.process(TIEBREAK).committing.is_some();
    s.wait_for(SECOND, "it commits a promise", committing);
    let Life { incarnation, .. } = s.process(TIEBREAK).member().life();
    let newer = Life { incarnation: Incarnation(incarnation.0 + 1), nonce: Nonce(77) };
    let mut frame = s.frame_of(LYON, TIEBREAK, Body::Ping { seq: 1 });
    frame.header.known.push((id_of(TIEBREAK), newer));
    s.world.arrive(TIEBREAK, LYON, frame);
    s.wait_for(SECOND, "it has ended", |s| s.noted(TIEBREAK, |note| *note == Note::RolledBack));
    assert!(!promised.get());
}

/// Lyon hears of the life on the older disk from paris, which knows less of the one before. If it takes that life's word, it holds
/// what it was told before against the next one: when another disk is lost, and nobody is left to recover from.
#[test]
fn who_hears_of_a_life_from_others_still_compares_what_it_tells() {
    let mut s = Stage::born();
    let image = s.world.nodes[TIEBREAK].disk.clone();
    s.grant();
    s.ask(LYON, Command::Revoke(db()));
    s.run(SECOND);
    s.world.power_off(TIEBREAK);
    s.restart_member(PARIS); // it has not been told anything by tiebreak in this life
    s.run(SECOND);
    s.world.nodes[TIEBREAK].disk = image;
    s.isolate_from(LYON, TIEBREAK, 2 * SECOND);
    s.world.boot(TIEBREAK);
    s.run(1900 * MS);
    assert!(!s.noted(TIEBREAK, |note| *note == Note::RolledBack));
    s.wait_for(SECOND, "lyon finds out", |s| s.noted(TIEBREAK, |note| *note == Note::RolledBack));
    s.wait_for(6 * SECOND, "tiebreak has recovered", |s| s.noted(TIEBREAK, |note| *note == Note::Recovered));
    s.wait_for(SECOND, "and votes", |s| s.votes(TIEBREAK));
    s.world.power_off(PARIS);
    s.world.nodes[PARIS].disk = Disk::new(Identity(99));
    s.restart_member(TIEBREAK);
    s.run(2 * SECOND);
    assert!(s.votes(TIEBREAK), "it has forgotten nothing since");
}

/// A healthy one that is held to it starts again; and where two others have gone by then, it never finds enough witnesses.
#[test]
fn a_readmitted_member_is_not_held_to_what_its_earlier_identity_has_told() {
    let (fourth, fifth) = (3, 4);
    let mut s = Stage::born_with(five());
    for _ in 0..5 {
        s.ask(PARIS, Command::Pause(db()));
        s.run(200 * MS);
        s.ask(PARIS, Command::Resume(db()));
        s.run(200 * MS);
    }
    let told = s.world.nodes[TIEBREAK].disk.lsn;
    s.world.power_off(TIEBREAK);
    s.isolate(LYON, Time::MAX / 2);
    // Nobody else has heard of so many commits in the life that it lives now.
    [PARIS, fourth, fifth].into_iter().for_each(|i| s.restart_member(i));
    s.world.nodes[TIEBREAK].disk = Disk::new(Identity(99));
    s.world.boot(TIEBREAK);
    s.run(3 * SECOND);
    s.ask(PARIS, Command::Readmit(id_of(TIEBREAK)));
    s.wait_for(20 * SECOND, "tiebreak votes", |s| s.votes(TIEBREAK));
    assert!(s.world.nodes[TIEBREAK].disk.lsn < told);
    s.world.power_off(fourth);
    s.world.power_off(fifth);
    s.world.network.heal();
    s.run(5 * SECOND);
    s.ask(PARIS, Command::Grant(db(), id_of(PARIS)));
    s.wait_for(5 * SECOND, "three of five agree", |s| s.holder().is_some());
    assert!(!s.noted(TIEBREAK, |note| *note == Note::RolledBack));
}

/// Paris has confirmed its list before it was born, and lyon, whom tiebreak waits for, is gone.
#[test]
fn an_unborn_member_hears_of_the_birth_of_those_who_have_confirmed_its_list() {
    let mut s = Stage::of(plan(vec![db()], 5 * MS, MS));
    s.world.noted = Some(Vec::new());
    s.world.lost = Some(Box::new(|from, to, frame| {
        let answers = frame.bodies.iter().any(|body| matches!(body, Body::Met { .. }));
        (from, to) == (LYON, TIEBREAK) && answers
    }));
    s.wait_for(2 * SECOND, "two are born", |s| s.votes(PARIS) && s.votes(LYON));
    s.world.power_off(LYON);
    s.run(15 * SECOND);
    assert!(s.votes(TIEBREAK), "it is a majority with paris");
}

/// What the one before it in its name has told is not its own.
#[test]
fn whoever_is_made_anew_before_birth_has_forgotten_nothing() {
    let mut s = Stage::of(plan(vec![db()], 5 * MS, MS));
    s.world.noted = Some(Vec::new());
    s.world.lost = Some(Box::new(|from, to, _| (from, to) == (LYON, TIEBREAK)));
    for _ in 0..4 {
        s.run(SECOND);
        s.restart_member(TIEBREAK); // each life commits something
    }
    s.run(SECOND);
    s.world.power_off(TIEBREAK);
    s.world.nodes[TIEBREAK].disk = Disk::new(Identity(99));
    s.world.lost = None;
    s.world.boot(TIEBREAK);
    s.run(3 * SECOND);
    assert!((PARIS..=TIEBREAK).all(|i| s.votes(i)));
    assert!(!s.noted(TIEBREAK, |note| *note == Note::RolledBack));
}

#[test]
fn a_cloned_arbitrator_costs_nothing() {
    let mut s = Stage::held();
    let token = s.token(PARIS);
    s.world.clone_machine(TIEBREAK, 3 * SECOND);
    s.run(20 * SECOND);
    assert_eq!(s.token(PARIS), token);
    assert!(s.votes(TIEBREAK));
}

/// Its disk says that nobody votes yet, and a peer that has restarted cannot know better either.
#[test]
fn a_disk_from_before_birth_does_not_vote() {
    let mut s = Stage::of(plan(vec![db()], 5 * MS, MS));
    s.world.noted = Some(Vec::new());
    s.run(2 * MS);
    let image = s.world.nodes[TIEBREAK].disk.clone();
    assert!(image.durable.own.formation.is_none());
    s.run(2 * SECOND);
    // Lyon holds, and paris knows nothing of it.
    s.isolate_from(PARIS, LYON, Time::MAX / 2);
    s.ask(TIEBREAK, Command::Grant(db(), id_of(LYON)));
    s.wait_for(2 * SECOND, "lyon holds", |s| s.holder() == Some(LYON));
    s.isolate(LYON, 5 * SECOND);
    s.world.power_off(TIEBREAK);
    s.world.nodes[TIEBREAK].disk = image;
    s.world.nodes[TIEBREAK].proof = None;
    s.world.boot(TIEBREAK);
    s.run(2 * SECOND);
    s.restart_member(PARIS);
    s.run(1500 * MS);
    assert!(!s.votes(TIEBREAK), "lyon has told nothing yet");
    assert_eq!(s.holder(), Some(LYON));
    s.run(10 * SECOND);
    assert!(s.votes(TIEBREAK), "paris and lyon have told");
}

#[test]
fn witnesses_that_tell_in_many_pages_are_heard_to_the_end() {
    let mut plan = plan(vec![db()], 100 * MS, MS);
    plan.settings.timing.rtt_max = Span::from_millis(200);
    let mut s = Stage::born_with(plan);
    let ballot = Ballot { round: 1, member: 1 };
    for node in [PARIS, LYON] {
        s.world.kill_member(node);
        for i in 0..8000 {
            let name = TicketName::new(&format!("t{i}")).expect("a name");
            let mut register = Register::default();
            register.accept(ballot, &Value::Ownership(Ownership::NEVER)).expect("nothing was promised");
            s.world.nodes[node].disk.durable.registers.insert(Key::Ownership(name), register);
        }
        s.world.start_member(node);
    }
    s.world.power_off(TIEBREAK);
    s.world.boot(TIEBREAK);
    s.run(9 * SECOND); // less than it takes to trust the own disk
    assert!(s.votes(TIEBREAK));
    assert!(s.world.nodes[TIEBREAK].disk.durable.registers.len() >= 8000);
}

#[test]
fn somebody_who_once_spoke_in_the_name_of_a_member_does_not_replace_it() {
    let mut s = Stage::held();
    let mut frame = s.frame_of(TIEBREAK, PARIS, Body::Ping { seq: 1 });
    frame.header.identity = Identity(99);
    s.world.arrive(PARIS, TIEBREAK, frame);
    s.run(3 * SECOND);
    let alive = s.ask_unseen(PARIS, Command::Readmit(id_of(TIEBREAK)));
    s.run(SECOND);
    assert_eq!(s.answer(alive), Some(&Reply::Refused(CommandRefusal::Heard(id_of(TIEBREAK)))));
    s.run(10 * SECOND);
    let gone = s.ask(PARIS, Command::Readmit(id_of(TIEBREAK)));
    s.run(SECOND);
    assert_eq!(s.answer(gone), Some(&Reply::Refused(CommandRefusal::NotQuarantined(id_of(TIEBREAK)))));
}

/// Nobody would hear it before it had started as often as the others know of.
#[test]
fn a_member_that_was_put_back_in_time_before_birth_is_born_all_the_same() {
    let mut s = Stage::of(plan(vec![db()], 5 * MS, MS));
    s.world.noted = Some(Vec::new());
    s.isolate(LYON, 10 * SECOND); // nobody is born without it
    s.run(2 * MS);
    let image = s.world.nodes[TIEBREAK].disk.clone();
    for _ in 0..5 {
        s.restart_member(TIEBREAK);
        s.run(500 * MS);
    }
    s.world.power_off(TIEBREAK);
    s.world.nodes[TIEBREAK].disk = image;
    s.world.nodes[TIEBREAK].proof = None;
    s.world.boot(TIEBREAK);
    s.run(15 * SECOND);
    assert!((PARIS..=TIEBREAK).all(|i| s.votes(i)));
}
