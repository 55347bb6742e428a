//! A member's loop: what happened goes in, what it led to is committed, and only then done.
//!
//! One turn takes everything that has queued up, and one commit covers it. While a commit runs, heartbeats and their answers are
//! still handled, as they write nothing, and answered at once: a slow disk must not make others believe that we are gone. Everything
//! else waits in bounded queues, and behind those the network waits.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::convert::Infallible;

use sitegate_mutant::planted;
use sitegate_protocol::{
    Committing, Durable, Effects, Event, Frame, Lsn, Member, MemberId, Now, Record, Settings, Start, Step,
    Store, Timeouts, Turn,
};

mod lanes;

pub use lanes::{FRAMES_MAX, Lane, REQUESTS_MAX, SITE_EVENTS_MAX};

use lanes::Lanes;

/// Events that one turn takes at most: enough for a burst, few enough that what follows does not wait for long.
const EVENTS_PER_TURN_MAX: usize = 512;
/// Whatever is due still after its timers were run so often waits for the next turn, which may bring news.
const TICKS_PER_TURN_MAX: usize = 16;

/// What the pump comes to next.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Next {
    /// An event was handled. To be given back ([`MemberPump::add`]); observers may look at it before.
    Handled(Handled),
    /// To be done, in this order.
    Do(Deed),
    /// Nothing, until something happens or [`MemberPump::next_timeout`] has come.
    Wait,
}

/// Something that the pump wants done.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Deed {
    /// Make this turn durable, and say its proposals meanwhile: they bind nobody before it is. Answer: [`MemberPump::committed`]. If it
    /// fails, the process ends without another word.
    Commit(Turn, Vec<(MemberId, Frame)>),
    /// Do this. What it rests on is durable.
    Effects(Box<Effects>),
}

/// An event that was handled, and what it led to.
#[must_use = "a step that is dropped loses what the member believes to have written"]
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Handled {
    step: Step,
    /// What it leads to rests on no commit, unless it writes.
    prompt: bool,
}

impl Handled {
    /// What it led to.
    pub const fn step(&self) -> &Step {
        &self.step
    }
}

/// A member's loop.
///
/// # Contract
///
/// - Whatever happens is offered ([`MemberPump::offer`]); what is not taken for want of room is offered again later, in its order.
/// - [`MemberPump::next`] is called until there is nothing to do: after each offer, commit, and timeout, with both clocks read at each
///   call. What it wants done is done in order; only a commit may take its time.
/// - One commit runs at a time. [`MemberPump::committed`] tells its end.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MemberPump {
    member: Member,
    lanes: Lanes,
    /// What the next commit will cover.
    turn: Turn,
    /// Whether something was added to that turn.
    open: bool,
    /// Events of this turn so far.
    taken: usize,
    /// How often timers were run in this turn.
    ticks: usize,
    committing: bool,
    deeds: VecDeque<Deed>,
}

impl MemberPump {
    /// Starts a member from what its store holds. Its first step is to be added as any other.
    pub fn start(settings: Settings, durable: Durable, start: Start, now: Now) -> (Self, Handled) {
        let (member, step) = Member::start(settings, durable, start, now);
        let pump = Self {
            member,
            lanes: Lanes::default(),
            turn: Turn::new(),
            open: false,
            taken: 0,
            ticks: 0,
            committing: false,
            deeds: VecDeque::new(),
        };
        (pump, Handled { step, prompt: false })
    }

    /// The member, to look at.
    #[must_use]
    pub const fn member(&self) -> &Member {
        &self.member
    }

    /// Takes something that happened, unless the queue that it belongs to is full.
    ///
    /// # Errors
    /// The event, if there is no room for it.
    #[expect(clippy::result_large_err, reason = "whoever offers it keeps it for later")]
    pub fn offer(&mut self, event: Event) -> Result<(), Event> {
        self.lanes.offer(event)
    }

    /// Whether there is room for another event of this kind.
    #[must_use]
    pub fn has_room(&self, lane: Lane) -> bool {
        self.lanes.has_room(lane)
    }

    /// Whether a commit runs.
    #[must_use]
    pub const fn is_committing(&self) -> bool {
        self.committing
    }

    /// Whether everything that was handled is durable and done: only then may anybody be told how it stands.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        !self.committing && !self.open && self.deeds.is_empty()
    }

    /// Whether nothing waits to be handled.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.lanes.is_empty()
    }

    /// When to call [`MemberPump::next`] at the latest, if nothing happens. Timers wait for a commit that runs: what they lead to may
    /// rest on it.
    #[must_use]
    pub fn next_timeout(&self) -> Timeouts {
        if self.committing { Timeouts::default() } else { self.member.next_timeout() }
    }

    /// What to do next.
    pub fn next(&mut self, now: Now) -> Next {
        if let Some(deed) = self.deeds.pop_front() {
            return Next::Do(deed);
        }
        if let Some(event) = self.take_event() {
            return Next::Handled(self.handle(now, event));
        }
        if self.committing {
            return Next::Wait;
        }
        // Timers come last in a turn, so that they go by all that has happened.
        if self.ticks < TICKS_PER_TURN_MAX && self.member.next_timeout().due(now) {
            self.ticks += 1;
            return Next::Handled(self.handle(now, Event::Tick));
        }
        self.begin_turn();
        if self.open {
            self.finish_turn(now);
        }
        match self.deeds.pop_front() {
            Some(deed) => Next::Do(deed),
            None if self.lanes.is_empty() => Next::Wait,
            None => self.next(now),
        }
    }

    /// The effects that are next to be done, if some are.
    pub fn take_effects(&mut self) -> Option<Box<Effects>> {
        match self.deeds.pop_front()? {
            Deed::Effects(effects) => Some(effects),
            deed @ Deed::Commit(..) => {
                self.deeds.push_front(deed);
                None
            }
        }
    }

    /// Takes what an event has led to into this turn. Answers to heartbeats rest on no commit.
    pub fn add(&mut self, handled: Handled, now: Now) {
        let Handled { step, prompt } = handled;
        if prompt && step.records().next().is_none() {
            let mut turn = Turn::new();
            turn.add(step);
            return self.carry_out(without_commit(turn), now);
        }
        self.turn.add(step);
        self.open = true;
    }

    /// The commit that ran is done.
    pub fn committed(&mut self, committed: Committing, now: Now) {
        self.committing = false;
        self.begin_turn();
        self.carry_out(committed, now);
    }

    fn handle(&mut self, now: Now, event: Event) -> Handled {
        let prompt = event.is_prompt(); // such an event runs no timers: what those lead to may rest on what is not durable
        Handled { step: self.member.handle(now, event), prompt }
    }

    fn take_event(&mut self) -> Option<Event> {
        if self.committing && !planted!(EventsDuringCommit) {
            return self.lanes.take_urgent();
        }
        if self.taken >= EVENTS_PER_TURN_MAX {
            return None;
        }
        let event = self.lanes.take()?;
        self.taken += 1;
        Some(event)
    }

    const fn begin_turn(&mut self) {
        self.taken = 0;
        self.ticks = 0;
        self.lanes.begin_turn();
    }

    /// Has the turn committed, or does its effects at once where there is nothing to write.
    fn finish_turn(&mut self, now: Now) {
        self.open = false;
        let mut turn = core::mem::take(&mut self.turn);
        if !turn.is_dirty() {
            return self.carry_out(without_commit(turn), now);
        }
        let proposals = turn.proposals(&self.member);
        self.committing = true;
        self.deeds.push_back(Deed::Commit(turn, proposals));
    }

    fn carry_out(&mut self, committed: Committing, now: Now) {
        let effects = committed.effects(&mut self.member, now);
        if effects != Effects::default() {
            self.deeds.push_back(Deed::Effects(Box::new(effects)));
        }
    }
}

/// Commits a turn that has nothing to commit.
fn without_commit(turn: Turn) -> Committing {
    turn.commit(&mut Nowhere).unwrap_or_else(|never| match never {})
}

/// Takes no records, as there are none.
struct Nowhere;

impl Store for Nowhere {
    type Error = Infallible;

    fn commit<'r>(&mut self, _: impl Iterator<Item = &'r Record>) -> Result<Lsn, Infallible> {
        unreachable!("only turns without records come here")
    }
}
