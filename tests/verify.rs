//! `sitegate verify` on journals that the real writer wrote: whole, changed, cut short and withheld.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::{Value, json};
use sitegate_journal::{Content, Draft, Journal, Moment};
use sitegate_protocol::{Boot, Now, Raw};

const NAMES: [&str; 3] = ["paris", "lyon", "tiebreak"];

/// The journals of three members on one machine, in directories as daemons have them.
struct Journals {
    directory: tempfile::TempDir,
    journals: Vec<Journal>,
}

impl Journals {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let open = |name: &&str| Journal::open(&directory.path().join(name).join("journal")).unwrap();
        let journals = NAMES.iter().map(open).collect();
        let journals = Self { directory, journals };
        for (index, name) in NAMES.iter().enumerate() {
            let members = json!({ "paris": 1, "lyon": 2, "tiebreak": 3 });
            let detail =
                json!({ "member": name, "members": members, "clock": "one/", "max_clock_drift_ppm": 1000 });
            journals.write(index, 0, "started", None, &detail);
        }
        journals
    }

    fn write(&self, member: usize, ms: u64, kind: &str, ticket: Option<&str>, detail: &Value) {
        let now = Now { boot: Boot(ms * 1_000_000), raw: Raw(ms * 1_000_000) };
        let ticket = ticket.map(str::to_owned);
        let content = Content::read(kind, detail).unwrap();
        let draft = Draft { ticket, member: None, text: format!("{kind} {detail}"), content };
        assert_eq!(self.journals[member].write(vec![draft], Moment::new(now)), 0);
    }

    fn about(&self, member: usize, ms: u64, kind: &str, token: u64) {
        let deadline = (ms + 3000) * 1_000_000;
        let detail = json!({ "token": token, "deadline_boot_ns": deadline, "deadline_raw_ns": deadline });
        self.write(member, ms, kind, Some("db"), &detail);
    }

    /// All three vote for a tenure of `site` that begins.
    fn acquire(&self, site: usize, ms: u64, round: u64) {
        let (ballot, token) = (format!("{round}.{}", site + 1), round * 256 + site as u64 + 1);
        let value =
            json!({ "holder": NAMES[site], "token": token, "expire_ms": 3000, "acquire_after_ms": 2000 });
        for member in 0..3 {
            let promise = json!({ "register": "ownership/db", "promised": ballot });
            self.write(member, ms + 1, "vote", Some("db"), &promise);
            let accepted = json!({ "ballot": ballot, "value": value });
            let vote = json!({ "register": "ownership/db", "promised": ballot, "accepted": accepted });
            self.write(member, ms + 3, "vote", Some("db"), &vote);
        }
        self.about(site, ms + 5, "acquired", token);
    }

    /// Paris holds, and hands over to lyon; with a receipt if it ends in order.
    fn handed_over(orderly: bool) -> Self {
        let journals = Self::new();
        journals.acquire(0, 100, 1);
        if orderly {
            journals.about(0, 1000, "relinquishing", 257);
            journals.about(0, 1100, "fenced", 257);
        }
        journals.acquire(1, 2000, 2);
        if !orderly {
            journals.about(0, 3000, "relinquishing", 257);
        }
        journals.journals.iter().for_each(|journal| journal.sync(Duration::from_secs(10)));
        journals
    }

    fn path(&self, member: usize) -> PathBuf {
        self.directory.path().join(NAMES[member]).join("journal")
    }

    fn file(&self, member: usize) -> PathBuf {
        let mut files = std::fs::read_dir(self.path(member)).unwrap();
        files.next().unwrap().unwrap().path()
    }

    fn verify(&self, members: &[usize]) -> (i32, Value) {
        verify(&members.iter().map(|&member| self.path(member)).collect::<Vec<_>>())
    }
}

fn run(journals: &[PathBuf], options: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sitegate"));
    command.arg("verify").args(journals).args(options).output().unwrap()
}

fn verify(journals: &[PathBuf]) -> (i32, Value) {
    let output = run(journals, &["--json"]);
    (output.status.code().unwrap(), serde_json::from_slice(&output.stdout).unwrap_or_default())
}

fn change(file: &Path, from: &str, to: &str) {
    let text = std::fs::read_to_string(file).unwrap();
    assert!(text.contains(from), "{text}");
    std::fs::write(file, text.replacen(from, to, 1)).unwrap();
}

#[test]
fn an_orderly_handover_is_proven() {
    let (code, found) = Journals::handed_over(true).verify(&[0, 1, 2]);
    assert_eq!((code, &found["verdict"]), (0, &json!("proven")), "{found:#}");
    assert_eq!(found["tickets"][0]["successions"][0]["by"], "receipt", "{found:#}");
    assert_eq!(found["missing"], json!([]));
}

#[test]
fn an_overlap_is_shown_with_what_led_to_it() {
    let journals = Journals::handed_over(false);
    let (code, found) = journals.verify(&[0, 1, 2]);
    assert_eq!((code, &found["verdict"]), (8, &json!("violated")), "{found:#}");
    assert_eq!(found["tickets"][0]["findings"][0]["what"], "overlap");
    let all: Vec<PathBuf> = (0..3).map(|member| journals.path(member)).collect();
    let text = String::from_utf8(run(&all, &[]).stdout).unwrap();
    assert!(text.contains("VIOLATED") && text.contains("relinquishing"), "{text}");
}

#[test]
fn a_changed_journal_is_unusable() {
    let journals = Journals::handed_over(true);
    change(&journals.file(0), "relinquishing", "relinquishinG");
    let (code, found) = journals.verify(&[0, 1, 2]);
    assert_eq!(code, 9, "{found:#}");
    assert_ne!(found["verdict"], "proven");
    assert_eq!(found["journals"][1]["chain"], "broken", "{found:#}");
}

#[test]
fn a_journal_that_ends_early_proves_less() {
    let journals = Journals::handed_over(true);
    let file = journals.file(0);
    let text = std::fs::read_to_string(&file).unwrap();
    // As a power cut may leave it: the last lines are gone, one is cut short.
    let end = text.find("\"kind\":\"relinquishing\"").unwrap();
    std::fs::write(&file, &text[..end]).unwrap();
    let (code, found) = journals.verify(&[0, 1, 2]);
    assert_eq!((code, &found["verdict"]), (0, &json!("consistent")), "{found:#}");
}

#[test]
fn what_is_missing_is_named() {
    let (code, found) = Journals::handed_over(true).verify(&[1, 2]);
    assert_eq!((code, &found["verdict"]), (0, &json!("consistent")), "{found:#}");
    assert!(found["missing"][0].as_str().unwrap().contains("paris"), "{found:#}");
}

#[test]
fn what_is_no_journal_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("notes.txt");
    std::fs::write(&file, "hello\n").unwrap();
    let output = run(std::slice::from_ref(&file), &[]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(9));
    assert!(said.contains("notes.txt:1: this is no line of a journal") && said.contains("hint:"), "{said}");
    assert_eq!(verify(&[directory.path().to_path_buf()]).0, 9);
    assert_eq!(verify(&[directory.path().join("nowhere")]).0, 7);
}
