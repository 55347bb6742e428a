//! What the programs of a fence daemon do: start and stop hooks, kills, and the levels of a plan.

use sitegate_fence::deadman::{Order, Phase, RunId, State, may_exec};
use sitegate_fence_client::wire::{Name, Proof};
use sitegate_protocol::{Takeover, Token};

use crate::clock::{MS, SECOND, Time};
use crate::fenced::{Fencing, ticket_of};
use crate::world::{Happening, World};

/// How a step of a plan ends.
pub(crate) enum LevelEnd {
    Well,
    Failed,
    /// Reports success, and what runs of the resource runs on.
    Leaves,
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
                if self.hangs(i, &resource, level) {
                    return; // until the deadman gives up on it, and kills it with all that it has started
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
            let before = node.fence.running.insert(name.clone(), token);
            self.trace(i, || format!("{name} runs under {token}"));
            self.checks_started(i, &ticket_of(name), Token(token), before.map(Token));
        }
        let fails = allowed && self.hook_fails(i, 3); // and leaves behind what it has started so far
        let failed = if fails { Some("failed") } else { (!allowed).then_some("lease withdrawn") };
        let ended = Fencing::Started(run, name.clone(), failed.map(str::to_owned));
        self.on_fencing(i, generation, ended);
    }

    /// Whether a hook of a site fails; more often while its resources are ill.
    pub(crate) fn hook_fails(&mut self, i: usize, percent: u64) -> bool {
        let ill = self.nodes[i].ill_until > self.time;
        !self.calm && self.rng.percent(if ill { 80 } else { percent })
    }

    /// Whether a level of the plan does not end by itself. The last one of a ticket that others may take over does.
    fn hangs(&mut self, i: usize, name: &Name, level: usize) -> bool {
        if self.may_stick(i, name) && self.rng_percent(50) {
            return true;
        }
        let hangs = !self.calm && !self.is_last(level) && self.rng_percent(10);
        if hangs {
            self.coverage.met("fence", &"Hangs");
        }
        hangs
    }

    /// How a level of the plan ends. The last one of a ticket that others may take over cannot fail, together with the kill
    /// that follows: it restarts the machine.
    pub(crate) fn level_end(&mut self, i: usize, name: &Name, level: usize, usual: bool) -> LevelEnd {
        match (self.is_last(level), self.is_stuck(i)) {
            (true, true) if self.is_confirmed(name) => LevelEnd::Failed,
            (true, true) if self.may_lose_power(i) => LevelEnd::Restarted,
            (false, true) => LevelEnd::Failed,
            (false, false) if !usual => LevelEnd::Failed,
            _ if self.leaves(i, name) => LevelEnd::Leaves,
            _ => LevelEnd::Well,
        }
    }

    /// Whether a level that succeeds leaves something of the resource running.
    fn leaves(&mut self, i: usize, name: &Name) -> bool {
        let leaves = !self.calm && self.nodes[i].fence.running.contains_key(name) && self.rng_percent(20);
        if leaves {
            self.coverage.met("fence", &"Leaves");
        }
        leaves
    }

    /// How a kill ends. That at the beginning of a plan does not see what the hooks have handed to others (a service manager),
    /// which only a level ends. That after a level ends what it has left running; or it fails, but not after the last.
    pub(crate) fn kill_end(&mut self, i: usize, name: &Name) -> LevelEnd {
        let view = self.nodes[i].fence.deadman.as_ref().and_then(|deadman| deadman.view(name));
        let after = match view.map(|view| view.state) {
            Some(State::Fencing { phase: Phase::Level(ordinal), .. }) => usize::try_from(ordinal - 1).ok(),
            _ => None,
        };
        match after {
            _ if self.calm => LevelEnd::Well,
            None if self.rng_percent(50) => LevelEnd::Leaves,
            Some(level) if !self.is_last(level) && self.rng_percent(20) => {
                self.coverage.met("fence", &"KillFails");
                LevelEnd::Failed
            }
            _ => LevelEnd::Well,
        }
    }

    fn is_last(&self, level: usize) -> bool {
        level + 1 == self.plan.fence.levels.len()
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
