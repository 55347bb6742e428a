//! What a machine does at one input: the loop around the member, as in `crates/member/src/driver.rs`.

use sitegate_protocol::{
    Ballot, Caller, CheckResult, CommandId, Effects, Event, FenceEvent, Frame, Key, Lsn, Member, MemberId,
    Nonce, Now, Record, Register, Start, Step, Turn, ValidFrame, Value,
};

use super::machine::{Deeds, Hitch, How, Input, Machine, Process, Reaction};
use super::shared::Shared;
use super::site::Site;
use super::world::{Planted, World, id};
use crate::checks::backing::is_backed;

/// Events of one member in one tick; more than happen. Each tick ends with as many, so that how many there were does not
/// tell states apart that are the same otherwise.
const EVENTS_OF_A_TICK: u64 = 64;
/// Whatever a member says to itself without an end is a bug.
const TURNS_MAX: u8 = 32;

/// A machine in the middle of a reaction.
pub(super) struct Reacting<'a> {
    pub(super) world: &'a World,
    pub(super) i: usize,
    pub(super) tick: u16,
    pub(super) now: Now,
    pub(super) hitch: Option<Hitch>,
    /// Whether a kill that begins is over at once; otherwise it takes all the time that it may.
    pub(super) swift: bool,
    pub(super) machine: Machine,
    pub(super) did: Deeds,
}

impl<'a> Reacting<'a> {
    pub(super) fn new(
        world: &'a World,
        i: usize,
        tick: u16,
        machine: Machine,
        hitch: Option<Hitch>,
        swift: bool,
    ) -> Self {
        Self { world, i, tick, now: world.now(i, tick), hitch, swift, machine, did: Deeds::default() }
    }

    pub(super) fn run(mut self, input: &Input) -> Reaction {
        match input {
            Input::Dawn => self.dawn(),
            Input::Dusk => self.dusk(),
            Input::Start => self.start(),
            Input::Kill => self.kill(),
            Input::Power => self.power_off(),
            Input::KillFenced => self.restart_fenced(),
            Input::Written => self.written(),
            Input::Wake => self.wake(),
            Input::Frame(frame) => self.arrive(frame),
            Input::Command(number, command) => {
                let caller = Caller { who: "operator".into(), reason: String::new(), request: *number };
                self.handle(Event::Command(CommandId(*number), command.clone(), caller));
            }
        }
        self.read_mail();
        self.end()
    }

    fn end(mut self) -> Reaction {
        if let Some(process) = &self.machine.process
            && let Err(broken) = process.member.check_invariants()
        {
            self.did.broken = Some((broken.number, broken.what));
        }
        Reaction { machine: Shared::new(self.machine), did: self.did }
    }

    pub(super) fn break_rule(&mut self, number: &'static str, what: String) {
        self.did.broken.get_or_insert((number, what));
    }

    /// Every process has handled the same number of events at the end of a tick: giving up a command that nobody has given changes
    /// nothing but that number.
    fn dusk(&mut self) {
        let Some(process) = &mut self.machine.process else { return };
        if !process.committing.is_empty() || process.member.next_timeout().due(self.now) {
            return;
        }
        let target = (u64::from(self.tick - process.since) + 1) * EVENTS_OF_A_TICK;
        let mut turn = Turn::new();
        while process.handled < target {
            turn.add(process.member.handle(self.now, Event::Abandon(CommandId(u64::MAX))));
            process.handled += 1;
        }
        assert!(!turn.is_dirty() && process.handled == target, "nothing is given up, and a tick is short");
        let Ok(committed) = turn.commit(&mut self.machine.disk) else { return };
        let effects = committed.effects(&mut process.member, self.now);
        assert_eq!(effects, Effects::default(), "nothing is given up");
    }

    fn start(&mut self) {
        self.start_fenced();
        let machine = &mut self.machine;
        machine.starts += 1;
        let number = id(self.i).get();
        let nonce = Nonce((u64::from(number) << 32) | machine.starts);
        let known = machine.proof.is_some_and(|(boot, lsn)| boot == machine.boot && machine.disk.lsn >= lsn);
        let lies = self.world.planted == Some(Planted::OldDisk) && machine.disk.image.is_some();
        let start =
            Start { nonce, seed: u64::from(number), lsn: Lsn(machine.disk.lsn), proven: known || lies };
        let settings = self.world.settings(self.i);
        let (member, step) = Member::start(settings, machine.disk.durable.clone(), start, self.now);
        let reports = machine.site.as_ref().map(Site::reports);
        machine.process = Some(Process {
            member,
            committing: Vec::new(),
            later: Vec::new(),
            mail: reports.map(FenceEvent::Up).into_iter().collect(),
            handled: 1,
            since: self.tick,
        });
        self.finish(vec![step]);
    }

    pub(super) fn kill(&mut self) {
        self.machine.process = None;
        if self.world.planted == Some(Planted::OldDisk)
            && let Some((durable, lsn)) = self.machine.disk.image.as_deref().cloned()
        {
            (self.machine.disk.durable, self.machine.disk.lsn) = (durable, lsn);
        }
    }

    fn power_off(&mut self) {
        self.kill();
        self.machine.boot += 1;
        if let Some(site) = &mut self.machine.site {
            site.power_off(self.now);
        }
    }

    fn arrive(&mut self, frame: &Frame) {
        match ValidFrame::check(frame.clone(), frame.header.from, &self.world.settings(self.i)) {
            Ok(frame) => self.handle(Event::Frame(frame)),
            Err(misbehaved) => self.break_rule("frame", misbehaved.to_string()),
        }
    }

    fn wake(&mut self) {
        self.read_mail();
        let due = |p: &Process| p.committing.is_empty() && p.member.next_timeout().due(self.now);
        if self.machine.process.as_ref().is_some_and(due) {
            self.handle(Event::Tick);
        }
    }

    fn read_mail(&mut self) {
        loop {
            let Some(process) = &mut self.machine.process else { return };
            if !process.committing.is_empty() || process.mail.is_empty() {
                return;
            }
            let event = process.mail.remove(0);
            self.handle(Event::Fence(event));
        }
    }

    /// One turn of the loop around the member: an event, and what is due after it.
    pub(super) fn handle(&mut self, event: Event) {
        let Some(process) = &mut self.machine.process else { return };
        let mut steps = vec![process.member.handle(self.now, event)];
        process.handled += 1;
        if !process.committing.is_empty() {
            let step = steps.remove(0);
            return self.pass(step);
        }
        while process.member.next_timeout().due(self.now) && steps.len() < usize::from(TURNS_MAX) {
            steps.push(process.member.handle(self.now, Event::Tick));
            process.handled += 1;
        }
        self.finish(steps);
    }

    /// What was handled while a commit runs need not wait if it has nothing to write.
    fn pass(&mut self, step: Step) {
        let Some(process) = &mut self.machine.process else { return };
        if step.records().next().is_some() {
            return process.later.push(step);
        }
        let mut turn = Turn::new();
        turn.add(step);
        self.commit(turn, Vec::new(), None);
    }

    /// The end of a turn.
    fn finish(&mut self, steps: Vec<Step>) {
        let number = u8::try_from(self.did.turns.len()).unwrap_or(u8::MAX);
        assert!(number < TURNS_MAX, "a member goes on and on");
        let how = self.hitch.filter(|hitch| hitch.turn == number).map(|hitch| hitch.how);
        let mut turn = turn_of(&steps);
        let Some(process) = &mut self.machine.process else { return };
        let dirty = turn.is_dirty();
        let proposals = if dirty { turn.proposals(&process.member) } else { Vec::new() };
        if dirty && how == Some(How::Slow) {
            process.committing = steps;
            self.did.turns.push((true, true));
            return self.say(proposals);
        }
        self.say(proposals);
        self.commit(turn, votes_of(&steps), how);
    }

    fn written(&mut self) {
        let Some(process) = &mut self.machine.process else { return };
        let steps = std::mem::take(&mut process.committing);
        let how = self.hitch.filter(|hitch| hitch.turn == 0).map(|hitch| hitch.how);
        if how == Some(How::Slow) {
            process.committing = steps;
            return self.did.turns.push((true, true));
        }
        let mut turn = turn_of(&steps);
        let _ = turn.proposals(&process.member); // they left when the commit began
        self.commit(turn, votes_of(&steps), how);
        let Some(process) = &mut self.machine.process else { return };
        let later = std::mem::take(&mut process.later);
        if !later.is_empty() {
            self.finish(later);
        }
        if self.machine.process.as_ref().is_some_and(|p| p.committing.is_empty()) {
            self.wake();
        }
    }

    /// Commits a turn of these votes, and does what follows.
    fn commit(&mut self, turn: Turn, votes: Vec<(Key, Ballot, Value)>, how: Option<How>) {
        let dirty = turn.is_dirty();
        if how == Some(How::Unwritten) {
            self.did.turns.push((dirty, true));
            return self.die_unwritten(turn);
        }
        let committed = match turn.commit(&mut self.machine.disk) {
            Ok(committed) => committed,
            Err(broken) => return self.break_rule("I5", broken),
        };
        if dirty {
            self.did.votes.extend(votes);
            self.machine.proof = Some((self.machine.boot, self.machine.disk.lsn));
        }
        if how == Some(How::Silent) {
            self.did.turns.push((dirty, true));
            return self.kill();
        }
        let Some(process) = &mut self.machine.process else { return };
        let effects = committed.effects(&mut process.member, self.now);
        self.did.turns.push((dirty, effects != Effects::default()));
        self.carry_out(effects);
        if how == Some(How::Done) {
            self.kill();
        }
    }

    /// The process dies before its commit. In one of the planted worlds its effects have left all the same.
    fn die_unwritten(&mut self, turn: Turn) {
        if self.world.planted == Some(Planted::EffectsFirst)
            && let Some(process) = &mut self.machine.process
            && let Ok(committed) = turn.commit(&mut self.machine.disk.clone())
        {
            let frames = committed.effects(&mut process.member, self.now).frames;
            self.send(frames);
        }
        self.kill();
    }

    fn carry_out(&mut self, effects: Effects) {
        let Effects { frames, orders, checks, replies, notes, fatal } = effects;
        self.did.notes.extend(notes);
        self.did.replies.extend(replies.into_iter().map(|(_, reply)| reply));
        self.say(frames);
        for order in orders {
            self.order(order);
        }
        if fatal.is_some() {
            self.machine.proof = None;
            self.machine.process = None;
            return;
        }
        // The check before acquiring always passes, at once.
        for (ticket, check) in checks {
            self.handle(Event::Checked(ticket, check, CheckResult::Passed));
        }
    }

    /// Frames leave: whatever they say is on the disk.
    fn say(&mut self, frames: Vec<(MemberId, Frame)>) {
        for (_, frame) in &frames {
            let (disk, header) = (&self.machine.disk.durable, &frame.header);
            let lie = frame.bodies.iter().find(|body| !is_backed(disk, id(self.i), header, body));
            if let Some(body) = lie {
                let what = format!("{:?} says {body:?}: not on its disk", id(self.i));
                self.break_rule("I5", what);
            }
        }
        self.send(frames);
    }

    fn send(&mut self, frames: Vec<(MemberId, Frame)>) {
        let frames = frames.into_iter();
        self.did.frames.extend(frames.map(|(to, frame)| (usize::from(to.get()) - 1, Shared::new(frame))));
    }
}

fn turn_of(steps: &[Step]) -> Turn {
    let mut turn = Turn::new();
    steps.iter().cloned().for_each(|step| turn.add(step));
    turn
}

/// The votes in what is written; what is written twice is voted for twice, and each counts.
fn votes_of(steps: &[Step]) -> Vec<(Key, Ballot, Value)> {
    steps.iter().flat_map(Step::records).filter_map(vote).collect()
}

/// The vote in a record, if it is one.
fn vote(record: &Record) -> Option<(Key, Ballot, Value)> {
    let Record::Register(key, register) = record else { return None };
    let accepted = Register::accepted(register).filter(|accepted| !accepted.adopted)?;
    Some((key.clone(), accepted.ballot, accepted.value.clone()))
}
