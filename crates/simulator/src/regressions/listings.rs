//! Listings, whose questions renew as heartbeats do.

use sitegate_protocol::Body;

use super::*;

fn ask(seq: Option<u64>) -> Body {
    Body::ListAsk { seq, after: None }
}

#[test]
fn a_question_for_a_listing_renews_the_guards_of_what_is_listed() {
    let mut s = Stage::held();
    let beats = |body: &Body| matches!(body, Body::Heartbeat { .. });
    overhear(&mut s, PARIS, |_| false, beats);
    s.run(2 * SECOND);
    let guarded = s.guard_over(TIEBREAK, &db());
    s.world.arrive(TIEBREAK, PARIS, s.frame_of(PARIS, TIEBREAK, ask(None)));
    s.run(20 * MS);
    assert_eq!(s.guard_over(TIEBREAK, &db()), guarded, "nothing that may not be renewed is");
    s.world.arrive(TIEBREAK, PARIS, s.frame_of(PARIS, TIEBREAK, ask(Some(1))));
    s.run(20 * MS);
    assert!(s.guard_over(TIEBREAK, &db()) >= guarded + 2 * SECOND);
}

/// Its disk stands still. An ack whose digest it does not know would have it ask.
#[test]
fn a_barred_site_renews_nothing_by_asking_for_a_listing() {
    let mut s = Stage::held();
    s.slow_disk(PARIS, 20 * SECOND);
    s.run(3500 * MS);
    let questions = overhear(&mut s, PARIS, |body| matches!(body, Body::ListAsk { .. }), |_| false);
    let clock = sitegate_protocol::Boot(0);
    let strange = Body::Ack { seq: 1, support: 5, chosen: 0, clock };
    s.world.arrive(PARIS, TIEBREAK, s.frame_of(TIEBREAK, PARIS, strange));
    s.run(20 * MS);
    assert_eq!(*questions.borrow(), [ask(None)]);
}
