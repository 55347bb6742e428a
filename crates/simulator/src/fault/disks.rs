//! What happens to disks: they are copied, put back in time, or lost.

use sitegate_protocol::{Duty, Identity};

use crate::node::Disk;
use crate::world::{Happening, World};

impl World {
    /// Somebody takes a backup of some machines.
    pub(super) fn keep_images(&mut self) -> bool {
        for i in 0..self.nodes.len() {
            if self.rng.percent(50) {
                let disk = &mut self.nodes[i].disk;
                disk.image = Some(Box::new((disk.durable.clone(), disk.lsn)));
            }
        }
        true
    }

    /// Whether `j` votes, and would again if its process ended now: that it has recovered is on its disk.
    fn votes_for_good(&self, j: usize) -> bool {
        let node = &self.nodes[j];
        node.votes() && node.disk.durable.own.duty == Duty::None
    }

    /// A disk is put back in time, or lost: one at a time, since no protocol survives a majority that forgets.
    pub(super) fn lose_disk(&mut self, i: usize) -> bool {
        let others_sound = self.may_lose_power(i);
        let others_vote = (0..self.nodes.len()).filter(|&j| j != i && self.votes_for_good(j)).count();
        if !self.plan.faults.disks || !others_sound || others_vote + 1 < self.nodes.len() {
            return false;
        }
        if self.nodes[i].disk.durable.own.formation.is_none() {
            return false;
        }
        self.power_off(i);
        let wiped = self.nodes.len() > 2 && self.rng.percent(40);
        let intact = !wiped && self.rng.percent(20);
        let identity = Identity(u128::from(self.rng.next()));
        let disk = &mut self.nodes[i].disk;
        let kind = match disk.image.take().filter(|_| !intact) {
            Some(image) if !wiped => {
                (disk.durable, disk.lsn) = *image;
                if disk.durable.own.formation.is_some() { "PutBack" } else { "BeforeBirth" }
            }
            None if !wiped => "Unproven", // nothing is missing, and nobody can know
            _ => {
                *disk = Disk::new(identity);
                "Wiped"
            }
        };
        self.coverage.met("disk", &kind);
        let disk = &mut self.nodes[i].disk;
        disk.suspect = true;
        self.nodes[i].proof = None;
        self.trace(i, || format!("disk lost, wiped {wiped}"));
        let at = self.time + self.a_while();
        self.schedule(at, Happening::Boot { node: i });
        true
    }
}
