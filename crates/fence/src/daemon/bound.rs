//! How long fencing everything at once takes: the other sites count with that as long as anything is armed here, since each fence
//! waits for its turn among all others (docs/fencing.md, "Plans").

use std::time::Duration;

use super::core::Core;
use crate::plan::Plan;

/// What a reload may not raise while anything is armed or being fenced.
#[derive(Debug)]
pub(super) struct Bound {
    /// Nobody counts with it.
    idle: bool,
    within: Duration,
    longest: Duration,
    count: usize,
}

impl Core {
    /// As things stand.
    pub(super) fn bound(&self) -> Bound {
        Bound {
            idle: self.is_idle(),
            within: self.config.all_fenced_within(None),
            longest: self.config.longest_levels(),
            count: self.config.resources.len(),
        }
    }

    /// Whether `plan` keeps to the bound, beside all others and `more` resources.
    pub(super) fn keeps(&self, bound: &Bound, plan: &Plan, more: usize) -> bool {
        let longest = bound.longest.max(plan.levels_within(self.config.kill_within));
        bound.idle || self.config.all_within(longest, bound.count + more) <= bound.within
    }
}

impl Bound {
    /// One more resource is there.
    pub(super) fn add(&mut self) {
        self.count += 1;
    }
}
