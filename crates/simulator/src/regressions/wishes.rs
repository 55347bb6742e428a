//! Wishes that overtake each other, and attestations.

use sitegate_protocol::{Body, Command, CommandRefusal, Done, Key, Reply};

use super::*;

#[test]
fn a_revoke_is_not_answered_by_the_release_for_a_later_move() {
    let mut s = Stage::held();
    s.cut(LYON, PARIS, 600 * MS);
    s.cut(TIEBREAK, PARIS, 600 * MS);
    let revoke = s.ask(TIEBREAK, Command::Revoke(db()));
    s.run(150 * MS);
    // The holder has not heard of it when it is taken back, and the ticket moved.
    s.ask(LYON, Command::Grant(db(), id_of(PARIS)));
    s.run(150 * MS);
    s.ask(LYON, Command::Move(db(), id_of(LYON)));
    s.run(5 * SECOND);
    assert_eq!(s.holder(), Some(LYON));
    assert_eq!(s.answer(revoke), Some(&Reply::Refused(CommandRefusal::Overruled)));
}

#[test]
fn an_attestation_covers_no_tenure_that_began_after_the_operator_had_looked() {
    let mut s = Stage::held();
    let seen = s.token(PARIS);
    // The operator waits at tiebreak for anybody who still hears paris; it hears nobody, and later lyon.
    s.isolate(TIEBREAK, 3400 * MS);
    s.cut(PARIS, TIEBREAK, 10 * SECOND);
    s.run(20 * MS);
    let asked = s.ask_unseen(TIEBREAK, Command::AttestDead(id_of(PARIS), Some(db())));
    s.ask(LYON, Command::Revoke(db()));
    s.run(SECOND);
    s.ask(LYON, Command::Grant(db(), id_of(PARIS)));
    s.run(SECOND);
    let later = s.token(PARIS);
    assert!(later > seen);
    s.run(4 * SECOND);
    assert_eq!(s.answer(asked), Some(&Reply::Refused(CommandRefusal::NothingHeld(id_of(PARIS)))));
    assert_eq!(s.intent(LYON).attested, None);
    assert_eq!(s.token(PARIS), later);
}

#[test]
fn a_site_that_is_heard_is_not_attested_dead() {
    let mut s = Stage::held();
    let asked = s.ask_unseen(TIEBREAK, Command::AttestDead(id_of(PARIS), Some(db())));
    s.run(2 * SECOND);
    assert_eq!(s.answer(asked), Some(&Reply::Refused(CommandRefusal::Heard(id_of(PARIS)))));
}

#[test]
fn whoever_else_hears_a_site_objects_to_its_attestation() {
    let mut s = Stage::held();
    s.cut(PARIS, TIEBREAK, 10 * SECOND);
    s.run(SECOND);
    let asked = s.ask_unseen(TIEBREAK, Command::AttestDead(id_of(PARIS), Some(db())));
    s.run(4 * SECOND);
    assert_eq!(s.answer(asked), Some(&Reply::Refused(CommandRefusal::Heard(id_of(PARIS)))));
    assert_eq!(s.holder(), Some(PARIS));
}

#[test]
fn a_grant_is_not_answered_by_a_tenure_that_others_know_to_be_over() {
    let mut s = Stage::held();
    let over = s.token(PARIS);
    // Tiebreak hears all of paris but that it has released the ticket.
    s.world.lost = Some(Box::new(|from, to, frame| {
        let of_ownership = |body: &Body| match body {
            Body::Accept { key, .. } | Body::Chosen { key, .. } => *key == Key::Ownership(db()),
            _ => false,
        };
        to == TIEBREAK && from == PARIS && frame.bodies.iter().any(of_ownership)
    }));
    let revoke = s.ask(LYON, Command::Revoke(db()));
    s.wait_for(5 * SECOND, "nothing runs", |s| s.answer(revoke).is_some());
    let grant = s.ask(TIEBREAK, Command::Grant(db(), id_of(PARIS)));
    s.wait_for(3 * SECOND, "paris holds", |s| s.holder() == Some(PARIS));
    let held = s.token(PARIS);
    s.world.lost = None;
    s.wait_for(15 * SECOND, "the grant is answered", |s| s.answer(grant).is_some());
    assert!(held > over);
    assert_eq!(s.answer(grant), held.map(|token| Reply::Done(Done::Held(id_of(PARIS), token))).as_ref());
}
