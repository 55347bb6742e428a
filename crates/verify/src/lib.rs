//! Proves from the members' journals that no two tenures of a ticket overlapped, or shows where they did. `sitegate verify` is the
//! command line of it.
//!
//! [`source`] reads journals and checks their chains, `fact` takes from their entries what a proof can use, `order` says what
//! follows from that about when things happened, `case` is one ticket, `succession` one tenure after another, [`judge`] the
//! verdict. All but the reading is pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Serialize;
use sitegate_protocol::majority;

mod case;
mod fact;
pub mod judge;
mod order;
pub mod source;
mod succession;
#[cfg(test)]
mod tests;

pub use judge::{Finding, Judged, Kind, Line, Verdict};
pub use source::{Condition, Journal, SourceError, read};

use case::{Case, Witness};
use fact::Clocks;

/// The bound on rates of clocks where no journal says which was configured: the default of `max-clock-drift`.
const DRIFT_PPM_DEFAULT: u64 = 1000;
/// How wrong a time of day is taken to be if nobody says: what NTP keeps, and more.
pub const UNCERTAINTY_DEFAULT: Duration = Duration::from_secs(1);
/// Lines of each member that are shown before and after what was found.
const LINES_BEFORE: usize = 6;
const LINES_AFTER: usize = 2;

/// Everything that is said.
#[derive(Debug, Serialize)]
pub struct Verification {
    /// Of the worst ticket.
    pub verdict: Verdict,
    /// How wrong a time of day may have been.
    pub clock_uncertainty_ms: u64,
    /// What was given.
    pub journals: Vec<About>,
    /// What was not, or is not in what was.
    pub missing: Vec<String>,
    /// By name.
    pub tickets: Vec<Judged>,
}

/// A journal that was given.
#[derive(Debug, Serialize)]
pub struct About {
    /// Whose.
    pub member: String,
    /// Where it came from.
    pub source: String,
    /// How many.
    pub entries: usize,
    /// The number of the first.
    pub first: Option<u64>,
    /// The number of the last.
    pub last: Option<u64>,
    /// `whole`, `rotated`, `partial` or `broken`.
    pub chain: &'static str,
    /// Why it is broken.
    pub why: Option<String>,
}

/// Judges what journals say: of all tickets, or of one. Each time of day is taken to be right to within `uncertainty`; zero means
/// not to use them.
#[must_use]
pub fn verify(journals: &[Journal], uncertainty: Duration, only: Option<&str>) -> Verification {
    let uncertainty_ns = u64::try_from(uncertainty.as_nanos()).unwrap_or(u64::MAX);
    let mut clocks = Clocks::default();
    let read: Vec<fact::Read> =
        journals.iter().map(|journal| fact::read(&journal.member, &journal.entries, &mut clocks)).collect();
    let numbers = numbers(journals, &read);
    let drift = read.iter().filter_map(|read| read.max_clock_drift_ppm).max();
    let wall_within_ns = (!uncertainty.is_zero()).then(|| i128::from(uncertainty_ns));
    let name = |id: u8| {
        let known = numbers.iter().find(|(_, number)| **number == id).map(|(name, _)| name.clone());
        known.unwrap_or_else(|| format!("member {id}"))
    };
    let tickets: BTreeSet<&String> = read.iter().flat_map(|read| read.facts.keys()).collect();
    let mut judged: Vec<Judged> = Vec::new();
    for ticket in tickets.into_iter().filter(|ticket| only.is_none_or(|only| only == ticket.as_str())) {
        let witnesses = journals.iter().zip(&read).map(|(journal, read)| Witness {
            name: &journal.member,
            id: numbers.get(&journal.member).copied(),
            facts: read.facts.get(ticket).map(Vec::as_slice).unwrap_or_default(),
            starts: &read.starts,
            reboots: &read.reboots,
            whole: journal.is_whole() && read.is_whole(),
        });
        let case = Case {
            members: numbers.len().max(journals.len()).max(2),
            drift_ppm: drift.unwrap_or(DRIFT_PPM_DEFAULT),
            witnesses: witnesses.collect(),
        };
        judged.push(judge::judge(ticket, &case, wall_within_ns, &name));
    }
    for finding in judged.iter_mut().flat_map(|judged| &mut judged.findings) {
        finding.lines = lines_around(finding, journals);
    }
    let members = numbers.len().max(journals.len());
    let whole = journals.iter().zip(&read).filter(|(journal, read)| journal.is_whole() && read.is_whole());
    let enough = members - majority(members) + 1;
    let mut missing = missing(journals, &read, &numbers);
    let mut worst = judged.iter().map(|judged| judged.verdict).max().unwrap_or(Verdict::Consistent);
    if whole.count() < enough {
        // A tenure that only the others have voted for would not show at all.
        missing.push(format!("whole journals of {enough} members, so that each tenure is in one of them"));
        worst = worst.max(Verdict::Consistent);
    }
    Verification {
        verdict: worst,
        clock_uncertainty_ms: uncertainty_ns / 1_000_000,
        journals: journals.iter().map(About::of).collect(),
        missing,
        tickets: judged,
    }
}

/// The members with their numbers: as they say themselves, else by the tokens and ballots of their own.
fn numbers(journals: &[Journal], read: &[fact::Read]) -> BTreeMap<String, u8> {
    let mut numbers: BTreeMap<String, u8> = BTreeMap::new();
    for said in read {
        numbers.extend(said.members.iter().map(|(name, id)| (name.clone(), *id)));
    }
    for (journal, read) in journals.iter().zip(read) {
        let own = || {
            read.facts.values().flatten().find_map(|fact| match fact.what {
                fact::What::Acquired(token) => Some(case::site_of(token)),
                _ => None,
            })
        };
        if !numbers.contains_key(&journal.member)
            && let Some(id) = own()
        {
            numbers.insert(journal.member.clone(), id);
        }
    }
    numbers
}

impl About {
    fn of(journal: &Journal) -> Self {
        let (chain, why) = match &journal.condition {
            Condition::Whole => ("whole", None),
            Condition::Rotated => ("rotated", None),
            Condition::Partial => ("partial", None),
            Condition::Broken(why) => ("broken", Some(why.clone())),
        };
        Self {
            member: journal.member.clone(),
            source: journal.source.clone(),
            entries: journal.entries.len(),
            first: journal.entries.first().map(|entry| entry.seq),
            last: journal.entries.last().map(|entry| entry.seq),
            chain,
            why,
        }
    }
}

/// What was not given, or is not in what was given.
fn missing(journals: &[Journal], read: &[fact::Read], numbers: &BTreeMap<String, u8>) -> Vec<String> {
    let mut missing = Vec::new();
    for name in numbers.keys().filter(|name| journals.iter().all(|journal| journal.member != **name)) {
        missing.push(format!("the journal of {name} was not given"));
    }
    for (journal, read) in journals.iter().zip(read) {
        let name = &journal.member;
        match &journal.condition {
            Condition::Whole => {}
            Condition::Rotated => {
                let first = journal.entries.first().map_or(0, |entry| entry.seq);
                missing.push(format!("the journal of {name} begins with entry {first}: older ones are gone"));
            }
            Condition::Partial => {
                missing.push(format!(
                    "entries of {name} were left out by whoever exported them: its chain is not shown to be whole"
                ));
            }
            Condition::Broken(why) => missing.push(format!("the journal of {name} is broken {why}")),
        }
        if read.lost > 0 {
            missing.push(format!(
                "{} entries of {name} were never written: its disk did not keep up",
                read.lost
            ));
        }
        if let Some((seq, kind)) = read.unread.first() {
            let more = read.unread.len() - 1;
            let more = if more == 0 { String::new() } else { format!(", nor {more} more") };
            missing.push(format!("entry {seq} of {name} cannot be read: {kind}{more}"));
        }
        if read.members.is_empty() {
            missing.push(format!(
                "no start in the journal of {name} says who the members are: it is from an older version, or too short"
            ));
        }
    }
    missing
}

/// Entries of all members around those that a finding names, in the order of their times of day.
fn lines_around(finding: &Finding, journals: &[Journal]) -> Vec<Line> {
    let moments = finding.at.iter().filter_map(|(member, seq)| {
        let journal = journals.iter().find(|journal| journal.member == *member)?;
        journal.entries.iter().find(|entry| entry.seq == *seq).map(|entry| entry.at.clone())
    });
    let Some(last) = moments.max() else { return Vec::new() };
    let mut lines: Vec<Line> = Vec::new();
    for journal in journals {
        let after = journal.entries.partition_point(|entry| entry.at <= last);
        let shown = &journal.entries
            [after.saturating_sub(LINES_BEFORE)..(after + LINES_AFTER).min(journal.entries.len())];
        let named = finding.at.iter().filter(|(member, _)| *member == journal.member).map(|(_, seq)| *seq);
        let named: BTreeSet<u64> = named.chain(shown.iter().map(|entry| entry.seq)).collect();
        lines.extend(journal.entries.iter().filter(|entry| named.contains(&entry.seq)).map(|entry| Line {
            member: journal.member.clone(),
            seq: entry.seq,
            at: entry.at.clone(),
            text: entry.text.clone(),
        }));
    }
    lines.sort_by(|a, b| (&a.at, &a.member, a.seq).cmp(&(&b.at, &b.member, b.seq)));
    lines
}

impl Verification {
    /// The verdict in a word.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self.verdict {
            Verdict::Proven => "proven",
            Verdict::Consistent => "consistent",
            Verdict::Violated => "violated",
        }
    }

    /// The first thing that is wrong, if any.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        let findings = self.tickets.iter().flat_map(|judged| &judged.findings);
        let found =
            findings.filter(|finding| finding.what.is_violation()).map(|finding| finding.text.clone());
        let broken = self
            .journals
            .iter()
            .filter_map(|about| Some(format!("{}: {}", about.member, about.why.as_ref()?)));
        found.chain(broken).next()
    }
}
