//! What a member writes down of every note of the protocol, of votes and of commands, byte for byte: programs read it, and
//! `sitegate verify` proves by it.
//!
//! `SITEGATE_WRITE_GOLDEN=1 cargo test -p sitegate-member --test notes` writes the file anew; what it changes, readers of
//! journals have to learn.

use std::collections::BTreeMap;

use sitegate_host::diagnostic::Source;
use sitegate_member::config::{Configuration, Formation, Local};
use sitegate_member::journal::{Draft, describe, describe_command, describe_vote};
use sitegate_member::settings::Names;
use sitegate_protocol::{
    Author, Ballot, Bar, Boot, Caller, Command, Deadline, Epoch, GiveUp, Identities, Incarnation, Intent,
    Key, MemberId, Note, Now, Ownership, Proof, Raw, Record, Register, Span, Standby, StandbyMode, Takeover,
    Takeovers, Tenancy, TicketName, Token, Value, Wanted,
};

const GOLDEN: &str = include_str!("golden/notes.jsonl");
const TOKEN: Token = Token(257);
const BALLOT: Ballot = Ballot { round: 3, member: 2 };

fn names() -> Names {
    let formation = Formation::parse(&Source::new("formation.toml", include_str!("acme.toml"))).unwrap();
    let local = "name = \"paris\"\n[tls]\nca = \"ca\"\ncert = \"cert\"\nkey = \"key\"\n";
    let local = Local::parse(&Source::new("member.toml", local.to_owned()), Some(&formation)).unwrap();
    Names::of(&Configuration { formation, local })
}

fn db() -> TicketName {
    TicketName::new("db").unwrap()
}

fn member(id: u8) -> MemberId {
    MemberId::new(id).unwrap()
}

fn at(ns: u64) -> Now {
    Now { boot: Boot(ns), raw: Raw(ns + 7) }
}

fn intent(wanted: Wanted) -> Intent {
    Intent {
        version: 5,
        wanted,
        vacate: Some(TOKEN),
        attested: None,
        paused: true,
        author: Author { who: "root (sudo by alice)".into(), via: Some(member(2)) },
        reason: "maintenance".into(),
        request: 9,
    }
}

fn notes() -> Vec<Note> {
    let deadline = Deadline { boot: Boot(5_000_000_000), raw: Raw(5_000_000_007) };
    let mut notes = vec![
        Note::Born,
        Note::Recovering,
        Note::Recovered,
        Note::TrustsDisk { answered: 1, needed: 2 },
        Note::Voting,
        Note::Quarantined,
        Note::EpochChanged(Epoch(4)),
        Note::Stranger(member(2)),
        Note::PeerRestarted(member(2), Incarnation(6)),
        Note::PeerRolledBack(member(3)),
        Note::RolledBack,
        Note::ClockOff(member(3), -1200),
        Note::CheckFailed(db()),
        Note::Candidate(db(), BALLOT),
        Note::Acquired(db(), TOKEN),
        Note::Held(db(), TOKEN, deadline),
        Note::Resumed(db(), TOKEN),
        Note::Lost(db(), TOKEN),
        Note::Fenced(db(), TOKEN),
        Note::FenceFailing(db(), TOKEN),
        Note::Released(db(), TOKEN),
        Note::Intent(db(), Intent::initial()),
        Note::Intent(db(), intent(Wanted::Managed { preferred: Some(member(2)) })),
        Note::Intent(
            db(),
            Intent { attested: Some(TOKEN), paused: false, ..intent(Wanted::Managed { preferred: None }) },
        ),
        Note::Flapping(db()),
        Note::StartFailed(db(), TOKEN),
        Note::Unhealthy(db(), TOKEN),
        Note::RestartsHere(db(), TOKEN),
        Note::Unbarred,
        Note::Parked(db(), member(2), Span::from_millis(1234)),
    ];
    let why = [GiveUp::Revoked, GiveUp::Vacate, GiveUp::Standby, GiveUp::Unhealthy, GiveUp::Unconfigured];
    notes.extend(why.map(|why| Note::Relinquishing(db(), TOKEN, why)));
    let modes = [StandbyMode::Online, StandbyMode::Keep, StandbyMode::Vacate];
    notes.extend(modes.map(|mode| Note::Standby(member(2), mode)));
    notes.extend([Bar::Disk, Bar::Fence, Bar::Unheard].map(Note::Barred));
    notes
}

fn held() -> Ownership {
    Ownership::Held(Tenancy {
        site: member(1),
        incarnation: Incarnation(4),
        token: TOKEN,
        expire: Span::from_secs(60),
        acquire_after: Span::from_secs(45),
        takeover: Takeover::Timed,
        takeovers: Takeovers { count: 2, under: 5 },
    })
}

/// Registers with a promise, a vote and something learnt, each of every kind of value.
fn records() -> Vec<Record> {
    let free =
        |proof| Value::Ownership(Ownership::Free { last_token: TOKEN, proof, takeovers: Takeovers::NONE });
    let mut standby = Standby::initial();
    (standby.version, standby.mode) = (3, StandbyMode::Keep);
    let identities = Identities { epoch: Epoch(4), of: BTreeMap::new() };
    let values = [
        (Key::Ownership(db()), Value::Ownership(held())),
        (Key::Ownership(db()), free(Proof::Never)),
        (Key::Ownership(db()), free(Proof::Receipt)),
        (Key::Ownership(db()), free(Proof::Waited)),
        (Key::Ownership(db()), free(Proof::Attested)),
        (Key::Intent(db()), Value::Intent(intent(Wanted::Managed { preferred: Some(member(2)) }))),
        (Key::Intent(db()), Value::Intent(Intent::initial())),
        (Key::Standby(member(2)), Value::Standby(standby)),
        (Key::Identities, Value::Identities(identities)),
    ];
    let mut records = vec![Record::Touch];
    for (key, value) in values {
        let mut promised = Register::default();
        promised.promise(BALLOT).unwrap();
        let mut voted = promised.clone();
        voted.accept(BALLOT, &value).unwrap();
        let mut learnt = Register::default();
        assert!(learnt.learn(BALLOT, &value));
        records.extend([promised, voted, learnt].map(|register| Record::Register(key.clone(), register)));
    }
    records
}

fn commands() -> Vec<Command> {
    vec![
        Command::Grant(db(), member(2)),
        Command::Revoke(db()),
        Command::Move(db(), member(2)),
        Command::Pause(db()),
        Command::Resume(db()),
        Command::Standby(member(2), StandbyMode::Online),
        Command::Standby(member(2), StandbyMode::Keep),
        Command::Standby(member(2), StandbyMode::Vacate),
        Command::AttestDead(member(2), None),
        Command::AttestDead(member(2), Some(db())),
        Command::Readmit(member(2)),
        Command::Inspect(db()),
    ]
}

fn line(draft: &Draft) -> String {
    let Draft { ticket, member, text, content } = draft;
    let (kind, detail) = (content.kind(), content.detail());
    serde_json::json!({ "kind": kind, "ticket": ticket, "member": member, "text": text, "detail": detail })
        .to_string()
}

#[test]
fn what_is_written_down_stays_what_it_is() {
    let names = names();
    let now = at(2_000_000_000);
    let guarded = |_: &TicketName| Some((Token(1), at(1_000_000_000)));
    let nothing = |_: &TicketName| None;
    let mut lines: Vec<String> = notes().iter().map(|note| line(&describe(note, &names, now))).collect();
    for record in records() {
        lines.extend(describe_vote(&record, &names, &guarded).as_ref().map(line));
    }
    lines.extend(describe_vote(&records()[1], &names, &nothing).as_ref().map(line));
    let caller = |reason: &str| Caller { who: "alice".into(), reason: reason.into(), request: u64::MAX };
    for command in commands() {
        lines.push(line(&describe_command(&command, &caller("drill"), &names)));
    }
    lines.push(line(&describe_command(&commands()[0], &caller(""), &names)));
    let lines = lines.join("\n") + "\n";
    if std::env::var_os("SITEGATE_WRITE_GOLDEN").is_some() {
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/notes.jsonl"), &lines).unwrap();
        return;
    }
    for (ours, golden) in lines.lines().zip(GOLDEN.lines()) {
        assert_eq!(ours, golden);
    }
    assert_eq!(lines.lines().count(), GOLDEN.lines().count());
}
