use super::*;
use crate::api::types::{LeasedStatus, NextStep, RoundStatus};
use crate::example::{member_status, ticket_status};

/// As lyon sees it: paris holds db.
fn scene() -> Scene {
    Scene {
        status: ticket_status("db"),
        me: "lyon".into(),
        members: ["paris", "lyon", "tiebreak"].map(member_status).to_vec(),
        majority: 2,
        takeover_limit: Some(3),
        not_voting: None,
        bar: None,
        fence_up: true,
    }
}

fn explained(change: impl FnOnce(&mut Scene)) -> (String, String, Vec<NextStep>) {
    let mut scene = scene();
    change(&mut scene);
    let explanation = scene.explanation();
    (explanation.headline, explanation.reasons.join("\n"), explanation.next)
}

#[test]
fn who_holds_it_and_until_when() {
    let (headline, reasons, next) = explained(|_| {});
    assert_eq!(headline, "paris holds db, with token 257.");
    assert!(
        reasons
            .contains("The wish (version 3, by alice) is that paris should hold it, or else another site."),
        "{reasons}"
    );
    assert!(
        reasons.contains("it votes for nobody else for 4.2 s unless paris gives the ticket up"),
        "{reasons}"
    );
    assert_eq!(next[0].in_ms, Some(4200));
}

#[test]
fn a_lost_holder_is_waited_for() {
    let lose = |scene: &mut Scene| {
        scene.members[0].reachable = false;
        scene.status.round = Some(RoundStatus {
            aim: "acquire".into(),
            ballot: "7.2".into(),
            accepting: false,
            agreed: vec!["lyon".into()],
            leased: vec![LeasedStatus { by: "tiebreak".into(), holder: "paris".into(), remaining_ms: 1500 }],
        });
    };
    let (_, reasons, next) = explained(lose);
    for part in [
        "Out of reach from here: paris.",
        "once its lease and its time to fence are over, another site takes db over",
        "tiebreak has promised paris its lease, and does not vote for this site for 1.5 s more.",
        "This site asks for promises to acquire it (ballot 7.2): lyon did so far, and it takes 2.",
    ] {
        assert!(reasons.contains(part), "{part} is not in\n{reasons}");
    }
    assert!(next.iter().any(|step| step.in_ms == Some(1500)), "{next:?}");
    let mut scene = scene();
    lose(&mut scene);
    assert!(scene.obstacle().unwrap().starts_with("tiebreak has promised paris its lease"));
}

#[test]
fn confirmed_takeover_names_the_way_out() {
    let (_, reasons, _) = explained(|scene| {
        scene.members[0].reachable = false;
        scene.status.takeover = "confirmed".into();
    });
    assert!(reasons.contains("without its fence receipt or `sitegate attest-dead paris`"), "{reasons}");
}

#[test]
fn without_a_majority_it_says_so() {
    let (_, reasons, _) = explained(|scene| {
        scene.members[0].reachable = false;
        scene.members[2].reachable = false;
    });
    let expected = "Only 1 of 3 members can be reached from here, and it takes 2 to decide anything; out of reach: paris, \
                    tiebreak.";
    assert!(reasons.contains(expected), "{reasons}");
}

#[test]
fn a_free_ticket_says_why_nobody_has_it() {
    let (headline, reasons, next) = explained(|scene| {
        scene.status.holder = None;
        scene.status.proof = Some("receipt".into());
        scene.status.paused = true;
        scene.status.takeovers = 3;
        scene.status.guard_remaining_ms = None;
        let local = scene.status.local.as_mut().unwrap();
        local.refusal = Some("its fence daemon does not answer".into());
        local.check = "failed".into();
    });
    assert_eq!(headline, "db is paused, and nobody holds it.");
    for part in [
        "no site begins a new tenure until `sitegate resume db`",
        "It was taken over 3× since the last command; after 3× it is paused.",
        "its last holder has proven that nothing runs there any more",
        "This site (lyon) would not take it: its fence daemon does not answer.",
        "Its check before acquiring failed here",
    ] {
        assert!(reasons.contains(part), "{part} is not in\n{reasons}");
    }
    assert_eq!(next, [NextStep { what: "Somebody runs `sitegate resume db`.".into(), in_ms: None }]);
}

#[test]
fn failing_fencing_and_silence_are_loud() {
    let (_, reasons, _) = explained(|scene| {
        scene.not_voting = Some("it may have forgotten".into());
        scene.bar = Some("no majority answers");
        let local = scene.status.local.as_mut().unwrap();
        local.state = "fencing".into();
        local.token = Some(257);
        local.fence_failing = true;
    });
    for part in [
        "This member (lyon) does not vote: it may have forgotten.",
        "This site sends no heartbeats, and so renews nothing: no majority answers.",
        "FENCING FAILS here",
        "This site (lyon) fences it (token 257).",
    ] {
        assert!(reasons.contains(part), "{part} is not in\n{reasons}");
    }
}

#[test]
fn a_lost_tenure_is_not_told_as_held() {
    let headline = |state: &str, fence_up| {
        explained(|scene| {
            scene.me = "paris".into();
            scene.fence_up = fence_up;
            scene.status.local.as_mut().unwrap().state = state.into();
        })
        .0
    };
    assert_eq!(headline("held", true), "paris holds db, with token 257.");
    assert_eq!(
        headline("fencing", true),
        "paris has lost db or gives it up (token 257): it is being fenced."
    );
    assert_eq!(
        headline("fencing", false),
        "db (token 257) MAY STILL RUN at paris, which may run it no more: its fence daemon does not answer."
    );
    assert_eq!(
        headline("stopped", true),
        "Nothing of db runs at paris any more (token 257); a majority has yet to learn of it."
    );
}

#[test]
fn who_does_not_vote_does_not_pretend_to_know() {
    let (headline, reasons, next) = explained(|scene| {
        scene.status.holder = None;
        scene.status.wanted = "unset".into();
        scene.status.intent_version = 0;
        scene.status.guard_remaining_ms = None;
        scene.not_voting = Some("the others know another identity for this member".into());
    });
    assert_eq!(headline, "This member (lyon) does not know how db stands: it does not vote.");
    assert_eq!(
        reasons,
        "This member (lyon) does not vote: the others know another identity for this member."
    );
    assert_eq!(next, []);
}
