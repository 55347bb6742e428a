//! What is committed, by the number of the commit: a test that knows a store's count of commits knows all that it holds.

use sitegate_member::store::{Loaded, OpenError, Owner, Store};
use sitegate_protocol::{
    Author, Ballot, Durable, Identity, Intent, Key, Lsn, MemberId, Record, Register, Store as _, TicketName,
    Value, Wanted,
};

use super::disk::Disk;

pub(crate) const IDENTITY: Identity = Identity(7);
/// Tickets whose registers change.
const TICKETS: u64 = 40;
/// Registers that change with one commit, at most: some commits are a page, some are many.
const AT_ONCE_MAX: u64 = 12;

pub(crate) fn owner() -> Owner {
    Owner::new("acme", "paris")
}

/// What commit `lsn` writes.
pub(crate) fn records(lsn: u64) -> Vec<Record> {
    let member = MemberId::new(2).unwrap();
    let mut records = vec![Record::Met(member, Identity(lsn.into()))];
    for i in 0..lsn * lsn % AT_ONCE_MAX {
        let ticket = TicketName::new(&format!("ticket-{:02}", (lsn * 7 + i) % TICKETS)).unwrap();
        let (mut register, ballot) = (Register::default(), Ballot { round: lsn, member: 1 });
        register.accept(ballot, &wish(lsn)).unwrap();
        records.push(Record::Register(Key::Intent(ticket), register));
    }
    records
}

/// Long enough that a few of them fill a page.
fn wish(lsn: u64) -> Value {
    let author = Author { who: "operator alice".into(), via: MemberId::new(3) };
    Value::Intent(Intent {
        version: lsn,
        wanted: Wanted::Managed { preferred: MemberId::new(2) },
        vacate: None,
        attested: None,
        paused: false,
        author,
        reason: "maintenance ".repeat(16),
        request: lsn,
    })
}

/// What a store holds after commit `lsn`.
pub(crate) fn state(lsn: u64) -> Durable {
    let mut durable = Durable::new(IDENTITY);
    (1..=lsn).flat_map(records).for_each(|record| durable.apply(&record));
    durable
}

/// A new store on `disk`, all of it synced.
pub(crate) fn begin(disk: &Disk) -> Store {
    Store::in_backend(disk.clone(), &owner(), IDENTITY).unwrap().store
}

/// Commits up to `end`, or until one fails; the last that was acknowledged.
pub(crate) fn commit_until(store: &mut Store, from: u64, end: u64) -> u64 {
    for lsn in from + 1..=end {
        match store.commit(records(lsn).iter()) {
            Ok(told) => assert_eq!(told, Lsn(lsn)),
            Err(_) => return lsn - 1,
        }
    }
    end
}

/// How a store came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The store is refused.
    Refused,
    /// All that was acknowledged is there; perhaps what was about to be.
    Whole,
    /// It is what an earlier commit left, and says so: no proof and no witness takes it for the newest.
    Older,
}

/// Opens `file`, of which `acknowledged` commits were said to be on the disk.
///
/// # Panics
/// If it holds what no commit has left: then something is lost, and nobody can know.
pub(crate) fn open(file: Vec<u8>, acknowledged: u64, what: &dyn Fn() -> String) -> Outcome {
    open_on(Disk::holding(file), acknowledged, what)
}

/// The same, on a disk that may do something wrong meanwhile.
pub(crate) fn open_on(disk: Disk, acknowledged: u64, what: &dyn Fn() -> String) -> Outcome {
    match Store::open_backend(disk, &owner()) {
        Ok(Loaded { durable, lsn: Lsn(lsn), .. }) => {
            assert!(lsn <= acknowledged + 1, "{}: commit {lsn} was never begun", what());
            assert!(durable == state(lsn), "{}: not what commit {lsn} left", what());
            if lsn < acknowledged { Outcome::Older } else { Outcome::Whole }
        }
        Err(OpenError::Corrupt { .. } | OpenError::Failed { .. }) => Outcome::Refused,
        Err(error) => panic!("{}: {error:?}", what()),
    }
}
