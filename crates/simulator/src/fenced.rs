//! A fence daemon around the real deadman: its disk, its runtime directory, and what runs under it.

use std::collections::{BTreeMap, VecDeque};

use sitegate_fence::deadman::{Deadman, Leases, Order, Record, RunId, Save, Saved, Schedule, State};
use sitegate_fence_client::wire::Name;
use sitegate_protocol::{self as protocol, FenceReport, TicketName, Token};
use sitegate_shell::site::Line;

use crate::clock::{Time, from_fence};
use crate::line::FencedEnd;
use crate::node::Slow;
use crate::plan::FencePlan;
use crate::programs::{LevelEnd, proof};
use crate::world::{Happening, World};

/// A record of the fence daemon on its way to the disk.
const SAVE: Time = 500_000;

/// What belongs to fencing on one machine.
#[derive(Default)]
pub(crate) struct FenceHost {
    pub(crate) deadman: Option<Deadman>,
    pub(crate) generation: u64,
    pub(crate) wake: Option<Time>,
    /// Its end of the line to the member's desk.
    pub(crate) line: FencedEnd,
    /// Its process is stopped until then.
    pub(crate) frozen_until: Time,
    /// The leases cannot be published before that.
    pub(crate) unpublished_until: Time,
    /// The newest leases are not published.
    unpublished: bool,
    /// The line to the member's process is slow, for a while.
    pub(crate) slow_line: Slow,
    /// Durable.
    pub(crate) records: BTreeMap<Name, Record>,
    /// On their way to the disk, in their order.
    unwritten: VecDeque<Vec<(Name, Record)>>,
    written_at: Time,
    /// In /run, of this boot.
    pub(crate) leases: Leases,
    /// What runs in truth, under which token.
    pub(crate) running: BTreeMap<Name, u64>,
    /// What ran when the machine was suspended.
    pub(crate) dormant: BTreeMap<Name, u64>,
    /// The fence daemon was killed in the middle of the plan that runs, or of one that is due.
    interrupted: bool,
    /// Plans fail, for a while, until somebody looks after what they should end.
    pub(crate) stuck_until: Time,
    /// Start hooks that have not come to their exec yet: they outlive the fence daemon.
    pub(crate) starting: Vec<(RunId, Name, u64)>,
}

/// What the fence daemon waits for.
#[derive(Debug)]
pub(crate) enum Fencing {
    Wake(Time),
    Saved(Vec<Saved>),
    Killed(RunId, Name),
    Level(RunId, Name, usize),
    Start(RunId, Name, u64),
    Stop(RunId, Name),
    /// A start hook has ended, and why it failed.
    Started(RunId, Name, Option<String>),
    /// A member's process asks for something on its line, in an incarnation.
    Asked {
        asker: u64,
        line: Line,
        order: protocol::Order,
        incarnation: u64,
    },
}

pub(crate) fn name_of(ticket: &TicketName) -> Name {
    Name::new(ticket.as_str()).unwrap_or_else(|_| unreachable!("tickets of the simulator are names"))
}

pub(crate) fn ticket_of(name: &Name) -> TicketName {
    TicketName::new(name.as_str()).unwrap_or_else(|_| unreachable!("tickets of the simulator are names"))
}

fn schedule(plan: &FencePlan) -> Schedule {
    Schedule { kill_within_ns: plan.kill_within, level_within_ns: plan.levels.clone() }
}

impl World {
    pub(crate) fn start_fenced(&mut self, i: usize) {
        let schedules: BTreeMap<Name, Schedule> =
            self.plan.tickets.iter().map(|t| (name_of(t), schedule(&self.plan.fence))).collect();
        let node = &mut self.nodes[i];
        if !node.up || !node.is_site() || node.fence.deadman.is_some() {
            return;
        }
        let fence = &mut node.fence;
        fence.generation += 1;
        fence.wake = None;
        fence.unpublished = false;
        let now = node.clocks.instant(self.time);
        let deadman = Deadman::recover(now, usize::MAX, schedules, fence.records.clone(), &fence.leases);
        fence.deadman = Some(deadman);
        self.trace(i, || "fence daemon starts".into());
        self.carry_out_fencing(i);
        self.connect_fenced(i);
    }

    /// Its process is gone. Of what it was writing the kernel has any first part.
    pub(crate) fn end_fenced(&mut self, i: usize) -> bool {
        let fence = &mut self.nodes[i].fence;
        fence.generation += 1;
        fence.frozen_until = 0;
        for records in std::mem::take(&mut fence.unwritten) {
            if self.calm || self.rng.percent(50) {
                break;
            }
            self.write_fence_records(i, records);
        }
        self.nodes[i].fence.deadman.take().is_some()
    }

    /// The oldest write of the fence daemon that runs is done.
    pub(crate) fn fence_written(&mut self, i: usize, generation: u64) {
        let fence = &mut self.nodes[i].fence;
        if fence.generation == generation
            && let Some(records) = fence.unwritten.pop_front()
        {
            self.write_fence_records(i, records);
        }
    }

    /// A receipt is one as soon as it is durable, whether somebody hears of it or not.
    fn write_fence_records(&mut self, i: usize, records: Vec<(Name, Record)>) {
        for (name, record) in records {
            if let Some(receipt) = &record.receipt {
                self.checks_receipted(i, &ticket_of(&name), Token(receipt.token));
            }
            self.nodes[i].fence.records.insert(name, record);
        }
    }

    /// Whether a plan runs at `i`.
    pub(crate) fn fences(&self, i: usize) -> bool {
        let deadman = self.nodes[i].fence.deadman.as_ref();
        deadman.is_some_and(|d| d.views().any(|(_, view)| matches!(view.state, State::Fencing { .. })))
    }

    /// A fault: in the middle of a plan only where A has room for that, and once.
    pub(crate) fn strike_fenced(&mut self, i: usize) -> bool {
        let fences = self.fences(i);
        if fences && (!self.plan.fence.twice || self.nodes[i].fence.interrupted) {
            return false;
        }
        if fences {
            self.coverage.met("fence", &"Interrupted");
        }
        self.nodes[i].fence.interrupted = fences;
        self.kill_fenced(i)
    }

    pub(crate) fn kill_fenced(&mut self, i: usize) -> bool {
        let runs = self.end_fenced(i);
        if runs {
            self.trace(i, || "fence daemon killed".into());
            self.break_line(i);
            let at = self.time + self.plan.fence.restart;
            self.schedule(at, Happening::StartFenced { node: i });
        }
        runs
    }

    pub(crate) fn on_fencing(&mut self, i: usize, generation: u64, fencing: Fencing) {
        if let Fencing::Start(run, name, token) = fencing {
            return self.exec_start(i, generation, run, &name, token);
        }
        let current = self.nodes[i].fence.generation == generation && self.nodes[i].fence.deadman.is_some();
        if !current {
            return;
        }
        let frozen = self.nodes[i].fence.frozen_until;
        if frozen > self.time {
            return self.schedule(frozen, Happening::Fenced { node: i, generation, fencing });
        }
        let now = self.nodes[i].clocks.instant(self.time);
        let usual = self.rng_percent(95);
        let ends = match &fencing {
            Fencing::Level(_, name, level) => self.level_end(i, name, *level, usual),
            Fencing::Killed(_, name) => self.kill_end(i, name),
            Fencing::Stop(..) if self.hook_fails(i, 5) => LevelEnd::Failed,
            _ => LevelEnd::Well,
        };
        if let LevelEnd::Restarted = ends {
            self.power_cycle(i);
            return;
        }
        let well = matches!(ends, LevelEnd::Well);
        let result = if let LevelEnd::Failed = ends { Err("failed".into()) } else { Ok(proof("done")) };
        let fence = &mut self.nodes[i].fence;
        let Some(deadman) = fence.deadman.as_mut() else { return };
        match fencing {
            Fencing::Wake(at) => {
                if fence.wake != Some(at) {
                    return;
                }
                fence.wake = None;
                deadman.tick(now);
            }
            Fencing::Saved(saved) => saved.into_iter().for_each(|saved| deadman.saved(now, saved)),
            Fencing::Killed(run, name) => {
                let missed = !self.calm && self.rng.percent(50);
                // Who has not come so far that a kill finds it asks for its lease later.
                fence.starting.retain(|(_, n, _)| *n != name || missed);
                if well {
                    fence.running.remove(&name);
                }
                deadman.kill_done(now, &name, run, result);
            }
            Fencing::Level(run, name, _) => {
                if well {
                    fence.running.remove(&name);
                }
                deadman.level_done(now, &name, run, result);
            }
            Fencing::Stop(run, name) => {
                if well {
                    fence.running.remove(&name);
                }
                deadman.stop_done(now, &name, run, (!well).then(|| "failed".into()));
            }
            Fencing::Started(run, name, failed) => deadman.start_done(now, &name, run, failed),
            Fencing::Asked { asker, line, order, incarnation } => {
                self.asked(i, asker, line, order, incarnation);
            }
            Fencing::Start(..) => {}
        }
        self.carry_out_fencing(i);
    }

    /// Does what the deadman asks for, in its order: leases, saves, orders, notices.
    pub(crate) fn carry_out_fencing(&mut self, i: usize) {
        let fence = &mut self.nodes[i].fence;
        let Some(deadman) = fence.deadman.as_mut() else { return };
        let fails = fence.unpublished_until > self.time;
        let step = deadman.take();
        let all = (fence.unpublished && !fails).then(|| deadman.leases());
        let (leases, mut changed) = (&mut fence.leases, Vec::new());
        let (acts, published) = step.publish(|published| {
            if fails {
                return Err(());
            }
            match all {
                Some(all) => *leases = all,
                None => published.apply(leases),
            }
            changed = published.names().cloned().collect();
            Ok(())
        });
        if !changed.is_empty() {
            fence.unpublished = false;
        }
        fence.unpublished |= published.is_err();
        if fence.unpublished && acts.orders.iter().any(|order| matches!(order, Order::Kill { .. })) {
            fence.leases.clear(); // a kill that cannot withdraw one lease withdraws them all
        }
        if !acts.saves.is_empty() {
            self.save(i, acts.saves);
        }
        for order in acts.orders {
            self.begin_order(i, order);
        }
        self.tell_clients(i, acts.notices, published.is_ok());
        self.set_fence_timer(i);
        self.checks_deadman(i, &changed);
    }

    /// The record is on the disk a little later; a crash before that loses it.
    fn save(&mut self, i: usize, saves: Vec<Save>) {
        let fence = &mut self.nodes[i].fence;
        let records: Vec<(Name, Record)> =
            saves.iter().map(|s| (s.resource().clone(), s.record().clone())).collect();
        let Ok(saved) = Save::write_all::<()>(saves, |_| Ok(())) else { return };
        let generation = fence.generation;
        // Written in order, one by one: the disk has them when the daemon is told.
        let takes = self.nodes[i].slow_disk.at(self.time).unwrap_or(SAVE);
        let fence = &mut self.nodes[i].fence;
        let at = (self.time + takes).max(fence.written_at);
        fence.written_at = at;
        fence.unwritten.push_back(records);
        self.schedule(at, Happening::FenceDisk { node: i, generation });
        self.schedule(at, Happening::Fenced { node: i, generation, fencing: Fencing::Saved(saved) });
    }

    pub(crate) fn set_fence_timer(&mut self, i: usize) {
        let node = &mut self.nodes[i];
        let Some(deadman) = &node.fence.deadman else { return };
        let due = deadman.next_timeout().map(|due| node.clocks.when_passed(from_fence(due)).max(self.time));
        if due == node.fence.wake {
            return;
        }
        node.fence.wake = due;
        let generation = node.fence.generation;
        if let Some(at) = due {
            self.schedule(at, Happening::Fenced { node: i, generation, fencing: Fencing::Wake(at) });
        }
    }
}

/// How all resources stand, as the fence daemon says at every connection.
pub(crate) fn reports(deadman: &Deadman) -> Vec<FenceReport> {
    deadman.views().map(|(name, view)| report(name, &view)).collect()
}

fn report(name: &Name, view: &sitegate_fence::deadman::View<'_>) -> FenceReport {
    use sitegate_fence::deadman::State;
    let ticket = ticket_of(name);
    let (armed, fencing) = match &view.state {
        State::Unarmed | State::Arming { .. } => (None, None),
        State::Armed { token, deadline, .. } => (Some((Token(*token), from_fence(*deadline))), None),
        State::Fencing { token, .. } => (None, Some(Token(*token))),
    };
    FenceReport { ticket, armed, fencing, receipt: view.receipt.as_ref().map(|r| Token(r.token)) }
}
