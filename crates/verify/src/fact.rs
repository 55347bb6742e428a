//! What the entries of a journal say that a proof can use.

use std::collections::BTreeMap;

use sitegate_journal::content::{self, ChosenValue, Reading, Register, Until, Wanted};
use sitegate_journal::{Content, Entry};
use sitegate_protocol::{Ballot, Proof, Token};

/// A point in time as one journal has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Which clock read it.
    pub(crate) clock: usize,
    /// What it read, ns.
    pub(crate) boot_ns: i128,
    /// The other clock of the two, ns.
    pub(crate) raw_ns: i128,
    /// The time of day, ns since 1970; none if it cannot be read.
    pub(crate) wall_ns: Option<i128>,
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
pub(crate) struct Fact {
    pub(crate) seq: u64,
    pub(crate) at: Stamp,
    pub(crate) what: What,
}

/// What it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
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
pub(crate) struct Vote {
    pub(crate) ownership: bool,
    pub(crate) promised: Ballot,
    /// A vote at that ballot.
    pub(crate) accepted: Option<(Ballot, Chosen)>,
    /// A value that was taken over from others, and its ballot.
    pub(crate) learnt: Option<Ballot>,
    /// With a promise: the tenure that is guarded, and when it was last renewed by the two clocks.
    pub(crate) renewed: Option<(u64, i128, i128)>,
}

/// A value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Chosen {
    Held { token: u64, expire_ns: i128, acquire_after_ns: i128 },
    Free { token: u64, receipt: bool },
    Intent(Wish),
    Other,
}

/// What is wanted for a ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wish {
    pub(crate) version: u64,
    /// Whether it forbids new tenures; none if the entry does not say.
    pub(crate) barred: Option<bool>,
    pub(crate) attested: Option<u64>,
}

/// Numbers clocks by what the journals say of them.
#[derive(Debug, Default)]
pub(crate) struct Clocks(BTreeMap<String, usize>);

impl Clocks {
    fn number(&mut self, name: String) -> usize {
        let next = self.0.len();
        *self.0.entry(name).or_insert(next)
    }
}

/// One member's journal, read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Read {
    /// By ticket. What is about none stands with every ticket that is asked for.
    pub(crate) facts: BTreeMap<String, Vec<Fact>>,
    /// Starts of the member and of its fence daemon.
    pub(crate) starts: Vec<Fact>,
    /// The first reading after each reboot.
    pub(crate) reboots: Vec<Stamp>,
    /// All members with their numbers, as the newest start says.
    pub(crate) members: BTreeMap<String, u8>,
    pub(crate) max_clock_drift_ppm: Option<u64>,
    /// How many entries were never written.
    pub(crate) lost: u64,
    /// Entries that this version cannot read: their numbers, and their kinds with why.
    pub(crate) unread: Vec<(u64, String)>,
}

/// Reads the entries of `member`.
pub(crate) fn read(member: &str, entries: &[Entry], clocks: &mut Clocks) -> Read {
    let mut read = Read::default();
    let mut epoch = 0;
    let mut clock = clocks.number(format!("{member} 0"));
    let mut boot: Option<String> = None;
    let mut last_ns = 0;
    for entry in entries {
        let content = entry.content();
        let start = match &content {
            Ok(Content::Started(start)) => Some(start),
            _ => None,
        };
        if start.is_some() || entry.boot_ns < last_ns {
            epoch += 1;
            let named = start.and_then(|start| start.clock.as_deref());
            // A start that does not say which clock it reads may be after a reboot.
            clock = clocks.number(named.map_or_else(|| format!("{member} {epoch}"), str::to_owned));
            let next = named.and_then(|clock| clock.split('/').next()).map(str::to_owned);
            if boot.is_some() && next.is_some() && boot != next || entry.boot_ns < last_ns {
                read.reboots.push(stamp(entry, clock));
            }
            boot = next;
        }
        last_ns = entry.boot_ns;
        match content {
            Ok(content) => read.take(entry, content, stamp(entry, clock)),
            Err(why) => read.unread.push((entry.seq, format!("{} ({why})", entry.kind))),
        }
    }
    read
}

impl Read {
    /// Whether nothing of what was written is missing.
    pub(crate) const fn is_whole(&self) -> bool {
        self.lost == 0 && self.unread.is_empty()
    }

    /// Every kind of entry stands here, so that a new one cannot be forgotten.
    fn take(&mut self, entry: &Entry, content: Content, at: Stamp) {
        let fact = |what| Fact { seq: entry.seq, at, what };
        let (at, what) = match content {
            Content::Started(start) => {
                if !start.members.is_empty() {
                    self.members = start.members;
                }
                self.max_clock_drift_ppm = start.max_clock_drift_ppm.max(self.max_clock_drift_ppm);
                return self.starts.push(fact(What::Began));
            }
            Content::FenceUp(_) => return self.starts.push(fact(What::FenceBegan)),
            Content::EntriesLost(lost) => return self.lost += lost.count,
            Content::Vote(vote) => match self::vote(vote) {
                Some(vote) => (at, What::Vote(vote)),
                None => return,
            },
            Content::Intent(intent) => (at, What::Intent(Wish::of(&intent))),
            Content::Acquired(of) => (at, What::Acquired(of.token.0)),
            Content::Held(armed) => holds(at, armed.token, armed.until),
            Content::Relinquishing(giving_up) => holds(at, giving_up.token, giving_up.until),
            Content::Resumed(of) => (at, What::Had(of.token.0)),
            Content::Lost(of) => (at, What::Lost(of.token.0)),
            Content::Fenced(of) => (at, What::Fenced(of.token.0)),
            Content::Receipt(receipt) => (ended(at, receipt.ended), What::Receipt(receipt.token.0)),
            Content::Released(of) => (at, What::Released(of.token.0)),
            // Nothing that a proof could use: tries, wishes that are not chosen yet, failures, and members among themselves.
            Content::Stopped(_)
            | Content::Reloaded(_)
            | Content::ClockLeap(_)
            | Content::Command(_)
            | Content::CheckFailed(_)
            | Content::Candidate(_)
            | Content::Flapping(_)
            | Content::Parked(_)
            | Content::FenceFailing(_)
            | Content::StartFailed(_)
            | Content::Unhealthy(_)
            | Content::CheckFailedTooOften(_)
            | Content::RestartsHere(_)
            | Content::FenceReloaded(_)
            | Content::FenceDown(_)
            | Content::Fencing(_)
            | Content::FenceLevelFailed(_)
            | Content::Born(_)
            | Content::Recovering(_)
            | Content::Recovered(_)
            | Content::TrustsDisk(_)
            | Content::Voting(_)
            | Content::Quarantined(_)
            | Content::Epoch(_)
            | Content::RolledBack(_)
            | Content::Stranger(_)
            | Content::PeerStarted(_)
            | Content::PeerRolledBack(_)
            | Content::ClockOff(_)
            | Content::Standby(_)
            | Content::Barred(_)
            | Content::Unbarred(_) => return,
        };
        if let Some(ticket) = &entry.ticket {
            self.facts.entry(ticket.clone()).or_default().push(Fact { at, ..fact(what) });
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
fn ended(at: Stamp, ended: Option<Reading>) -> Stamp {
    match ended.map(|ended| i128::from(ended.boot_ns)) {
        // Later readings are of an earlier boot.
        Some(boot_ns) if boot_ns <= at.boot_ns => at.earlier(at.boot_ns - boot_ns),
        _ => at,
    }
}

/// It was held at that moment, or when the deadline in force passed, if that was before the entry was written.
fn holds(at: Stamp, token: Token, until: Option<Until>) -> (Stamp, What) {
    let Some(until) = until else { return (at, What::Had(token.0)) };
    let over =
        (at.boot_ns - i128::from(until.deadline_boot_ns)).max(at.raw_ns - i128::from(until.deadline_raw_ns));
    (at.earlier(over.max(0)), What::Holds(token.0))
}

/// Votes about tickets; nothing of those about members.
fn vote(vote: content::Vote) -> Option<Vote> {
    let ownership = match vote.register {
        Register::Ownership(_) => true,
        Register::Intent(_) => false,
        Register::Standby(_) | Register::Identities => return None,
    };
    Some(Vote {
        ownership,
        promised: vote.promised.0,
        accepted: vote.accepted.map(|accepted| (accepted.ballot.0, Chosen::of(&accepted.value))),
        learnt: vote.learnt.map(|learnt| learnt.ballot.0),
        renewed: vote.renewed.map(|at| (at.token.0, at.boot_ns.into(), at.raw_ns.into())),
    })
}

impl Chosen {
    fn of(value: &ChosenValue) -> Self {
        let ns = |ms: u64| i128::from(ms) * 1_000_000;
        match *value {
            ChosenValue::Held { token, expire_ms, acquire_after_ms, .. } => Self::Held {
                token: token.0,
                expire_ns: ns(expire_ms),
                acquire_after_ns: ns(acquire_after_ms),
            },
            ChosenValue::Free { token, proof, .. } => {
                Self::Free { token: token.0, receipt: proof == Proof::Receipt }
            }
            ChosenValue::Intent { version, wanted, paused, attested } => Self::Intent(Wish {
                version,
                barred: Some(wanted == Wanted::Revoked || paused),
                attested: attested.map(|token| token.0),
            }),
            ChosenValue::Version { version } => Self::Intent(Wish { version, barred: None, attested: None }),
            ChosenValue::Identities { .. } => Self::Other,
        }
    }
}

impl Wish {
    fn of(intent: &content::Intent) -> Self {
        Self {
            version: intent.version,
            barred: intent.wanted.map(|wanted| wanted == Wanted::Revoked || intent.paused),
            attested: intent.attested.map(|token| token.0),
        }
    }
}
