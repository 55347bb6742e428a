//! Another configuration while the deadman works: resources come and go, plans change. Nothing here begins or ends a fence.

use sitegate_fence_client::wire::{Name, Receipt};

use super::fence::FenceStep;
use super::{Deadman, Resource, Schedule, Tenure};

impl Deadman {
    /// Adds a resource of which nothing is armed, with its last receipt, so that its tokens go on growing. One that is there
    /// already stays as it is.
    pub fn add(&mut self, name: Name, schedule: Schedule, receipt: Option<Receipt>) {
        self.resources.entry(name).or_insert(Resource { schedule, tenure: Tenure::Unarmed, receipt });
    }

    /// Forgets a resource of which nothing is armed or being fenced. Gives its last receipt, which [`add`](Self::add) has to be
    /// told again.
    ///
    /// # Errors
    /// [`InUse`]; then nothing has changed.
    pub fn remove(&mut self, name: &Name) -> Result<Option<Receipt>, InUse> {
        match self.resources.get(name) {
            None => Ok(None),
            Some(resource) if resource.tenure == Tenure::Unarmed => {
                Ok(self.resources.remove(name).and_then(|resource| resource.receipt))
            }
            Some(_) => Err(InUse),
        }
    }

    /// Gives a resource another plan. Never in the middle of a round of its fence: a level's number would mean another one.
    /// Under a running tenure only if `armed_too`, which is for the caller to judge: whoever counts on the tenure's end counts
    /// with the plan that it was armed under.
    ///
    /// # Errors
    /// [`InUse`]; then the plan is the old one.
    pub fn reschedule(&mut self, name: &Name, schedule: &Schedule, armed_too: bool) -> Result<(), InUse> {
        let Some(resource) = self.resources.get_mut(name) else { return Ok(()) };
        let free = match &resource.tenure {
            Tenure::Unarmed => true,
            Tenure::Arming { .. } | Tenure::Armed(_) => armed_too,
            // A whole round has failed, so whatever comes next is better.
            Tenure::Fencing(fence) => matches!(fence.step(), FenceStep::Paused { .. }),
        };
        if !free {
            return Err(InUse);
        }
        resource.schedule = schedule.clone();
        Ok(())
    }
}

/// A tenure or a fence keeps a resource as it is, for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InUse;
