//! What can be seen of the deadman from outside: for status, and for checkers. In the client's types, since `status` shows the
//! same.

pub use sitegate_fence_client::status::{FencePhase as Phase, ResourceState as State};
use sitegate_fence_client::wire::{Name, Receipt};

use super::fence::{Fence, FenceStep, ordinal};
use super::{Armed, Deadman, Tenure};

/// A resource as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View<'a> {
    /// What it does.
    pub state: State,
    /// The last receipt.
    pub receipt: Option<&'a Receipt>,
}

impl Deadman {
    /// All resources, by name.
    pub fn views(&self) -> impl Iterator<Item = (&Name, View<'_>)> {
        self.resources
            .iter()
            .map(|(name, r)| (name, View { state: state(&r.tenure), receipt: r.receipt.as_ref() }))
    }

    /// One resource.
    #[must_use]
    pub fn view(&self, name: &Name) -> Option<View<'_>> {
        self.resources.get(name).map(|r| View { state: state(&r.tenure), receipt: r.receipt.as_ref() })
    }
}

fn state(tenure: &Tenure) -> State {
    match tenure {
        Tenure::Unarmed => State::Unarmed,
        Tenure::Arming { token, .. } => State::Arming { token: *token },
        Tenure::Armed(Armed { token, incarnation, deadline, activity, run: _ }) => State::Armed {
            token: *token,
            incarnation: *incarnation,
            deadline: *deadline,
            activity: activity.clone(),
        },
        Tenure::Fencing(fence) => fencing(fence),
    }
}

fn fencing(fence: &Fence) -> State {
    State::Fencing {
        token: fence.token(),
        reason: fence.reason().clone(),
        began: fence.began(),
        rounds: fence.rounds(),
        phase: phase(fence.step()),
    }
}

/// Making sure after a level that nothing is left still belongs to that level.
fn phase(step: &FenceStep) -> Phase {
    match step {
        FenceStep::Killing { .. } => Phase::Killing,
        FenceStep::Waiting => Phase::Waiting,
        FenceStep::Level { level, .. } | FenceStep::Verifying { level, .. } => Phase::Level(ordinal(*level)),
        FenceStep::Recording { .. } => Phase::Recording,
        FenceStep::Paused { .. } => Phase::Paused,
    }
}
