//! Frames of the other members: decoding them, checking them, and what the protocol makes of those that pass.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use sitegate_member::settings::settings;
use sitegate_member::wire::{Answer, Hello, Packet, decode, encode};
use sitegate_protocol::{
    Accepted, Ballot, Body, Boot, Caller, Command, CommandId, Durable, Epoch, Event, Frame, Header,
    Identities, Identity, Incarnation, Key, Life, Lsn, Member, Nonce, Now, Raw, Record, Register, Settings,
    Start, Step, Store, TicketName, Turn, ValidFrame, Value, never_regresses,
};

use crate::fixture::{self, MEMBERS, member};

/// What a tick's byte stands for.
const TICK_NS: u64 = 20_000_000;

/// Steps: two bytes say what, the first one's low bits which kind and how much of the length; a frame follows.
pub fn run(input: &[u8]) {
    let _ = decode::<Hello>(input);
    let _ = decode::<Answer>(input);
    let Some((kind, mut rest)) = input.split_first() else { return };
    let mut paris = paris()[usize::from(*kind) % Standing::ALL.len()].clone();
    while let [what, how, after @ ..] = rest {
        rest = after;
        match what & 3 {
            2 => paris.tick(u64::from(*how) * TICK_NS),
            3 => paris.command(*how),
            _ => {
                let length = usize::from(*how) + 256 * usize::from(what >> 2 & 3);
                let (message, after) = rest.split_at(length.min(rest.len()));
                rest = after;
                paris.hear(message);
            }
        }
    }
}

/// How paris stands when the first frame arrives.
#[derive(Clone, Copy)]
enum Standing {
    Unborn,
    Voting,
    Recovering,
}

impl Standing {
    const ALL: [Self; 3] = [Self::Unborn, Self::Voting, Self::Recovering];
}

/// Paris, with a disk in memory.
#[derive(Clone)]
struct Paris {
    member: Member,
    disk: Disk,
    now: Now,
    told: Told,
}

/// What each ballot is known to bear. A member that gives it another value is a liar, not a fault of the network: the protocol
/// ends the process then (docs/protocol.md, "What is assumed"), and fuzzing leaves such frames out.
#[derive(Clone, Default)]
struct Told(BTreeMap<(Key, Ballot), Value>);

impl Told {
    /// Whether a frame from outside agrees with all that was told before; paris' own ballots only paris gives values.
    fn agrees(&mut self, frame: &Frame) -> bool {
        let claims: Vec<(Key, Ballot, Value)> = frame.bodies.iter().flat_map(claims).collect();
        claims.into_iter().all(|(key, ballot, value)| {
            let own = ballot.member == member(1).get();
            match self.0.get(&(key.clone(), ballot)) {
                Some(known) => *known == value,
                None if own => false,
                None => self.0.insert((key, ballot), value).is_none(),
            }
        })
    }

    /// What paris itself has written or said.
    fn note(&mut self, claims: impl Iterator<Item = (Key, Ballot, Value)>) {
        for (key, ballot, value) in claims {
            let known = self.0.entry((key, ballot)).or_insert_with(|| value.clone());
            assert_eq!(*known, value, "one ballot, two values");
        }
    }
}

/// Which values a body says which ballots bear.
fn claims(body: &Body) -> Vec<(Key, Ballot, Value)> {
    let of = |key: &Key, accepted: &Accepted| (key.clone(), accepted.ballot, accepted.value.clone());
    match body {
        Body::Promise { key, accepted, context, .. } => {
            let context = context.iter().map(|(key, accepted)| of(key, accepted));
            accepted.iter().map(|accepted| of(key, accepted)).chain(context).collect()
        }
        Body::Accept { key, ballot, value, .. } | Body::Chosen { key, ballot, value } => {
            vec![(key.clone(), *ballot, value.clone())]
        }
        Body::RecoverPage { registers, .. } => registers.iter().filter_map(in_register).collect(),
        Body::Epoch { ballot, identities } => {
            vec![(Key::Identities, *ballot, Value::Identities(identities.clone()))]
        }
        _ => Vec::new(),
    }
}

fn in_register((key, register): &(Key, Register)) -> Option<(Key, Ballot, Value)> {
    register.accepted().map(|accepted| (key.clone(), accepted.ballot, accepted.value.clone()))
}

fn paris() -> &'static [Paris] {
    static PARIS: OnceLock<Vec<Paris>> = OnceLock::new();
    PARIS.get_or_init(|| Standing::ALL.map(Paris::new).into())
}

fn its_settings() -> &'static Settings {
    static SETTINGS: OnceLock<Settings> = OnceLock::new();
    SETTINGS.get_or_init(|| settings(&fixture::configuration("paris", &fixture::no_files()), None))
}

impl Paris {
    fn new(standing: Standing) -> Self {
        let mut durable = Durable::new(identity(1));
        if !matches!(standing, Standing::Unborn) {
            let of = (1..=MEMBERS).map(|id| (member(id), identity(id))).collect();
            durable.own.formation = Some(Identities { epoch: Epoch(0), of });
        }
        let proven = !matches!(standing, Standing::Recovering);
        let start = Start { nonce: Nonce(1), seed: 1, lsn: Lsn(0), proven };
        let now = Now { boot: Boot(1_000_000_000), raw: Raw(1_000_000_000) };
        let disk = Disk { durable: durable.clone(), lsn: 0 };
        let (member, step) = Member::start(its_settings().clone(), durable, start, now);
        let mut paris = Self { member, disk, now, told: Told::default() };
        paris.commit(step);
        paris
    }

    fn hear(&mut self, message: &[u8]) {
        let Ok(packet) = decode::<Packet>(message) else { return };
        let again: Packet = decode(&encode(&packet)).expect("what was read can be written and read");
        assert_eq!(again, packet);
        let (from, me) = (packet.frame.header.from, member(1));
        // A connection with oneself is never served.
        let authenticated = if from == me { member(2) } else { from };
        match ValidFrame::check(packet.frame, authenticated, its_settings()) {
            Ok(frame) if self.told.agrees(frame.as_frame()) => self.handle(Event::Frame(frame)),
            Ok(_) => {}
            Err(misbehaved) => assert!(!misbehaved.to_string().is_empty()),
        }
    }

    fn tick(&mut self, ns: u64) {
        self.now = Now { boot: Boot(self.now.boot.0 + ns), raw: Raw(self.now.raw.0 + ns) };
        self.handle(Event::Tick);
    }

    fn command(&mut self, how: u8) {
        let db = TicketName::new("db").expect("it is a name");
        let command = match how % 4 {
            0 => Command::Grant(db, member(1)),
            1 => Command::Revoke(db),
            2 => Command::Move(db, member(2)),
            _ => Command::Readmit(member(3)),
        };
        let caller = Caller { who: "operator".into(), reason: String::new(), request: u64::from(how) + 1 };
        self.handle(Event::Command(CommandId(how.into()), command, caller));
    }

    fn handle(&mut self, event: Event) {
        let step = self.member.handle(self.now, event);
        self.commit(step);
    }

    fn commit(&mut self, step: Step) {
        let written = step.records().filter_map(|record| match record {
            Record::Register(key, register) => in_register(&(key.clone(), register.clone())),
            _ => None,
        });
        self.told.note(written);
        let mut turn = Turn::new();
        turn.add(step);
        let Ok(committing) = turn.commit(&mut self.disk);
        let effects = committing.effects(&mut self.member, self.now);
        for (to, frame) in effects.frames {
            self.told.note(frame.bodies.iter().flat_map(claims));
            assert!(to != member(1), "it says nothing to itself over the network");
            let theirs = Settings { me: to, ..its_settings().clone() };
            let said = ValidFrame::check(frame, member(1), &theirs);
            assert!(said.is_ok(), "what it says is right: {said:?}");
        }
        let _ = self.member.view(self.now);
    }
}

#[derive(Clone)]
struct Disk {
    durable: Durable,
    lsn: u64,
}

impl Store for Disk {
    type Error = std::convert::Infallible;

    fn commit<'r>(&mut self, records: impl Iterator<Item = &'r Record>) -> Result<Lsn, Self::Error> {
        let before = self.durable.clone();
        records.for_each(|record| self.durable.apply(record));
        if let Err(broken) = never_regresses(&before, &self.durable) {
            panic!("{broken}");
        }
        self.lsn += 1;
        Ok(Lsn(self.lsn))
    }
}

/// Small, so that fuzzing finds it.
fn identity(id: u8) -> Identity {
    Identity(id.into())
}

/// The golden messages as lyon would say them in this formation, to each paris; and some in a row.
pub fn seeds() -> Vec<(String, Vec<u8>)> {
    let packets = fixture::golden().filter(|(name, _)| name.starts_with("packet"));
    let said: Vec<(String, Vec<u8>)> = packets
        .filter_map(|(name, bytes)| {
            let mut packet: Packet = decode(&bytes).ok()?;
            let life = Life { incarnation: Incarnation(1), nonce: Nonce(2) };
            let (from, identity) = (member(2), identity(2));
            packet.frame.header =
                Header { epoch: Epoch(0), from, identity, life, lsn: Lsn(1), to: None, known: Vec::new() };
            Some((name, step(&encode(&packet))))
        })
        .collect();
    let mut seeds: Vec<(String, Vec<u8>)> =
        said.iter().map(|(name, step)| (name.clone(), [&[1], &step[..]].concat())).collect();
    for (kind, name) in [(0, "unborn"), (1, "voting"), (2, "recovering")] {
        let all: Vec<u8> = said.iter().flat_map(|(_, step)| step.clone()).take(2048).collect();
        seeds.push((name.into(), [&[kind, 3, 0, 2, 50], &all[..]].concat()));
    }
    seeds
}

fn step(message: &[u8]) -> Vec<u8> {
    let length = u16::try_from(message.len()).expect("golden messages are short");
    let [high, low] = length.to_be_bytes();
    [&[high << 2, low], message].concat()
}
