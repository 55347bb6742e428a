//! What goes wrong, and how long.

mod disks;
mod site;

use sitegate_protocol::Event;

use crate::clock::{MS, SECOND, Time};
use crate::node::Slow;
use crate::plan::Theme;
use crate::world::{Happening, World};

/// One thing that goes wrong.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// Draws the next fault and strikes.
    Next,
    /// `kill -9` of a member.
    Kill,
    /// A member's process is stopped (`SIGSTOP`), and goes on later.
    Freeze,
    /// A machine is suspended.
    Suspend,
    /// A clock of a machine changes its rate.
    Drift,
    /// A machine without power.
    Power,
    /// All machines without power.
    Blackout,
    /// One member hears nobody, or nobody hears it.
    CutOff,
    /// Some directions of some links.
    Cuts,
    /// `kill -9` of a fence daemon.
    KillFenced,
    /// A fence daemon's process is stopped, and goes on before any of its deadlines.
    FreezeFenced,
    /// The connection between the two daemons of a site breaks.
    BreakLine,
    /// The leases cannot be published, for a while.
    Unpublished,
    /// The line between the two daemons of a site is slow.
    SlowLine,
    /// The disk of a machine is slow: longer than heartbeats, than repetitions, than a lease.
    SlowDisk,
    /// Start hooks, stop hooks and checks of a site fail.
    Ill,
    /// A health check has failed too often.
    Unhealthy,
    /// All levels of a site's fence plans fail.
    Stuck,
    /// An administrator edits the configuration of one member and has it read.
    Reload,
    /// Whoever gave a command goes away.
    Abandon,
    /// A member's shell suspects that its machine was put back in time.
    Suspect,
    /// Somebody takes a backup of a disk.
    Image,
    /// A disk is put back in time, or lost.
    Disk,
    /// A machine is cloned.
    Clone,
}

/// How often each strikes.
const WEIGHTS: [(u64, Fault); 23] = [
    (18, Fault::Kill),
    (12, Fault::Freeze),
    (5, Fault::Suspend),
    (5, Fault::Drift),
    (9, Fault::Power),
    (5, Fault::Blackout),
    (14, Fault::CutOff),
    (14, Fault::Cuts),
    (8, Fault::KillFenced),
    (4, Fault::FreezeFenced),
    (3, Fault::BreakLine),
    (3, Fault::Unpublished),
    (2, Fault::SlowLine),
    (4, Fault::SlowDisk),
    (3, Fault::Ill),
    (12, Fault::Unhealthy),
    (3, Fault::Stuck),
    (4, Fault::Reload),
    (2, Fault::Abandon),
    (4, Fault::Suspect),
    (3, Fault::Image),
    (4, Fault::Disk),
    (2, Fault::Clone),
];

/// How many times as often a theme has it strike.
const fn emphasis(theme: Theme, fault: Fault) -> u64 {
    match (theme, fault) {
        (Theme::Memory, Fault::Image | Fault::Disk) => 8,
        (Theme::Memory, Fault::Kill | Fault::Power | Fault::Blackout | Fault::Suspect) => 2,
        (Theme::Fencing, Fault::KillFenced | Fault::Stuck | Fault::SlowLine | Fault::SlowDisk) => 6,
        (Theme::Fencing, Fault::FreezeFenced | Fault::BreakLine | Fault::Unpublished) => 6,
        (Theme::Fencing, Fault::Freeze | Fault::Kill | Fault::Ill) => 2,
        (Theme::Leases, Fault::Drift | Fault::Reload) => 6,
        (Theme::Leases, Fault::Freeze | Fault::CutOff | Fault::Cuts | Fault::SlowDisk) => 2,
        (Theme::Wishes, Fault::Abandon) => 8,
        (Theme::Wishes, Fault::Kill | Fault::CutOff | Fault::Cuts) => 2,
        _ => 1,
    }
}

impl World {
    pub(crate) fn strike(&mut self, fault: Fault) {
        if self.calm {
            return;
        }
        let fault = match fault {
            Fault::Next => {
                self.schedule_fault();
                self.draw_fault()
            }
            other => other,
        };
        let i = self.rng.index(self.nodes.len());
        self.strike_at(i, fault);
    }

    /// Lets a fault that is drawn already strike machine `i`, if it is one machine's.
    pub(crate) fn strike_at(&mut self, i: usize, fault: Fault) {
        let asleep = self.nodes[i].is_asleep(self.time);
        let struck = match fault {
            Fault::Power => self.power_cycle(i),
            Fault::Blackout => self.kill_all(),
            Fault::CutOff => self.cut_off(i),
            Fault::Cuts => self.cut_some(),
            Fault::Abandon => self.abandon_command(),
            Fault::Image => self.keep_images(),
            Fault::Disk => self.lose_disk(i),
            _ if asleep => false, // nobody can do anything to its processes
            _ => self.strike_processes(i, fault),
        };
        if struck {
            self.coverage.met("fault", &fault);
        }
    }

    fn draw_fault(&mut self) -> Fault {
        let theme = self.plan.faults.theme;
        let weighed = WEIGHTS.map(|(weight, fault)| (weight * emphasis(theme, fault), fault));
        let mut drawn = self.rng.range(0, weighed.iter().map(|(weight, _)| weight).sum());
        let hit = weighed.iter().find(|(weight, _)| {
            let hit = drawn < *weight;
            drawn = drawn.saturating_sub(*weight);
            hit
        });
        hit.map_or(Fault::Kill, |(_, fault)| *fault)
    }

    /// Whether it came to anything.
    fn strike_processes(&mut self, i: usize, fault: Fault) -> bool {
        let span = self.a_while();
        let is_site = self.nodes[i].is_site();
        match fault {
            Fault::Kill => self.kill_for_a_while(i, span),
            Fault::Freeze => self.freeze(i, span),
            Fault::Suspend => self.suspend(i, span),
            Fault::Drift => self.change_rate(i),
            Fault::KillFenced => self.strike_fenced(i),
            Fault::FreezeFenced => self.freeze_fenced(i),
            Fault::BreakLine => self.break_line(i),
            Fault::Unpublished => {
                self.trace(i, || format!("leases cannot be published for {span} ns"));
                self.nodes[i].fence.unpublished_until = self.time + span;
                is_site
            }
            Fault::SlowLine => self.slow_line(i, span),
            Fault::SlowDisk => self.slow_disk(i, span),
            Fault::Ill => {
                self.nodes[i].ill_until = self.time + span;
                is_site
            }
            Fault::Unhealthy => self.find_ill(i),
            Fault::Stuck => {
                self.nodes[i].fence.stuck_until = self.time + span;
                is_site
            }
            Fault::Reload => self.reload(i),
            Fault::Suspect => self.suspect(i),
            // The copy may have to recover, which it cannot while another member is gone.
            Fault::Clone => self.plan.faults.disks && self.clone_machine(i, span),
            Fault::Next
            | Fault::Power
            | Fault::Blackout
            | Fault::CutOff
            | Fault::Cuts
            | Fault::Abandon
            | Fault::Image
            | Fault::Disk => unreachable!("strikes whether its processes can be reached or not"),
        }
    }

    pub(crate) fn schedule_fault(&mut self) {
        let at = self.time + self.rng.range(1, 2 * self.plan.faults.every);
        self.schedule(at, Happening::Fault(Fault::Next));
    }

    /// Biased to around the lengths of leases.
    fn a_while(&mut self) -> Time {
        match self.rng.range(0, 3) {
            0 => self.rng.range(MS, SECOND),
            1 => self.rng.range(SECOND, 6 * SECOND),
            _ => self.rng.range(6 * SECOND, 25 * SECOND),
        }
    }

    fn kill_for_a_while(&mut self, i: usize, span: Time) -> bool {
        let runs = self.nodes[i].process.is_some();
        self.kill_member(i);
        self.schedule(self.time + span, Happening::StartMember { node: i });
        runs
    }

    pub(crate) fn freeze(&mut self, i: usize, span: Time) -> bool {
        let until = self.time + span;
        let generation = self.nodes[i].generation;
        let Some(process) = &mut self.nodes[i].process else { return false };
        process.frozen_until = until;
        process.wake = None;
        self.trace(i, || format!("frozen until {}", crate::world::trace_seconds(until)));
        self.schedule(until, Happening::Thaw { node: i, generation });
        true
    }

    /// While one disk is lost, nobody else's memory may be: no protocol survives a majority that forgets.
    pub(crate) fn may_lose_power(&self, i: usize) -> bool {
        self.nodes.iter().enumerate().all(|(j, node)| j == i || !node.disk.suspect)
    }

    pub(crate) fn power_cycle(&mut self, i: usize) -> bool {
        if !self.may_lose_power(i) {
            return false;
        }
        self.power_off(i);
        if self.nodes[i].is_site() && self.rng.percent(20) {
            self.schedule(self.time + SECOND, Happening::Attest { node: i });
        }
        let at = self.time + self.a_while();
        self.schedule(at, Happening::Boot { node: i });
        true
    }

    fn kill_all(&mut self) -> bool {
        if self.nodes.iter().any(|node| node.disk.suspect) {
            return false;
        }
        let at_once = self.rng.percent(50);
        for i in 0..self.nodes.len() {
            self.power_off(i);
            let at = self.time + if at_once { self.rng.range(1, SECOND) } else { self.a_while() };
            self.schedule(at, Happening::Boot { node: i });
        }
        true
    }

    fn cut_off(&mut self, i: usize) -> bool {
        let until = self.time + self.a_while();
        let (inward, outward) = *self.rng.pick(&[(true, true), (true, false), (false, true)]);
        self.trace(i, || {
            format!("cut off (in {inward}, out {outward}) until {}", crate::world::trace_seconds(until))
        });
        for j in (0..self.nodes.len()).filter(|&j| j != i) {
            if inward {
                self.network.cut(j, i, until);
            }
            if outward {
                self.network.cut(i, j, until);
            }
        }
        true
    }

    fn cut_some(&mut self) -> bool {
        let until = self.time + self.a_while();
        for from in 0..self.nodes.len() {
            for to in 0..self.nodes.len() {
                if from != to && self.rng.percent(30) {
                    self.network.cut(from, to, until);
                }
            }
        }
        self.trace(0, || "some links are cut".into());
        true
    }

    /// An administrator edits the configuration of one member and has it read.
    fn reload(&mut self, i: usize) -> bool {
        let edition = self.rng.index(self.plan.editions.len());
        self.trace(i, || format!("reads edition {edition} of its configuration"));
        let settings = self.plan.settings_of(self.nodes[i].id, edition);
        self.nodes[i].settings = settings.clone();
        self.deliver(i, Event::Reload(settings));
        true
    }

    fn slow_disk(&mut self, i: usize, span: Time) -> bool {
        let timing = self.plan.settings.timing;
        let expire = self.plan.settings.tickets.values().map(|t| t.expire).min().unwrap_or_default();
        let usual = [timing.heartbeat, timing.retry(), expire.divided(4), expire.divided(2), expire];
        let most = self.rng.pick(&usual).as_nanos() * 3 / 2;
        let takes = self.rng.range(most / 2, most);
        self.trace(i, || format!("commits take {takes} ns for {span} ns"));
        self.nodes[i].slow_disk = Slow { until: self.time + span, takes };
        true
    }

    /// Whoever gave a command goes away. For the observer it stays open: what it wrote may come true at any time.
    fn abandon_command(&mut self) -> bool {
        let open: Vec<_> = self.workload.open.iter().map(|(id, (_, via, _))| (*id, *via)).collect();
        if open.is_empty() {
            return false;
        }
        let (id, via) = *self.rng.pick(&open);
        self.trace(via, || format!("nobody waits for {id:?} any more"));
        self.deliver(via, Event::Abandon(id));
        true
    }

    /// Two other clocks have leapt. A new process begins anew, and looks for witnesses; as it never trusts its disk, only
    /// where everybody comes back in the end.
    fn suspect(&mut self, i: usize) -> bool {
        let at_once = self.nodes[i].process.as_ref().is_some_and(|process| !process.pump.is_committing());
        let may = self.plan.faults.disks && self.may_lose_power(i) && self.runs(i) && at_once;
        if may {
            self.deliver(i, Event::Suspect);
        }
        may
    }
}
