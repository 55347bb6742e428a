//! What was said in an epoch that is over.

use std::cell::Cell;
use std::rc::Rc;

use sitegate_protocol::{Body, Command, Identity};

use super::*;
use crate::node::Disk;

/// Paris holds db; tiebreak has lost its disk, and knocks.
fn tiebreak_knocks() -> Stage {
    let mut s = Stage::held();
    s.world.power_off(TIEBREAK);
    s.world.nodes[TIEBREAK].disk = Disk::new(Identity(99));
    s.world.boot(TIEBREAK);
    s.run(3 * SECOND);
    s
}

/// Paris readmits tiebreak. `after` that somebody revokes db there, so that two rounds are under
/// way at once; and when `from` has passed `frozen` stands still for a while: what has arrived by then it handles in one turn.
fn readmitted_while_revoked(frozen: usize, from: Time, after: Time) -> Stage {
    let mut s = tiebreak_knocks();
    s.ask(PARIS, Command::Readmit(id_of(TIEBREAK)));
    s.run(after);
    s.ask(PARIS, Command::Revoke(db()));
    s.run(from - after);
    s.world.freeze(frozen, 50 * MS);
    s
}

/// The observer holds every proposal against the promises that were counted for it, and against the epoch of that.
fn both_come_true(mut s: Stage) {
    s.wait_for(20 * SECOND, "db is free, and tiebreak votes", |s| {
        s.ownership(LYON).held().is_none() && s.votes(TIEBREAK)
    });
}

fn moments(until: Time) -> impl Iterator<Item = Time> {
    (0..until).step_by((MS / 4).try_into().expect("small"))
}

#[test]
fn a_proposal_does_not_outlive_the_epoch_of_its_promises() {
    let together = Rc::new(Cell::new(0));
    let asked = 8 * MS; // lyon has promised, and is not asked for its vote yet
    for after in moments(asked) {
        let mut s = readmitted_while_revoked(LYON, asked, after);
        let seen = Rc::clone(&together);
        s.world.lost = Some(Box::new(move |from, to, frame| {
            let promise = |body: &Body| matches!(body, Body::Promise { key: Key::Intent(_), .. });
            let vote = |body: &Body| matches!(body, Body::Accepted { key: Key::Identities, .. });
            let both = frame.bodies.iter().any(promise) && frame.bodies.iter().any(vote);
            seen.set(seen.get() + u32::from((from, to) == (LYON, PARIS) && both));
            false
        }));
        both_come_true(s);
    }
    assert!(together.get() > 0, "the last promise never came with the vote that began the epoch");
}

#[test]
fn a_proposal_of_the_same_turn_does_not_outlive_the_epoch_of_its_promises() {
    let voting = 20 * MS; // lyon's vote is on its way
    for after in moments(voting) {
        both_come_true(readmitted_while_revoked(PARIS, voting, after));
    }
}

/// Lyon would only confirm what is chosen already, and its own ballot gets no other vote. The observer looks at every
/// `Epoch` on its way.
#[test]
fn an_epoch_is_told_with_the_ballot_at_which_it_was_chosen() {
    let mut s = tiebreak_knocks();
    let chosen = Rc::new(Cell::new(false));
    let heard = Rc::clone(&chosen);
    s.world.lost = Some(Box::new(move |from, to, frame| {
        let vote = |body: &Body| match body {
            Body::Accept { key, .. } | Body::Accepted { key, .. } => *key == Key::Identities,
            _ => false,
        };
        let from_lyon = (from, to) == (LYON, PARIS) && frame.bodies.iter().any(vote) && !heard.get();
        from_lyon || (from, to) == (PARIS, TIEBREAK)
    }));
    let ballot = |s: &Stage| {
        let register = s.world.nodes[LYON].disk.durable.registers.get(&Key::Identities)?;
        register.accepted().map(|accepted| accepted.ballot)
    };
    s.ask(PARIS, Command::Readmit(id_of(TIEBREAK)));
    let by_paris = |s: &Stage| ballot(s).is_some_and(|b| b.is_of(id_of(PARIS)));
    s.wait_for(SECOND, "lyon has voted for paris", by_paris);
    let first = ballot(&s).expect("it has voted");
    s.ask(LYON, Command::Readmit(id_of(TIEBREAK)));
    s.wait_for(SECOND, "lyon has voted for itself", |s| ballot(s).is_some_and(|b| b.is_of(id_of(LYON))));
    chosen.set(true);
    let vote = Body::Accepted { key: Key::Identities, ballot: first, attempt: 1 };
    s.world.arrive(PARIS, LYON, s.frame_of(LYON, PARIS, vote));
    let lives_in =
        |s: &Stage, i: usize| s.world.nodes[i].disk.durable.own.formation.as_ref().map(|f| f.epoch);
    s.wait_for(20 * SECOND, "tiebreak has heard of it from lyon", |s| {
        lives_in(s, TIEBREAK) == Some(Epoch(1))
    });
    s.world.lost = None;
    s.wait_for(20 * SECOND, "tiebreak votes", |s| s.votes(TIEBREAK));
}
