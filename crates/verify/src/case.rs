//! One ticket's facts of all members, and what of them bears on one tenure following another.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use sitegate_protocol::{Ballot, Token, majority};

use crate::fact::{Chosen, Fact, Vote, What};
use crate::order::{Enough, Node, Order};

/// How many facts before and after those of the two tenures are looked at too: rounds that tell how clocks lie.
const AROUND: usize = 32;
/// How many facts of one member are looked at for one succession. A tenure that was proposed anew thousands of times loses
/// those in the middle: fewer facts prove less, never more.
const FACTS_MAX: usize = 2000;

/// What one member's journal says about one ticket.
#[derive(Clone, Debug)]
pub(crate) struct Witness<'a> {
    pub(crate) name: &'a str,
    pub(crate) id: Option<u8>,
    pub(crate) facts: &'a [Fact],
    /// Starts of this member and of its fence daemon.
    pub(crate) starts: &'a [Fact],
    pub(crate) reboots: &'a [crate::fact::Stamp],
    /// Whether every entry is there, but for the oldest.
    pub(crate) whole: bool,
}

impl Witness<'_> {
    /// Whether what this member did about the ballot of `token` would stand here: something older does, and it did not
    /// begin anew between that and whatever is newer. A process that is killed may take its last entries along, and a disk
    /// that was lost or put back in time some more.
    fn covers(&self, token: u64) -> bool {
        let is_older = |fact: &&Fact| fact.what.reach().is_some_and(|reach| reach < token);
        let is_newer = |fact: &&Fact| fact.what.reach().is_some_and(|reach| reach >= token);
        let Some(older) = self.facts.iter().rfind(is_older) else { return false };
        let newer = self.facts.iter().find(is_newer).map_or(u64::MAX, |fact| fact.seq);
        let began = |start: &Fact| start.what == What::Began && older.seq < start.seq && start.seq < newer;
        self.whole && !self.starts.iter().any(began)
    }
}

/// A ticket's tenures and all that is known of them.
#[derive(Clone, Debug)]
pub(crate) struct Case<'a> {
    pub(crate) members: usize,
    pub(crate) drift_ppm: u64,
    pub(crate) witnesses: Vec<Witness<'a>>,
}

/// The site that a token names.
pub(crate) const fn site_of(token: u64) -> u8 {
    token.to_le_bytes()[0]
}

const fn ballot_of(token: u64) -> Ballot {
    Ballot { round: token >> 8, member: site_of(token) }
}

impl What {
    /// The token that it is about, or the one of the tenure that its ballot would begin: facts about a ticket grow with it.
    fn reach(&self) -> Option<u64> {
        match self {
            Self::Vote(vote) if vote.ownership => Some(Token::of(vote.promised).0),
            Self::Acquired(token)
            | Self::Holds(token)
            | Self::Had(token)
            | Self::Lost(token)
            | Self::Fenced(token)
            | Self::Receipt(token)
            | Self::Released(token) => Some(*token),
            Self::Vote(_) | Self::Intent(_) | Self::Began | Self::FenceBegan => None,
        }
    }
}

impl<'a> Case<'a> {
    pub(crate) fn majority(&self) -> usize {
        majority(self.members)
    }

    pub(crate) fn witness_of(&self, token: u64) -> Option<&Witness<'a>> {
        self.witnesses.iter().find(|witness| witness.id == Some(site_of(token)))
    }

    /// The tokens of all tenures that began as far as anybody knows, in their order.
    pub(crate) fn tenures(&self) -> Vec<u64> {
        let mut votes: BTreeMap<u64, BTreeMap<Ballot, usize>> = BTreeMap::new();
        let mut tenures: Vec<u64> = Vec::new();
        for witness in &self.witnesses {
            let mut voted: Vec<Ballot> = Vec::new();
            for fact in witness.facts {
                match &fact.what {
                    What::Acquired(token) | What::Holds(token) | What::Had(token) => tenures.push(*token),
                    What::Vote(Vote {
                        ownership: true,
                        accepted: Some((ballot, Chosen::Held { token, .. })),
                        ..
                    }) if !voted.contains(ballot) => {
                        voted.push(*ballot);
                        *votes.entry(*token).or_default().entry(*ballot).or_default() += 1;
                    }
                    _ => {}
                }
                // Ballots only grow: older ones do not come again.
                if voted.len() > AROUND {
                    voted.remove(0);
                }
            }
        }
        let missing = self.members.saturating_sub(self.witnesses.len());
        for (token, ballots) in votes {
            // What its own site does not know of came to nothing, unless a majority voted for it.
            let unseen = if self.witness_of(token).is_some() { 0 } else { missing };
            if ballots.values().any(|votes| votes + unseen >= self.majority()) {
                tenures.push(token);
            }
        }
        tenures.sort_unstable();
        tenures.dedup();
        tenures
    }

    /// E and A of a tenure: the longest that it ever had.
    pub(crate) fn terms(&self, token: u64) -> Option<(i128, i128)> {
        let held = |fact: &Fact| match &fact.what {
            What::Vote(Vote {
                accepted: Some((_, Chosen::Held { token: t, expire_ns, acquire_after_ns })),
                ..
            }) if *t == token => Some((*expire_ns, *acquire_after_ns)),
            _ => None,
        };
        let all = self.witnesses.iter().flat_map(|witness| witness.facts).filter_map(held);
        all.max_by_key(|(expire, acquire_after)| expire + acquire_after)
    }

    /// Whether an operator vouched for the end of a tenure.
    pub(crate) fn is_attested(&self, token: u64) -> bool {
        let attests = |fact: &Fact| {
            let (What::Intent(wish) | What::Vote(Vote { accepted: Some((_, Chosen::Intent(wish))), .. })) =
                &fact.what
            else {
                return false;
            };
            wish.attested.is_some_and(|attested| token <= attested)
        };
        self.witnesses.iter().flat_map(|witness| witness.facts).any(attests)
    }

    /// Everything between the beginnings of two tenures, and around, with what orders it.
    pub(crate) fn scene(&self, from: u64, to: u64) -> Scene<'a> {
        let mut order = Order::new(self.drift_ppm);
        let mut facts: Vec<Vec<(Node, &'a Fact)>> = Vec::new();
        let (mut rebooted, mut cut) = (Vec::new(), false);
        for witness in &self.witnesses {
            let between = |fact: &Fact| fact.what.reach().is_some_and(|token| from <= token && token <= to);
            let first = witness.facts.iter().position(between).unwrap_or(witness.facts.len());
            let last = witness.facts.iter().rposition(between).map_or(first, |last| last + 1);
            let window =
                &witness.facts[first.saturating_sub(AROUND)..(last + AROUND).min(witness.facts.len())];
            let (head, tail) = window.split_at(window.len().saturating_sub(FACTS_MAX / 2).min(FACTS_MAX / 2));
            cut |= tail.len() > FACTS_MAX / 2;
            let tail = &tail[tail.len().saturating_sub(FACTS_MAX / 2)..];
            let chosen = head.iter().chain(tail).map(|fact| (order.moment(Some(fact.at)), fact));
            facts.push(chosen.collect());
            rebooted.push(witness.reboots.iter().map(|at| (order.moment(Some(*at)), *at)).collect());
        }
        let mut scene = Scene { order, facts, rebooted, begin: None };
        // Where facts were left out, nobody is known to have done nothing.
        let silent = |token: u64| if cut { 0 } else { self.silent(token) };
        self.order_rounds(&mut scene, from..=to, &silent);
        scene.begin = self.begin(&mut scene, to, silent(to));
        scene
    }

    /// Members of which it is known if they did nothing about the ballot of `token`: a set of bits.
    fn silent(&self, token: u64) -> u64 {
        let covering = self.witnesses.iter().enumerate().filter(|(_, witness)| witness.covers(token));
        covering.map(|(index, _)| 1 << index).sum()
    }

    fn index_of(&self, id: u8) -> Option<usize> {
        self.witnesses.iter().position(|witness| witness.id == Some(id))
    }

    /// Rounds: what was voted for came after its proposer's promise, and after those of enough others
    /// (docs/protocol.md, "Messages": a proposer's own promise is durable before its Accept leaves).
    fn order_rounds(&self, scene: &mut Scene<'a>, tokens: RangeInclusive<u64>, silent: &dyn Fn(u64) -> u64) {
        let mut rounds: BTreeMap<(bool, Ballot), Round> = BTreeMap::new();
        for (index, facts) in scene.facts.iter().enumerate() {
            for (node, fact) in facts {
                let What::Vote(vote) = &fact.what else { continue };
                let round = rounds.entry((vote.ownership, vote.promised)).or_default();
                round.promised.entry(index).or_insert(*node);
                if let Some((ballot, value)) = &vote.accepted {
                    let round = rounds.entry((vote.ownership, *ballot)).or_default();
                    round.accepted.entry(index).or_insert(*node);
                    if let Chosen::Free { token, receipt: true } = value {
                        round.receipt = Some(*token);
                    }
                }
                if let Some(ballot) = vote.learnt {
                    let round = rounds.entry((vote.ownership, ballot)).or_default();
                    round.learnt.push((index, *node));
                }
            }
        }
        for ((ownership, ballot), round) in &rounds {
            // Of other rounds only what happens to be near is looked at.
            let token = Token::of(*ballot).0;
            let known = *ownership && tokens.contains(&token);
            self.order_round(scene, *ballot, round, if known { silent(token) } else { 0 });
        }
    }

    fn order_round(&self, scene: &mut Scene<'a>, ballot: Ballot, round: &Round, silent: u64) {
        let proposer = self.index_of(ballot.member);
        let own = proposer.and_then(|index| round.promised.get(&index)).copied();
        let told = round.accepted.iter().map(|(index, node)| (*index, *node));
        for (index, node) in told.chain(round.learnt.iter().copied()) {
            if let Some(own) = own.filter(|_| Some(index) != proposer) {
                scene.order.led(own, node);
            }
            scene.order.enough(self.enough(&round.promised, proposer, silent, node));
        }
        // A receipt is known before it is told of: by the site that the token names, to everybody else.
        if let Some(token) = round.receipt
            && let Some(site) = self.index_of(site_of(token))
        {
            let known = scene.facts[site].iter().find_map(|(node, fact)| match fact.what {
                What::Fenced(fenced) if fenced == token => Some(*node),
                _ => None,
            });
            for (_, &node) in round.accepted.iter().filter(|(index, _)| **index != site) {
                known.into_iter().for_each(|known| scene.order.led(known, node));
            }
        }
    }

    /// Enough of all but the proposer: with its own, which always counts, a majority. Those in `silent` that did nothing
    /// were not among them.
    fn enough(
        &self,
        did: &BTreeMap<usize, Node>,
        proposer: Option<usize>,
        silent: u64,
        then: Node,
    ) -> Enough {
        let others = |index: &usize| Some(*index) != proposer;
        let known: Vec<Node> = did.iter().filter(|(index, _)| others(index)).map(|(_, node)| *node).collect();
        let did_nothing = |index: &usize| silent & 1 << index != 0 && !did.contains_key(index);
        let excluded = (0..self.witnesses.len()).filter(others).filter(did_nothing).count();
        let unknown = (self.members - 1).saturating_sub(known.len() + excluded);
        Enough { known, unknown, least: self.majority() - 1, then }
    }

    /// The moment at which tenure `token` began: its site's entry, or what must have come before it.
    fn begin(&self, scene: &mut Scene<'a>, token: u64, silent: u64) -> Option<Node> {
        let index = self.index_of(site_of(token));
        let own = index.map(|index| &scene.facts[index][..]).unwrap_or_default();
        let acquired = own.iter().find(|(_, fact)| fact.what == What::Acquired(token)).map(|(node, _)| *node);
        let vote_of = |facts: &[(Node, &Fact)]| {
            facts.iter().find(|(_, fact)| is_vote_for(&fact.what, token)).map(|(node, _)| *node)
        };
        let votes: BTreeMap<usize, Node> = scene
            .facts
            .iter()
            .enumerate()
            .filter_map(|(index, facts)| vote_of(facts).map(|node| (index, node)))
            .collect();
        if acquired.is_none() && votes.is_empty() {
            return None;
        }
        let begin = acquired.unwrap_or_else(|| scene.order.moment(None));
        if let Some(vote) = index.and_then(|index| votes.get(&index)) {
            scene.order.led(*vote, begin);
        }
        scene.order.enough(self.enough(&votes, index, silent, begin));
        Some(begin)
    }
}

/// Whether this is a vote in the very ballot that began tenure `token`.
pub(crate) fn is_vote_for(what: &What, token: u64) -> bool {
    matches!(what, What::Vote(Vote { accepted: Some((ballot, Chosen::Held { token: t, .. })), .. })
        if *t == token && *ballot == ballot_of(token))
}

/// What members did about one ballot.
#[derive(Debug, Default)]
struct Round {
    promised: BTreeMap<usize, Node>,
    accepted: BTreeMap<usize, Node>,
    learnt: Vec<(usize, Node)>,
    /// The token whose receipt it tells of.
    receipt: Option<u64>,
}

/// The facts about one succession, ordered as far as they order each other.
#[derive(Clone, Debug)]
pub(crate) struct Scene<'a> {
    pub(crate) order: Order,
    /// By witness.
    pub(crate) facts: Vec<Vec<(Node, &'a Fact)>>,
    /// First readings after reboots, by witness.
    pub(crate) rebooted: Vec<Vec<(Node, crate::fact::Stamp)>>,
    /// When the later tenure began.
    pub(crate) begin: Option<Node>,
}
