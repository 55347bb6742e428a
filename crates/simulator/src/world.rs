//! The world of a run: true time, the machines, and what happens next.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use sitegate_fence::deadman::Record as FenceRecord;
use sitegate_fence_client::wire::Name;
use sitegate_protocol::{
    CheckId, CheckResult, Effects, Event, Frame, Identity, Lsn, Member, MemberId, Nonce, Note, Start,
    TicketName, Turn, ValidFrame,
};

use crate::checks::Checks;
use crate::clock::{MS, SECOND, Time};
use crate::fault::Fault;
use crate::fenced::Fencing;
use crate::network::Network;
use crate::node::{Disk, Node, Process};
use crate::plan::Plan;
use crate::rng::Rng;
use crate::story::Story;
use crate::workload::Workload;

/// Something that happens at a point in true time.
#[derive(Debug)]
pub(crate) enum Happening {
    Frame { to: usize, from: usize, frame: Box<Frame> },
    Member { node: usize, generation: u64, event: Event },
    Wake { node: usize, generation: u64, at: Time },
    Committed { node: usize, generation: u64 },
    Thaw { node: usize, generation: u64 },
    StartMember { node: usize },
    StartFenced { node: usize },
    Boot { node: usize },
    Fenced { node: usize, generation: u64, fencing: Fencing },
    FenceDisk { node: usize, generation: u64, records: Vec<(Name, FenceRecord)> },
    Fault(Fault),
    Command,
}

/// A run in progress.
pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) time: Time,
    pub(crate) nodes: Vec<Node>,
    pub(crate) network: Network,
    pub(crate) rng: Rng,
    pub(crate) checks: Checks,
    pub(crate) workload: Workload,
    pub(crate) events: u64,
    pub(crate) frames: u64,
    pub(crate) commits: u64,
    pub(crate) calm: bool,
    /// A machine without power that nobody switches on again.
    pub(crate) dead: Option<usize>,
    pub(crate) print: bool,
    pub(crate) story: Option<Story>,
    /// Every note with its time and node, if somebody counts.
    pub(crate) noted: Option<Vec<(Time, usize, Note)>>,
    queue: BinaryHeap<Reverse<(Time, u64)>>,
    happenings: BTreeMap<u64, Happening>,
    sequence: u64,
}

impl World {
    pub(crate) fn new(plan: Plan, print: bool) -> Self {
        let mut rng = Rng::new(plan.options.seed.wrapping_mul(3).wrapping_add(1));
        let nodes: Vec<Node> = plan
            .members
            .iter()
            .map(|m| Node {
                id: m.id,
                role: m.role,
                clocks: m.clocks,
                disk: Disk::new(Identity(u128::from(rng.next()))),
                settings: plan.settings_of(m.id, 0),
                boot: 1,
                up: true,
                proof: None,
                process: None,
                generation: 0,
                fence: crate::fenced::FenceHost::default(),
            })
            .collect();
        let network = Network::new(plan.network.clone(), nodes.len());
        let mut world = Self {
            checks: Checks::new(nodes.len()),
            workload: Workload::default(),
            time: 0,
            network,
            rng,
            events: 0,
            frames: 0,
            commits: 0,
            calm: false,
            dead: None,
            print,
            story: None,
            noted: None,
            queue: BinaryHeap::new(),
            happenings: BTreeMap::new(),
            sequence: 0,
            nodes,
            plan,
        };
        for node in 0..world.nodes.len() {
            let at = world.rng.range(0, world.plan.faults.start_max);
            world.schedule(at, Happening::StartFenced { node });
            let at = world.rng.range(0, world.plan.faults.start_max);
            world.schedule(at, Happening::StartMember { node });
        }
        world
    }

    pub(crate) fn schedule(&mut self, at: Time, happening: Happening) {
        self.sequence += 1;
        self.queue.push(Reverse((at.max(self.time), self.sequence)));
        self.happenings.insert(self.sequence, happening);
    }

    /// Lets everything happen up to `until`, or until something is violated.
    pub(crate) fn run_until(&mut self, until: Time) {
        while !self.checks.is_violated() {
            let Some(Reverse((at, sequence))) = self.queue.peek().copied() else { break };
            if at > until {
                break;
            }
            self.queue.pop();
            self.time = at;
            self.events += 1;
            if let Some(happening) = self.happenings.remove(&sequence) {
                self.happen(happening);
            }
        }
        self.time = self.time.max(until);
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Frame { to, from, frame } => self.arrive(to, from, *frame),
            Happening::Member { node, generation, event } => {
                if self.nodes[node].generation == generation {
                    self.deliver(node, event);
                }
            }
            Happening::Wake { node, generation, at } => self.wake(node, generation, at),
            Happening::Committed { node, generation } => self.committed(node, generation),
            Happening::Thaw { node, generation } => {
                if self.nodes[node].generation == generation {
                    self.work_off(node);
                }
            }
            Happening::StartMember { node } => self.start_member(node),
            Happening::StartFenced { node } => self.start_fenced(node),
            Happening::Boot { node } => self.boot(node),
            Happening::Fenced { node, generation, fencing } => self.on_fencing(node, generation, fencing),
            Happening::FenceDisk { node, generation, records } => {
                // A daemon that was killed has handed its write to the kernel or has not: both happen.
                let host = &mut self.nodes[node].fence;
                if host.generation == generation {
                    host.records.extend(records);
                }
            }
            Happening::Fault(fault) => self.strike(fault),
            Happening::Command => self.give_command(),
        }
    }

    // The member's process.

    pub(crate) fn start_member(&mut self, i: usize) {
        let settings = self.nodes[i].settings.clone();
        let (nonce, seed) = (Nonce(self.rng.next()), self.rng.next());
        let node = &mut self.nodes[i];
        if !node.up || node.process.is_some() {
            return;
        }
        node.generation += 1;
        let proven = node.proof.is_some_and(|(boot, lsn)| boot == node.boot && node.disk.lsn >= lsn);
        let start = Start { nonce, seed, lsn: Lsn(node.disk.lsn), proven };
        let now = node.clocks.now(self.time);
        let (member, step) = Member::start(settings, node.disk.durable.clone(), start, now);
        node.process = Some(Process::new(member));
        self.trace(i, || format!("member starts, proven {proven}"));
        let mut turn = Turn::new();
        turn.add(step);
        self.run_turn(i, turn);
        self.connect_fenced(i);
    }

    pub(crate) fn kill_member(&mut self, i: usize) {
        if self.nodes[i].process.take().is_some() {
            self.nodes[i].generation += 1;
            self.forget_commands(i);
            self.trace(i, || "member killed".into());
        }
    }

    fn arrive(&mut self, to: usize, from: usize, frame: Frame) {
        if self.nodes[to].process.is_none() {
            return;
        }
        match ValidFrame::check(frame, self.nodes[from].id, &self.nodes[to].settings) {
            Ok(frame) => self.deliver(to, Event::Frame(frame)),
            Err(misbehaved) => self.checks.violate("frame", self.time, misbehaved.to_string()),
        }
    }

    pub(crate) fn deliver(&mut self, i: usize, event: Event) {
        let Some(process) = &mut self.nodes[i].process else { return };
        if process.frozen_until > self.time || (process.committing.is_some() && !event.is_prompt()) {
            process.queue.push_back(event);
            return;
        }
        let step = self.handle(i, event);
        let mut turn = Turn::new();
        turn.add(step);
        self.run_turn(i, turn);
    }

    fn handle(&mut self, i: usize, event: Event) -> sitegate_protocol::Step {
        let now = self.nodes[i].clocks.now(self.time);
        if self.print && !matches!(event, Event::Tick) {
            let text = brief(&event);
            self.trace(i, || text);
        }
        let Some(process) = &mut self.nodes[i].process else { unreachable!("a process handles it") };
        let step = process.member.handle(now, event);
        self.checks_holds(i);
        step
    }

    /// Commits a turn, or has it wait for the commit that runs.
    fn run_turn(&mut self, i: usize, mut turn: Turn) {
        let takes = self.rng.range(self.plan.faults.commit_min, self.plan.faults.commit_max);
        let Some(process) = &mut self.nodes[i].process else { return };
        if turn.is_dirty() {
            let generation = self.nodes[i].generation;
            let Some(process) = &mut self.nodes[i].process else { return };
            if process.committing.is_some() {
                // Its step goes into the next turn; the types hand steps over in order.
                process.next.append(turn);
                return;
            }
            let proposals = turn.proposals(&process.member);
            process.committing = Some(turn);
            if let Some(story) = &mut self.story {
                story.tell_frames(self.time, self.nodes[i].id, &proposals);
            }
            self.send_frames(i, proposals);
            self.schedule(self.time + takes, Happening::Committed { node: i, generation });
        } else if process.committing.is_some() && process.next.is_dirty() {
            process.next.append(turn);
            return;
        } else {
            self.finish_turn(i, turn);
        }
        self.set_timer(i);
    }

    /// Commits now, and does what follows.
    fn finish_turn(&mut self, i: usize, turn: Turn) {
        let node = &mut self.nodes[i];
        let dirty = turn.is_dirty();
        let committed = match turn.commit(&mut node.disk) {
            Ok(committed) => committed,
            Err(broken) => return self.checks.violate("I5", self.time, broken),
        };
        if dirty {
            self.commits += 1;
            node.proof = Some((node.boot, node.disk.lsn));
            if self.rng.per_million(if self.calm { 0 } else { self.plan.faults.crash_at_commit }) {
                return self.crash_member(i); // durable, and nobody was told
            }
        }
        let node = &mut self.nodes[i];
        let now = node.clocks.now(self.time);
        let Some(process) = &mut node.process else { return };
        let effects = committed.effects(&mut process.member, now);
        self.carry_out(i, effects);
    }

    fn crash_member(&mut self, i: usize) {
        self.kill_member(i);
        let at = self.time + self.rng.range(10 * MS, 3 * SECOND);
        self.schedule(at, Happening::StartMember { node: i });
    }

    fn committed(&mut self, i: usize, generation: u64) {
        if self.nodes[i].generation != generation {
            return;
        }
        if self.rng.per_million(if self.calm { 0 } else { self.plan.faults.crash_at_commit }) {
            return self.crash_member(i); // never became durable
        }
        let frozen = self.nodes[i].process.as_ref().is_some_and(|p| p.frozen_until > self.time);
        if frozen {
            let at = self.nodes[i].process.as_ref().map_or(self.time, |p| p.frozen_until);
            return self.schedule(at, Happening::Committed { node: i, generation });
        }
        let Some(process) = &mut self.nodes[i].process else { return };
        let Some(turn) = process.committing.take() else { return };
        self.finish_turn(i, turn);
        self.work_off(i);
    }

    /// Handles all that has queued up, as one turn.
    fn work_off(&mut self, i: usize) {
        let Some(process) = &mut self.nodes[i].process else { return };
        if process.committing.is_some() || process.frozen_until > self.time {
            return;
        }
        let mut turn = std::mem::take(&mut process.next);
        let queue: Vec<Event> = process.queue.drain(..).collect();
        for event in queue {
            let step = self.handle(i, event);
            turn.add(step);
        }
        if !self.checks.is_violated() {
            let step = self.handle(i, Event::Tick);
            turn.add(step);
        }
        self.run_turn(i, turn);
    }

    fn wake(&mut self, i: usize, generation: u64, at: Time) {
        let current = self.nodes[i].generation == generation;
        let Some(process) = self.nodes[i].process.as_mut().filter(|p| current && p.wake == Some(at)) else {
            return;
        };
        process.wake = None;
        if process.committing.is_none() && process.frozen_until <= self.time {
            self.deliver(i, Event::Tick);
        }
        self.set_timer(i);
    }

    fn set_timer(&mut self, i: usize) {
        let node = &mut self.nodes[i];
        let (clocks, generation) = (node.clocks, node.generation);
        let Some(process) = &mut node.process else { return };
        if process.committing.is_some() || process.frozen_until > self.time {
            return; // looked at again when that is over
        }
        let timeouts = process.member.next_timeout();
        let Some(due) = clocks.when_due(timeouts.boot, timeouts.raw) else { return };
        let at = due.max(self.time);
        if process.wake.is_none_or(|wake| wake > at) {
            process.wake = Some(at);
            self.schedule(at, Happening::Wake { node: i, generation, at });
        }
    }

    fn carry_out(&mut self, i: usize, effects: Effects) {
        if let Some(story) = &mut self.story {
            story.tell(self.time, self.nodes[i].id, &effects);
        }
        for note in &effects.notes {
            self.trace(i, || format!("* {note:?}"));
            self.checks_note(i, note);
            if let Some(noted) = &mut self.noted {
                noted.push((self.time, i, note.clone()));
            }
        }
        self.send_frames(i, effects.frames);
        let incarnation = self.nodes[i].disk.durable.own.incarnation.0;
        for order in effects.orders {
            self.trace(i, || format!("-> {order:?}"));
            self.order_fenced(i, order, incarnation);
        }
        for (ticket, check) in effects.checks {
            self.run_check(i, ticket, check);
        }
        for (id, reply) in effects.replies {
            self.trace(i, || format!("reply {id:?} {reply:?}"));
            self.replied(i, id, &reply);
        }
        if effects.fatal.is_some() {
            self.nodes[i].proof = None;
            self.crash_member(i);
        }
    }

    fn send_frames(&mut self, i: usize, frames: Vec<(MemberId, Frame)>) {
        for (to, frame) in frames {
            let Some(to) = self.nodes.iter().position(|node| node.id == to) else { continue };
            self.frames += 1;
            self.checks_frame(i, &frame);
            for at in self.network.arrivals(&mut self.rng, i, to, self.time) {
                let frame = Box::new(frame.clone());
                self.schedule(at, Happening::Frame { to, from: i, frame });
            }
        }
    }

    fn run_check(&mut self, i: usize, ticket: TicketName, check: CheckId) {
        let passes = self.calm || self.rng.percent(90);
        let result = if passes { CheckResult::Passed } else { CheckResult::Failed };
        let at = self.time + self.rng.range(MS, self.plan.faults.check_max);
        let generation = self.nodes[i].generation;
        let event = Event::Checked(ticket, check, result);
        self.schedule(at, Happening::Member { node: i, generation, event });
    }

    // Machines.

    /// The power goes: nothing runs any more.
    pub(crate) fn power_off(&mut self, i: usize) {
        if !self.nodes[i].up {
            return;
        }
        self.trace(i, || "power off".into());
        self.kill_member(i);
        let fence = &mut self.nodes[i].fence;
        fence.generation += 1;
        fence.deadman = None;
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

    pub(crate) fn rng_percent(&mut self, percent: u64) -> bool {
        self.rng.percent(percent)
    }

    pub(crate) fn rng_range(&mut self, low: u64, high: u64) -> u64 {
        self.rng.range(low, high)
    }

    pub(crate) fn trace(&self, i: usize, text: impl FnOnce() -> String) {
        if self.print {
            println!("{:>12.6} {:?} {}", trace_seconds(self.time), self.nodes[i].id, text());
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
pub(crate) fn trace_seconds(time: Time) -> f64 {
    time as f64 / 1e9
}

fn brief(event: &Event) -> String {
    let mut text = format!("{event:?}");
    if text.len() > 600 {
        let end = (0..=600).rev().find(|&i| text.is_char_boundary(i)).unwrap_or(0);
        text.truncate(end);
    }
    text
}
