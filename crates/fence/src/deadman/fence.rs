//! A fence on its way to the receipt: kill what was started, then the plan's levels until one succeeds and nothing is
//! left running, then the receipt; from the first step again, for ever, while all levels fail.

use sitegate_fence_client::wire::{Activity, Deadline, Instant, Name, Notice, Proof, Reason, Receipt, Token};
use sitegate_mutant::planted;

use super::{Armed, Deadman, Order, RETRY_PAUSE_NS, Record, RunId, Tenure};

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Fence {
    token: Token,
    reason: Reason,
    began: Instant,
    /// How many times the whole plan has failed.
    rounds: u32,
    /// A larger token ordered meanwhile, which was never armed; fenced in its own right once this one is done.
    next: Option<(Token, Reason)>,
    step: FenceStep,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum FenceStep {
    Killing {
        run: RunId,
        until: Deadline,
    },
    Waiting,
    Level {
        run: RunId,
        level: usize,
        until: Deadline,
    },
    /// A level has succeeded; the kill is repeated, since a receipt says that *nothing* runs any more.
    Verifying {
        run: RunId,
        level: usize,
        proof: Proof,
        until: Deadline,
    },
    Recording {
        save: u64,
        receipt: Receipt,
    },
    Paused {
        until: Deadline,
    },
}

impl Fence {
    pub(super) fn token(&self) -> Token {
        self.token
    }

    pub(super) fn reason(&self) -> &Reason {
        &self.reason
    }

    pub(super) fn began(&self) -> Instant {
        self.began
    }

    pub(super) fn rounds(&self) -> u32 {
        self.rounds
    }

    pub(super) fn step(&self) -> &FenceStep {
        &self.step
    }

    /// When the present step has taken too long (or the pause is over).
    pub(super) fn due(&self) -> Option<Deadline> {
        match self.step {
            FenceStep::Killing { until, .. }
            | FenceStep::Level { until, .. }
            | FenceStep::Verifying { until, .. }
            | FenceStep::Paused { until } => Some(until),
            FenceStep::Waiting | FenceStep::Recording { .. } => None,
        }
    }

    /// Another order for what is being fenced.
    pub(super) fn join(&mut self, name: &Name, token: Token, reason: Reason) -> Notice {
        let largest = self.next.as_ref().map_or(self.token, |(next, _)| *next);
        if token > largest {
            self.next = Some((token, reason));
        }
        Notice::Fencing { resource: name.clone(), token: self.token, reason: self.reason.clone() }
    }
}

impl Deadman {
    /// Fences the resource if it is armed and its deadline has passed.
    pub(super) fn expire(&mut self, now: Instant, name: &Name) {
        let ends = self.resources.get(name).and_then(|resource| resource.tenure.ends());
        if let Some((token, _)) = ends.filter(|(_, deadline)| deadline.passed(now)) {
            self.begin_fence(now, name, token, Reason::deadline());
        }
    }

    /// Ends whatever tenure there is and begins with the kill.
    pub(super) fn begin_fence(&mut self, now: Instant, name: &Name, token: Token, reason: Reason) {
        let run = self.new_run();
        let Some(resource) = self.resources.get_mut(name) else { return };
        let within_ns = resource.schedule.kill_within_ns;
        let step = FenceStep::Killing { run, until: now.after(within_ns) };
        let fence = Fence { token, reason: reason.clone(), began: now, rounds: 0, next: None, step };
        let receipt = resource.receipt.clone();
        let before = std::mem::replace(&mut resource.tenure, Tenure::Fencing(fence));
        let open_on_disk = match before {
            Tenure::Unarmed | Tenure::Fencing(_) => None,
            Tenure::Arming { token, .. } => Some(token),
            Tenure::Armed(armed) => {
                self.changed.insert(name.clone());
                let open = armed.token;
                self.give_up_program(name, armed);
                Some(open)
            }
        };
        if open_on_disk != Some(token) {
            self.save(name, Record { open: Some(token), receipt });
        }
        self.acts.notices.push(Notice::Fencing { resource: name.clone(), token, reason });
        self.acts.orders.push(Order::Kill { run, resource: name.clone(), within_ns });
    }

    /// A `start` or `stop` that still runs is answered; the kill that follows ends it.
    fn give_up_program(&mut self, name: &Name, armed: Armed) {
        let Armed { token, run, activity, .. } = armed;
        let (resource, failed) = (name.clone(), Some("given up: the resource is being fenced".to_owned()));
        match activity {
            Activity::Starting => self.acts.notices.push(Notice::Started { resource, token, failed }),
            Activity::Stopping => self.acts.notices.push(Notice::Stopped { resource, token, failed }),
            Activity::Idle
            | Activity::Started
            | Activity::Stopped
            | Activity::Failed(_)
            | Activity::Interrupted => {}
        }
        if let Some(run) = run {
            self.acts.orders.push(Order::Cancel { run });
        }
    }

    /// A kill ended: nothing is left and the lease is withdrawn, or why that is not certain.
    pub fn kill_done(&mut self, now: Instant, name: &Name, run: RunId, result: Result<Proof, String>) {
        let Some(fence) = self.fence_of(name) else { return };
        match fence.step.clone() {
            FenceStep::Killing { run: asked, .. } if asked == run => self.killed(now, name, result),
            FenceStep::Verifying { run: asked, level, proof, .. } if asked == run => match result {
                Ok(_) => self.succeeded(now, name, Some(level), proof),
                Err(left) => self.level_failed(now, name, level, left),
            },
            _ => {}
        }
    }

    /// A level of the plan ended: with its proof, or with why it failed.
    pub fn level_done(&mut self, now: Instant, name: &Name, run: RunId, result: Result<Proof, String>) {
        let Some(fence) = self.fence_of(name) else { return };
        let FenceStep::Level { run: asked, level, until } = fence.step else { return };
        if asked != run {
            return;
        }
        match result {
            Ok(proof) if planted!(KillNotVerified) => self.succeeded(now, name, Some(level), proof),
            Ok(proof) => {
                // Told later than its limit, it has spent what a kill may take beyond that.
                let run = self.new_run();
                let until = until.earliest(now.after(self.kill_within_ns(name)));
                let within_ns = until.remaining_ns(now);
                self.enter(name, FenceStep::Verifying { run, level, proof, until });
                self.acts.orders.push(Order::Kill { run, resource: name.clone(), within_ns });
            }
            Err(_) if planted!(FencedByFailure) => {
                self.succeeded(now, name, Some(level), Proof { what: String::new(), unix_ms: 0 });
            }
            Err(why) => self.level_failed(now, name, level, why),
        }
    }

    /// Gives up on a step of a fence that has taken too long.
    pub(super) fn overrun(&mut self, now: Instant, name: &Name) {
        let Some(fence) = self.fence_of(name) else { return };
        if !fence.due().is_some_and(|due| due.passed(now)) {
            return;
        }
        match fence.step.clone() {
            FenceStep::Killing { .. } => {
                self.killed(now, name, Err("not all processes died in time".to_owned()));
            }
            FenceStep::Level { level, .. } if planted!(FencedOnTimeout) => {
                self.succeeded(now, name, Some(level), Proof { what: String::new(), unix_ms: 0 });
            }
            FenceStep::Level { run, level, .. } => {
                self.acts.orders.push(Order::Cancel { run });
                self.level_failed(now, name, level, "took longer than its limit".to_owned());
            }
            FenceStep::Verifying { level, .. } => {
                let why = "succeeded, but not all processes of the resource died in time".to_owned();
                self.level_failed(now, name, level, why);
            }
            FenceStep::Paused { .. } => {
                let run = self.new_run();
                let within_ns = self.kill_within_ns(name);
                self.enter(name, FenceStep::Killing { run, until: now.after(within_ns) });
                self.acts.orders.push(Order::Kill { run, resource: name.clone(), within_ns });
            }
            FenceStep::Waiting | FenceStep::Recording { .. } => {}
        }
    }

    /// The receipt is durable: the fence is over.
    pub(super) fn receipt_saved(&mut self, now: Instant, name: &Name, seq: u64) {
        let Some(fence) = self.fence_of(name) else { return };
        let next = fence.next.clone();
        let receipt = match &fence.step {
            FenceStep::Recording { save, receipt } if *save == seq => receipt.clone(),
            _ => return,
        };
        let Some(resource) = self.resources.get_mut(name) else { return };
        resource.tenure = Tenure::Unarmed;
        resource.receipt = Some(receipt.clone());
        self.acts.notices.push(Notice::Receipt(receipt));
        if let Some((token, reason)) = next {
            self.begin_fence(now, name, token, reason);
        }
    }

    /// The kill that a plan begins with is over. Its failure is not the end: a level may do what it could not.
    fn killed(&mut self, now: Instant, name: &Name, result: Result<Proof, String>) {
        if self.levels(name) > 0 {
            self.enter(name, FenceStep::Waiting);
            self.plans.waiting.push_back(name.clone());
            self.run_waiting(now);
            return;
        }
        match result {
            Ok(proof) => self.succeeded(now, name, None, proof),
            Err(why) => self.plan_failed(now, name, why),
        }
    }

    /// Lets the plans that wait run their levels, as far as there is room.
    fn run_waiting(&mut self, now: Instant) {
        while self.plans.running.len() < self.plans.at_once {
            let Some(name) = self.plans.waiting.pop_front() else { return };
            self.plans.running.insert(name.clone());
            self.run_level(now, &name, 0);
        }
    }

    fn run_level(&mut self, now: Instant, name: &Name, level: usize) {
        let run = self.new_run();
        let Some(resource) = self.resources.get_mut(name) else { return };
        let Tenure::Fencing(fence) = &mut resource.tenure else { return };
        // Past its limit a level is killed with all it has started, which takes the time of a kill.
        let within_ns =
            resource.schedule.level_within_ns[level].saturating_add(resource.schedule.kill_within_ns);
        fence.step = FenceStep::Level { run, level, until: now.after(within_ns) };
        let (token, reason) = (fence.token, fence.reason.clone());
        self.acts.orders.push(Order::Level { run, resource: name.clone(), token, reason, level });
    }

    fn level_failed(&mut self, now: Instant, name: &Name, level: usize, why: String) {
        let Some(fence) = self.fence_of(name) else { return };
        let token = fence.token;
        let notice =
            Notice::LevelFailed { resource: name.clone(), token, level: ordinal(level), why: why.clone() };
        self.acts.notices.push(notice);
        if level + 1 < self.levels(name) {
            self.run_level(now, name, level + 1);
        } else {
            self.plan_failed(now, name, why);
        }
    }

    fn plan_failed(&mut self, now: Instant, name: &Name, why: String) {
        let Some(fence) = self.fence_of(name) else { return };
        fence.rounds = fence.rounds.saturating_add(1);
        fence.step = FenceStep::Paused { until: now.after(RETRY_PAUSE_NS) };
        let (token, rounds) = (fence.token, fence.rounds);
        self.acts.notices.push(Notice::FenceFailed { resource: name.clone(), token, rounds, why });
        self.leave_plan(now, name);
    }

    fn succeeded(&mut self, now: Instant, name: &Name, level: Option<usize>, proof: Proof) {
        let Some(fence) = self.fence_of(name) else { return };
        let receipt = Receipt {
            resource: name.clone(),
            token: fence.token,
            reason: fence.reason.clone(),
            level: level.map(ordinal),
            proof,
            began: fence.began,
            ended: now,
        };
        let open = fence.next.as_ref().map(|(token, _)| *token);
        let save = self.save(name, Record { open, receipt: Some(receipt.clone()) });
        if planted!(ReceiptBeforeCommit) {
            self.acts.notices.push(Notice::Receipt(receipt.clone()));
        }
        self.enter(name, FenceStep::Recording { save, receipt });
        self.leave_plan(now, name);
    }

    fn leave_plan(&mut self, now: Instant, name: &Name) {
        self.plans.running.remove(name);
        self.run_waiting(now);
    }

    fn enter(&mut self, name: &Name, step: FenceStep) {
        if let Some(fence) = self.fence_of(name) {
            fence.step = step;
        }
    }

    fn fence_of(&mut self, name: &Name) -> Option<&mut Fence> {
        match &mut self.resources.get_mut(name)?.tenure {
            Tenure::Fencing(fence) => Some(fence),
            Tenure::Unarmed | Tenure::Arming { .. } | Tenure::Armed(_) => None,
        }
    }

    fn levels(&self, name: &Name) -> usize {
        self.resources.get(name).map_or(0, |r| r.schedule.level_within_ns.len())
    }

    fn kill_within_ns(&self, name: &Name) -> u64 {
        self.resources.get(name).map_or(0, |r| r.schedule.kill_within_ns)
    }
}

/// People count levels from 1.
pub(super) fn ordinal(level: usize) -> u32 {
    u32::try_from(level + 1).unwrap_or(u32::MAX)
}
