//! What a machine does at one input: the pumps that the daemons run, with everything else around them.

use sitegate_protocol::{
    Caller, CommandId, Effects, Event, Frame, Lsn, MemberId, Nonce, Now, Record, Register, Start, Step, Turn,
    ValidFrame,
};
use sitegate_shell::member::{Deed, Next};
use sitegate_shell::{MemberPump, SitePump};

use super::machine::{Deeds, Hitch, How, Input, Machine, Process, Reaction, Vote};
use super::shared::Shared;
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
            // What the fence daemon says is read when the member's process has its turn: it may stand still.
            Input::Dawn => self.dawn(),
            Input::Dusk => self.dusk(),
            Input::Start => self.start(),
            Input::Kill => self.kill(),
            Input::Power => self.power_off(),
            Input::KillFenced => self.restart_fenced(),
            Input::Written => self.written(),
            Input::Wake => {}
            Input::Frame(frame) => self.arrive(frame),
            Input::Command(number, command) => {
                let caller = Caller { who: "operator".into(), reason: String::new(), request: *number };
                self.offer(Event::Command(CommandId(*number), command.clone(), caller));
            }
        }
        if !matches!(input, Input::Dawn | Input::Dusk | Input::KillFenced) {
            self.work();
        }
        self.end()
    }

    fn end(mut self) -> Reaction {
        if let Some(process) = &self.machine.process
            && let Err(broken) = process.member().check_invariants()
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
        let Some(process) = &self.machine.process else { return };
        if process.pump.is_committing() || process.member().next_timeout().due(self.now) {
            return;
        }
        let target = (u64::from(self.tick - process.since) + 1) * EVENTS_OF_A_TICK;
        let turns = self.did.turns.len();
        for _ in process.handled..target {
            self.offer(Event::Abandon(CommandId(u64::MAX)));
            self.work();
        }
        let handled = self.machine.process.as_ref().map(|process| process.handled);
        assert!(handled == Some(target), "nothing is given up, and a tick is short");
        assert_eq!(self.did.turns.len(), turns, "nothing is given up");
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
        let (mut pump, first) = MemberPump::start(settings, machine.disk.durable.clone(), start, self.now);
        let votes = votes_of(first.step()).collect();
        pump.add(first, self.now);
        let desk = if machine.site.is_some() { SitePump::new() } else { SitePump::default() };
        let (mail, committing, handled, since) = (Vec::new(), None, 1, self.tick);
        machine.process = Some(Process { pump, desk, mail, committing, votes, handled, since });
        self.work();
        self.work_desk();
    }

    pub(super) fn kill(&mut self) {
        self.machine.process = None;
        if let Some(site) = &mut self.machine.site {
            site.hang_up();
        }
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
            Ok(frame) => self.offer(Event::Frame(frame)),
            Err(misbehaved) => self.break_rule("frame", misbehaved.to_string()),
        }
    }

    pub(super) fn offer(&mut self, event: Event) {
        let Some(process) = &mut self.machine.process else { return };
        let refused = process.pump.offer(event);
        assert!(refused.is_ok(), "less happens in a tick than there is room for");
    }

    /// Lets the pump work off what there is to do.
    pub(super) fn work(&mut self) {
        loop {
            assert!(self.did.turns.len() < usize::from(TURNS_MAX), "a member goes on and on");
            self.read_mail();
            let Some(process) = &mut self.machine.process else { return };
            match process.pump.next(self.now) {
                Next::Handled(handled) => {
                    process.handled += 1;
                    process.votes.extend(votes_of(handled.step()));
                    process.pump.add(handled, self.now);
                }
                Next::Do(Deed::Commit(turn, proposals)) => {
                    let votes = std::mem::take(&mut process.votes);
                    self.say(proposals);
                    self.commit(turn, votes);
                }
                Next::Do(Deed::Effects(effects)) => self.finish(false, *effects),
                Next::Wait => return,
            }
        }
    }

    fn written(&mut self) {
        let committing = self.machine.process.as_mut().and_then(|process| process.committing.take());
        let Some((turn, votes)) = committing else { return };
        self.commit(turn, votes);
    }

    /// What goes wrong in the turn that is being finished.
    fn hitch(&self) -> Option<How> {
        let number = self.did.turns.len();
        self.hitch.filter(|hitch| usize::from(hitch.turn) == number).map(|hitch| hitch.how)
    }

    /// Commits a turn of these votes, and does what follows.
    fn commit(&mut self, turn: Turn, votes: Vec<Vote>) {
        let how = self.hitch();
        if how == Some(How::Unwritten) {
            self.did.turns.push((true, true));
            return self.die_unwritten(turn);
        }
        let Some(process) = &mut self.machine.process else { return };
        if how == Some(How::Slow) {
            process.committing = Some((turn, votes));
            return self.did.turns.push((true, true));
        }
        let committed = match turn.commit(&mut self.machine.disk) {
            Ok(committed) => committed,
            Err(broken) => return self.break_rule("I5", broken),
        };
        self.did.votes.extend(votes);
        self.machine.proof = Some((self.machine.boot, self.machine.disk.lsn));
        process.pump.committed(committed, self.now);
        match process.pump.take_effects() {
            Some(effects) => self.finish(true, *effects),
            None => self.finish(true, Effects::default()),
        }
    }

    /// Ends a turn, which may have written.
    fn finish(&mut self, dirty: bool, effects: Effects) {
        let how = self.hitch();
        if how == Some(How::Silent) {
            self.did.turns.push((dirty, true));
            return self.kill();
        }
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
            process.pump.committed(committed, self.now);
            let frames = process.pump.take_effects().map(|effects| effects.frames);
            self.send(frames.unwrap_or_default());
        }
        self.kill();
    }

    fn carry_out(&mut self, effects: Effects) {
        let Effects { frames, orders, checks, replies, notes, fatal } = effects;
        self.did.notes.extend(notes);
        self.did.replies.extend(replies.into_iter().map(|(_, reply)| reply));
        self.say(frames);
        if fatal.is_some() {
            self.machine.proof = None;
            self.machine.process = None;
        }
        let Some(process) = &mut self.machine.process else { return };
        orders.into_iter().for_each(|order| process.desk.order(order));
        checks.into_iter().for_each(|(ticket, check)| process.desk.check(ticket, check));
        self.work_desk();
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

fn votes_of(step: &Step) -> impl Iterator<Item = Vote> + '_ {
    step.records().filter_map(vote)
}

/// The vote in a record, if it is one.
fn vote(record: &Record) -> Option<Vote> {
    let Record::Register(key, register) = record else { return None };
    let accepted = Register::accepted(register).filter(|accepted| !accepted.adopted)?;
    Some((key.clone(), accepted.ballot, accepted.value.clone()))
}
