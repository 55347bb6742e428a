//! I11: who votes has a say, and whoever is counted had one: nobody in quarantine, in recovery, settling, replaced, of
//! an older epoch, or of a life that is known to be over.

use std::collections::BTreeMap;

use sitegate_protocol::{
    Ballot, Body, Duty, Epoch, Header, Identity, Key, Member, Nonce, Note, Step, readmitters,
};

use crate::clock::Time;
use crate::node::Process;
use crate::world::World;

/// Ballots of one register whose promises are remembered: more than are asked for while somebody stands still.
const BALLOTS_MAX: usize = 1024;

/// Who has promised what, and who has forgotten something.
pub(super) struct Standings {
    memory: Vec<Memory>,
    rounds: BTreeMap<Key, BTreeMap<Ballot, Round>>,
}

/// What the observer remembers of a member's memory.
#[derive(Clone, Copy, Default)]
struct Memory {
    identity: Option<Identity>,
    committed: u64,
    /// Its disk was put back, or is another one, and it has not made up for it.
    forgot: bool,
    /// It came back with another identity and has not voted since; and when it had recovered.
    replaced: bool,
    recovered: Option<Time>,
    /// When the commit that runs began.
    committing: Time,
}

/// What came of one ballot.
#[derive(Default)]
struct Round {
    promises: Vec<Promised>,
    /// The epoch in which its proposer counted them.
    counted: Option<Epoch>,
}

/// A promise, as it left.
#[derive(Clone, Copy)]
struct Promised {
    by: usize,
    nonce: Nonce,
    identity: Identity,
    epoch: Epoch,
    to: Option<Nonce>,
}

impl Standings {
    pub(super) fn new(n: usize) -> Self {
        Self { memory: vec![Memory::default(); n], rounds: BTreeMap::new() }
    }

    pub(super) fn committing(&mut self, i: usize, time: Time) {
        self.memory[i].committing = time;
    }

    pub(super) fn committed(&mut self, i: usize, lsn: u64) {
        self.memory[i].committed = self.memory[i].committed.max(lsn);
    }
}

impl World {
    /// A process starts: whether its disk has forgotten anything since the last one.
    pub(super) fn checks_memory(&mut self, i: usize) -> bool {
        let disk = &self.nodes[i].disk;
        let identity = disk.durable.own.identity;
        let memory = &mut self.checks.standings.memory[i];
        let replaced = memory.identity.is_some_and(|known| known != identity);
        let forgot = replaced || disk.lsn < memory.committed;
        memory.identity = Some(identity);
        memory.committed = disk.lsn;
        memory.forgot |= forgot;
        memory.replaced |= replaced;
        if replaced {
            memory.recovered = None;
        }
        forgot
    }

    /// A process has died. If it had made up for what it forgot, or had waited for all leases, and was killed before it could say
    /// so, nobody knows.
    pub(super) fn checks_memory_lost(&mut self, i: usize) {
        let is_done = self.nodes[i].disk.durable.own.duty == Duty::None;
        let memory = &mut self.checks.standings.memory[i];
        memory.forgot &= !is_done;
        let recovered = memory.recovered;
        if is_done && memory.replaced && recovered.is_some() {
            memory.replaced = false;
            self.check_waited_for_leases(i, recovered);
        }
    }

    pub(super) fn check_recovered(&mut self, i: usize, note: &Note) {
        if self.checks.haunted {
            return; // whatever an old machine makes up for, another has its name
        }
        let trusts = self.nodes[i].settings.trust_disk;
        let memory = &mut self.checks.standings.memory[i];
        match note {
            Note::Recovered => {
                memory.recovered = Some(memory.committing);
                memory.forgot = false;
                self.check_made_up_for(i);
            }
            Note::TrustsDisk { .. } if trusts => memory.forgot = false,
            Note::Voting if memory.replaced => {
                memory.replaced = false;
                let recovered = memory.recovered;
                self.check_waited_for_leases(i, recovered);
            }
            _ => {}
        }
    }

    /// Whoever has recovered contradicts nothing that was chosen with a vote that it forgot.
    fn check_made_up_for(&mut self, i: usize) {
        let disk = &self.nodes[i].disk.durable;
        let missing = self.checks.choices.not_made_up_for(i, disk);
        if let Some((key, ballot)) = missing {
            let what =
                format!("{:?} has recovered and does not know of {key:?} at {ballot}", self.nodes[i].id);
            self.checks.violate("I11", self.time, what);
        }
    }

    /// Whoever was readmitted votes when every lease that its old identity may have supported is over.
    fn check_waited_for_leases(&mut self, i: usize, recovered: Option<Time>) {
        let longest =
            self.plan.editions.iter().filter_map(|tickets| {
                tickets.values().map(|t| t.expire.plus(t.acquire_after).as_nanos()).max()
            });
        let least = longest.min().unwrap_or(0);
        if let Some(recovered) = recovered.filter(|at| at + least > self.time) {
            let what = format!(
                "{:?} was readmitted, had recovered at {recovered} and votes already",
                self.nodes[i].id
            );
            self.checks.violate("I11", self.time, what);
        }
    }

    /// A body of a frame leaves `i`: if it may be counted, `i` votes, with all of its memory, in the newest epoch that
    /// its disk knows.
    pub(super) fn check_replier(&mut self, i: usize, header: &Header, body: &Body) {
        let counts = match body {
            Body::Promise { .. } | Body::Accepted { .. } => true,
            // It may pass the commit that ends a duty, and renews nothing then.
            Body::Ack { support, .. } => *support != 0,
            _ => return,
        };
        let node = &self.nodes[i];
        let own = &node.disk.durable.own;
        let votes = node.process.as_ref().is_some_and(|process| process.member().is_voting());
        let formation = own.formation.as_ref();
        let in_epoch = formation
            .is_some_and(|f| f.epoch == header.epoch && f.of.get(&node.id) == Some(&header.identity));
        // An old machine has its own memory.
        let forgot = self.checks.standings.memory[i].forgot && !self.checks.haunted;
        let forgot = own.duty != Duty::None || !in_epoch || forgot;
        if !votes || (counts && forgot) || header.identity != own.identity {
            let what = format!("{:?} says {body:?} and has no say: {own:?}", node.id);
            self.checks.violate("I11", self.time, what);
        }
        if let Body::Promise { key, ballot, .. } = body {
            self.record_promise(i, header, key, *ballot);
        }
    }

    fn record_promise(&mut self, by: usize, header: &Header, key: &Key, ballot: Ballot) {
        let rounds = &mut self.checks.standings.rounds;
        let of_key = match rounds.get_mut(key) {
            Some(of_key) => of_key,
            None => rounds.entry(key.clone()).or_default(),
        };
        let promised = Promised {
            by,
            nonce: header.life.nonce,
            identity: header.identity,
            epoch: header.epoch,
            to: header.to,
        };
        of_key.entry(ballot).or_default().promises.push(promised);
        if of_key.len() > BALLOTS_MAX {
            of_key.pop_first();
        }
    }

    /// After anything that a member did: where it has just counted a quorum of promises, there was one.
    pub(super) fn check_quorums(&mut self, i: usize, step: &Step) {
        for (key, ballot) in step.proposals() {
            self.check_quorum(i, key, ballot);
        }
    }

    /// A proposal leaves: in the epoch in which its promises were counted. Votes for it are counted in that one.
    pub(super) fn check_asked(&mut self, i: usize, header: &Header, key: &Key, ballot: Ballot) {
        let round = self.checks.standings.rounds.get(key).and_then(|of_key| of_key.get(&ballot));
        let counted = round.and_then(|round| round.counted);
        if let Some(epoch) = counted.filter(|epoch| *epoch != header.epoch) {
            let what = format!(
                "{:?} proposes {key:?} at {ballot} in epoch {}; its promises were counted in epoch {}",
                self.nodes[i].id, header.epoch.0, epoch.0
            );
            self.checks.violate("I11", self.time, what);
        }
    }

    fn check_quorum(&mut self, i: usize, key: &Key, ballot: Ballot) {
        let Some(member) = self.nodes[i].process.as_ref().map(Process::member) else { return };
        let epoch = member.formation().map(|formation| formation.epoch);
        let rounds = self.checks.standings.rounds.get(key);
        let promises = rounds.and_then(|of_key| of_key.get(&ballot)).map(|round| &round.promises);
        let mut counted: Vec<usize> = promises
            .into_iter()
            .flatten()
            .filter(|promised| self.may_be_counted(member, promised))
            .map(|promised| promised.by)
            .chain([i])
            .filter(|&by| !self.is_replaced(member, key, by))
            .collect();
        counted.sort_unstable();
        counted.dedup();
        let needed =
            if *key == Key::Identities { readmitters(self.checks.n) } else { self.checks.majority() };
        if counted.len() < needed {
            let what = format!(
                "{:?} proposes {key:?} at {ballot}; only members {counted:?} (by index) have promised it and have a say",
                self.nodes[i].id
            );
            self.checks.violate("I11", self.time, what);
        }
        if let Some(of_key) = self.checks.standings.rounds.get_mut(key)
            && let Some(round) = of_key.get_mut(&ballot)
        {
            round.counted = epoch;
        }
    }

    /// It promised to this very process, in its epoch, under the formation's identity, in the newest life known to it.
    fn may_be_counted(&self, proposer: &Member, promised: &Promised) -> bool {
        let by = self.nodes[promised.by].id;
        let Some(formation) = proposer.formation() else { return false };
        promised.to == Some(proposer.life().nonce)
            && promised.epoch == formation.epoch
            && formation.of.get(&by) == Some(&promised.identity)
            && proposer.life_of(by).map(|life| life.nonce) == Some(promised.nonce)
    }

    /// Whether the proposer's proposal gives member `by` another identity.
    fn is_replaced(&self, proposer: &Member, key: &Key, by: usize) -> bool {
        let accepted = proposer.register_of(key).and_then(|register| register.accepted());
        let next = accepted.and_then(|accepted| accepted.value.identities());
        let (Some(next), Some(now)) = (next, proposer.formation()) else { return false };
        next.of.get(&self.nodes[by].id) != now.of.get(&self.nodes[by].id)
    }
}
