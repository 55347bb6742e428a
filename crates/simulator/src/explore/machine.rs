//! One machine of a world: the real member with its disk, and what it reacts to.

use sitegate_protocol::{
    Ballot, Command, Duty, Frame, Identity, Key, Member, Note, Now, Reply, Token, Turn, Value,
};
use sitegate_shell::{MemberPump, SitePump};

use super::search::Broken;
use super::shared::Shared;
use super::site::Site;
use super::world::World;
use crate::line::Message;
use crate::node::Disk;

/// A machine and all that is on it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Machine {
    pub(crate) disk: Disk,
    /// Counts boots: one that was switched off is in the next already.
    pub(super) boot: u64,
    /// What /run says that the store has committed, and in which boot.
    pub(super) proof: Option<(u64, u64)>,
    /// Processes so far: each has a nonce of its own.
    pub(super) starts: u64,
    pub(crate) process: Option<Process>,
    /// On sites only.
    pub(crate) site: Option<Site>,
}

/// A running member.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Process {
    pub(crate) pump: MemberPump,
    /// What its orders go through.
    pub(super) desk: SitePump,
    /// What the fence daemon has said and the desk has not read.
    pub(super) mail: Vec<Message>,
    /// A turn whose commit is under way, and its votes; its proposals have left.
    pub(super) committing: Option<(Turn, Vec<Vote>)>,
    /// The votes in what was handled and is not being committed; what is written twice is voted for twice, and each counts.
    pub(super) votes: Vec<Vote>,
    pub(super) handled: u64,
    pub(super) since: u16,
}

/// A vote: for which register, at which ballot, for what.
pub(crate) type Vote = (Key, Ballot, Value);

impl Process {
    pub(crate) const fn member(&self) -> &Member {
        self.pump.member()
    }
}

/// Something that a machine reacts to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Input {
    /// Time has passed: the fence daemon does what is due.
    Dawn,
    /// The tick is over.
    Dusk,
    /// The member's process starts, after the fence daemon if that does not run either.
    Start,
    Kill,
    Power,
    KillFenced,
    /// The commit that was under way is done.
    Written,
    /// Timers are due, or the fence daemon has said something.
    Wake,
    Frame(Shared<Frame>),
    /// Its number makes it another command than the ones before.
    Command(u64, Command),
}

/// Where in the course of a reaction something goes wrong: in which of its turns, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Hitch {
    pub(crate) turn: u8,
    pub(crate) how: How,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum How {
    /// Killed before the commit: its proposals may have left, nothing is on the disk.
    Unwritten,
    /// Killed between the commit and its effects.
    Silent,
    /// Killed after the effects.
    Done,
    /// The commit takes until the next tick.
    Slow,
}

/// What a machine has become at one input, and what it did.
#[derive(Debug)]
pub(crate) struct Reaction {
    pub(crate) machine: Shared<Machine>,
    pub(crate) did: Deeds,
}

/// What a machine did at one input.
#[derive(Debug, Default)]
pub(crate) struct Deeds {
    pub(crate) frames: Vec<(usize, Shared<Frame>)>,
    /// For each turn whether it wrote, and whether it had effects.
    pub(crate) turns: Vec<(bool, bool)>,
    /// Whether the fence daemon began a kill, which may take its time.
    pub(crate) kills: bool,
    /// Votes that are on the disk.
    pub(crate) votes: Vec<Vote>,
    /// What began to run.
    pub(crate) started: Vec<Token>,
    pub(crate) replies: Vec<Reply>,
    pub(crate) notes: Vec<Note>,
    pub(crate) broken: Option<Broken>,
}

impl Reaction {
    /// It has come to nothing but this.
    pub(super) fn broken(machine: Shared<Machine>, broken: Broken) -> Self {
        Self { machine, did: Deeds { broken: Some(broken), ..Deeds::default() } }
    }
}

impl Machine {
    /// As `init` leaves it.
    pub(crate) fn new(world: &World, i: usize) -> Self {
        let disk = Disk { image: None, ..Disk::new(Identity(i as u128 + 1)) };
        let site = world.is_site(i).then(Site::default);
        Self { disk, boot: 1, proof: None, starts: 0, process: None, site }
    }

    /// Keeps an image of the disk, for worlds in which it is put back.
    pub(crate) fn take_image(&mut self) {
        self.disk.image = Some(Box::new((self.disk.durable.clone(), self.disk.lsn)));
    }

    /// Whether a tick is due, or something waits to be handled.
    pub(crate) fn is_due(&self, now: Now) -> bool {
        let due = |p: &Process| !p.mail.is_empty() || !p.pump.is_idle() || p.member().next_timeout().due(now);
        self.process.as_ref().is_some_and(due)
    }

    pub(crate) fn is_committing(&self) -> bool {
        self.process.as_ref().is_some_and(|p| p.pump.is_committing())
    }

    /// Whether it votes, and has made up for what it may have forgotten.
    pub(crate) fn is_voting(&self) -> bool {
        let votes = self.process.as_ref().is_some_and(|p| p.member().is_voting());
        votes && self.disk.durable.own.duty == Duty::None
    }
}
