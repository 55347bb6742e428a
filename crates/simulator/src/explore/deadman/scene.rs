//! A state of a world: the deadman, its disk and runtime directory, and what runs and is on its way.

use std::collections::BTreeMap;

use sitegate_fence::deadman::{Acts, Deadman, Leases, Record, RunId, Save};
use sitegate_fence_client::wire::{Incarnation, Name, Token};

use super::judge::Judge;
use crate::explore::search::Broken;

/// One state. Everything that has a bearing on what can happen next is in it, and so is all that the judge remembers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Scene {
    pub(super) tick: u16,
    /// The daemon, while it lives.
    pub(super) deadman: Option<Deadman>,
    /// What it has still to do of its last turn: the leases are published.
    pub(super) rest: Option<Acts>,
    /// The level that has just succeeded: the kill that follows is to find what it has left.
    pub(super) succeeded: Option<(Name, usize)>,
    /// Durable.
    pub(super) disk: BTreeMap<Name, Record>,
    /// On their way to the disk, in their order.
    pub(super) unwritten: Vec<Save>,
    /// In /run, of this boot.
    pub(super) leases: Leases,
    /// What runs in truth.
    pub(super) running: BTreeMap<Name, Running>,
    /// Start hooks on their way to their exec.
    pub(super) coming: Vec<Coming>,
    /// What the daemon waits for.
    pub(super) jobs: Vec<Job>,
    pub(super) left: Left,
    pub(super) judge: Judge,
    pub(super) broken: Option<Broken>,
}

/// What runs of a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Running {
    pub(super) token: Token,
    /// It was handed to others, so that kills do not see it; only a level ends it.
    pub(super) handed_on: bool,
}

/// A start hook on its way to its exec.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Coming {
    pub(super) run: RunId,
    pub(super) resource: Name,
    pub(super) token: Token,
    /// The daemon that ordered it lives.
    pub(super) awaited: bool,
}

/// A program or a kill that is under way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Job {
    pub(super) run: RunId,
    pub(super) resource: Name,
    pub(super) what: What,
    /// The last tick at which it may be, unless it hangs.
    pub(super) by: u16,
    pub(super) hangs: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum What {
    /// A kill, and the level after which it is to find what was left, if any.
    Kill(Option<usize>),
    Level(usize),
    Stop,
}

/// What may happen yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Left {
    pub(super) requests: u8,
    pub(super) faults: u8,
    pub(super) deaths: u8,
}

/// What a client asks for. Deadlines are places in [`AHEAD`](super::world::AHEAD).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Request {
    Arm(Token, usize, Incarnation),
    Extend(Token, usize, Incarnation),
    Start(Token),
    Stop(Token),
    Fence(Token),
}

impl Job {
    /// Whether it has come to its limit, and does not hang.
    pub(super) fn has_to_end(&self, tick: u16) -> bool {
        self.what != What::Stop && !self.hangs && self.by <= tick
    }
}

impl Scene {
    /// The token whose receipt is on the disk; 0 if there is none.
    pub(super) fn receipted(&self, name: &Name) -> Token {
        let record = self.disk.get(name);
        record.and_then(|record| record.receipt.as_ref()).map_or(0, |receipt| receipt.token)
    }

    /// What is on the disk as armed, or ordered to be fenced, without a receipt.
    pub(super) fn open(&self, name: &Name) -> Option<Token> {
        self.disk.get(name)?.open
    }
}
