//! Goes through all states of a world, tick by tick, breadth first.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{BuildHasherDefault, Hash, Hasher};

use sitegate_protocol::Token;

use super::shared::hash_of;

/// What is searched: states, each of a tick, and what can happen in them.
pub(crate) trait Space {
    /// A state. Everything that has a bearing on what can happen next is in it.
    type State: Clone + Hash;
    /// One thing that can happen.
    type Choice: Copy;

    /// Where it begins.
    fn root(&mut self) -> Self::State;

    /// Everything that can happen next.
    fn choices(&mut self, state: &Self::State) -> Vec<Self::Choice>;

    /// What becomes of `state` if `choice` happens in it.
    fn apply(&mut self, state: &Self::State, choice: Self::Choice) -> Self::State;

    /// The same, as text. Nothing where it is nothing.
    fn tell(&mut self, state: &Self::State, choice: Self::Choice) -> Vec<String>;

    /// The tick, which never goes back.
    fn tick(state: &Self::State) -> u16;

    /// The newest tenure under which something was started.
    fn newest(state: &Self::State) -> Option<Token>;

    /// What is violated in it, if anything; then nothing can follow.
    fn broken(state: &Self::State) -> Option<&Broken>;

    /// A tick is over: what was kept of it to save work is of no more use.
    fn forget(&mut self) {}

    /// What becomes of `state` by `choice`, and by what follows as long as only one thing can.
    fn follow(&mut self, state: &Self::State, choice: Self::Choice) -> Self::State {
        let mut state = self.apply(state, choice);
        while Self::broken(&state).is_none()
            && let [only] = self.choices(&state)[..]
        {
            state = self.apply(&state, only);
        }
        state
    }
}

/// The name of a broken invariant, and what was seen.
pub(crate) type Broken = (&'static str, String);

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
    /// Its name, as in docs/protocol.md or, of the deadman, docs/testing.md.
    pub invariant: &'static str,
    /// What was seen.
    pub what: String,
    /// Everything that happened, in order: in as few ticks as it can be.
    pub steps: Vec<String>,
}

/// States of one tick.
struct Layer<S> {
    seen: Seen,
    queue: VecDeque<(u32, S)>,
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

/// Goes through all states of `space`, until something is violated or there are `states_max`, at most [`STATES_MAX`].
pub(super) fn search<S: Space>(space: S, states_max: u64) -> Outcome {
    #[cfg(sitegate_mutants)]
    crate::mutants::plant_from_environment();
    let mut search = Search::new(space);
    let begin = search.space.root();
    search.meet(begin, (0, 0));
    while search.outcome.violation.is_none() && search.outcome.states < states_max.min(STATES_MAX) {
        let Some((number, state)) = search.next() else {
            search.outcome.complete = true;
            break;
        };
        for (place, choice) in (0..).zip(search.space.choices(&state)) {
            search.outcome.transitions += 1;
            if search.outcome.violation.is_none() {
                let next = search.space.follow(&state, choice);
                search.meet(next, (number, place));
            }
        }
    }
    search.outcome
}

/// An exploration under way.
struct Search<S: Space> {
    space: S,
    layers: BTreeMap<u16, Layer<S::State>>,
    /// Of all states, by number.
    origins: Vec<Origin>,
    outcome: Outcome,
}

impl<S: Space> Search<S> {
    fn new(space: S) -> Self {
        let outcome = Outcome {
            states: 0,
            transitions: 0,
            widest: 0,
            tenures: BTreeSet::new(),
            complete: false,
            violation: None,
        };
        Self { space, layers: BTreeMap::new(), origins: Vec::new(), outcome }
    }

    /// A state is come to: it is new, or known already.
    fn meet(&mut self, state: S::State, origin: Origin) {
        let fresh = || Layer { seen: Seen::default(), queue: VecDeque::new() };
        let layer = self.layers.entry(S::tick(&state)).or_insert_with(fresh);
        if !layer.seen.insert(hash_of(&state)) {
            return;
        }
        let number = u32::try_from(self.origins.len()).unwrap_or(u32::MAX);
        self.origins.push(origin);
        self.outcome.states += 1;
        self.outcome.widest = self.outcome.widest.max(layer.seen.len() as u64);
        self.outcome.tenures.extend(S::newest(&state));
        match S::broken(&state).cloned() {
            None => layer.queue.push_back((number, state)),
            Some((invariant, what)) => {
                let steps = self.steps();
                self.outcome.violation = Some(Violation { invariant, what, steps });
            }
        }
    }

    /// The next state to look at. What is known of a tick is forgotten once it is over: no later state is of it.
    fn next(&mut self) -> Option<(u32, S::State)> {
        loop {
            let mut first = self.layers.first_entry()?;
            if let Some(next) = first.get_mut().queue.pop_front() {
                return Some(next);
            }
            first.remove();
            self.space.forget();
        }
    }

    /// What led to the newest state.
    fn steps(&mut self) -> Vec<String> {
        let mut choices = Vec::new();
        let mut at = self.origins.len() - 1;
        while at > 0 {
            let (before, choice) = self.origins[at];
            choices.push(usize::from(choice));
            at = before as usize;
        }
        let space = &mut self.space;
        space.forget();
        let mut state = space.root();
        let mut told = Vec::new();
        for choice in choices.into_iter().rev() {
            let mut chosen = space.choices(&state).get(choice).copied();
            while let Some(choice) = chosen {
                told.extend(space.tell(&state, choice));
                state = space.apply(&state, choice);
                chosen = match space.choices(&state)[..] {
                    [only] if S::broken(&state).is_none() => Some(only),
                    _ => None,
                };
            }
        }
        told
    }
}
