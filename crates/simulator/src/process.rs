//! A member's process: the pumps that the daemons run (`crates/shell`), with a disk, a network and clocks that are simulated.

use sitegate_protocol::{
    CheckId, CheckResult, Effects, Event, Frame, Lsn, MemberId, Nonce, Now, Start, TicketName, Turn,
    ValidFrame,
};
use sitegate_shell::member::{Deed, Handled, Next};
use sitegate_shell::site::Line;
use sitegate_shell::{MemberPump, SitePump};

use crate::clock::{MS, SECOND, Time};
use crate::line::Message;
use crate::node::Process;
use crate::world::{Happening, World};

impl World {
    pub(crate) fn start_member(&mut self, i: usize) {
        let settings = self.nodes[i].settings.clone();
        let (nonce, seed) = (Nonce(self.births.next()), self.births.next());
        if !self.nodes[i].up || self.nodes[i].process.is_some() {
            return;
        }
        self.nodes[i].generation = self.newest_generation();
        let node = &mut self.nodes[i];
        let proven = node.proof.is_some_and(|(boot, lsn)| boot == node.boot && node.disk.lsn >= lsn);
        let start = Start { nonce, seed, lsn: Lsn(node.disk.lsn), proven };
        let now = node.clocks.now(self.time);
        let (pump, first) = MemberPump::start(settings, node.disk.durable.clone(), start, now);
        let desk = if node.is_site() { SitePump::new() } else { SitePump::default() };
        node.process = Some(Process::new(pump, desk));
        self.trace(i, || format!("member starts, proven {proven}"));
        self.checks_member_started(i);
        self.handled(i, now, first);
        self.work(i);
        self.work_desk(i);
    }

    /// A number for a process that no other has.
    pub(crate) const fn newest_generation(&mut self) -> u64 {
        self.generations += 1;
        self.generations
    }

    pub(crate) fn kill_member(&mut self, i: usize) {
        self.leave_commit(i);
        self.checks_member_killed(i);
        if self.nodes[i].process.take().is_some() {
            self.nodes[i].fence.line.hang_up();
            self.nodes[i].generation = self.newest_generation();
            if !self.checks.haunted {
                self.forget_commands(i);
            }
            self.trace(i, || "member killed".into());
        }
    }

    pub(crate) fn arrive(&mut self, to: usize, from: usize, frame: Frame) {
        if self.nodes[to].process.is_none() {
            return;
        }
        match ValidFrame::check(frame, self.nodes[from].id, &self.nodes[to].settings) {
            Ok(frame) => self.deliver(to, Event::Frame(frame)),
            Err(misbehaved) => self.checks.violate("frame", self.time, misbehaved.to_string()),
        }
    }

    pub(crate) fn deliver(&mut self, i: usize, event: Event) {
        if self.nodes[i].is_asleep(self.time) {
            let (at, generation) = (self.nodes[i].asleep_until, self.nodes[i].generation);
            return self.schedule(at, Happening::Member { node: i, generation, event });
        }
        if self.print {
            let text = brief(&event);
            self.trace(i, || text);
        }
        let Some(process) = &mut self.nodes[i].process else { return };
        process.inbox.push_back(event);
        self.work(i);
    }

    /// Lets the process of `i` work off what there is to do.
    pub(crate) fn work(&mut self, i: usize) {
        while !self.checks.is_violated() {
            let node = &mut self.nodes[i];
            let now = node.clocks.now(self.time);
            let Some(process) = node.process.as_mut().filter(|p| p.frozen_until <= self.time) else { return };
            process.read();
            match process.pump.next(now) {
                Next::Handled(handled) => self.handled(i, now, handled),
                Next::Do(Deed::Commit(turn, proposals)) => {
                    self.commit(i, turn);
                    self.propose(i, proposals);
                }
                Next::Do(Deed::Effects(effects)) => self.carry_out(i, *effects),
                Next::Wait => break,
            }
        }
        self.set_timer(i);
    }

    fn handled(&mut self, i: usize, now: Now, handled: Handled) {
        self.checks_handled(i, now, handled.step());
        if let Some(process) = &mut self.nodes[i].process {
            process.pump.add(handled, now);
        }
    }

    /// Begins to commit a turn.
    fn commit(&mut self, i: usize, turn: Turn) {
        let usual = self.rng.range(self.plan.faults.commit_min, self.plan.faults.commit_max);
        let takes = self.nodes[i].slow_disk.at(self.time).unwrap_or(usual);
        let generation = self.nodes[i].generation;
        let Some(process) = &mut self.nodes[i].process else { return };
        process.committing = Some(turn);
        self.checks_committing(i);
        self.schedule(self.time + takes, Happening::Committed { node: i, generation });
    }

    fn propose(&mut self, i: usize, frames: Vec<(MemberId, Frame)>) {
        if let Some(story) = &mut self.story {
            story.tell_frames(self.time, self.nodes[i].id, &frames);
        }
        self.send_frames(i, frames);
    }

    /// The turn is on the disk; tells its process, unless that dies just then.
    fn finish_commit(&mut self, i: usize, turn: Turn) {
        self.checks_commit(i, turn.records());
        let node = &mut self.nodes[i];
        let committed = match turn.commit(&mut node.disk) {
            Ok(committed) => committed,
            Err(broken) => return self.checks.violate("I5", self.time, broken),
        };
        self.commits += 1;
        node.proof = Some((node.boot, node.disk.lsn));
        self.checks_committed(i);
        if self.rng.per_million(if self.calm { 0 } else { self.plan.faults.crash_at_commit }) {
            return self.crash_member(i); // durable, and nobody was told
        }
        let node = &mut self.nodes[i];
        let now = node.clocks.now(self.time);
        if let Some(process) = &mut node.process {
            process.pump.committed(committed, now);
        }
        self.work(i);
    }

    fn crash_member(&mut self, i: usize) {
        self.kill_member(i);
        let at = self.time + self.rng.range(10 * MS, 3 * SECOND);
        self.schedule(at, Happening::StartMember { node: i });
    }

    pub(crate) fn committed(&mut self, i: usize, generation: u64) {
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
        self.finish_commit(i, turn);
    }

    pub(crate) fn wake(&mut self, i: usize, generation: u64, at: Time) {
        let current = self.nodes[i].generation == generation;
        let Some(process) = self.nodes[i].process.as_mut().filter(|p| current && p.wake == Some(at)) else {
            return;
        };
        process.wake = None;
        self.work(i);
    }

    pub(crate) fn set_timer(&mut self, i: usize) {
        let node = &mut self.nodes[i];
        let (clocks, generation) = (node.clocks, node.generation);
        let Some(process) = &mut node.process else { return };
        if process.frozen_until > self.time {
            return; // looked at again when that is over
        }
        let timeouts = process.pump.next_timeout();
        let Some(due) = clocks.when_due(timeouts.boot, timeouts.raw) else { return };
        let at = due.max(self.time);
        if process.wake.is_none_or(|wake| wake > at) {
            process.wake = Some(at);
            self.schedule(at, Happening::Wake { node: i, generation, at });
        }
    }

    /// Does what was durable before.
    fn carry_out(&mut self, i: usize, effects: Effects) {
        if let Some(story) = &mut self.story {
            story.tell(self.time, self.nodes[i].id, &effects);
        }
        for note in &effects.notes {
            self.trace(i, || format!("* {note:?}"));
            self.checks_note(i, note);
            self.coverage.met("note", note);
            if let Some(noted) = &mut self.noted {
                noted.push((self.time, i, note.clone()));
            }
        }
        self.send_frames(i, effects.frames);
        for order in &effects.orders {
            self.trace(i, || format!("-> {order:?}"));
            self.checks_order(i, order);
        }
        if let Some(process) = &mut self.nodes[i].process {
            effects.orders.into_iter().for_each(|order| process.desk.order(order));
            effects.checks.into_iter().for_each(|(ticket, check)| process.desk.check(ticket, check));
        }
        self.work_desk(i);
        for (id, reply) in effects.replies {
            self.trace(i, || format!("reply {id:?} {reply:?}"));
            if self.noted.is_some() {
                self.answers.push((id, reply.clone()));
            }
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
            frame.bodies.iter().for_each(|body| self.coverage.said(body));
            self.checks_frame(i, to, &frame);
            if self.lost.as_ref().is_some_and(|lost| lost(i, to, &frame)) {
                continue;
            }
            let [first, second] = self.network.arrivals(&mut self.rng, i, to, self.time);
            if let Some(at) = second {
                self.schedule(at, Happening::Frame { to, from: i, frame: frame.clone() });
            }
            if let Some(at) = first {
                self.schedule(at, Happening::Frame { to, from: i, frame });
            }
        }
    }

    pub(crate) fn run_check(&mut self, i: usize, ticket: TicketName, check: CheckId) {
        let ill = self.nodes[i].ill_until > self.time;
        let passes = self.calm || self.rng.percent(if ill { 20 } else { 90 });
        let result = if passes { CheckResult::Passed } else { CheckResult::Failed };
        let at = self.time + self.rng.range(MS, self.plan.faults.check_max);
        let generation = self.nodes[i].generation;
        let message = Message::Checked(ticket, check, result);
        self.schedule(at, Happening::Line { node: i, generation, line: Line::default(), message });
    }
}

fn brief(event: &Event) -> String {
    let Event::Frame(frame) = event else { return format!("{event:?}") };
    let Frame { header, bodies } = frame.as_frame();
    let (from, life, lsn) = (header.from, header.life, header.lsn);
    format!("from {from:?} ({life:?}, {lsn:?}, to {:?}): {bodies:?}", header.to)
}
