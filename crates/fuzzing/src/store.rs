//! The store's file and its records: whatever lies on the disk, a store is what was committed, or it is refused.

use std::sync::OnceLock;

use redb::backends::InMemoryBackend;
use redb::{Database, StorageBackend, TableDefinition};
use sitegate_member::store::{Loaded, OpenError, Owner, Store};
use sitegate_member::wire::encode;
use sitegate_protocol::{
    Ballot, Durable, Identity, Key, Lsn, MemberId, Record, Register, Store as _, TicketName,
};

use crate::fixture::member;

/// Commits of the store that is damaged.
const COMMITS: u64 = 12;

/// The first byte says how the rest is meant.
pub fn run(input: &[u8]) {
    match input.split_first() {
        None => {}
        Some((0, edits)) => damaged(edits),
        Some((1, file)) => {
            // Nobody has committed anything to it: whatever it is, it ends in a result.
            let _ = Store::open_backend(memory(file), &owner());
        }
        Some((_, records)) => written(records),
    }
}

fn owner() -> Owner {
    Owner::new("acme", "paris")
}

/// A good store, and how it was after each commit.
struct Good {
    file: Vec<u8>,
    history: Vec<Durable>,
}

fn good() -> &'static Good {
    static GOOD: OnceLock<Good> = OnceLock::new();
    GOOD.get_or_init(|| {
        let disk = InMemoryBackend::new();
        let shared = std::sync::Arc::new(disk);
        let Loaded { mut store, mut durable, .. } =
            Store::in_backend(Shared(shared.clone()), &owner(), Identity(7)).expect("memory takes it");
        let mut history = vec![durable.clone()];
        for commit in 1..=COMMITS {
            let records = records(commit);
            store.commit(records.iter()).expect("memory takes it");
            records.iter().for_each(|record| durable.apply(record));
            history.push(durable.clone());
        }
        // As a process that is killed leaves it.
        let file = contents(&shared);
        Good { file, history }
    })
}

fn records(commit: u64) -> [Record; 2] {
    let mut register = Register::default();
    register.promise(Ballot { round: commit, member: 1 }).expect("rounds grow");
    let ticket = TicketName::new(&format!("ticket-{}", commit % 5)).expect("it is a name");
    let met: MemberId = member(u8::try_from(commit % 3).unwrap_or(0) + 1);
    [Record::Register(Key::Ownership(ticket), register), Record::Met(met, Identity(commit.into()))]
}

/// Each four bytes of `edits` change one byte of a good store: where, three bytes, and by which bits.
///
/// An older commit is not lost silently: the count of commits tells it, and whoever has no proof of the newest looks for
/// witnesses before it votes.
fn damaged(edits: &[u8]) {
    let Good { file, history } = good();
    let mut file = file.clone();
    for edit in edits.chunks_exact(4) {
        let at = u32::from_le_bytes([edit[0], edit[1], edit[2], 0]) as usize % file.len();
        file[at] ^= edit[3];
    }
    match Store::open_backend(memory(&file), &owner()) {
        Ok(Loaded { durable, lsn: Lsn(lsn), .. }) => {
            let then = usize::try_from(lsn).ok().and_then(|lsn| history.get(lsn));
            assert_eq!(Some(&durable), then, "a store that nobody has committed, as commit {lsn}");
        }
        Err(error) => refused(&error),
    }
}

/// Each entry: table, length of the key, length of the value, key, value. All of it is in a good database.
fn written(mut entries: &[u8]) {
    let disk = std::sync::Arc::new(InMemoryBackend::new());
    let loaded = Store::in_backend(Shared(disk.clone()), &owner(), Identity(7)).expect("memory takes it");
    drop(loaded);
    let database = Database::builder().create_with_backend(Shared(disk.clone())).expect("it was good");
    let transaction = database.begin_write().expect("memory takes it");
    while let [table, key, value, rest @ ..] = entries {
        let (key, rest) = rest.split_at(usize::from(*key).min(rest.len()));
        let (value, rest) = rest.split_at(usize::from(*value).min(rest.len()));
        entries = rest;
        if table & 1 == 0 {
            let records: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("records");
            let mut table = transaction.open_table(records).expect("it is there");
            table.insert(key, value).expect("memory takes it");
        } else {
            let meta: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
            let name = ["format", "owner", "lsn"][usize::from(table >> 1) % 3];
            let mut table = transaction.open_table(meta).expect("it is there");
            table.insert(name, value).expect("memory takes it");
        }
    }
    transaction.commit().expect("memory takes it");
    drop(database);
    match Store::open_backend(memory(&contents(&disk)), &owner()) {
        Ok(Loaded { mut store, lsn, .. }) if lsn.0 < u64::MAX => {
            store.commit([Record::Touch].iter()).expect("it goes on");
        }
        Ok(_) => {}
        Err(error) => refused(&error),
    }
}

/// Refused, for a reason that does not blame the machine, with words and a way out.
fn refused(error: &OpenError) {
    assert!(!error.to_string().is_empty() && !error.advice().is_empty());
    let damaged = matches!(error, OpenError::Corrupt { .. });
    let of_another = matches!(error, OpenError::OtherFormat { .. } | OpenError::NotOurs { .. });
    assert!(damaged || of_another, "{error:?}");
}

/// A file in memory that outlives the database that works with it.
#[derive(Debug)]
struct Shared(std::sync::Arc<InMemoryBackend>);

impl StorageBackend for Shared {
    fn len(&self) -> std::io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, length: u64) -> std::io::Result<()> {
        self.0.set_len(length)
    }

    fn sync_data(&self) -> std::io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
        self.0.write(offset, data)
    }
}

fn memory(file: &[u8]) -> InMemoryBackend {
    let memory = InMemoryBackend::new();
    memory.set_len(file.len() as u64).expect("memory takes it");
    memory.write(0, file).expect("memory takes it");
    memory
}

fn contents(memory: &InMemoryBackend) -> Vec<u8> {
    let length = memory.len().expect("memory has a length");
    let mut file = vec![0; usize::try_from(length).expect("it is short")];
    memory.read(0, &mut file).expect("memory can be read");
    file
}

/// Edits of each part of the header and of some page, files that are none, and records of each kind.
pub fn seeds() -> Vec<(String, Vec<u8>)> {
    let mut seeds = vec![("good".to_owned(), vec![0])];
    for (name, at) in
        [("magic", 3_u32), ("flags", 9), ("geometry", 14), ("slot-0", 80), ("slot-1", 210), ("page", 5000)]
    {
        let [low, middle, high, _] = at.to_le_bytes();
        seeds.push((format!("edit-{name}"), vec![0, low, middle, high, 1]));
    }
    seeds.push(("file-none".into(), b"\x01no store".to_vec()));
    seeds.push(("file-header".into(), [&[1], &good().file[..320]].concat()));
    for record in [&records(1)[..], &[Record::Touch, Record::Life(member(2), None)]].concat() {
        let (key, value) = (encode(&record.slot()), encode(&record));
        let length = |bytes: &[u8]| u8::try_from(bytes.len()).expect("it is short");
        let entry = [&[2, 0, length(&key), length(&value)], &key[..], &value[..]].concat();
        let kind = format!("{:?}", record.slot()).split('(').next().unwrap_or_default().to_lowercase();
        seeds.push((format!("record-{kind}"), entry));
    }
    seeds.push(("lsn".into(), vec![2, 5, 0, 8, 1, 0, 0, 0, 0, 0, 0, 0]));
    seeds.push(("format".into(), vec![2, 1, 0, 4, 2, 0, 0, 0]));
    seeds
}
