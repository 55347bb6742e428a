//! A journal on disks that tear, lose and rot (docs/testing.md, "Disks").

use super::*;

/// Of a disk, in bytes: what it writes at once, if it writes it.
const SECTOR: usize = 512;

/// What the journal was after each batch, and what it had to know then.
struct Moment {
    bytes: Vec<u8>,
    records: BTreeMap<Name, Record>,
    receipts: VecDeque<Receipt>,
}

/// Tenures of one resource, and of all of them at once: lines shorter and longer than a sector.
fn history() -> Vec<Moment> {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(dir.path()).unwrap();
    let names: Vec<String> = (0..5).map(|i| format!("resource-{i}")).collect();
    let mut moments = Vec::new();
    for token in 1..=4 {
        let count = if token % 2 == 0 { names.len() } else { 1 };
        let of = |name: &String, record: Record| Save::for_test(super::name(name), record);
        let armed = |n: &String| of(n, Record { open: Some(token), receipt: None });
        let fenced = |n: &String| of(n, Record { open: None, receipt: Some(receipt(n, token)) });
        let names = &names[..count];
        for batch in [names.iter().map(armed).collect::<Vec<_>>(), names.iter().map(fenced).collect()] {
            journal.append(&batch).unwrap();
            let bytes = fs::read(dir.path().join(FILE_NAME)).unwrap();
            let (records, receipts) = (journal.records.clone(), journal.receipts.clone());
            moments.push(Moment { bytes, records, receipts });
        }
    }
    moments
}

fn knows(loaded: &Loaded, moment: &Moment) -> bool {
    loaded.records == moment.records && loaded.receipts == moment.receipts
}

#[test]
fn a_batch_that_was_cut_short_anywhere_costs_no_other() {
    for pair in history().windows(2) {
        let [before, after] = pair else { unreachable!("windows of two") };
        for length in before.bytes.len()..after.bytes.len() {
            let loaded = parse(&after.bytes[..length]);
            assert!(knows(&loaded, before) && loaded.corrupt.is_none(), "{length} bytes");
            assert_eq!(loaded.torn, length > before.bytes.len(), "{length} bytes");
        }
        assert!(knows(&parse(&after.bytes), after));
    }
}

#[test]
fn sectors_of_a_batch_that_are_missing_cost_no_other() {
    let mut tried = 0;
    for pair in history().windows(2) {
        let [before, after] = pair else { unreachable!("windows of two") };
        let (from, to) = (before.bytes.len(), after.bytes.len());
        // The file has grown, and of the sectors that hold the new batch any may be missing: the old part of the first one
        // is there, since it was synced.
        for missing in (from / SECTOR..=to / SECTOR).map(|sector| sector * SECTOR) {
            let mut bytes = after.bytes.clone();
            bytes[missing.max(from)..(missing + SECTOR).min(to)].fill(0);
            if bytes == after.bytes {
                continue;
            }
            let loaded = parse(&bytes);
            assert!(knows(&loaded, before) && loaded.torn && loaded.corrupt.is_none(), "sector at {missing}");
            tried += 1;
        }
    }
    assert!(tried > 5, "{tried}");
}

/// In the newest batch, or at the end of the one before, it cannot be told from a crash while that was written: it counts as
/// torn, and what the leases in the runtime directory know of is armed all the same. Everywhere else it is corrupt, and
/// everything is fenced; or harmless, as a digit of a checksum in capitals is.
#[test]
fn a_bit_that_rots_is_noticed_wherever_it_is() {
    let history = history();
    let [.., before_both, before, last] = &history[..] else { unreachable!("there are some") };
    let newest = before.bytes.len();
    for at in 0..last.bytes.len() {
        let mut bytes = last.bytes.clone();
        bytes[at] ^= 1 << (at % 8);
        let loaded = parse(&bytes);
        let harmless = !loaded.torn && knows(&loaded, last);
        if loaded.corrupt.is_some() || harmless && at < newest {
            continue;
        }
        if at + 1 == newest {
            assert!(loaded.torn && knows(&loaded, before_both), "between the newest two");
        } else {
            assert!(at >= newest && (harmless || loaded.torn && knows(&loaded, before)), "byte {at}");
        }
    }
}
