//! I5: whatever a frame says of registers is on the sender's disk at the moment at which it leaves.

use sitegate_protocol::{Accepted, Ballot, Body, Durable, Epoch, Header, Key, MemberId, Register};

use crate::world::World;

impl World {
    /// A body of a frame leaves `i` for `to`.
    pub(super) fn check_backed(&mut self, i: usize, to: usize, header: &Header, body: &Body) {
        let (me, disk) = (self.nodes[i].id, &self.nodes[i].disk.durable);
        let witnessed = !matches!(body, Body::RecoverPage { .. }) || self.has_written_down(i, to, header);
        if !witnessed || !is_backed(disk, me, header, body) {
            let what = format!("{me:?} says {body:?} under {:?}: not on its disk", header.life);
            self.checks.violate("I5", self.time, what);
        }
    }
}

/// Whether what `me` says is on its disk.
pub(crate) fn is_backed(disk: &Durable, me: MemberId, header: &Header, body: &Body) -> bool {
    let backed = match body {
        Body::Promise { key, ballot, accepted, context } => {
            promised(disk, key) >= *ballot
                && accepted.as_ref().is_none_or(|accepted| has_accepted(disk, key, accepted))
                && context.iter().all(|(key, accepted)| has_accepted(disk, key, accepted))
        }
        Body::Accepted { key, ballot, .. } => {
            promised(disk, key) >= *ballot
                && on_disk(disk, key)
                    .is_some_and(|a| a.ballot > *ballot || (a.ballot == *ballot && !a.adopted))
        }
        // A proposal may leave before its own vote is durable, not before its own promise is.
        Body::Accept { key, ballot, .. } => promised(disk, key) >= *ballot,
        Body::Nack { key, promised: nacked, .. } => promised(disk, key) >= *nacked,
        Body::Chosen { key, ballot, .. } => on_disk(disk, key).is_some_and(|a| a.ballot >= *ballot),
        Body::RecoverPage { registers, .. } => {
            registers.iter().all(|(key, register)| has_register(disk, key, register))
        }
        Body::Met { identities, .. } => {
            identities.iter().all(|(member, identity)| match disk.met.get(member) {
                Some(met) => met == identity,
                None => *member == me && *identity == disk.own.identity,
            })
        }
        _ => true,
    };
    let epoch = disk.own.formation.as_ref().map_or(Epoch(0), |formation| formation.epoch);
    backed && disk.own.incarnation >= header.life.incarnation && epoch >= header.epoch
}

impl World {
    /// A witness has written down whom it tells, so that nobody counts the asker's older lives any more. Unless that one
    /// is over too, by what it knows.
    fn has_written_down(&self, i: usize, to: usize, header: &Header) -> bool {
        let asker = self.nodes[to].id;
        let written = self.nodes[i].disk.durable.lives.get(&asker).map(|life| life.nonce);
        let known = self.nodes[i].process.as_ref().and_then(|process| process.member().life_of(asker));
        written == header.to || known.map(|life| life.nonce) != header.to
    }
}

fn promised(disk: &Durable, key: &Key) -> Ballot {
    disk.registers.get(key).map_or(Ballot::ZERO, Register::promised)
}

fn on_disk<'a>(disk: &'a Durable, key: &Key) -> Option<&'a Accepted> {
    disk.registers.get(key).and_then(Register::accepted)
}

/// What was said may be older than the disk: the same turn may have accepted more.
fn has_accepted(disk: &Durable, key: &Key, said: &Accepted) -> bool {
    on_disk(disk, key).is_some_and(|a| {
        a.ballot > said.ballot
            || (a.ballot == said.ballot && a.value == said.value && (said.adopted || !a.adopted))
    })
}

/// Whoever is told adopts it; whether it was a vote, the witness itself may have come to doubt in this very turn.
fn has_register(disk: &Durable, key: &Key, said: &Register) -> bool {
    let told = said.accepted().map(|accepted| Accepted { adopted: true, ..accepted.clone() });
    promised(disk, key) >= said.promised() && told.is_none_or(|told| has_accepted(disk, key, &told))
}
