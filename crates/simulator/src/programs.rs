//! What the programs of a fence daemon do: start and stop hooks, kills, and the levels of a plan.

use sitegate_fence::deadman::{Order, RunId, may_exec};
use sitegate_fence_client::wire::{Name, Proof};
use sitegate_protocol::{Takeover, Token};

use crate::clock::{MS, SECOND, Time};
use crate::fenced::{Fencing, ticket_of};
use crate::world::{Happening, World};

/// How a level of a plan ends.
pub(crate) enum LevelEnd {
    Well,
    Failed,
    /// It has restarted the machine.
    Restarted,
}

impl World {
    pub(crate) fn begin_order(&mut self, i: usize, order: Order) {
        let generation = self.nodes[i].fence.generation;
        let (takes, fencing) = match order {
            Order::Kill { run, resource, within_ns } => {
                (self.fence_time(i, within_ns), Fencing::Killed(run, resource))
            }
            Order::Level { run, resource, level, .. } => {
                if self.may_stick(i, &resource) && self.rng_percent(50) {
                    return; // hangs: the deadman gives up on it
                }
                let within = self.plan.fence.levels[level];
                (self.fence_time(i, within), Fencing::Level(run, resource, level))
            }
            Order::Start { run, resource, token, .. } => {
                let hangs = self.rng_percent(5);
                let takes = self.rng_range(MS, if hangs { 10 * SECOND } else { 50 * MS });
                self.nodes[i].fence.starting.push((run, resource.clone(), token));
                (takes, Fencing::Start(run, resource, token))
            }
            Order::Stop { run, resource, .. } => {
                (self.rng_range(MS, self.plan.faults.stop_max), Fencing::Stop(run, resource))
            }
            Order::Cancel { run } => {
                self.nodes[i].fence.starting.retain(|(r, ..)| *r != run);
                return;
            }
        };
        self.schedule(self.time + takes, Happening::Fenced { node: i, generation, fencing });
    }

    /// How long a step of the plan takes, in true time: at worst all that its limit allows on the machine's clock.
    fn fence_time(&mut self, i: usize, within: Time) -> Time {
        let worst = self.rng_percent(self.plan.fence.worst_percent);
        let local = if worst { within.saturating_sub(1_000) } else { self.rng_range(1_000, within) };
        let clocks = self.nodes[i].clocks;
        let now = clocks.instant(self.time);
        let due = clocks.boot.when(now.boot_ns + local).min(clocks.raw.when(now.raw_ns + local));
        due.saturating_sub(self.time)
    }

    /// A start hook comes to its exec: only if its lease is still published and lies ahead.
    pub(crate) fn exec_start(&mut self, i: usize, generation: u64, run: RunId, name: &Name, token: u64) {
        let node = &mut self.nodes[i];
        let now = node.clocks.instant(self.time);
        let waiting = node.fence.starting.iter().position(|(r, n, t)| (r, n, t) == (&run, name, &token));
        let Some(position) = waiting else { return };
        node.fence.starting.remove(position);
        let allowed = may_exec(&node.fence.leases, name, token, now).is_ok();
        if allowed {
            node.fence.running.insert(name.clone(), token);
            self.trace(i, || format!("{name} runs under {token}"));
            self.checks_started(i, &ticket_of(name), Token(token));
        }
        let fails = allowed && self.hook_fails(i, 3); // and leaves behind what it has started so far
        let fence = &mut self.nodes[i].fence;
        if let Some(deadman) = fence.deadman.as_mut().filter(|_| fence.generation == generation) {
            let failed = if fails { Some("failed") } else { (!allowed).then_some("lease withdrawn") };
            deadman.start_done(now, name, run, failed.map(str::to_owned));
            self.carry_out_fencing(i);
        }
    }

    /// Whether a hook of a site fails; more often while its resources are ill.
    pub(crate) fn hook_fails(&mut self, i: usize, percent: u64) -> bool {
        let ill = self.nodes[i].ill_until > self.time;
        !self.calm && self.rng.percent(if ill { 80 } else { percent })
    }

    /// How a level of the plan ends. The last one of a ticket that others may take over cannot fail: it restarts the
    /// machine.
    pub(crate) fn level_end(&mut self, i: usize, name: &Name, level: usize, usual: bool) -> LevelEnd {
        let last = level + 1 == self.plan.fence.levels.len();
        match (last, self.is_stuck(i)) {
            (true, true) if self.is_confirmed(name) => LevelEnd::Failed,
            (true, true) if self.may_lose_power(i) => LevelEnd::Restarted,
            (true, _) => LevelEnd::Well,
            (false, true) => LevelEnd::Failed,
            (false, false) if usual => LevelEnd::Well,
            (false, false) => LevelEnd::Failed,
        }
    }

    fn is_stuck(&self, i: usize) -> bool {
        !self.calm && self.nodes[i].fence.stuck_until > self.time
    }

    /// Whether the whole plan of `name` may fail at `i` now: nobody waits for it by the clock.
    fn may_stick(&self, i: usize, name: &Name) -> bool {
        self.is_stuck(i) && self.is_confirmed(name)
    }

    fn is_confirmed(&self, name: &Name) -> bool {
        let ticket = self.plan.settings.tickets.get(&ticket_of(name));
        ticket.is_some_and(|ticket| ticket.takeover == Takeover::Confirmed)
    }
}

pub(crate) fn proof(what: &str) -> Proof {
    Proof { what: what.into(), unix_ms: 0 }
}
