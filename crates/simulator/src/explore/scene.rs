//! A state of a world as a whole: all machines, all frames on their way, and how far the tick has come.

use sitegate_protocol::{Body, Frame};

use super::choice::Way;
use super::judge::Judge;
use super::machine::Machine;
use super::search::Broken;
use super::shared::Shared;
use super::world::Budget;

/// A frame on its way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Parcel {
    pub(crate) to: usize,
    pub(crate) frame: Shared<Frame>,
}

impl Parcel {
    /// Whether it may pass a commit that runs.
    pub(crate) fn is_prompt(&self) -> bool {
        self.frame.bodies.iter().all(Body::is_prompt)
    }
}

/// What is decided next. A tick is a morning, in which what goes wrong in it and what is late is decided one after the other; and then
/// rounds, in each of which the members take their turns, one after the other, with what was sent in the round before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum At {
    /// Whether somebody is cut off, or no more.
    Cut,
    /// What becomes of a machine.
    Machine(usize),
    /// Whether the command is given.
    Command,
    /// Whether a late frame arrives.
    Stray(usize),
    /// What a member does next in its turn.
    Turn(usize),
    /// It is not looked at any further.
    End,
}

/// One state. Everything that has a bearing on what can happen next is in it, and so is all that the judge remembers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Scene {
    pub(crate) tick: u16,
    pub(crate) end: u16,
    pub(crate) at: At,
    pub(crate) machines: Vec<Shared<Machine>>,
    /// What arrives in this round, in the next, at the beginning of the next tick, and whenever. Each is a multiset, sorted.
    pub(crate) due: Vec<Parcel>,
    pub(crate) next: Vec<Parcel>,
    pub(crate) tomorrow: Vec<Parcel>,
    pub(crate) stray: Vec<Parcel>,
    /// Members with a timer, a commit or mail that is due in this tick; and those that stand still in it. A bit for each.
    pub(crate) awake: u16,
    pub(crate) paused: u16,
    /// Who is cut off, and how.
    pub(crate) cut: Option<(usize, Way)>,
    pub(crate) left: Budget,
    pub(crate) commanded: bool,
    pub(crate) judge: Shared<Judge>,
    pub(crate) broken: Option<Broken>,
}

impl Scene {
    /// A number for each kind of frame that `i` could take now: its place in `due`.
    pub(crate) fn frames_for(&self, i: usize) -> Vec<usize> {
        let committing = self.machines[i].is_committing();
        let mine = |k: &usize| self.due[*k].to == i && (!committing || self.due[*k].is_prompt());
        let first = |k: &usize| *k == 0 || self.due[*k - 1] != self.due[*k];
        (0..self.due.len()).filter(mine).filter(first).collect()
    }

    /// Frames leave `from`, unless it or the addressee is cut off.
    pub(crate) fn send(&mut self, from: usize, frames: &[(usize, Shared<Frame>)]) {
        for (to, frame) in frames {
            let lost = self.cut.is_some_and(|(member, way)| {
                (member == from && way != Way::In) || (member == *to && way != Way::Out)
            });
            if !lost {
                insert(&mut self.next, Parcel { to: *to, frame: frame.clone() });
            }
        }
    }

    /// Takes out of `due` what is meant for `i`.
    pub(crate) fn take_due(&mut self, i: usize) -> Vec<Parcel> {
        let (mine, rest) = std::mem::take(&mut self.due).into_iter().partition(|parcel| parcel.to == i);
        self.due = rest;
        mine
    }
}

/// Puts a frame into a sorted multiset.
pub(crate) fn insert(parcels: &mut Vec<Parcel>, parcel: Parcel) {
    let key = |p: &Parcel| (p.to, p.frame.hash());
    let place = parcels.partition_point(|other| key(other) <= key(&parcel));
    parcels.insert(place, parcel);
}
