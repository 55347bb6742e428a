//! A ticket, judged: every succession of its tenures, its tokens, its releases, and the wishes about it.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::case::{Case, is_vote_for, site_of};
use crate::fact::{Chosen, Fact, Vote, What, Wish};
use crate::succession::{Basis, Relation, relate};

/// What is shown of a ticket, worst last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Every succession of tenures was disjoint.
    Proven,
    /// Nothing contradicts that, and something is missing to prove it.
    Consistent,
    /// Tenures overlapped, or another check failed.
    Violated,
}

/// A ticket.
#[derive(Clone, Debug, Serialize)]
pub struct Judged {
    /// Its name.
    pub ticket: String,
    /// All in all.
    pub verdict: Verdict,
    /// How many there were.
    pub tenures: usize,
    /// Who held it.
    pub sites: Vec<String>,
    /// How many tenures ended by loss.
    pub losses: usize,
    /// Successions that are disjoint by what must have led to what.
    pub by_order: usize,
    /// Those that are by the times of day.
    pub by_clocks: usize,
    /// Those that are not proven.
    pub consistent: usize,
    /// The shortest time between two tenures that is shown, ms.
    pub gap_min_ms: Option<f64>,
    /// One tenure after another.
    pub successions: Vec<Succeeded>,
    /// What somebody should look at.
    pub findings: Vec<Finding>,
}

/// One tenure following another.
#[derive(Clone, Debug, Serialize)]
pub struct Succeeded {
    /// The earlier one.
    pub from: Tenure,
    /// The later one.
    pub to: Tenure,
    /// `disjoint`, `consistent` or `overlap`.
    pub verdict: &'static str,
    /// What ended the earlier one: `receipt`, `reboot`, `lapse`, `guards`, …
    pub by: Option<&'static str>,
    /// `order` or `clocks`.
    pub basis: Option<&'static str>,
    /// How long nobody held it at least, ms; negative where they overlapped.
    pub gap_ms: Option<f64>,
    /// What is missing to prove it.
    pub why: Option<String>,
}

/// A tenure's name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Tenure {
    /// Its token.
    pub token: u64,
    /// Whose it was.
    pub site: String,
}

/// Something that somebody should look at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What.
    pub what: Kind,
    /// The same in a sentence.
    pub text: String,
    /// Whose entry it shows in, and which: for the lines around it.
    #[serde(skip)]
    pub at: Vec<(String, u64)>,
    /// Those lines.
    pub lines: Vec<Line>,
}

/// An entry that is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// Whose.
    pub member: String,
    /// Its number.
    pub seq: u64,
    /// The time of day that it has.
    pub at: String,
    /// What it says.
    pub text: String,
}

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Two tenures overlapped.
    Overlap,
    /// A token was used twice, or by another site than it names, or did not grow.
    Token,
    /// A ticket was released without a receipt.
    Release,
    /// A member voted for a tenure against a wish that it knew.
    Wish,
    /// A receipt came after the next tenure had begun. Breaks nothing that the protocol promises, and may matter all the same.
    LateReceipt,
}

impl Kind {
    /// Whether something that sitegate promises did not hold.
    #[must_use]
    pub const fn is_violation(self) -> bool {
        !matches!(self, Self::LateReceipt)
    }
}

/// Judges one ticket. `name` knows members by their number.
pub(crate) fn judge(
    ticket: &str,
    case: &Case<'_>,
    wall_within_ns: Option<i128>,
    name: &dyn Fn(u8) -> String,
) -> Judged {
    let tenures = case.tenures();
    let mut findings = Vec::new();
    let mut successions = Vec::new();
    for pair in tenures.windows(2) {
        let (relation, late) = relate(case, pair[0], pair[1], wall_within_ns);
        let tenure = |token: u64| Tenure { token, site: name(site_of(token)) };
        let succeeded = Succeeded::of(tenure(pair[0]), tenure(pair[1]), &relation);
        if let Relation::Overlap { by_ns, .. } = relation {
            findings.push(overlap(case, &succeeded, by_ns));
        }
        if let Some(text) = late {
            let at = entries_of(case, pair[0], &|what| matches!(what, What::Receipt(t) if *t >= pair[0]));
            findings.push(Finding::new(Kind::LateReceipt, text, at));
        }
        successions.push(succeeded);
    }
    for witness in &case.witnesses {
        findings.extend(tokens(witness.name, witness.id, witness.facts));
        findings.extend(releases(witness.name, witness.facts, witness.starts));
        findings.extend(wishes(witness.name, witness.facts));
    }
    findings.extend(shared_tokens(case));
    let count = |basis: Basis| successions.iter().filter(|s| s.basis == Some(basis.name())).count();
    let consistent = successions.iter().filter(|s| s.verdict == "consistent").count();
    let verdict = if findings.iter().any(|finding| finding.what.is_violation()) {
        Verdict::Violated
    } else if consistent > 0 {
        Verdict::Consistent
    } else {
        Verdict::Proven
    };
    let sites: BTreeSet<String> = tenures.iter().map(|token| name(site_of(*token))).collect();
    let gaps = successions.iter().filter_map(|s| s.gap_ms);
    Judged {
        ticket: ticket.to_owned(),
        verdict,
        tenures: tenures.len(),
        sites: sites.into_iter().collect(),
        losses: losses(case),
        by_order: count(Basis::Order),
        by_clocks: count(Basis::Clocks),
        consistent,
        gap_min_ms: gaps.min_by(f64::total_cmp),
        successions,
        findings,
    }
}

impl Succeeded {
    fn of(from: Tenure, to: Tenure, relation: &Relation) -> Self {
        let (verdict, by, basis, gap_ns, why) = match relation {
            Relation::Disjoint { by, basis, gap_ns } => {
                ("disjoint", Some(by.name()), Some(basis.name()), Some(*gap_ns), None)
            }
            Relation::Consistent { why } => ("consistent", None, None, None, Some(why.clone())),
            Relation::Overlap { basis, by_ns } => ("overlap", None, Some(basis.name()), Some(-by_ns), None),
        };
        let gap_ms = gap_ns.map(|ns| milliseconds(i64::try_from(ns).unwrap_or(i64::MAX)));
        Self { from, to, verdict, by, basis, gap_ms, why }
    }
}

impl Finding {
    fn new(what: Kind, text: String, at: Vec<(String, u64)>) -> Self {
        Self { what, text, at, lines: Vec::new() }
    }
}

/// To the microsecond.
#[expect(clippy::cast_precision_loss, reason = "for people")]
fn milliseconds(ns: i64) -> f64 {
    (ns / 1000) as f64 / 1000.0
}

fn losses(case: &Case<'_>) -> usize {
    let lost = |fact: &Fact| match fact.what {
        What::Lost(token) => Some(token),
        _ => None,
    };
    case.witnesses.iter().flat_map(|w| w.facts).filter_map(lost).collect::<BTreeSet<u64>>().len()
}

/// Entries of the site of `token` that say something.
fn entries_of(case: &Case<'_>, token: u64, says: &dyn Fn(&What) -> bool) -> Vec<(String, u64)> {
    let Some(witness) = case.witness_of(token) else { return Vec::new() };
    let said = witness.facts.iter().filter(|fact| says(&fact.what));
    said.map(|fact| (witness.name.to_owned(), fact.seq)).collect()
}

fn overlap(case: &Case<'_>, succeeded: &Succeeded, by_ns: i128) -> Finding {
    let Succeeded { from, to, basis, .. } = succeeded;
    let text = format!(
        "{} still held it with token {} when {} had acquired it with token {}, at least {} ms before the last sign of that \
         (by {})",
        from.site,
        from.token,
        to.site,
        to.token,
        by_ns / 1_000_000,
        basis.unwrap_or_default()
    );
    let mut at = entries_of(case, from.token, &|what| what.is_held(from.token));
    at.extend(entries_of(case, to.token, &|what| *what == What::Acquired(to.token)));
    Finding::new(Kind::Overlap, text, at)
}

/// Tokens of one member: its own, and growing.
fn tokens(name: &str, id: Option<u8>, facts: &[Fact]) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut last: Option<u64> = None;
    for fact in facts {
        let What::Acquired(token) = fact.what else { continue };
        let wrong = match last {
            _ if id.is_some_and(|id| id != site_of(token)) => {
                Some(format!("{name} acquired it with token {token}, which is not one of its own"))
            }
            Some(last) if token <= last => {
                Some(format!("{name} acquired it with token {token} after token {last}: tokens must grow"))
            }
            _ => None,
        };
        last = last.max(Some(token));
        found.extend(wrong.map(|text| Finding::new(Kind::Token, text, vec![(name.to_owned(), fact.seq)])));
    }
    found
}

/// Tokens that two members acquired under.
fn shared_tokens(case: &Case<'_>) -> Vec<Finding> {
    let mut by_token: BTreeMap<u64, BTreeMap<&str, u64>> = BTreeMap::new();
    for witness in &case.witnesses {
        for fact in witness.facts {
            if let What::Acquired(token) = fact.what {
                by_token.entry(token).or_default().insert(witness.name, fact.seq);
            }
        }
    }
    let shared = by_token.into_iter().filter(|(_, by)| by.len() > 1);
    shared
        .map(|(token, by)| {
            let names: Vec<&str> = by.keys().copied().collect();
            let text = format!("{} acquired it with the same token {token}", names.join(" and "));
            let at = by.into_iter().map(|(name, seq)| (name.to_owned(), seq)).collect();
            Finding::new(Kind::Token, text, at)
        })
        .collect()
}

/// What was released had a receipt. One that was given while the member or its fence daemon did not run is not written down.
fn releases(name: &str, facts: &[Fact], starts: &[Fact]) -> Vec<Finding> {
    let mut acquired: BTreeMap<u64, u64> = BTreeMap::new();
    let mut receipt: Option<u64> = None;
    let mut found = Vec::new();
    for fact in facts {
        match fact.what {
            What::Acquired(token) => drop(acquired.insert(token, fact.seq)),
            What::Fenced(token) | What::Receipt(token) => receipt = receipt.max(Some(token)),
            What::Released(token) if receipt < Some(token) => {
                let Some(since) = acquired.get(&token) else { continue };
                let began_anew = starts.iter().any(|start| *since < start.seq && start.seq < fact.seq);
                if !began_anew {
                    let text = format!("{name} released it (token {token}) without a receipt");
                    found.push(Finding::new(Kind::Release, text, vec![(name.to_owned(), fact.seq)]));
                }
            }
            _ => {}
        }
    }
    found
}

/// No vote for the beginning of a tenure against a wish that the member knew
/// (docs/protocol.md, "When a wish is confirmed"). Votes of one turn are written down together: what came with the vote was not known before it.
fn wishes(name: &str, facts: &[Fact]) -> Vec<Finding> {
    let mut known: Option<(Wish, i128)> = None;
    let mut begun: BTreeSet<u64> = BTreeSet::new();
    let mut found = Vec::new();
    for fact in facts {
        let wish = match &fact.what {
            What::Intent(wish) => Some(*wish),
            What::Vote(Vote { accepted: Some((_, Chosen::Intent(wish))), ownership: false, .. }) => {
                Some(*wish)
            }
            // What was taken over from others is not told here: nothing is known of the wish any more.
            What::Vote(Vote { ownership: false, learnt: Some(_), .. }) => {
                known = None;
                None
            }
            _ => None,
        };
        if let Some(wish) = wish.filter(|wish| known.is_none_or(|(known, _)| known.version <= wish.version)) {
            let since = known.filter(|(known, _)| *known == wish).map_or(fact.at.boot_ns, |(_, since)| since);
            known = Some((wish, since));
        }
        let What::Vote(Vote { accepted: Some((_, Chosen::Held { token, .. })), .. }) = &fact.what else {
            continue;
        };
        if !is_vote_for(&fact.what, *token) || !begun.insert(*token) {
            continue;
        }
        if let Some((Wish { version, barred: Some(true), .. }, since)) = known
            && since < fact.at.boot_ns
        {
            let text = format!(
                "{name} voted for a new tenure (token {token}) although it knew that none was wanted (version {version} of the wish)"
            );
            found.push(Finding::new(Kind::Wish, text, vec![(name.to_owned(), fact.seq)]));
        }
    }
    found
}
