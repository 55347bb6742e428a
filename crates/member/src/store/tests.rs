use std::fs;
use std::path::Path;

use sitegate_protocol::{Ballot, Key, MemberId, Register, Store as _, TicketName};

use super::*;

const IDENTITY: Identity = Identity(0x1234_5678_9abc_def0_1234_5678_9abc_def0);

fn paris() -> Owner {
    Owner::new("acme", "paris")
}

fn made(directory: &Path) {
    create(directory, &paris(), IDENTITY).unwrap();
}

/// A promise of `round` for ticket `name`.
fn record(name: &str, round: u64) -> Record {
    let mut register = Register::default();
    register.promise(Ballot { round, member: 1 }).unwrap();
    Record::Register(Key::Ownership(TicketName::new(name).unwrap()), register)
}

fn fill(store: &mut Store, count: u64) {
    for i in 0..count {
        let records = [record(&format!("ticket-{i}"), i + 1), Record::Touch];
        assert_eq!(store.commit(records.iter()).unwrap(), Lsn(i + 1));
    }
}

#[test]
fn what_was_committed_is_there() {
    let directory = tempfile::tempdir().unwrap();
    made(directory.path());
    let Loaded { mut store, durable, lsn } = open(directory.path(), &paris()).unwrap();
    assert_eq!((durable.clone(), lsn), (Durable::new(IDENTITY), Lsn(0)));
    fill(&mut store, 20);
    let life = MemberId::new(2).unwrap();
    store.commit([Record::Met(life, Identity(9)), record("ticket-3", 77)].iter()).unwrap();
    drop(store);

    let Loaded { durable, lsn, .. } = open(directory.path(), &paris()).unwrap();
    assert_eq!(lsn, Lsn(21));
    assert_eq!(durable.met.get(&life), Some(&Identity(9)));
    assert_eq!(durable.registers.len(), 20);
    let key = Key::Ownership(TicketName::new("ticket-3").unwrap());
    assert_eq!(durable.registers[&key].promised().round, 77);
}

#[test]
fn init_twice_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    made(directory.path());
    let before = fs::read(directory.path().join(FILE)).unwrap();
    let error = create(directory.path(), &paris(), Identity(1)).unwrap_err();
    assert!(matches!(error, CreateError::Exists(_)), "{error}");
    assert_eq!(fs::read(directory.path().join(FILE)).unwrap(), before);
    assert_eq!(open(directory.path(), &paris()).unwrap().durable.own.identity, IDENTITY);
}

#[test]
fn an_init_that_was_cut_short_can_be_repeated() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join(FILE_NEW), "half a store").unwrap();
    assert!(matches!(open(directory.path(), &paris()), Err(OpenError::Missing(_))));
    made(directory.path());
    open(directory.path(), &paris()).unwrap();
}

#[test]
fn missing_is_not_corrupt() {
    let directory = tempfile::tempdir().unwrap();
    for missing in [directory.path().to_path_buf(), directory.path().join("nowhere")] {
        let error = open(&missing, &paris()).unwrap_err();
        assert!(matches!(error, OpenError::Missing(_)), "{error}");
        assert!(!missing.join(FILE).exists(), "nothing is made by opening");
    }
    // A directory that cannot be looked into is neither.
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(matches!(open(&file.join("state"), &paris()), Err(OpenError::Failed { .. })));
    assert!(matches!(create(&file.join("state"), &paris(), IDENTITY), Err(CreateError::File(_))));
}

#[test]
fn a_store_of_somebody_else_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    made(directory.path());
    for other in [Owner::new("acme", "lyon"), Owner::new("other", "paris")] {
        let error = open(directory.path(), &other).unwrap_err();
        assert!(matches!(error, OpenError::NotOurs { .. }), "{error}");
        assert!(error.to_string().contains("belongs to member paris of formation acme"), "{error}");
    }
}

#[test]
fn only_one_process_works_with_it() {
    let directory = tempfile::tempdir().unwrap();
    made(directory.path());
    let held = open(directory.path(), &paris()).unwrap();
    let error = open(directory.path(), &paris()).unwrap_err();
    assert!(error.to_string().contains(&format!("locked by process {}", std::process::id())), "{error}");
    drop(held);
    open(directory.path(), &paris()).unwrap();
}

#[test]
fn another_format_is_told() {
    let directory = tempfile::tempdir().unwrap();
    made(directory.path());
    let database = Database::open(directory.path().join(FILE)).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(META).unwrap().insert(META_FORMAT, 9_u32.to_le_bytes().as_slice()).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let error = open(directory.path(), &paris()).unwrap_err();
    assert!(matches!(error, OpenError::OtherFormat { found: 9, .. }), "{error}");
}

#[test]
fn what_is_no_store_is_corrupt() {
    let directory = tempfile::tempdir().unwrap();
    made(directory.path());
    fill(&mut open(directory.path(), &paris()).unwrap().store, 5);
    let file = directory.path().join(FILE);
    let whole = fs::read(&file).unwrap();
    let garbage = vec![0x5a; whole.len()];
    for (what, bytes) in [
        ("empty", &[][..]),
        ("short garbage", b"hello"),
        ("garbage", &garbage),
        ("its first page", &whole[..4096]),
        ("half of it", &whole[..whole.len() / 2]),
    ] {
        fs::write(&file, bytes).unwrap();
        let error = open(directory.path(), &paris()).unwrap_err();
        assert!(matches!(error, OpenError::Corrupt { .. }), "{what}: {error:?}");
    }
}

#[test]
fn an_entry_that_cannot_be_read_is_corrupt() {
    let directory = tempfile::tempdir().unwrap();
    made(directory.path());
    let database = Database::open(directory.path().join(FILE)).unwrap();
    let transaction = database.begin_write().unwrap();
    let (key, value) = (encode(&Slot::Own), encode(&Record::Touch));
    transaction.open_table(RECORDS).unwrap().insert(key.as_slice(), value.as_slice()).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let error = open(directory.path(), &paris()).unwrap_err();
    assert!(error.to_string().contains("the entry Own holds Touch"), "{error}");
}

#[test]
fn flipped_bits_are_noticed_or_matter_to_nobody() {
    let directory = tempfile::tempdir().unwrap();
    made(directory.path());
    fill(&mut open(directory.path(), &paris()).unwrap().store, 5);
    let file = directory.path().join(FILE);
    let whole = fs::read(&file).unwrap();
    let Loaded { store, durable: expected, lsn } = open(directory.path(), &paris()).unwrap();
    drop(store);
    let mut noticed = 0;
    for at in (0..whole.len()).filter(|at| whole[*at] != 0).step_by(211) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        fs::write(&file, &bytes).unwrap();
        // Whatever it is, it is never another store.
        match open(directory.path(), &paris()) {
            Ok(loaded) => assert_eq!((&loaded.durable, loaded.lsn), (&expected, lsn), "byte {at}"),
            Err(OpenError::Corrupt { .. }) => noticed += 1,
            Err(error) => panic!("byte {at}: {error:?}"),
        }
    }
    assert!(noticed > 0);
}
