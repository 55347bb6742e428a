//! One machine: disks that survive, a runtime directory that survives processes, the member's process, and the fence
//! daemon's.

use std::collections::VecDeque;

use sitegate_protocol::{
    Durable, Event, Identity, Lsn, Member, MemberId, Now, Record, Role, Settings, Store, Turn,
    never_regresses,
};
use sitegate_shell::{MemberPump, SitePump};

use crate::clock::{Clocks, Time};
use crate::fenced::FenceHost;

/// One machine of the formation.
pub(crate) struct Node {
    pub(crate) id: MemberId,
    pub(crate) role: Role,
    pub(crate) clocks: Clocks,
    pub(crate) disk: Disk,
    /// What its files say.
    pub(crate) settings: Settings,
    /// Which boot the machine is in; a machine that is down is between two.
    pub(crate) boot: u64,
    pub(crate) up: bool,
    /// What /run says that the store has committed, and in which boot.
    pub(crate) proof: Option<(u64, u64)>,
    pub(crate) process: Option<Process>,
    /// Counts processes: what was meant for an older one is lost with it.
    pub(crate) generation: u64,
    pub(crate) fence: FenceHost,
    /// Nothing runs on it before that: it is suspended.
    pub(crate) asleep_until: Time,
    /// Its disk is slow, for a while.
    pub(crate) slow_disk: Slow,
    /// Its resources fare badly, for a while: hooks and checks fail.
    pub(crate) ill_until: Time,
}

/// Something takes unusually long, for a while.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Slow {
    pub(crate) until: Time,
    pub(crate) takes: Time,
}

impl Slow {
    /// How long it takes at `time`, if that is not as usual.
    pub(crate) fn at(self, time: Time) -> Option<Time> {
        (time < self.until).then_some(self.takes)
    }
}

/// The store of one member.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Disk {
    pub(crate) durable: Durable,
    pub(crate) lsn: u64,
    /// An older image of it.
    pub(crate) image: Option<Box<(Durable, u64)>>,
    /// Whether some of it was lost since the member last voted.
    pub(crate) suspect: bool,
}

impl Disk {
    /// As `init` makes it; the first image is of that.
    pub(crate) fn new(identity: Identity) -> Self {
        let durable = Durable::new(identity);
        Self { image: Some(Box::new((durable.clone(), 0))), durable, lsn: 0, suspect: false }
    }
}

/// A running member.
pub(crate) struct Process {
    pub(crate) pump: MemberPump,
    /// What its orders go through.
    pub(crate) desk: SitePump,
    /// A commit that is under way.
    pub(crate) committing: Option<Turn>,
    /// What has arrived and was not read, as the process is stopped or its queues are full.
    pub(crate) inbox: VecDeque<Event>,
    pub(crate) frozen_until: Time,
    pub(crate) wake: Option<Time>,
}

impl Process {
    pub(crate) fn new(pump: MemberPump, desk: SitePump) -> Self {
        Self { pump, desk, committing: None, inbox: VecDeque::new(), frozen_until: 0, wake: None }
    }

    pub(crate) const fn member(&self) -> &Member {
        self.pump.member()
    }

    /// Reads what has arrived, as far as there is room for it: connections with different kinds of frames do not wait for each
    /// other.
    pub(crate) fn read(&mut self) {
        if self.inbox.is_empty() {
            return;
        }
        for event in std::mem::take(&mut self.inbox) {
            if let Err(event) = self.pump.offer(event) {
                self.inbox.push_back(event);
            }
        }
    }
}

impl Store for Disk {
    type Error = String;

    fn commit<'a>(&mut self, records: impl Iterator<Item = &'a Record>) -> Result<Lsn, String> {
        for record in records {
            if let Record::Register(key, register) = record {
                let mut before = Durable::new(self.durable.own.identity);
                if let Some(old) = self.durable.registers.get(key) {
                    before.registers.insert(key.clone(), old.clone());
                }
                let mut after = Durable::new(self.durable.own.identity);
                after.registers.insert(key.clone(), register.clone());
                never_regresses(&before, &after).map_err(|broken| broken.to_string())?;
            }
            self.durable.apply(record);
        }
        self.lsn += 1;
        Ok(Lsn(self.lsn))
    }
}

impl Node {
    pub(crate) fn now(&self, time: Time) -> Now {
        self.clocks.now(time)
    }

    pub(crate) const fn is_asleep(&self, time: Time) -> bool {
        self.asleep_until > time
    }

    pub(crate) const fn is_site(&self) -> bool {
        matches!(self.role, Role::Site)
    }

    pub(crate) fn votes(&self) -> bool {
        self.process.as_ref().is_some_and(|p| p.member().is_voting())
    }
}
