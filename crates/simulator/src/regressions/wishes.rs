//! Wishes that overtake each other, and attestations.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use sitegate_protocol::{Body, Command, CommandRefusal, Done, Key, Note, Reply, RequestId, Wanted};

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

/// A Prepare is repeated until it is answered: some of a candidate's promises may be older than a wish, and others newer
/// than the round that has confirmed it.
#[test]
fn promises_from_before_and_after_a_wish_begin_no_tenure() {
    let (fourth, fifth) = (3, 4);
    let mut plan = five();
    plan.members[fifth].role = Role::Site;
    plan.settings.members.insert(id_of(fifth), Role::Site);
    let mut s = Stage::born_with(plan);
    let confirmed = Rc::new(Cell::new(false));
    let reaches_fourth = Rc::clone(&confirmed);
    s.world.lost = Some(Box::new(move |from, to, frame| {
        frame.bodies.iter().any(|body| match body {
            Body::Prepare { key, .. } | Body::Accept { key, .. } | Body::Chosen { key, .. } => match key {
                Key::Intent(_) => from == LYON && to >= fourth,
                Key::Ownership(_) => {
                    from == fifth && to != TIEBREAK && !(to == fourth && reaches_fourth.get())
                }
                _ => false,
            },
            _ => false,
        })
    }));
    s.ask(TIEBREAK, Command::Grant(db(), id_of(fifth)));
    s.wait_for(SECOND, "the candidate has one promise", |s| {
        s.round(fifth).is_some_and(|round| round.agreed.contains(&id_of(TIEBREAK)))
    });
    let revoke = s.ask(LYON, Command::Revoke(db()));
    s.wait_for(SECOND, "the revoke is confirmed", |s| s.answer(revoke).is_some());
    assert!(matches!(s.answer(revoke), Some(Reply::Done(Done::Free(_)))));
    confirmed.set(true);
    s.wait_for(SECOND, "it has a quorum of promises", |s| s.round(fifth).is_none_or(|round| round.accepting));
    s.run(SECOND);
    assert_eq!(s.holder(), None);
    assert!(!s.noted(fifth, |note| matches!(note, Note::Acquired(..))));
}

/// Frames that are kept back, by who sent them to whom.
type Kept = Rc<RefCell<Vec<(usize, usize, Frame)>>>;

/// Paris has released db, and the vote that confirms it is on its way. Lyon has proposed to take it, and so is the vote that
/// makes it so. Then db is revoked at paris, which asks itself whether it is free.
#[test]
fn a_round_that_began_before_the_wish_does_not_confirm_it() {
    let mut s = Stage::held();
    let (kept, alone): (Kept, _) = (Rc::default(), Rc::new(Cell::new(false)));
    let (keep, lyon_is_alone) = (Rc::clone(&kept), Rc::clone(&alone));
    s.ask(TIEBREAK, Command::Move(db(), id_of(LYON)));
    s.wait_for(SECOND, "nothing runs at paris", |s| s.state(PARIS) == "stopped");
    s.world.lost = Some(Box::new(move |from, to, frame| {
        let says = |is: fn(&Body) -> bool| frame.bodies.iter().any(is);
        let vote = says(|body| matches!(body, Body::Accepted { key: Key::Ownership(_), .. }));
        let news = says(|body| {
            matches!(
                body,
                Body::Chosen { .. } | Body::Compare { .. } | Body::Listing { .. } | Body::Nack { .. }
            )
        });
        if from == TIEBREAK && vote {
            keep.borrow_mut().push((from, to, frame.clone()));
        }
        let apart = (from, to) == (PARIS, LYON) || (from, to) == (LYON, PARIS);
        let lyon = lyon_is_alone.get() && (from == LYON || to == LYON);
        apart || lyon || (from == TIEBREAK && (vote || (to == PARIS && news)))
    }));
    s.wait_for(SECOND, "tiebreak votes for the release", |s| s.ownership(TIEBREAK).held().is_none());
    let ask = Body::Settle { ticket: db(), id: RequestId(1) }; // somebody else wants to know
    s.world.arrive(PARIS, TIEBREAK, s.frame_of(TIEBREAK, PARIS, ask));
    s.wait_for(20 * SECOND, "tiebreak votes for lyon", |s| {
        s.ownership(TIEBREAK).held().is_some_and(|tenancy| tenancy.site == id_of(LYON))
    });
    s.run(2 * MS); // that vote has left
    alone.set(true);
    let revoke = s.ask(PARIS, Command::Revoke(db()));
    s.wait_for(SECOND, "the wish is known", |s| s.intent(TIEBREAK).wanted == Wanted::Revoked);
    s.run(50 * MS); // paris asks itself whether db is free
    let deliver = |s: &mut Stage, whom: usize| {
        let frame =
            kept.borrow().iter().rev().find(|(_, to, _)| *to == whom).map(|(_, _, frame)| frame.clone());
        s.world.arrive(whom, TIEBREAK, frame.expect("tiebreak has voted"));
    };
    assert!(
        s.round(PARIS).is_some_and(|round| round.aim == "settle" && round.accepting),
        "of before the wish"
    );
    deliver(&mut s, PARIS);
    s.run(50 * MS);
    assert_eq!(s.answer(revoke), None, "paris speaks of what was before the wish");
    deliver(&mut s, LYON);
    s.wait_for(SECOND, "lyon holds", |s| s.holder() == Some(LYON));
    s.world.lost = None;
    s.wait_for(20 * SECOND, "the revoke is answered", |s| s.answer(revoke).is_some());
    assert!(matches!(s.answer(revoke), Some(Reply::Done(Done::Free(_)))));
    assert_eq!(s.holder(), None);
}

/// Its command was over before lyon could run the round that it had asked for: at the end of the lease that would get in the way
/// of whoever takes over.
#[test]
fn a_question_that_nobody_asks_any_more_confirms_no_lost_holder() {
    let mut s = Stage::held();
    let ask = Body::Settle { ticket: db(), id: RequestId(1) };
    s.world.arrive(LYON, TIEBREAK, s.frame_of(TIEBREAK, LYON, ask));
    s.run(30 * SECOND);
    s.world.lost = Some(Box::new(|_, _, frame| {
        let of_paris = |body: &Body| match body {
            Body::Accept { value, .. } => {
                value.ownership().and_then(Ownership::held).is_some_and(|t| t.site == id_of(PARIS))
            }
            _ => false,
        };
        assert!(!frame.bodies.iter().any(of_paris), "somebody asks for votes for a tenure that is lost");
        false
    }));
    s.world.power_off(PARIS);
    s.wait_for(9 * SECOND, "lyon has taken over", |s| s.holder() == Some(LYON));
}
