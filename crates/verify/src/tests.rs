//! Deployments as their journals tell of them: orderly ones, and ones with something planted.

use std::time::Duration;

use serde_json::{Value, json};
use sitegate_journal::{Content, Entry};

use crate::judge::{Kind, Verdict};
use crate::source::{Condition, Journal};
use crate::{Verification, verify};

const PARIS: usize = 0;
const LYON: usize = 1;
const TIEBREAK: usize = 2;
const NAMES: [&str; 3] = ["paris", "lyon", "tiebreak"];
/// How far the clocks of the three lie from true time, and from each other.
const AHEAD_MS: [u64; 3] = [1_000_000, 77_000, 5_000_000];
/// E and A.
const EXPIRE_MS: u64 = 3000;
const ACQUIRE_AFTER_MS: u64 = 2000;
const FIRST: u64 = 257;
const SECOND: u64 = 514;

/// Three members that write down what a test says, at a true time.
struct Deployment {
    entries: [Vec<Entry>; 3],
    /// How wrong each one's time of day is.
    wall_off_ms: [i64; 3],
    /// Whether they read one clock, as members on one machine do.
    one_clock: bool,
}

impl Deployment {
    fn new() -> Self {
        let mut deployment =
            Self { entries: [Vec::new(), Vec::new(), Vec::new()], wall_off_ms: [0; 3], one_clock: false };
        deployment.start_all(0);
        deployment
    }

    fn on_one_machine() -> Self {
        let mut deployment =
            Self { entries: [Vec::new(), Vec::new(), Vec::new()], wall_off_ms: [0; 3], one_clock: true };
        deployment.start_all(0);
        deployment
    }

    fn start_all(&mut self, ms: u64) {
        for member in 0..3 {
            self.start(member, ms, "first");
        }
    }

    fn start(&mut self, member: usize, ms: u64, boot: &str) {
        let clock = if self.one_clock { "one/".to_owned() } else { format!("{boot} of {member}/") };
        let members = json!({ "paris": 1, "lyon": 2, "tiebreak": 3 });
        let detail = json!({
            "member": NAMES[member], "formation": "f", "members": members, "clock": clock, "max_clock_drift_ppm": 1000,
        });
        self.write(member, ms, "started", None, detail);
    }

    fn write(&mut self, member: usize, ms: u64, kind: &str, ticket: Option<&str>, detail: Value) {
        assert!(Content::read(kind, &detail).is_ok(), "members write no {kind} with {detail}");
        let ahead = if self.one_clock { 0 } else { AHEAD_MS[member] };
        let wall = 1_800_000_000_000 + i64::try_from(ms).unwrap() + self.wall_off_ms[member];
        let entries = &mut self.entries[member];
        entries.push(Entry {
            seq: entries.len() as u64 + 1,
            at: format!("{:.3}", jiff::Timestamp::from_millisecond(wall).unwrap()),
            boot_ns: (ms + ahead) * 1_000_000,
            raw_ns: (ms + ahead) * 1_000_000,
            kind: kind.into(),
            ticket: ticket.map(str::to_owned),
            member: None,
            text: kind.into(),
            detail,
            hash: String::new(),
        });
    }

    fn about(&mut self, member: usize, ms: u64, kind: &str, token: u64) {
        let mut detail = json!({ "token": token });
        if kind == "held" || kind == "relinquishing" {
            self.set_deadline(member, ms + EXPIRE_MS, &mut detail);
        }
        self.write(member, ms, kind, Some("db"), detail);
    }

    fn set_deadline(&self, member: usize, ms: u64, detail: &mut Value) {
        let ns = (ms + if self.one_clock { 0 } else { AHEAD_MS[member] }) * 1_000_000;
        (detail["deadline_boot_ns"], detail["deadline_raw_ns"]) = (ns.into(), ns.into());
    }

    fn promise(&mut self, member: usize, ms: u64, ballot: &str, renewed: Option<(u64, u64)>) {
        let mut detail = json!({ "register": "ownership/db", "promised": ballot });
        if let Some((token, at_ms)) = renewed {
            let ns = (at_ms + if self.one_clock { 0 } else { AHEAD_MS[member] }) * 1_000_000;
            detail["renewed"] = json!({ "token": token, "boot_ns": ns, "raw_ns": ns });
        }
        self.write(member, ms, "vote", Some("db"), detail);
    }

    fn accept(&mut self, member: usize, ms: u64, ballot: &str, value: &Value) {
        let detail = json!({
            "register": "ownership/db", "promised": ballot, "accepted": { "ballot": ballot, "value": value },
        });
        self.write(member, ms, "vote", Some("db"), detail);
    }

    /// A round of `proposer` that takes 8 ms, in which `voters` take part.
    fn round(&mut self, proposer: usize, ms: u64, ballot: &str, value: &Value, voters: &[usize]) {
        self.promise(proposer, ms, ballot, None);
        for &member in voters.iter().filter(|&&member| member != proposer) {
            self.promise(member, ms + 2, ballot, None);
            self.accept(member, ms + 6, ballot, value);
        }
        self.accept(proposer, ms + 5, ballot, value);
    }

    fn acquire(&mut self, site: usize, ms: u64, ballot: &str, token: u64, voters: &[usize]) {
        self.round(site, ms, ballot, &held(site, token), voters);
        self.about(site, ms + 8, "acquired", token);
        self.about(site, ms + 9, "held", token);
    }

    fn receipt(&mut self, site: usize, ms: u64, token: u64) {
        let ns = (ms + if self.one_clock { 0 } else { AHEAD_MS[site] }) * 1_000_000;
        let ended = json!({ "boot_ns": ns, "raw_ns": ns });
        self.write(site, ms + 1, "receipt", Some("db"), json!({ "token": token, "ended": ended }));
        self.about(site, ms + 1, "fenced", token);
    }

    fn intent(&mut self, member: usize, ms: u64, version: u64, wanted: &str) {
        let detail = json!({ "version": version, "wanted": wanted, "paused": false, "attested": null });
        self.write(member, ms, "intent", Some("db"), detail);
    }

    fn verify(&self, members: &[usize], uncertainty_ms: u64) -> Verification {
        let journals: Vec<Journal> = members
            .iter()
            .map(|&member| Journal {
                member: NAMES[member].into(),
                source: String::new(),
                entries: self.entries[member].clone(),
                condition: Condition::Whole,
            })
            .collect();
        verify(&journals, Duration::from_millis(uncertainty_ms), None)
    }
}

fn held(site: usize, token: u64) -> Value {
    json!({
        "holder": NAMES[site], "token": token, "expire_ms": EXPIRE_MS, "acquire_after_ms": ACQUIRE_AFTER_MS,
    })
}

fn free(token: u64) -> Value {
    json!({ "holder": null, "token": token, "proof": "Receipt" })
}

const ALL: [usize; 3] = [PARIS, LYON, TIEBREAK];

/// Paris holds, gives up on a receipt, and lyon takes over: what one tells the other orders all of it.
fn moved() -> Deployment {
    let mut d = Deployment::new();
    d.acquire(PARIS, 100, "1.1", FIRST, &ALL);
    d.about(PARIS, 1000, "relinquishing", FIRST);
    d.receipt(PARIS, 1100, FIRST);
    d.round(PARIS, 1110, "2.1", &free(FIRST), &ALL);
    d.about(PARIS, 1120, "released", FIRST);
    d.acquire(LYON, 1200, "2.2", SECOND, &ALL);
    d
}

/// Paris falls silent at 1000; the others let its guard end, and lyon takes over.
fn failed_over(promised_at_ms: u64) -> Deployment {
    let mut d = Deployment::new();
    d.acquire(PARIS, 100, "1.1", FIRST, &ALL);
    d.promise(LYON, promised_at_ms, "2.2", Some((FIRST, 1000)));
    d.promise(TIEBREAK, promised_at_ms + 2, "2.2", Some((FIRST, 1000)));
    d.accept(LYON, promised_at_ms + 4, "2.2", &held(LYON, SECOND));
    d.accept(TIEBREAK, promised_at_ms + 5, "2.2", &held(LYON, SECOND));
    d.about(LYON, promised_at_ms + 8, "acquired", SECOND);
    d
}

fn kinds(found: &Verification) -> Vec<Kind> {
    found.tickets.iter().flat_map(|ticket| &ticket.findings).map(|finding| finding.what).collect()
}

fn by(found: &Verification) -> (Option<&'static str>, Option<&'static str>) {
    let succeeded = &found.tickets[0].successions[0];
    (succeeded.by, succeeded.basis)
}

#[test]
fn a_move_is_proven_without_any_clock() {
    let found = moved().verify(&ALL, 0);
    assert_eq!((found.verdict, kinds(&found)), (Verdict::Proven, vec![]), "{found:?}");
    assert_eq!(by(&found), (Some("receipt"), Some("order")));
    let ticket = &found.tickets[0];
    assert_eq!((ticket.tenures, ticket.sites.len()), (2, 2));
    assert!(ticket.gap_min_ms.unwrap() > 80.0, "{ticket:?}");
}

#[test]
fn nothing_is_proven_without_who_knew() {
    let found = moved().verify(&[LYON], 0);
    assert_eq!(found.verdict, Verdict::Consistent, "{found:?}");
    assert_eq!(found.missing.len(), 3, "{found:?}");
    // What the others heard of the receipt is enough.
    assert_eq!(moved().verify(&[LYON, TIEBREAK], 0).verdict, Verdict::Proven);
}

#[test]
fn a_failover_is_proven_by_those_who_let_the_guard_end() {
    let lease = EXPIRE_MS + ACQUIRE_AFTER_MS;
    let found = failed_over(1000 + lease + 100).verify(&ALL, 0);
    assert_eq!((found.verdict, by(&found)), (Verdict::Proven, (Some("guards"), Some("order"))), "{found:?}");
    // The dead site's journal is at the bottom of the sea: it may have voted for lyon, for all that can be shown.
    let without = failed_over(1000 + lease + 100).verify(&[LYON, TIEBREAK], 0);
    assert_eq!(without.verdict, Verdict::Consistent, "{without:?}");
    // Promised too soon: nothing shows that paris had ended.
    let soon = failed_over(1000 + lease - 100).verify(&ALL, 0);
    assert_eq!(soon.verdict, Verdict::Consistent, "{soon:?}");
}

#[test]
fn a_loss_that_was_noticed_ends_after_acquire_after() {
    let mut d = Deployment::new();
    d.acquire(PARIS, 100, "1.1", FIRST, &ALL);
    // Hours later the clocks may have gone apart by seconds: only the time of day can tell.
    d.about(PARIS, 10_003_200, "lost", FIRST);
    d.acquire(LYON, 10_005_400, "2.2", SECOND, &[LYON, TIEBREAK]);
    assert_eq!(by(&d.verify(&ALL, 0)), (None, None));
    assert_eq!(by(&d.verify(&ALL, 50)), (Some("lapse"), Some("clocks")));
    assert_eq!(by(&d.verify(&ALL, 500)), (None, None));
    // Soon after they had all met, that tells how their clocks lie.
    let mut d = Deployment::new();
    d.acquire(PARIS, 100, "1.1", FIRST, &ALL);
    d.about(PARIS, 3200, "lost", FIRST);
    d.acquire(LYON, 5400, "2.2", SECOND, &[LYON, TIEBREAK]);
    assert_eq!(by(&d.verify(&ALL, 0)), (Some("lapse"), Some("order")));
}

#[test]
fn a_reboot_ends_what_ran() {
    let mut d = Deployment::new();
    d.acquire(PARIS, 100, "1.1", FIRST, &ALL);
    d.start(PARIS, 2000, "second");
    d.round(PARIS, 2100, "2.1", &held(PARIS, FIRST), &ALL);
    d.acquire(LYON, 3000, "3.2", 770, &ALL);
    let found = d.verify(&ALL, 0);
    assert_eq!(by(&found), (Some("reboot"), Some("order")), "{found:?}");
}

#[test]
fn an_overlap_is_found_by_order_alone() {
    let mut d = Deployment::new();
    d.acquire(PARIS, 100, "1.1", FIRST, &ALL);
    d.acquire(LYON, 1000, "2.2", SECOND, &[LYON, TIEBREAK]);
    // Paris still gives it up after it has learnt of lyon's tenure, which lyon had begun before.
    d.round(LYON, 1500, "3.2", &held(LYON, SECOND), &ALL);
    d.about(PARIS, 3000, "relinquishing", FIRST);
    let found = d.verify(&ALL, 0);
    assert_eq!((found.verdict, kinds(&found)), (Verdict::Violated, vec![Kind::Overlap]), "{found:?}");
    let lines = &found.tickets[0].findings[0].lines;
    assert!(lines.iter().any(|line| line.member == "paris" && line.text == "relinquishing"), "{lines:?}");
    assert!(lines.iter().any(|line| line.member == "lyon" && line.text == "acquired"), "{lines:?}");
    assert!(found.problem().unwrap().contains("still held it"), "{found:?}");
}

#[test]
fn an_overlap_on_one_machine_is_found_by_its_clock() {
    let mut d = Deployment::on_one_machine();
    d.acquire(PARIS, 100, "1.1", FIRST, &ALL);
    d.acquire(LYON, 1000, "2.2", SECOND, &[LYON, TIEBREAK]);
    d.about(PARIS, 1200, "relinquishing", FIRST);
    assert_eq!(kinds(&d.verify(&ALL, 0)), [Kind::Overlap]);
}

#[test]
fn an_entry_that_was_written_late_is_no_overlap() {
    let mut d = Deployment::on_one_machine();
    d.acquire(PARIS, 100, "1.1", FIRST, &ALL);
    d.acquire(LYON, 9000, "2.2", SECOND, &[LYON, TIEBREAK]);
    // Paris gave it up at 900, and its disk stood still until 10 000.
    let mut detail = json!({ "token": FIRST });
    d.set_deadline(PARIS, 3900, &mut detail);
    d.write(PARIS, 10_000, "relinquishing", Some("db"), detail);
    assert_eq!(kinds(&d.verify(&ALL, 0)), []);
}

#[test]
fn an_overlap_by_the_time_of_day_must_be_larger_than_that_is_wrong() {
    let mut d = Deployment::new();
    d.acquire(PARIS, 100, "1.1", FIRST, &[PARIS, TIEBREAK]);
    d.acquire(LYON, 100_000_000, "2.2", SECOND, &[LYON, TIEBREAK]);
    d.about(PARIS, 100_003_000, "relinquishing", FIRST);
    assert_eq!(kinds(&d.verify(&ALL, 1000)), [Kind::Overlap]);
    assert_eq!(d.verify(&ALL, 5000).verdict, Verdict::Consistent);
    assert_eq!(d.verify(&ALL, 0).verdict, Verdict::Consistent);
}

#[test]
fn wrong_times_of_day_prove_nothing_and_hide_nothing() {
    let mut d = moved();
    // Lyon's clock is set a minute back after all that: its times contradict what it must have heard.
    d.wall_off_ms[LYON] = -60_000;
    d.round(LYON, 2000, "3.2", &held(LYON, SECOND), &ALL);
    assert_eq!(d.verify(&ALL, 100).verdict, Verdict::Proven);
}

#[test]
fn a_receipt_after_the_next_tenure_is_told_of() {
    let mut d = failed_over(6100);
    d.about(PARIS, 4100, "lost", FIRST);
    d.promise(PARIS, 6200, "3.2", None);
    d.receipt(PARIS, 9000, FIRST);
    d.round(LYON, 9500, "4.2", &held(LYON, SECOND), &ALL);
    let found = d.verify(&ALL, 100);
    assert_eq!((found.verdict, kinds(&found)), (Verdict::Proven, vec![Kind::LateReceipt]), "{found:?}");
}

#[test]
fn tokens_are_held_to_their_rules() {
    let mut twice = moved();
    twice.acquire(PARIS, 2000, "2.2", SECOND, &[]);
    let found = kinds(&twice.verify(&ALL, 0));
    assert!(found.contains(&Kind::Token), "{found:?}");
    let mut back = moved();
    back.about(LYON, 2000, "acquired", FIRST + 1);
    assert!(kinds(&back.verify(&ALL, 0)).contains(&Kind::Token));
}

#[test]
fn no_release_without_a_receipt() {
    let mut d = Deployment::new();
    d.acquire(PARIS, 100, "1.1", FIRST, &ALL);
    d.about(PARIS, 1000, "released", FIRST);
    assert_eq!(kinds(&d.verify(&ALL, 0)), [Kind::Release]);
    // While it did not run, the fence daemon may have given one.
    let mut d = Deployment::new();
    d.acquire(PARIS, 100, "1.1", FIRST, &ALL);
    d.start(PARIS, 900, "first");
    d.about(PARIS, 1000, "released", FIRST);
    assert_eq!(kinds(&d.verify(&ALL, 0)), []);
}

#[test]
fn no_tenure_against_a_wish_that_a_voter_knew() {
    let mut d = moved();
    d.intent(TIEBREAK, 1500, 3, "revoked");
    d.acquire(PARIS, 2000, "3.1", 769, &ALL);
    assert!(kinds(&d.verify(&ALL, 0)).contains(&Kind::Wish));
    let mut granted = moved();
    granted.intent(TIEBREAK, 1500, 3, "revoked");
    granted.intent(TIEBREAK, 1600, 4, "managed");
    granted.acquire(PARIS, 2000, "3.1", 769, &ALL);
    assert_eq!(kinds(&granted.verify(&ALL, 0)), []);
}

#[test]
fn what_came_to_nothing_is_no_tenure() {
    let mut d = moved();
    d.promise(PARIS, 2000, "9.1", None);
    d.accept(PARIS, 2001, "9.1", &held(PARIS, 2305));
    let found = d.verify(&ALL, 0);
    assert_eq!((found.tickets[0].tenures, found.verdict), (2, Verdict::Proven));
}

#[test]
fn what_cannot_be_read_proves_nothing() {
    let unknown = ("vote-of-tomorrow", json!({}));
    let misshapen = ("vote", json!({ "register": "ownership/db", "promised": 7 }));
    for (kind, detail) in [unknown, misshapen] {
        let mut d = moved();
        assert_eq!(d.verify(&ALL, 0).verdict, Verdict::Proven);
        for member in ALL {
            let last = d.entries[member].last().unwrap().clone();
            d.entries[member].push(Entry {
                seq: last.seq + 1,
                kind: kind.into(),
                detail: detail.clone(),
                ..last
            });
        }
        let found = d.verify(&ALL, 0);
        assert_eq!(found.verdict, Verdict::Consistent, "{found:?}");
        assert!(found.missing.iter().any(|missing| missing.contains(kind)), "{:?}", found.missing);
    }
}
