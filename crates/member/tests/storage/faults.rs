//! Every single operation of a workload goes wrong once, in every way.

use std::collections::BTreeMap;

use super::disk::{Disk, Fault, Kept};
use super::workload::{Outcome, begin, commit_until, open, open_on, owner, state};
use sitegate_member::store::{Loaded, Store};
use sitegate_protocol::Lsn;

/// Commits of the workload. The store grows under way.
const COMMITS: u64 = 24;
/// Power cuts by chance at each point.
const SEEDS: u64 = 1;

/// How many operations the workload takes on a disk that is well.
fn operations() -> u64 {
    let disk = Disk::default();
    let mut store = begin(&disk);
    disk.will(0, Fault::Fails);
    assert_eq!(commit_until(&mut store, 0, COMMITS), COMMITS);
    disk.operations()
}

/// Runs the workload on a disk with this fault; what it was left with, and the last commit that was acknowledged.
fn struck(operation: u64, fault: Fault) -> (Disk, u64) {
    let disk = Disk::default();
    let mut store = begin(&disk);
    disk.will(operation, fault);
    let acknowledged = commit_until(&mut store, 0, COMMITS);
    if acknowledged < COMMITS {
        // Also once the disk is well again: a commit that failed is final.
        assert_eq!(commit_until(&mut store, acknowledged, COMMITS), acknowledged);
    }
    // As a process that is killed leaves it: nothing is tidied up.
    std::mem::forget(store);
    (disk, acknowledged)
}

#[test]
fn a_disk_that_fails_anywhere_loses_nothing_that_was_acknowledged() {
    let mut cuts = 0;
    for operation in 1..=operations() {
        for fault in [Fault::Fails, Fault::FailsOnce, Fault::WritesPart] {
            let (disk, acknowledged) = struck(operation, fault);
            let by_chance = (0..SEEDS).flat_map(|seed| [Kept::Prefix(seed), Kept::Sectors(seed)]);
            for kept in [Kept::All, Kept::Nothing].into_iter().chain(by_chance) {
                let what = || format!("operation {operation}, {fault:?}, then a power cut: {kept:?}");
                let outcome = open(disk.after_power_cut(kept), acknowledged, &what);
                assert_eq!(outcome, Outcome::Whole, "{}", what());
                cuts += 1;
            }
        }
    }
    println!("{} operations, {cuts} power cuts", operations());
    assert!(cuts > 1000, "the workload is long enough to mean something: {cuts}");
}

#[test]
fn a_disk_that_lies_is_found_out_or_gives_itself_away() {
    let mut outcomes = BTreeMap::new();
    for operation in 1..=operations() {
        for fault in [Fault::TearsSilently, Fault::LosesSilently] {
            let (disk, acknowledged) = struck(operation, fault);
            for kept in [Kept::All, Kept::Nothing] {
                let what = || format!("operation {operation}, {fault:?}, {kept:?}");
                let outcome = open(disk.after_power_cut(kept), acknowledged, &what);
                *outcomes.entry(format!("{fault:?}, {kept:?}: {outcome:?}")).or_insert(0) += 1;
            }
        }
    }
    println!("{outcomes:#?}");
    // It mattered: what was lost or torn was noticed, by one or the other.
    for seen in ["TearsSilently, All: Refused", "LosesSilently, Nothing: Older"] {
        assert!(outcomes.get(seen).is_some_and(|count| *count > 0), "{seen}: {outcomes:?}");
    }
}

#[test]
fn a_disk_that_fails_while_a_store_is_opened_changes_nothing() {
    let (disk, acknowledged) = struck(u64::MAX, Fault::Fails);
    // As power cuts leave it: it has to be repaired.
    let file = disk.file();
    let operations = operations_of_opening(&file);
    for operation in 1..=operations {
        let disk = Disk::holding(file.clone());
        disk.will(operation, Fault::Fails);
        if let Ok(Loaded { store, durable, lsn }) = Store::open_backend(disk.clone(), &owner()) {
            assert_eq!((lsn, durable), (Lsn(acknowledged), state(acknowledged)));
            std::mem::forget(store);
        }
        for kept in [Kept::All, Kept::Nothing, Kept::Sectors(operation)] {
            let what = || format!("operation {operation} of opening, {kept:?}");
            assert_eq!(open(disk.after_power_cut(kept), acknowledged, &what), Outcome::Whole, "{}", what());
        }
    }
    println!("{operations} operations");
    assert!(operations > 10, "opening takes some");
}

/// redb checks all pages when it opens a file, and reads some of them again later, which it does not check. The sum does.
#[test]
fn a_bit_that_is_read_wrong_while_a_store_is_opened_is_noticed_or_harmless() {
    let (disk, acknowledged) = struck(u64::MAX, Fault::Fails);
    let file = disk.file();
    let mut refused = 0;
    for operation in 1..=operations_of_opening(&file) {
        let disk = Disk::holding(file.clone());
        disk.will(operation, Fault::RotsRead);
        let what = || format!("operation {operation} of opening");
        match open_on(disk, acknowledged, &what) {
            Outcome::Refused => refused += 1,
            Outcome::Older | Outcome::Whole => {}
        }
    }
    assert!(refused > 0, "it mattered");
}

fn operations_of_opening(file: &[u8]) -> u64 {
    let disk = Disk::holding(file.to_vec());
    let opened = Store::open_backend(disk.clone(), &owner()).unwrap();
    let operations = disk.operations();
    std::mem::forget(opened);
    operations
}
