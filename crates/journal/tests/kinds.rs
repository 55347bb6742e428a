//! Every kind of entry as it lies on the disk, byte for byte, and read back.
//!
//! `SITEGATE_WRITE_GOLDEN=1 cargo test -p sitegate-journal --test kinds` writes `tests/kinds.jsonl` anew. A line that it
//! changes is one that journals out there do not have: whoever reads them has to go on to read both.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use sitegate_journal::content::{
    Acquiring, Armed, Ballot, Changes, ChosenValue, Command, Count, EpochDetail, FenceLevel, GivingUp,
    Intent, Leap, Life, Mode, Nothing, Offset, Parked, Process, Proposal, Reading, Receipt, Register,
    Renewal, Silence, TokenDetail, Until, Vote, Wanted, Witnesses,
};
use sitegate_journal::{Content, Draft, Entry, Journal, Moment, Unread, read_all, read_newest, verify};
use sitegate_protocol::{Bar, Boot, Now, Proof, Raw, StandbyMode, Token};

const GOLDEN: &str = include_str!("kinds.jsonl");
const TOKEN: Token = Token(257);
const UNTIL: Until = Until { deadline_boot_ns: 5_000_000_000, deadline_raw_ns: 5_000_000_007 };

fn ballot(round: u64) -> Ballot {
    Ballot(sitegate_protocol::Ballot { round, member: 2 })
}

fn votes() -> Vec<Content> {
    let held = ChosenValue::Held {
        holder: "paris".into(),
        token: TOKEN,
        incarnation: 4,
        expire_ms: 60_000,
        acquire_after_ms: 45_000,
        takeovers: 2,
    };
    let free = ChosenValue::Free { holder: (), token: TOKEN, proof: Proof::Receipt };
    let intent =
        ChosenValue::Intent { version: 5, wanted: Wanted::Managed, paused: true, attested: Some(TOKEN) };
    let promise =
        |register| Vote { register, promised: ballot(3), accepted: None, learnt: None, renewed: None };
    let renewed = Some(Renewal { token: TOKEN, boot_ns: 1, raw_ns: 8 });
    let proposal = |value| Some(Proposal { ballot: ballot(3), value });
    let db = || "db".to_owned();
    let votes = vec![
        promise(Register::Identities),
        Vote { renewed, ..promise(Register::Ownership(db())) },
        Vote { accepted: proposal(held), ..promise(Register::Ownership(db())) },
        Vote { learnt: proposal(free), ..promise(Register::Ownership(db())) },
        Vote { accepted: proposal(intent), ..promise(Register::Intent(db())) },
        Vote {
            accepted: proposal(ChosenValue::Version { version: 3 }),
            ..promise(Register::Standby("lyon".into()))
        },
        Vote { accepted: proposal(ChosenValue::Identities { epoch: 4 }), ..promise(Register::Identities) },
    ];
    votes.into_iter().map(Content::Vote).collect()
}

fn intents() -> [Content; 2] {
    let whole = Intent {
        version: 5,
        wanted: Some(Wanted::Managed),
        preferred: Some("lyon".into()),
        paused: true,
        vacate: Some(TOKEN),
        attested: None,
        by: "alice".into(),
        via: Some("paris".into()),
        reason: "drill".into(),
    };
    let revoked =
        Intent { wanted: Some(Wanted::Revoked), preferred: None, attested: Some(TOKEN), ..whole.clone() };
    [Content::Intent(whole), Content::Intent(revoked)]
}

/// At least one of every kind.
fn all() -> Vec<Content> {
    let (nothing, token) = (Nothing {}, TokenDetail { token: TOKEN });
    let reading = |boot_ns| Some(Reading { boot_ns, raw_ns: boot_ns + 7 });
    let mut all = vec![
        Content::Started(Process {
            member: Some("paris".into()),
            formation: Some("acme".into()),
            members: BTreeMap::from([("paris".into(), 1), ("lyon".into(), 2), ("tiebreak".into(), 3)]),
            clock: Some("7b1c/time:[4026531834]".into()),
            max_clock_drift_ppm: Some(1000),
        }),
        Content::Reloaded(Changes { changed: vec!["ticket web is new".into(), "hooks".into()] }),
        Content::ClockLeap(Leap { leap_ns: 3_000_000_000 }),
        Content::EntriesLost(Count { count: 12 }),
        Content::Command(Command {
            command: "grant".into(),
            by: "alice".into(),
            reason: "drill".into(),
            request: u64::MAX,
        }),
        Content::Candidate(Acquiring { ballot: ballot(3) }),
        Content::Held(Armed { token: TOKEN, until: Some(UNTIL), remaining_ms: 3000 }),
        Content::Parked(Parked { remaining_ms: 1234 }),
        Content::Relinquishing(GivingUp { token: TOKEN, until: None }),
        Content::Relinquishing(GivingUp { token: TOKEN, until: Some(UNTIL) }),
        Content::FenceLevelFailed(FenceLevel { token: TOKEN, level: 2 }),
        Content::Receipt(Receipt { token: TOKEN, level: None, began: reading(1), ended: reading(5) }),
        Content::Receipt(Receipt { token: TOKEN, level: Some(2), began: reading(1), ended: reading(5) }),
        Content::TrustsDisk(Witnesses { answered: 1, needed: 2 }),
        Content::Epoch(EpochDetail { epoch: 4 }),
        Content::PeerStarted(Life { incarnation: 6 }),
        Content::ClockOff(Offset { ppm: -1200 }),
    ];
    all.extend(
        [
            Content::Acquired,
            Content::Resumed,
            Content::Lost,
            Content::Fenced,
            Content::FenceFailing,
            Content::Released,
            Content::StartFailed,
            Content::Unhealthy,
            Content::RestartsHere,
            Content::Fencing,
        ]
        .map(|of| of(token)),
    );
    all.extend(
        [
            Content::Stopped,
            Content::CheckFailed,
            Content::Flapping,
            Content::CheckFailedTooOften,
            Content::FenceUp,
            Content::FenceReloaded,
            Content::FenceDown,
            Content::Born,
            Content::Recovering,
            Content::Recovered,
            Content::Voting,
            Content::Quarantined,
            Content::RolledBack,
            Content::Stranger,
            Content::PeerRolledBack,
            Content::Unbarred,
        ]
        .map(|of| of(nothing)),
    );
    let modes = [StandbyMode::Online, StandbyMode::Keep, StandbyMode::Vacate];
    all.extend(modes.map(|standby| Content::Standby(Mode { standby })));
    all.extend([Bar::Disk, Bar::Fence, Bar::Unheard].map(|bar| Content::Barred(Silence { bar })));
    all.extend(votes());
    all.extend(intents());
    all
}

/// The lines that a member writes of these.
fn written(all: &[Content]) -> Vec<String> {
    let directory = tempfile::tempdir().unwrap();
    let journal = Journal::open(directory.path()).unwrap();
    for (index, content) in (0..).zip(all) {
        let now = Now { boot: Boot(index * 1000), raw: Raw(index * 1000 + 7) };
        let draft = Draft::about("db", format!("said \"{index}\""), content.clone());
        assert_eq!(journal.write(vec![draft], Moment::at(now, 1_800_000_000_000 + index)), 0);
    }
    journal.sync(std::time::Duration::from_secs(10));
    let mut lines = Vec::new();
    read_all(directory.path(), |line| {
        lines.push(line);
        true
    })
    .unwrap();
    let read = read_newest(directory.path(), None, all.len()).unwrap();
    let read: Vec<Content> = read.iter().map(|entry| entry.content().unwrap()).collect();
    assert_eq!(read, all);
    lines
}

#[test]
fn every_kind_is_written_as_ever() {
    let all = all();
    let kinds: BTreeSet<&str> = all.iter().map(Content::kind).collect();
    assert_eq!(kinds, Content::KINDS.iter().copied().collect(), "a kind is missing here");
    let lines = written(&all);
    if std::env::var_os("SITEGATE_WRITE_GOLDEN").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kinds.jsonl");
        std::fs::write(path, lines.join("\n") + "\n").unwrap();
        return;
    }
    for (line, golden) in lines.iter().zip(GOLDEN.lines()) {
        assert_eq!(line, golden);
    }
    assert_eq!(lines.len(), GOLDEN.lines().count());
}

#[test]
fn what_was_written_is_read() {
    assert_eq!(verify(GOLDEN.lines()), Ok(all().len() as u64));
    let entries = GOLDEN.lines().skip(1).map(|line| serde_json::from_str::<Entry>(line).unwrap());
    for (entry, content) in entries.zip(all()) {
        assert_eq!(entry.content(), Ok(content));
    }
}

#[test]
fn what_is_of_another_version_reads_as_such() {
    assert_eq!(Content::read("held-upside-down", &json!({})), Err(Unread::Kind));
    let shape = |kind, detail: Value| matches!(Content::read(kind, &detail), Err(Unread::Shape(_)));
    assert!(shape("acquired", json!({ "tokens": 257 })));
    assert!(shape("vote", json!({ "register": "weather/db", "promised": "3.2" })));
    assert!(shape("vote", json!({ "register": "ownership/db", "promised": "3" })));
    // Fields that are new say more; those that old versions did not have say less.
    let acquired = Content::read("acquired", &json!({ "token": 257, "mood": "good" }));
    assert_eq!(acquired, Ok(Content::Acquired(TokenDetail { token: TOKEN })));
    let held = Content::read("held", &json!({ "token": 257 }));
    assert_eq!(held, Ok(Content::Held(Armed { token: TOKEN, until: None, remaining_ms: 0 })));
    assert!(matches!(Content::read("intent", &json!({ "version": 5 })), Ok(Content::Intent(_))));
    assert!(Content::read("started", &json!({})).is_ok());
}
