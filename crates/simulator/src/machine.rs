//! Machines: power, sleep, and the clocks' rates.

use sitegate_fence_client::wire::Name;

use crate::clock::{Clocks, MS, SECOND, Time};
use crate::fenced::ticket_of;
use crate::plan::draw_rate;
use crate::world::{Happening, World, trace_seconds};

impl World {
    /// The power goes: nothing runs any more.
    pub(crate) fn power_off(&mut self, i: usize) {
        if !self.nodes[i].up {
            return;
        }
        self.trace(i, || "power off".into());
        self.wake_up(i);
        self.kill_member(i);
        self.end_fenced(i);
        let fence = &mut self.nodes[i].fence;
        fence.running.clear();
        fence.starting.clear();
        fence.leases.clear();
        self.nodes[i].up = false;
        self.checks_powered_off(i);
    }

    pub(crate) fn boot(&mut self, i: usize) {
        if self.nodes[i].up || self.dead == Some(i) {
            return;
        }
        self.trace(i, || "boots".into());
        self.nodes[i].up = true;
        self.nodes[i].boot += 1;
        let at = self.time + self.rng.range(MS, SECOND);
        self.schedule(at, Happening::StartFenced { node: i });
        let at = self.time + self.rng.range(MS, SECOND);
        self.schedule(at, Happening::StartMember { node: i });
    }

    /// The machine is suspended: nothing on it runs, and only one of its clocks goes on.
    pub(crate) fn suspend(&mut self, i: usize, span: Time) -> bool {
        if !self.nodes[i].up || self.nodes[i].is_asleep(self.time) {
            return false;
        }
        let until = self.time + span;
        self.trace(i, || format!("suspended until {}", trace_seconds(until)));
        self.change_clocks(i, Clocks::sleep);
        let node = &mut self.nodes[i];
        node.asleep_until = until;
        node.fence.dormant = std::mem::take(&mut node.fence.running);
        // Queued first at its time, so that whatever was put off until then finds the machine awake.
        self.schedule(until, Happening::Resume { node: i, at: until });
        true
    }

    pub(crate) fn resume(&mut self, i: usize, at: Time) {
        if self.nodes[i].asleep_until == at {
            self.wake_up(i);
        }
    }

    /// What ran before runs again. Where the right to it ended meanwhile nothing could fence it: no protocol prevents
    /// that it runs until the fence daemon has had its turn (docs/protocol.md, "What is assumed"), so it does not count.
    fn wake_up(&mut self, i: usize) {
        if self.nodes[i].asleep_until == 0 {
            return;
        }
        self.nodes[i].asleep_until = 0;
        let dormant = std::mem::take(&mut self.nodes[i].fence.dormant);
        let running = dormant.into_iter().filter(|(name, token)| self.is_rightful(i, name, *token)).collect();
        self.nodes[i].fence.running = running;
        self.change_clocks(i, Clocks::wake);
        self.trace(i, || "wakes".into());
    }

    /// One of the clocks gets another rate, within what is promised.
    pub(crate) fn change_rate(&mut self, i: usize) -> bool {
        if self.fences(i) {
            return false; // limits of programs that run are counted out already
        }
        let drift = i64::from(self.plan.settings.timing.drift.ppm());
        let (ppm, boot) = (draw_rate(&mut self.rng, drift), self.rng.percent(50));
        self.trace(i, || format!("a clock runs at {ppm} ppm; the boot clock: {boot}"));
        self.change_clocks(i, |clocks, time| {
            if boot { clocks.boot.run_at(time, ppm) } else { clocks.raw.run_at(time, ppm) }
        });
        true
    }

    /// Changes how the clocks run; whatever waits for a reading waits until another time now.
    pub(crate) fn change_clocks(&mut self, i: usize, change: impl FnOnce(&mut Clocks, Time)) {
        change(&mut self.nodes[i].clocks, self.time);
        self.move_ends(i);
        if let Some(process) = &mut self.nodes[i].process {
            process.wake = None;
        }
        self.set_timer(i);
        self.nodes[i].fence.wake = None;
        self.set_fence_timer(i);
    }

    /// For the observer: a right that was to end at a reading ends at another true time now.
    fn move_ends(&mut self, i: usize) {
        self.checks.clocks_changed(i);
        let (clocks, time) = (self.nodes[i].clocks, self.time);
        let holds = self.checks.holds.iter_mut().filter(|((_, node), hold)| *node == i && hold.end > time);
        holds.for_each(|(_, hold)| hold.end = clocks.when_passed(hold.deadline).max(time));
    }

    /// Whether the right of `i` to run `name` under `token` has not ended.
    fn is_rightful(&self, i: usize, name: &Name, token: u64) -> bool {
        let hold = self.checks.holds.get(&(ticket_of(name), i));
        hold.is_some_and(|hold| hold.token.0 == token && hold.end > self.time)
    }

    /// A commit that was under way when its process ended is on the disk or is not; nobody was told in any case.
    pub(crate) fn leave_commit(&mut self, i: usize) {
        let Some(turn) = self.nodes[i].process.as_mut().and_then(|process| process.committing.take()) else {
            return;
        };
        if !self.calm && self.rng.percent(50) {
            self.trace(i, || "its last commit is durable".into());
            match turn.commit(&mut self.nodes[i].disk) {
                Ok(_) => self.checks_committed(i),
                Err(broken) => self.checks.violate("I5", self.time, broken),
            }
        }
    }

    /// Whether the process of `i` runs and is not stopped.
    pub(crate) fn runs(&self, i: usize) -> bool {
        let node = &self.nodes[i];
        !node.is_asleep(self.time) && node.process.as_ref().is_some_and(|p| p.frozen_until <= self.time)
    }
}
