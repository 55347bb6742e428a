//! The bytes of every released version of the members' protocol, as files. A released file is never changed: if this
//! test fails for one, members of two releases could not talk to each other.
//!
//! While a version is not released yet, `SITEGATE_WRITE_GOLDEN=1 cargo test -p sitegate-member --test golden` writes its file
//! anew.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use sitegate_member::wire::{Answer, Hello, Lane, Packet, Refused, decode, encode};
use sitegate_protocol::{
    Accepted, Author, Ballot, Body, Boot, Epoch, Frame, Header, Identities, Identity, Incarnation, Intent,
    Key, Life, Lsn, MemberId, Nonce, Ownership, Proof, Refusal, Register, RequestId, Span, Standby,
    StandbyMode, Takeover, Takeovers, Tenancy, TicketName, Token, Value, Wanted,
};

const VERSION_1: &str = include_str!("golden/version-1.txt");

fn member(id: u8) -> MemberId {
    MemberId::new(id).unwrap()
}

fn ticket(name: &str) -> TicketName {
    TicketName::new(name).unwrap()
}

fn ballot(round: u64, member: u8) -> Ballot {
    Ballot { round, member }
}

fn life(incarnation: u64, nonce: u64) -> Life {
    Life { incarnation: Incarnation(incarnation), nonce: Nonce(nonce) }
}

fn held() -> Value {
    Value::Ownership(Ownership::Held(Tenancy {
        site: member(1),
        incarnation: Incarnation(4),
        token: Token(1793),
        expire: Span::from_secs(60),
        acquire_after: Span::from_secs(45),
        takeover: Takeover::Confirmed,
        takeovers: Takeovers { count: 2, under: 5 },
    }))
}

fn free() -> Ownership {
    Ownership::Free { last_token: Token(1793), proof: Proof::Receipt, takeovers: Takeovers::NONE }
}

fn intent() -> Value {
    Value::Intent(Intent {
        version: 5,
        wanted: Wanted::Managed { preferred: Some(member(2)) },
        vacate: Some(Token(1793)),
        attested: None,
        paused: true,
        author: Author { who: "root (sudo by alice)".into(), via: Some(member(3)) },
        reason: "maintenance".into(),
        request: 0x0102_0304_0506_0708,
    })
}

fn standby() -> Value {
    let author = Author { who: "operator bob".into(), via: Some(member(1)) };
    Value::Standby(Standby { version: 1, mode: StandbyMode::Vacate, author, request: 9 })
}

fn identities() -> Identities {
    let of = (1..=3).map(|id| (member(id), Identity(u128::from(id) << 96 | 0xabcd))).collect();
    Identities { epoch: Epoch(2), of }
}

fn register() -> Register {
    let mut register = Register::default();
    register.accept(ballot(7, 1), &held()).unwrap();
    register.promise(ballot(8, 2)).unwrap();
    register
}

fn accepted(value: Value) -> Accepted {
    Accepted { ballot: ballot(7, 1), value, adopted: false }
}

/// One of each.
fn bodies() -> Vec<(&'static str, Body)> {
    let (db, id) = (ticket("db"), RequestId(0x1122_3344_5566_7788));
    let key = Key::Ownership(db.clone());
    vec![
        ("prepare", Body::Prepare { key: key.clone(), ballot: ballot(7, 1), rank: 1 }),
        (
            "promise",
            Body::Promise {
                key: key.clone(),
                ballot: ballot(8, 2),
                accepted: Some(accepted(held())),
                context: vec![
                    (Key::Intent(db.clone()), accepted(intent())),
                    (Key::Standby(member(2)), accepted(standby())),
                ],
            },
        ),
        ("nack", Body::Nack { key: key.clone(), ballot: ballot(7, 1), promised: ballot(300, 2) }),
        (
            "leased",
            Body::Leased {
                ticket: db.clone(),
                ballot: ballot(8, 2),
                holder: member(1),
                remaining: Span::from_millis(41_500),
            },
        ),
        ("accept", Body::Accept { key: key.clone(), ballot: ballot(7, 1), value: held(), attempt: 3 }),
        ("accepted", Body::Accepted { key: key.clone(), ballot: ballot(7, 1), attempt: 3 }),
        ("chosen", Body::Chosen { key: Key::Intent(db.clone()), ballot: ballot(7, 1), value: intent() }),
        ("heartbeat", Body::Heartbeat { seq: 70_000 }),
        (
            "ack",
            Body::Ack { seq: 70_000, support: u128::MAX / 3, chosen: u128::MAX / 5, clock: Boot(1 << 50) },
        ),
        ("ping", Body::Ping { seq: 70_001 }),
        ("pong", Body::Pong { seq: 70_001 }),
        ("forgo", Body::Forgo { tickets: vec![(db.clone(), ballot(7, 1))] }),
        ("list-ask", Body::ListAsk { seq: Some(70_000), after: Some(db.clone()) }),
        (
            "listing",
            Body::Listing {
                seq: None,
                after: None,
                entries: vec![(db.clone(), ballot(7, 1)), (ticket("web/main"), ballot(9, 1))],
                support: 77,
                last: true,
            },
        ),
        (
            "compare",
            Body::Compare {
                after: Some(Key::Identities),
                entries: vec![(Key::Standby(member(2)), ballot(2, 3))],
                last: false,
            },
        ),
        ("want", Body::Want { keys: vec![key.clone(), Key::Identities] }),
        ("settle", Body::Settle { ticket: db.clone(), id }),
        (
            "settled",
            Body::Settled { ticket: db.clone(), id, ownership: free(), intent: intent().intent().cloned() },
        ),
        ("willing", Body::Willing { ticket: db.clone(), id }),
        ("willingness", Body::Willingness { ticket: db.clone(), id, refusal: Some(Refusal::CheckFailed) }),
        ("heard-ask", Body::HeardAsk { site: member(1), id }),
        ("heard", Body::Heard { id }),
        ("meet", Body::Meet { ask: id }),
        (
            "met",
            Body::Met {
                ask: id,
                identities: BTreeMap::from([(member(1), Identity(5))]),
                born: Some(identities()),
            },
        ),
        ("recover-ask", Body::RecoverAsk { after: Some(key.clone()) }),
        (
            "recover-page",
            Body::RecoverPage { after: None, registers: vec![(key, register())], last: true, unsure: true },
        ),
        ("epoch", Body::Epoch { ballot: ballot(4, 2), identities: identities() }),
        ("rolled-back", Body::RolledBack { incarnation: Incarnation(9), lsn: Lsn(1234) }),
    ]
}

fn packet(body: Body) -> Packet {
    let header = Header {
        epoch: Epoch(2),
        from: member(1),
        identity: Identity(0xabcd),
        life: life(4, 99),
        lsn: Lsn(1000),
        to: Some(Nonce(88)),
        known: vec![(member(2), life(2, 88)), (member(3), life(1, 77))],
    };
    Packet { sent: Boot(123_456_789_000), frame: Frame { header, bodies: vec![body] } }
}

fn hello() -> Hello {
    Hello {
        oldest: 1,
        newest: 1,
        id_map: [0x11; 32],
        configuration: [0x22; 32],
        lane: Lane::Bulk,
        boot: 0x0011_2233_4455_6677_8899_aabb_ccdd_eeff,
    }
}

fn answers() -> [(&'static str, Answer); 3] {
    [
        ("welcome", Answer::Welcome { version: 1, configuration: [0x33; 32] }),
        ("refused-version", Answer::Refused(Refused::Version { oldest: 1, newest: 1 })),
        ("refused-id-map", Answer::Refused(Refused::IdMap)),
    ]
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

/// The lines of a file, without what `#` says.
fn lines(file: &str) -> BTreeMap<&str, Vec<u8>> {
    let lines = file.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| line.split_once(": ").unwrap()).map(|(name, text)| (name, unhex(text))).collect()
}

#[test]
fn version_1_is_written_as_ever() {
    let golden = lines(VERSION_1);
    let mut written: Vec<(String, Vec<u8>)> = vec![("hello".into(), hello().encode())];
    written.extend(answers().map(|(name, answer)| (name.to_owned(), answer.encode())));
    written
        .extend(bodies().into_iter().map(|(name, body)| (format!("packet/{name}"), encode(&packet(body)))));
    if std::env::var_os("SITEGATE_WRITE_GOLDEN").is_some() {
        return write_anew(&written);
    }
    for (name, bytes) in &written {
        assert_eq!(golden.get(name.as_str()).map(|bytes| hex(bytes)), Some(hex(bytes)), "{name}");
    }
    assert_eq!(golden.len(), written.len(), "something is in the file that nobody writes");
}

fn write_anew(written: &[(String, Vec<u8>)]) {
    let comments = VERSION_1.lines().filter(|line| line.starts_with('#')).map(str::to_owned);
    let messages = written.iter().map(|(name, bytes)| format!("{name}: {}", hex(bytes)));
    let text = comments.chain(messages).collect::<Vec<_>>().join("\n") + "\n";
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/version-1.txt");
    std::fs::write(file, text).unwrap();
}

#[test]
fn version_1_is_read_as_ever() {
    let golden = lines(VERSION_1);
    assert_eq!(Hello::decode(&golden["hello"]).unwrap(), hello());
    for (name, answer) in answers() {
        assert_eq!(Answer::decode(&golden[name]).unwrap(), answer);
    }
    for (name, body) in bodies() {
        let read: Packet = decode(&golden[format!("packet/{name}").as_str()]).unwrap();
        assert_eq!(read, packet(body), "{name}");
    }
}
