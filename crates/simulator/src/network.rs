//! The network: loss, delay, duplication, reordering, and cuts of single directions.

use crate::clock::Time;
use crate::plan::NetworkPlan;
use crate::rng::Rng;

/// Which directions are cut, until when.
#[derive(Clone, Debug)]
pub(crate) struct Network {
    plan: NetworkPlan,
    n: usize,
    cut_until: Vec<Time>,
    calm: bool,
}

impl Network {
    pub(crate) fn new(plan: NetworkPlan, n: usize) -> Self {
        Self { plan, n, cut_until: vec![0; n * n], calm: false }
    }

    /// Cuts what goes from `from` to `to`.
    pub(crate) fn cut(&mut self, from: usize, to: usize, until: Time) {
        let link = &mut self.cut_until[from * self.n + to];
        *link = until.max(*link);
    }

    /// Everything is well from here on.
    pub(crate) fn heal(&mut self) {
        self.cut_until.fill(0);
        self.calm = true;
    }

    pub(crate) fn is_cut(&self, from: usize, to: usize, now: Time) -> bool {
        self.cut_until[from * self.n + to] > now
    }

    /// When a frame that is sent now arrives; not at all, once, or twice.
    pub(crate) fn arrivals(&self, rng: &mut Rng, from: usize, to: usize, now: Time) -> [Option<Time>; 2] {
        let plan = &self.plan;
        if self.is_cut(from, to, now) || (!self.calm && rng.percent(plan.loss_percent)) {
            return [None; 2];
        }
        let duplicated = !self.calm && rng.percent(plan.duplicate_percent);
        let mut arrival = || {
            let straggles = !self.calm && rng.percent(plan.straggler_percent);
            let most = if straggles { plan.straggler_max } else { plan.delay_max };
            now + rng.range(plan.delay_min, most.max(plan.delay_min + 1))
        };
        [Some(arrival()), duplicated.then(arrival)]
    }
}
