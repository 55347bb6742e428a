//! Goes through all states of a world, tick by tick, breadth first.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};

use sitegate_protocol::Token;

use super::choice::Rules;
use super::root::root;
use super::scene::Scene;
use super::shared::hash_of;
use super::tell::tell;
use super::world::World;

/// What came of an exploration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Different states that were met.
    pub states: u64,
    /// Things that happened in them.
    pub transitions: u64,
    /// The most states of one tick.
    pub widest: u64,
    /// The tenures under which something ran, by their tokens: an exploration that meets none shows nothing.
    pub tenures: BTreeSet<Token>,
    /// Whether there is no state left.
    pub complete: bool,
    /// What was violated first, if anything; then the exploration ended there.
    pub violation: Option<Violation>,
}

/// A broken invariant, and how the world comes to break it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Its number, as in docs/protocol.md.
    pub invariant: &'static str,
    /// What was seen.
    pub what: String,
    /// Everything that happened, in order: in as few ticks as it can be.
    pub steps: Vec<String>,
}

/// States of one tick.
#[derive(Default)]
struct Layer {
    seen: Seen,
    queue: VecDeque<(u32, Scene)>,
}

#[expect(clippy::disallowed_types, reason = "nothing iterates over it, and its hasher has no seed")]
type Seen = std::collections::HashSet<u128, BuildHasherDefault<Folded>>;

/// What is hashed is a hash already.
#[derive(Default)]
struct Folded(u64);

impl Hasher for Folded {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks_exact(8) {
            self.0 ^= chunk.iter().fold(0, |sum, byte| (sum << 8) | u64::from(*byte));
        }
    }
}

/// Where a state was first come from: the number of the state before, and of the choice there.
type Origin = (u32, u16);

/// More states than an exploration goes through: what is kept of each has its number in 32 bits.
pub const STATES_MAX: u64 = u32::MAX as u64;

/// Goes through all states of `world`, until something is violated.
#[must_use]
pub fn explore(world: &World) -> Outcome {
    explore_within(world, STATES_MAX)
}

/// The same, and gives up after so many states, at most [`STATES_MAX`]: a protocol with something broken in it may have no end
/// of them.
#[must_use]
pub fn explore_within(world: &World, states_max: u64) -> Outcome {
    #[cfg(sitegate_mutants)]
    crate::mutants::plant_from_environment();
    let mut search = Search::new(world);
    let begin = root(&mut search.rules);
    search.meet(begin, (0, 0));
    while search.outcome.violation.is_none() && search.outcome.states < states_max.min(STATES_MAX) {
        let Some((number, scene)) = search.next() else {
            search.outcome.complete = true;
            break;
        };
        for (choice, next) in (0..).zip(search.rules.successors(&scene)) {
            search.outcome.transitions += 1;
            if search.outcome.violation.is_none() {
                search.meet(next, (number, choice));
            }
        }
    }
    search.outcome
}

/// An exploration under way.
struct Search<'a> {
    rules: Rules<'a>,
    layers: BTreeMap<u16, Layer>,
    /// Of all states, by number.
    origins: Vec<Origin>,
    outcome: Outcome,
}

impl<'a> Search<'a> {
    fn new(world: &'a World) -> Self {
        let outcome = Outcome {
            states: 0,
            transitions: 0,
            widest: 0,
            tenures: BTreeSet::new(),
            complete: false,
            violation: None,
        };
        Self { rules: Rules::new(world), layers: BTreeMap::new(), origins: Vec::new(), outcome }
    }

    /// A state is come to: it is new, or known already.
    fn meet(&mut self, scene: Scene, origin: Origin) {
        let layer = self.layers.entry(scene.tick).or_default();
        if !layer.seen.insert(hash_of(&scene)) {
            return;
        }
        let number = u32::try_from(self.origins.len()).unwrap_or(u32::MAX);
        self.origins.push(origin);
        self.outcome.states += 1;
        self.outcome.widest = self.outcome.widest.max(layer.seen.len() as u64);
        self.outcome.tenures.extend(scene.judge.newest());
        match scene.broken.clone() {
            None => layer.queue.push_back((number, scene)),
            Some((invariant, what)) => {
                let steps = self.steps();
                self.outcome.violation = Some(Violation { invariant, what, steps });
            }
        }
    }

    /// The next state to look at. What is known of a tick is forgotten once it is over: no later state is of it.
    fn next(&mut self) -> Option<(u32, Scene)> {
        loop {
            let mut first = self.layers.first_entry()?;
            if let Some(next) = first.get_mut().queue.pop_front() {
                return Some(next);
            }
            first.remove();
            self.rules.forget();
        }
    }

    /// What led to the newest state.
    fn steps(&self) -> Vec<String> {
        let mut choices = Vec::new();
        let mut at = self.origins.len() - 1;
        while at > 0 {
            let (before, choice) = self.origins[at];
            choices.push(usize::from(choice));
            at = before as usize;
        }
        let mut rules = Rules::new(self.rules.world);
        let mut scene = root(&mut rules);
        let mut told = Vec::new();
        for choice in choices.into_iter().rev() {
            let mut chosen = rules.choices(&scene).get(choice).copied();
            while let Some(choice) = chosen {
                told.extend(tell(&mut rules, &scene, choice));
                scene = rules.apply(&scene, choice);
                chosen = match rules.choices(&scene)[..] {
                    [only] if scene.broken.is_none() => Some(only),
                    _ => None,
                };
            }
        }
        told
    }
}
