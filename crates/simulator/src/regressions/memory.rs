//! Members that may have forgotten, their witnesses, and lives that are over.

use std::cell::Cell;
use std::rc::Rc;

use sitegate_protocol::{Body, Command, Epoch, Frame, Header, Identity, Incarnation, Life, Lsn, Nonce, Note};

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
    let lyon = s.process(LYON).member.life();
    let Life { incarnation, nonce } = s.process(TIEBREAK).member.life();
    let newer = Life { incarnation: Incarnation(incarnation.0 + 1), nonce: Nonce(77) };
    let header = Header {
        epoch: Epoch(0),
        from: id_of(LYON),
        identity: s.world.nodes[LYON].disk.durable.own.identity,
        life: lyon,
        lsn: Lsn(s.world.nodes[LYON].disk.lsn),
        to: Some(nonce),
        known: vec![(id_of(TIEBREAK), newer)],
    };
    s.world.arrive(TIEBREAK, LYON, Frame { header, bodies: vec![Body::Ping { seq: 1 }] });
    s.wait_for(SECOND, "it has ended", |s| s.noted(TIEBREAK, |note| *note == Note::RolledBack));
    assert!(!promised.get());
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
