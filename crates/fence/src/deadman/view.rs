//! What can be seen of the deadman from outside: for status, and for checkers.

use sitegate_fence_client::wire::{Activity, Deadline, Incarnation, Instant, Name, Reason, Receipt, Token};

use super::fence::{FenceStep, ordinal};
use super::{Armed, Deadman, Tenure};

/// A resource as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View<'a> {
    /// What it does.
    pub state: State<'a>,
    /// The last receipt.
    pub receipt: Option<&'a Receipt>,
}

/// What a resource does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State<'a> {
    /// Nothing is armed.
    Unarmed,
    /// The arming is being recorded.
    Arming {
        /// Its token.
        token: Token,
    },
    /// Armed.
    Armed {
        /// The token.
        token: Token,
        /// The newest incarnation of the client that has spoken for it.
        incarnation: Incarnation,
        /// The deadline in force.
        deadline: Deadline,
        /// What was started.
        activity: &'a Activity,
    },
    /// Being fenced.
    Fencing(FenceView<'a>),
}

/// A fence as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FenceView<'a> {
    /// The token being fenced.
    pub token: Token,
    /// Why.
    pub reason: &'a Reason,
    /// Since when.
    pub began: Instant,
    /// How many times the whole plan has failed.
    pub rounds: u32,
    /// What it is at.
    pub phase: Phase,
}

/// What a fence is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Killing what was started.
    Killing,
    /// Waiting until fewer other plans run.
    Waiting,
    /// Running this level, counted from 1, or making sure after it that nothing is left.
    Level(u32),
    /// Recording the receipt.
    Recording,
    /// All levels have failed; resting before starting over.
    Paused,
}

impl Deadman {
    /// All resources, by name.
    pub fn views(&self) -> impl Iterator<Item = (&Name, View<'_>)> {
        self.resources.iter().map(|(name, r)| {
            let state = match &r.tenure {
                Tenure::Unarmed => State::Unarmed,
                Tenure::Arming { token, .. } => State::Arming { token: *token },
                Tenure::Armed(Armed { token, incarnation, deadline, activity, run: _ }) => {
                    State::Armed { token: *token, incarnation: *incarnation, deadline: *deadline, activity }
                }
                Tenure::Fencing(fence) => State::Fencing(FenceView {
                    token: fence.token(),
                    reason: fence.reason(),
                    began: fence.began(),
                    rounds: fence.rounds(),
                    phase: phase(fence.step()),
                }),
            };
            (name, View { state, receipt: r.receipt.as_ref() })
        })
    }

    /// One resource.
    #[must_use]
    pub fn view(&self, name: &Name) -> Option<View<'_>> {
        self.views().find(|(n, _)| *n == name).map(|(_, view)| view)
    }
}

fn phase(step: &FenceStep) -> Phase {
    match step {
        FenceStep::Killing { .. } => Phase::Killing,
        FenceStep::Waiting => Phase::Waiting,
        FenceStep::Level { level, .. } | FenceStep::Verifying { level, .. } => Phase::Level(ordinal(*level)),
        FenceStep::Recording { .. } => Phase::Recording,
        FenceStep::Paused { .. } => Phase::Paused,
    }
}
