//! A fence daemon around the real deadman: its disk, its runtime directory, and what runs under it.

use std::collections::BTreeMap;

use sitegate_fence::deadman::{Deadman, Leases, Order, Record, RunId, Save, Saved, Schedule};
use sitegate_fence_client::wire::{Name, Notice, Proof, Reason};
use sitegate_protocol::{self as protocol, FenceEvent, FenceReport, TicketName, Token};

use crate::clock::{Time, from_fence, to_fence};
use crate::plan::FencePlan;
use crate::world::{Happening, World};

/// A record of the fence daemon on its way to the disk.
const SAVE: Time = 500_000;

/// What belongs to fencing on one machine.
#[derive(Default)]
pub(crate) struct FenceHost {
    pub(crate) deadman: Option<Deadman>,
    pub(crate) generation: u64,
    pub(crate) wake: Option<Time>,
    /// When the last message of each direction arrives: none overtakes another.
    to_fenced: Time,
    from_fenced: Time,
    /// Durable.
    pub(crate) records: BTreeMap<Name, Record>,
    /// In /run, of this boot.
    pub(crate) leases: Leases,
    /// What runs in truth, under which token.
    pub(crate) running: BTreeMap<Name, u64>,
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
    Ordered(protocol::Order, u64),
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
        let now = node.clocks.instant(self.time);
        let deadman = Deadman::recover(now, usize::MAX, schedules, fence.records.clone(), &fence.leases);
        fence.deadman = Some(deadman);
        self.trace(i, || "fence daemon starts".into());
        self.carry_out_fencing(i);
        self.connect_fenced(i);
    }

    /// The member's process learns how everything stands.
    pub(crate) fn connect_fenced(&mut self, i: usize) {
        let node = &self.nodes[i];
        let Some(deadman) = &node.fence.deadman else { return };
        let reports = deadman.views().map(|(name, view)| report(name, &view)).collect();
        self.tell_member(i, FenceEvent::Up(reports));
    }

    fn tell_member(&mut self, i: usize, event: FenceEvent) {
        let generation = self.nodes[i].generation;
        let takes = self.ipc();
        let at = (self.time + takes).max(self.nodes[i].fence.from_fenced);
        self.nodes[i].fence.from_fenced = at;
        self.schedule(at, Happening::Member { node: i, generation, event: protocol::Event::Fence(event) });
    }

    pub(crate) fn kill_fenced(&mut self, i: usize) {
        let fence = &mut self.nodes[i].fence;
        if fence.deadman.take().is_some() {
            fence.generation += 1;
            self.trace(i, || "fence daemon killed".into());
            self.tell_member(i, FenceEvent::Down);
            let at = self.time + self.plan.fence.restart;
            self.schedule(at, Happening::StartFenced { node: i });
        }
    }

    pub(crate) fn order_fenced(&mut self, i: usize, order: protocol::Order, incarnation: u64) {
        let generation = self.nodes[i].fence.generation;
        let happening =
            Happening::Fenced { node: i, generation, fencing: Fencing::Ordered(order, incarnation) };
        let takes = self.ipc();
        let at = (self.time + takes).max(self.nodes[i].fence.to_fenced);
        self.nodes[i].fence.to_fenced = at;
        self.schedule(at, happening);
    }

    /// How long a message between the two daemons of a site takes.
    fn ipc(&mut self) -> Time {
        let most = self.plan.fence.ipc_max;
        if self.calm { most.min(30_000) } else { self.rng.range(10_000, most) }
    }

    pub(crate) fn on_fencing(&mut self, i: usize, generation: u64, fencing: Fencing) {
        if let Fencing::Start(run, name, token) = fencing {
            return self.exec_start(i, generation, run, &name, token);
        }
        let current = self.nodes[i].fence.generation == generation && self.nodes[i].fence.deadman.is_some();
        if !current {
            return;
        }
        let now = self.nodes[i].clocks.instant(self.time);
        let kill = self.rng_percent(95);
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
                fence.starting.retain(|(_, n, _)| *n != name);
                fence.running.remove(&name);
                deadman.kill_done(now, &name, run, Ok(proof("killed")));
            }
            Fencing::Level(run, name, level) => {
                let last = level + 1 == self.plan.fence.levels.len();
                let result = if last || kill { Ok(proof("level")) } else { Err("failed".into()) };
                if result.is_ok() {
                    fence.running.remove(&name);
                }
                deadman.level_done(now, &name, run, result);
            }
            Fencing::Stop(run, name) => {
                fence.running.remove(&name);
                deadman.stop_done(now, &name, run, None);
            }
            Fencing::Ordered(order, incarnation) => self.on_order(i, order, incarnation),
            Fencing::Start(..) => {}
        }
        self.carry_out_fencing(i);
    }

    /// A start hook comes to its exec: only if its lease is still published and lies ahead.
    fn exec_start(&mut self, i: usize, generation: u64, run: RunId, name: &Name, token: u64) {
        let node = &mut self.nodes[i];
        let now = node.clocks.instant(self.time);
        let waiting = node.fence.starting.iter().position(|(r, n, t)| (r, n, t) == (&run, name, &token));
        let Some(position) = waiting else { return };
        node.fence.starting.remove(position);
        let lease = node.fence.leases.get(name).filter(|l| l.token == token && !l.deadline.passed(now));
        let allowed = lease.is_some();
        if allowed {
            node.fence.running.insert(name.clone(), token);
            self.trace(i, || format!("{name} runs under {token}"));
            self.checks_started(i, &ticket_of(name), Token(token));
        }
        let fence = &mut self.nodes[i].fence;
        if let Some(deadman) = fence.deadman.as_mut().filter(|_| fence.generation == generation) {
            let failed = (!allowed).then(|| "lease withdrawn".to_owned());
            deadman.start_done(now, name, run, failed);
            self.carry_out_fencing(i);
        }
    }

    fn on_order(&mut self, i: usize, order: protocol::Order, incarnation: u64) {
        let now = self.nodes[i].clocks.instant(self.time);
        let mut events = Vec::new();
        let Some(deadman) = self.nodes[i].fence.deadman.as_mut() else { return };
        match order {
            protocol::Order::Arm(ticket, token, deadline) => {
                let armed = deadman.arm(now, &name_of(&ticket), token.0, to_fence(deadline), incarnation);
                if armed.is_err() {
                    events.push(FenceEvent::ArmRefused(ticket, token));
                }
            }
            protocol::Order::Extend(extensions) => {
                let mut taken = extensions;
                for extension in &mut taken {
                    let deadline = to_fence(extension.deadline);
                    extension.tickets.retain(|(ticket, token)| {
                        deadman.extend(now, &name_of(ticket), token.0, deadline, incarnation).is_ok()
                    });
                }
                events.push(FenceEvent::Extended(taken));
            }
            protocol::Order::Start(ticket, token) => {
                if deadman.start(now, &name_of(&ticket), token.0).is_err() {
                    events.push(FenceEvent::Started(ticket, token, false));
                }
            }
            protocol::Order::Stop(ticket, token) => {
                if deadman.stop(now, &name_of(&ticket), token.0).is_err() {
                    events.push(FenceEvent::Stopped(ticket, token, false));
                }
            }
            protocol::Order::Fence(ticket, token, _) => {
                // Refused only if a larger token is armed, which the next report tells.
                let _ = deadman.fence(now, &name_of(&ticket), token.0, Reason::deadline());
            }
        }
        for event in events {
            self.tell_member(i, event);
        }
    }

    /// Does what the deadman asks for, in its order: leases, saves, orders, notices.
    fn carry_out_fencing(&mut self, i: usize) {
        let fence = &mut self.nodes[i].fence;
        let Some(deadman) = fence.deadman.as_mut() else { return };
        let leases = &mut fence.leases;
        let (acts, _) = deadman.take().publish::<()>(|published| {
            leases.clone_from(published);
            Ok(())
        });
        if !acts.saves.is_empty() {
            self.save(i, acts.saves);
        }
        for order in acts.orders {
            self.begin_order(i, order);
        }
        for notice in acts.notices {
            if let Some(event) = event_of(notice) {
                if let FenceEvent::Receipt(ticket, token) = &event {
                    self.checks_receipted(i, &ticket.clone(), *token);
                }
                self.tell_member(i, event);
            }
        }
        self.set_fence_timer(i);
    }

    /// The record is on the disk a little later; a crash before that loses it.
    fn save(&mut self, i: usize, saves: Vec<Save>) {
        let fence = &mut self.nodes[i].fence;
        let records: Vec<(Name, Record)> =
            saves.iter().map(|s| (s.resource().clone(), s.record().clone())).collect();
        let Ok(saved) = Save::write_all::<()>(saves, |_| Ok(())) else { return };
        let generation = fence.generation;
        // Written in order, one by one: the disk has them when the daemon is told.
        let at = self.time + SAVE;
        self.schedule(at, Happening::FenceDisk { node: i, generation, records });
        self.schedule(at, Happening::Fenced { node: i, generation, fencing: Fencing::Saved(saved) });
    }

    fn begin_order(&mut self, i: usize, order: Order) {
        let generation = self.nodes[i].fence.generation;
        let (takes, fencing) = match order {
            Order::Kill { run, resource, within_ns } => {
                (self.fence_time(i, within_ns), Fencing::Killed(run, resource))
            }
            Order::Level { run, resource, level, .. } => {
                let within = self.plan.fence.levels[level];
                (self.fence_time(i, within), Fencing::Level(run, resource, level))
            }
            Order::Start { run, resource, token, .. } => {
                let hangs = self.rng_percent(5);
                let takes = self.rng_range(1_000_000, if hangs { 10_000_000_000 } else { 50_000_000 });
                self.nodes[i].fence.starting.push((run, resource.clone(), token));
                (takes, Fencing::Start(run, resource, token))
            }
            Order::Stop { run, resource, .. } => {
                (self.rng_range(1_000_000, self.plan.faults.stop_max), Fencing::Stop(run, resource))
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

    fn set_fence_timer(&mut self, i: usize) {
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

fn proof(what: &str) -> Proof {
    Proof { what: what.into(), unix_ms: 0 }
}

fn event_of(notice: Notice) -> Option<FenceEvent> {
    let event = match notice {
        Notice::Armed { resource, token, deadline } => {
            FenceEvent::Armed(ticket_of(&resource), Token(token), from_fence(deadline))
        }
        Notice::Started { resource, token, failed } => {
            FenceEvent::Started(ticket_of(&resource), Token(token), failed.is_none())
        }
        Notice::Stopped { resource, token, failed } => {
            FenceEvent::Stopped(ticket_of(&resource), Token(token), failed.is_none())
        }
        Notice::Receipt(receipt) => FenceEvent::Receipt(ticket_of(&receipt.resource), Token(receipt.token)),
        Notice::FenceFailed { resource, token, .. } => {
            FenceEvent::Failing(ticket_of(&resource), Token(token))
        }
        Notice::Extended { .. } | Notice::Fencing { .. } | Notice::LevelFailed { .. } => return None,
    };
    Some(event)
}

fn report(name: &Name, view: &sitegate_fence::deadman::View<'_>) -> FenceReport {
    use sitegate_fence::deadman::State;
    let ticket = ticket_of(name);
    let (armed, fencing) = match &view.state {
        State::Unarmed | State::Arming { .. } => (None, None),
        State::Armed { token, deadline, .. } => (Some((Token(*token), from_fence(*deadline))), None),
        State::Fencing(fence) => (None, Some(Token(fence.token))),
    };
    FenceReport { ticket, armed, fencing, receipt: view.receipt.as_ref().map(|r| Token(r.token)) }
}
