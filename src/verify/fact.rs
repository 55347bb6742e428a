//! What the entries of a journal say that a proof can use.

use std::collections::BTreeMap;

use serde_json::Value;
use sitegate_member::journal::Entry;
use sitegate_protocol::Ballot;

/// A point in time as one journal has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    /// Which clock read it.
    pub(super) clock: usize,
    /// What it read, ns.
    pub(super) boot_ns: i128,
    /// The other clock of the two, ns.
    pub(super) raw_ns: i128,
    /// The time of day, ns since 1970; none if it cannot be read.
    pub(super) wall_ns: Option<i128>,
}

impl Stamp {
    /// So much earlier by the same clocks.
    fn earlier(self, ns: i128) -> Self {
        let wall_ns = self.wall_ns.map(|wall| wall - ns);
        Self { boot_ns: self.boot_ns - ns, raw_ns: self.raw_ns - ns, wall_ns, ..self }
    }
}

/// One entry, read.
#[derive(Clone, Debug)]
pub(super) struct Fact {
    pub(super) seq: u64,
    pub(super) at: Stamp,
    pub(super) what: What,
}

/// What it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    Vote(Vote),
    Acquired(u64),
    /// It held it at that moment, which was before the deadline in force: an entry may be written after it has passed.
    Holds(u64),
    /// It had it, or had had it: taken up again, given up.
    Had(u64),
    Lost(u64),
    /// The member knows of a receipt that covers the token.
    Fenced(u64),
    /// The fence daemon's receipt, at the time at which its proof was in.
    Receipt(u64),
    Released(u64),
    Intent(Wish),
    /// The member began anew: what happened meanwhile is not written down here, nor perhaps what happened just before.
    Began,
    /// A fence daemon answers: receipts that it gave before are not written down here.
    FenceBegan,
}

/// A register as it was committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Vote {
    pub(super) ownership: bool,
    pub(super) promised: Ballot,
    /// A vote at that ballot.
    pub(super) accepted: Option<(Ballot, Chosen)>,
    /// A value that was taken over from others, and its ballot.
    pub(super) learnt: Option<Ballot>,
    /// With a promise: the tenure that is guarded, and when it was last renewed by the two clocks.
    pub(super) renewed: Option<(u64, i128, i128)>,
}

/// A value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Chosen {
    Held { token: u64, expire_ns: i128, acquire_after_ns: i128 },
    Free { token: u64, receipt: bool },
    Intent(Wish),
    Other,
}

/// What is wanted for a ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wish {
    pub(super) version: u64,
    /// Whether it forbids new tenures; none if the entry does not say.
    pub(super) barred: Option<bool>,
    pub(super) attested: Option<u64>,
}

/// Numbers clocks by what the journals say of them.
#[derive(Debug, Default)]
pub(super) struct Clocks(BTreeMap<String, usize>);

impl Clocks {
    fn number(&mut self, name: String) -> usize {
        let next = self.0.len();
        *self.0.entry(name).or_insert(next)
    }
}

/// One member's journal, read.
#[derive(Clone, Debug, Default)]
pub(super) struct Read {
    /// By ticket. What is about none stands with every ticket that is asked for.
    pub(super) facts: BTreeMap<String, Vec<Fact>>,
    /// Starts of the member and of its fence daemon.
    pub(super) starts: Vec<Fact>,
    /// The first reading after each reboot.
    pub(super) reboots: Vec<Stamp>,
    /// All members with their numbers, as the newest start says.
    pub(super) members: BTreeMap<String, u8>,
    pub(super) max_clock_drift_ppm: Option<u64>,
    /// How many entries were never written.
    pub(super) lost: u64,
}

/// Reads the entries of `member`.
pub(super) fn read(member: &str, entries: &[Entry], clocks: &mut Clocks) -> Read {
    let mut read = Read::default();
    let mut epoch = 0;
    let mut clock = clocks.number(format!("{member} 0"));
    let mut boot: Option<String> = None;
    let mut last_ns = 0;
    for entry in entries {
        if entry.kind == "started" || entry.boot_ns < last_ns {
            epoch += 1;
            let named = entry.detail["clock"].as_str().filter(|_| entry.kind == "started");
            // A start that does not say which clock it reads may be after a reboot.
            clock = clocks.number(named.map_or_else(|| format!("{member} {epoch}"), str::to_owned));
            let next = named.and_then(|clock| clock.split('/').next()).map(str::to_owned);
            if boot.is_some() && next.is_some() && boot != next || entry.boot_ns < last_ns {
                read.reboots.push(stamp(entry, clock));
            }
            boot = next;
        }
        last_ns = entry.boot_ns;
        read.take(entry, clock);
    }
    read
}

impl Read {
    fn take(&mut self, entry: &Entry, clock: usize) {
        let at = stamp(entry, clock);
        let fact = |what| Fact { seq: entry.seq, at, what };
        match entry.kind.as_str() {
            "started" => {
                if let Some(members) = entry.detail["members"].as_object() {
                    let number = |id: &Value| id.as_u64().and_then(|id| u8::try_from(id).ok());
                    self.members =
                        members.iter().filter_map(|(name, id)| Some((name.clone(), number(id)?))).collect();
                }
                let ppm = entry.detail["max_clock_drift_ppm"].as_u64();
                self.max_clock_drift_ppm = ppm.max(self.max_clock_drift_ppm);
                self.starts.push(fact(What::Began));
            }
            "fence-up" => self.starts.push(fact(What::FenceBegan)),
            "entries-lost" => self.lost += entry.detail["count"].as_u64().unwrap_or(1),
            _ => {
                if let (Some(ticket), Some(what)) = (&entry.ticket, what(entry)) {
                    let at = match what {
                        What::Receipt(_) => ended(entry, at),
                        What::Holds(_) => at_deadline(entry, at),
                        _ => at,
                    };
                    self.facts.entry(ticket.clone()).or_default().push(Fact { at, ..fact(what) });
                }
            }
        }
    }
}

fn stamp(entry: &Entry, clock: usize) -> Stamp {
    let wall = entry.at.parse::<jiff::Timestamp>().ok();
    Stamp {
        clock,
        boot_ns: entry.boot_ns.into(),
        raw_ns: entry.raw_ns.into(),
        wall_ns: wall.map(jiff::Timestamp::as_nanosecond),
    }
}

/// When the fence daemon had its proof: before the member heard of it.
fn ended(entry: &Entry, at: Stamp) -> Stamp {
    let ended = &entry.detail["ended"];
    match (ended["boot_ns"].as_u64(), ended["raw_ns"].as_u64()) {
        // Later readings are of an earlier boot.
        (Some(boot), Some(_)) if i128::from(boot) <= at.boot_ns => at.earlier(at.boot_ns - i128::from(boot)),
        _ => at,
    }
}

/// When the deadline in force passed, if that was before the entry was written.
fn at_deadline(entry: &Entry, at: Stamp) -> Stamp {
    let over = |field: &str, read: i128| entry.detail[field].as_u64().map_or(0, |ns| read - i128::from(ns));
    at.earlier(over("deadline_boot_ns", at.boot_ns).max(over("deadline_raw_ns", at.raw_ns)).max(0))
}

fn what(entry: &Entry) -> Option<What> {
    let token = entry.detail["token"].as_u64();
    Some(match entry.kind.as_str() {
        "vote" => What::Vote(vote(&entry.detail)?),
        "intent" => What::Intent(wish(&entry.detail)?),
        "acquired" => What::Acquired(token?),
        "held" | "relinquishing" if entry.detail["deadline_boot_ns"].is_u64() => What::Holds(token?),
        "held" | "relinquishing" | "resumed" => What::Had(token?),
        "lost" => What::Lost(token?),
        "fenced" => What::Fenced(token?),
        "receipt" => What::Receipt(token?),
        "released" => What::Released(token?),
        _ => return None,
    })
}

fn vote(detail: &Value) -> Option<Vote> {
    let ownership = match detail["register"].as_str()?.split_once('/')?.0 {
        "ownership" => true,
        "intent" => false,
        _ => return None,
    };
    let accepted = &detail["accepted"];
    let renewed = &detail["renewed"];
    Some(Vote {
        ownership,
        promised: ballot(&detail["promised"])?,
        accepted: ballot(&accepted["ballot"]).map(|ballot| (ballot, chosen(ownership, &accepted["value"]))),
        learnt: ballot(&detail["learnt"]["ballot"]),
        renewed: renewed["token"].as_u64().and_then(|token| {
            let ns = |field: &str| renewed[field].as_u64().map(i128::from);
            Some((token, ns("boot_ns")?, ns("raw_ns")?))
        }),
    })
}

fn ballot(text: &Value) -> Option<Ballot> {
    let (round, member) = text.as_str()?.split_once('.')?;
    Some(Ballot { round: round.parse().ok()?, member: member.parse().ok()? })
}

fn chosen(ownership: bool, value: &Value) -> Chosen {
    if !ownership {
        return wish(value).map_or(Chosen::Other, Chosen::Intent);
    }
    let Some(token) = value["token"].as_u64() else { return Chosen::Other };
    let ns = |field: &str| i128::from(value[field].as_u64().unwrap_or(0)) * 1_000_000;
    if value["holder"].is_string() {
        return Chosen::Held { token, expire_ns: ns("expire_ms"), acquire_after_ns: ns("acquire_after_ms") };
    }
    let receipt = value["proof"].as_str().is_some_and(|proof| proof.eq_ignore_ascii_case("receipt"));
    Chosen::Free { token, receipt }
}

fn wish(detail: &Value) -> Option<Wish> {
    let wanted = detail["wanted"].as_str();
    let paused = detail["paused"].as_bool().unwrap_or(false);
    Some(Wish {
        version: detail["version"].as_u64()?,
        barred: wanted.map(|wanted| wanted == "revoked" || paused),
        attested: detail["attested"].as_u64(),
    })
}
