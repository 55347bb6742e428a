mod damage;

use std::fs;

use sitegate_fence_client::wire::{Instant, Proof, Reason};

use super::*;

fn name(name: &str) -> Name {
    Name::new(name).unwrap()
}

fn receipt(resource: &str, token: u64) -> Receipt {
    Receipt {
        resource: name(resource),
        token,
        reason: Reason::deadline(),
        level: Some(1),
        proof: Proof { what: "a \"proof\"\nof two lines".to_owned(), unix_ms: 1_700_000_000_000 },
        began: Instant { boot_ns: 1, raw_ns: 2 },
        ended: Instant { boot_ns: 3, raw_ns: 4 },
    }
}

fn open(dir: &Path) -> Result<(Journal, Loaded), DurableError> {
    let loaded = load(dir)?;
    Ok((Journal::begin(dir, &loaded, "this boot")?, loaded))
}

fn record(journal: &mut Journal, resource: &str, open: Option<u64>, receipt: Option<Receipt>) {
    let save = Save::for_test(name(resource), Record { open, receipt });
    journal.append(&[save]).unwrap();
}

#[test]
fn remembers() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, loaded) = open(dir.path()).unwrap();
    assert!(loaded.missing && loaded.records.is_empty());
    record(&mut journal, "a", Some(5), None);
    record(&mut journal, "b", None, Some(receipt("b", 7)));
    record(&mut journal, "b", None, Some(receipt("b", 9)));
    for _ in 0..3 {
        let (_, loaded) = open(dir.path()).unwrap();
        assert!(!loaded.missing && !loaded.torn && loaded.corrupt.is_none());
        assert_eq!(loaded.records[&name("a")].open, Some(5));
        assert_eq!(loaded.records[&name("b")].receipt, Some(receipt("b", 9)));
        assert_eq!(loaded.receipts, [receipt("b", 7), receipt("b", 9)]);
    }
}

#[test]
fn cuts_off_a_torn_end_wherever_it_is_torn() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE_NAME);
    let (mut journal, _) = open(dir.path()).unwrap();
    record(&mut journal, "a", Some(5), None);
    let before = fs::metadata(&path).unwrap().len();
    record(&mut journal, "a", Some(6), None);
    let bytes = fs::read(&path).unwrap();
    for length in usize::try_from(before).unwrap()..bytes.len() {
        fs::write(&path, &bytes[..length]).unwrap();
        let (_, loaded) = open(dir.path()).unwrap();
        assert!(loaded.corrupt.is_none());
        assert_eq!(loaded.torn, length as u64 > before);
        assert_eq!(loaded.records[&name("a")].open, Some(5));
    }
}

#[test]
fn notices_damage_and_keeps_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE_NAME);
    let (mut journal, _) = open(dir.path()).unwrap();
    record(&mut journal, "a", Some(5), None);
    record(&mut journal, "b", Some(6), None);
    let good = fs::read(&path).unwrap();
    let begin = HEADER.len() + "this boot\n".len();
    let first = begin + good[begin..].iter().position(|b| *b == b'5').unwrap();
    let mut bad = good.clone();
    bad[first] = b'4';
    fs::write(&path, &bad).unwrap();
    let (_, loaded) = open(dir.path()).unwrap();
    let why = loaded.corrupt.unwrap();
    assert!(why.contains("checksum") && why.contains("journal.corrupt"), "{why}");
    assert_eq!(loaded.records[&name("b")].open, Some(6), "what can be read is used");
    assert_eq!(fs::read(path.with_extension("corrupt")).unwrap(), bad);
    let (_, loaded) = open(dir.path()).unwrap();
    assert!(loaded.corrupt.is_none(), "a new one was begun");
    fs::write(&path, "something else\n").unwrap();
    assert!(open(dir.path()).unwrap().1.corrupt.is_some());
}

#[test]
fn is_rewritten_when_it_has_grown() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE_NAME);
    let (mut journal, _) = open(dir.path()).unwrap();
    let saves: Vec<Save> = (1..=200)
        .map(|token| Save::for_test(name("a"), Record { open: None, receipt: Some(receipt("a", token)) }))
        .collect();
    let mut longest = 0;
    for _ in 0..60 {
        journal.append(&saves).unwrap();
        longest = longest.max(journal.length);
        assert_eq!(fs::metadata(&path).unwrap().len(), journal.length);
    }
    assert!(longest < 2 * REWRITE_BYTES, "{longest}");
    let (_, loaded) = open(dir.path()).unwrap();
    assert_eq!(loaded.receipts.len(), RECEIPTS_KEPT);
    assert_eq!(loaded.records[&name("a")].receipt, Some(receipt("a", 200)));
}

#[test]
fn says_what_is_wrong_with_the_directory() {
    let error = open(Path::new("/nonexistent")).unwrap_err();
    assert_eq!(error.to_string(), "cannot create /nonexistent/journal.new");
}

#[test]
fn keeps_the_boot_in_which_a_token_was_first_open() {
    let dir = tempfile::tempdir().unwrap();
    let boot_of = |resource: &str| load(dir.path()).unwrap().boots.get(&name(resource)).cloned();
    let (mut journal, _) = open(dir.path()).unwrap();
    record(&mut journal, "a", Some(5), None);
    record(&mut journal, "b", Some(5), None);
    let loaded = load(dir.path()).unwrap();
    let mut journal = Journal::begin(dir.path(), &loaded, "the next").unwrap();
    record(&mut journal, "a", Some(5), None);
    assert_eq!(boot_of("a"), Some((5, "this boot".to_owned())), "written again is not armed again");
    record(&mut journal, "a", Some(6), None);
    assert_eq!(boot_of("a"), Some((6, "the next".to_owned())));
    record(&mut journal, "b", None, Some(receipt("b", 5)));
    assert_eq!(boot_of("b"), None);
}
