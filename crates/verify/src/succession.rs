//! Whether one tenure of a ticket had ended when the next began.

use crate::case::{Case, Scene, site_of};
use crate::fact::{Chosen, Fact, Vote, What};
use crate::order::{Bounds, Node};

/// What came of looking at two tenures, one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Relation {
    /// The first had ended at least `gap_ns` before the next began.
    Disjoint { by: End, basis: Basis, gap_ns: i128 },
    /// Nothing contradicts that, and something is missing to show it.
    Consistent { why: String },
    /// The first was still held when the next had begun, `by_ns` before.
    Overlap { basis: Basis, by_ns: i128 },
}

/// What a proof rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Basis {
    /// What must have led to what, and rates of clocks.
    Order,
    /// The times of day as well.
    Clocks,
}

/// How a tenure ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The fence daemon proved that nothing ran.
    Receipt,
    /// The machine began anew.
    Reboot,
    /// Acquire-after had passed since its site had lost it.
    Lapse,
    /// So many members had not heard it be renewed for expire and acquire-after that no majority can have renewed it.
    Guards,
}

impl Basis {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Order => "order",
            Self::Clocks => "clocks",
        }
    }
}

impl End {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Receipt => "receipt",
            Self::Reboot => "reboot",
            Self::Lapse => "lapse",
            Self::Guards => "guards",
        }
    }
}

/// One tenure and the next.
pub(crate) struct Succession<'c, 'a> {
    case: &'c Case<'a>,
    from: u64,
    to: u64,
    scene: Scene<'a>,
    begin: Node,
    wall_within_ns: Option<i128>,
    /// Which witness is the first tenure's site.
    holder: Option<usize>,
}

/// Looks at tenure `from` and the one after it. Times of day are believed to within `wall_within_ns`, if at all. The second
/// part says so where the first tenure's receipt came after the next had begun.
pub(crate) fn relate(
    case: &Case<'_>,
    from: u64,
    to: u64,
    wall_within_ns: Option<i128>,
) -> (Relation, Option<String>) {
    let scene = case.scene(from, to);
    let Some(begin) = scene.begin else {
        let why = format!("nobody's journal says when the tenure {to} began");
        return (Relation::Consistent { why }, None);
    };
    let holder = case.witnesses.iter().position(|witness| witness.id == Some(site_of(from)));
    Succession { case, from, to, scene, begin, wall_within_ns, holder }.relate()
}

impl Succession<'_, '_> {
    fn relate(&self) -> (Relation, Option<String>) {
        let (mut contradicted, mut late) = (false, None);
        for basis in [Basis::Order, Basis::Clocks] {
            let Some(after) = self.bounds(self.begin, basis) else { continue };
            if after.contradicted {
                contradicted = true;
                continue;
            }
            if let Some(by_ns) = self.held_after(&after) {
                return (Relation::Overlap { basis, by_ns }, None);
            }
            late = self.late_receipt(&after).or(late);
            if let Some((by, gap_ns)) = self.ended(basis) {
                return (Relation::Disjoint { by, basis, gap_ns }, late);
            }
        }
        (Relation::Consistent { why: self.missing(contradicted) }, late)
    }

    fn bounds(&self, from: Node, basis: Basis) -> Option<Bounds> {
        match (basis, self.wall_within_ns) {
            (Basis::Order, _) => Some(self.scene.order.bounds(from, None)),
            (Basis::Clocks, Some(within)) => Some(self.scene.order.bounds(from, Some(within))),
            (Basis::Clocks, None) => None,
        }
    }

    fn of_holder(&self) -> &[(Node, &Fact)] {
        self.holder.map(|index| &self.scene.facts[index][..]).unwrap_or_default()
    }

    /// By how much the first tenure certainly still ran after the next had begun.
    fn held_after(&self, after: &Bounds) -> Option<i128> {
        // Without its site's own word, the next tenure may have begun at any time after its votes.
        let next = self.case.witness_of(self.to)?;
        next.facts.iter().any(|fact| fact.what == What::Acquired(self.to)).then_some(())?;
        // Entries are written when what they tell of is durable, and may come late: only those count that show their deadline.
        let held = self.of_holder().iter().rfind(|(_, fact)| fact.what == What::Holds(self.from));
        let last = held.map(|(node, _)| *node);
        after.later_than(last?).filter(|later| *later < 0).map(|later| -later)
    }

    /// That the receipt came when the next tenure had begun: what ran until then ran beside it.
    fn late_receipt(&self, after: &Bounds) -> Option<String> {
        let held = self.of_holder().iter().find(|(_, fact)| fact.what.is_held(self.from))?.1;
        let (node, receipt) =
            self.of_holder().iter().find(|(_, fact)| fact.what == What::Receipt(self.from))?;
        let same_boot = receipt.at.clock == held.at.clock;
        let late = after.later_than(*node).filter(|later| *later < 0 && same_boot)?;
        Some(format!(
            "the receipt for token {} came at least {} ms after the next tenure ({}) had begun: its fence plan took longer than \
             acquire-after, or was not begun in time, so what it gates may have run on until then",
            self.from,
            -late / 1_000_000,
            self.to
        ))
    }

    /// How the first tenure had certainly ended when the next began, and how long before at least.
    fn ended(&self, basis: Basis) -> Option<(End, i128)> {
        let facts = self.of_holder();
        let since = facts.iter().position(|(_, fact)| fact.what.is_held(self.from));
        let lost = facts.iter().find(|(_, fact)| fact.what == What::Lost(self.from));
        let attested = self.case.is_attested(self.from);
        if let Some(gap) = self.receipts().filter_map(|node| self.gap_after(node, basis)).max() {
            return Some((End::Receipt, gap));
        }
        if let Some(gap) = since.and_then(|since| self.reboot_after(facts[since].1, basis)) {
            return Some((End::Reboot, gap));
        }
        // An attestation lets the next tenure begin before anything of this has come to pass.
        if attested {
            return None;
        }
        let (expire, acquire_after) = self.case.terms(self.from)?;
        let lapsed = lost.and_then(|(node, _)| self.gap_after(*node, basis)).map(|gap| gap - acquire_after);
        if let Some(gap) = lapsed.filter(|gap| *gap >= 0) {
            return Some((End::Lapse, gap));
        }
        self.guarded(expire + acquire_after, basis).map(|gap| (End::Guards, gap))
    }

    /// Moments at which there was a receipt: its own, that the site knew of it, that a member voted for what tells of it.
    fn receipts(&self) -> impl Iterator<Item = Node> {
        let known = self.of_holder().iter().find(|(_, fact)| match fact.what {
            What::Receipt(token) | What::Fenced(token) => token >= self.from,
            _ => false,
        });
        let told = self.scene.facts.iter().filter_map(|facts| {
            facts.iter().find(|(_, fact)| match &fact.what {
                What::Vote(Vote { accepted: Some((_, Chosen::Free { token, receipt: true })), .. }) => {
                    *token >= self.from
                }
                _ => false,
            })
        });
        known.into_iter().chain(told).map(|(node, _)| *node)
    }

    /// How long before the beginning `node` was at least, if it was.
    fn gap_after(&self, node: Node, basis: Basis) -> Option<i128> {
        let bounds = self.bounds(node, basis).filter(|bounds| !bounds.contradicted)?;
        bounds.later_than(self.begin).map(|later| -later).filter(|gap| *gap >= 0)
    }

    fn reboot_after(&self, held: &Fact, basis: Basis) -> Option<i128> {
        let index = self.holder?;
        let starts = self.case.witnesses[index].starts;
        let reboots = &self.scene.rebooted[index];
        // A reboot after it was held: the start that first read the new clock comes later in the journal.
        let (node, _) = reboots.iter().find(|(_, at)| {
            at.clock != held.at.clock
                && starts.iter().any(|start| start.seq > held.seq && start.at.clock == at.clock)
        })?;
        self.gap_after(*node, basis)
    }

    /// The proof of docs/protocol.md, "Claim", from what the acceptors wrote down: each of enough members to meet every
    /// majority had promised the ticket to somebody else before the next tenure began, and not before expire and
    /// acquire-after had passed since the holder's last renewal had arrived there. So whatever majority the holder's
    /// deadline rested on, acquire-after had passed since that.
    fn guarded(&self, lease_ns: i128, basis: Basis) -> Option<i128> {
        let order = &self.scene.order;
        let mut gaps: Vec<i128> = Vec::new();
        for facts in &self.scene.facts {
            let promises = || {
                facts.iter().filter_map(|(node, fact)| {
                    let What::Vote(vote) = &fact.what else { return None };
                    let (token, boot_ns, raw_ns) = vote.renewed?;
                    let other = token == self.from && vote.promised.member != site_of(self.from);
                    other.then_some((*node, fact.at, boot_ns, raw_ns))
                })
            };
            // The first promise since the last renewal that it ever heard: from then on it supported the holder no more.
            let renewed = promises().next_back().map(|(_, _, boot_ns, _)| boot_ns);
            let Some((node, at, boot_ns, raw_ns)) = promises().find(|p| Some(p.2) == renewed) else {
                continue;
            };
            let waited = order.passed_at_least((at.boot_ns - boot_ns).min(at.raw_ns - raw_ns)) - lease_ns;
            if let Some(gap) = self.gap_after(node, basis).filter(|_| waited >= 0) {
                gaps.push(gap + waited);
            }
        }
        gaps.sort_unstable();
        let enough = self.case.members - self.case.majority() + 1;
        // The best that are enough; of those the worst counts.
        gaps.len().checked_sub(enough).map(|index| gaps[index])
    }

    /// What a proof lacks, in a sentence.
    fn missing(&self, contradicted: bool) -> String {
        if contradicted {
            return "entries contradict each other in time".to_owned();
        }
        if self.case.is_attested(self.from) {
            return format!("an operator attested that the site of token {} was dead", self.from);
        }
        let ended = |fact: &&(Node, &Fact)| match fact.1.what {
            What::Receipt(token) | What::Fenced(token) => token >= self.from,
            What::Lost(token) => token == self.from,
            _ => false,
        };
        match self.of_holder().iter().find(ended) {
            None if self.holder.is_none() => format!(
                "the journal of the site that held token {} was not given, and those of the others do not suffice",
                self.from
            ),
            None => format!(
                "no journal says how the tenure {} ended, and too few say how long its site had not been heard",
                self.from
            ),
            Some(_) => {
                "no message between the members bounds how their clocks lie to each other closely enough"
                    .to_owned()
            }
        }
    }
}

impl What {
    pub(crate) fn is_held(&self, token: u64) -> bool {
        matches!(self, Self::Acquired(t) | Self::Holds(t) | Self::Had(t) if *t == token)
    }
}
