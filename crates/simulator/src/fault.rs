//! What goes wrong, and how long.

use sitegate_protocol::{Durable, Event, Identity};

use crate::clock::{MS, SECOND, Time};
use crate::node::Disk;
use crate::world::{Happening, World};

/// One thing that goes wrong.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// Draws the next fault and strikes.
    Next,
}

impl World {
    pub(crate) fn strike(&mut self, fault: Fault) {
        let Fault::Next = fault;
        if self.calm {
            return;
        }
        self.schedule_fault();
        let i = self.rng.index(self.nodes.len());
        match self.rng.range(0, 100) {
            0..20 => self.kill_for_a_while(i),
            20..35 => self.freeze(i),
            35..45 => self.power_cycle(i),
            45..60 => self.cut_off(i),
            60..75 => self.cut_some(),
            75..85 => self.kill_fenced(i),
            85..90 => self.kill_all(),
            90..93 => self.reload(i),
            93..96 => self.keep_image(i),
            _ => self.lose_disk(i),
        }
    }

    pub(crate) fn schedule_fault(&mut self) {
        let at = self.time + self.rng.range(1, 2 * self.plan.faults.every);
        self.schedule(at, Happening::Fault(Fault::Next));
    }

    /// Biased to around the lengths of leases.
    fn a_while(&mut self) -> Time {
        match self.rng.range(0, 3) {
            0 => self.rng.range(MS, SECOND),
            1 => self.rng.range(SECOND, 6 * SECOND),
            _ => self.rng.range(6 * SECOND, 25 * SECOND),
        }
    }

    fn kill_for_a_while(&mut self, i: usize) {
        self.kill_member(i);
        let at = self.time + self.a_while();
        self.schedule(at, Happening::StartMember { node: i });
    }

    fn freeze(&mut self, i: usize) {
        let until = self.time + self.a_while();
        let generation = self.nodes[i].generation;
        let Some(process) = &mut self.nodes[i].process else { return };
        process.frozen_until = until;
        process.wake = None;
        self.trace(i, || format!("frozen until {}", crate::world::trace_seconds(until)));
        self.schedule(until, Happening::Thaw { node: i, generation });
    }

    /// While one disk is lost, nobody else's memory may be: no protocol survives a majority that forgets.
    fn may_lose_power(&self, i: usize) -> bool {
        self.nodes.iter().enumerate().all(|(j, node)| j == i || !node.disk.suspect)
    }

    fn power_cycle(&mut self, i: usize) {
        if !self.may_lose_power(i) {
            return;
        }
        self.power_off(i);
        let at = self.time + self.a_while();
        self.schedule(at, Happening::Boot { node: i });
    }

    fn kill_all(&mut self) {
        if self.nodes.iter().any(|node| node.disk.suspect) {
            return;
        }
        let at_once = self.rng.percent(50);
        for i in 0..self.nodes.len() {
            self.power_off(i);
            let at = self.time + if at_once { self.rng.range(1, SECOND) } else { self.a_while() };
            self.schedule(at, Happening::Boot { node: i });
        }
    }

    fn cut_off(&mut self, i: usize) {
        let until = self.time + self.a_while();
        let (inward, outward) = *self.rng.pick(&[(true, true), (true, false), (false, true)]);
        self.trace(i, || {
            format!("cut off (in {inward}, out {outward}) until {}", crate::world::trace_seconds(until))
        });
        for j in (0..self.nodes.len()).filter(|&j| j != i) {
            if inward {
                self.network.cut(j, i, until);
            }
            if outward {
                self.network.cut(i, j, until);
            }
        }
    }

    fn cut_some(&mut self) {
        let until = self.time + self.a_while();
        for from in 0..self.nodes.len() {
            for to in 0..self.nodes.len() {
                if from != to && self.rng.percent(30) {
                    self.network.cut(from, to, until);
                }
            }
        }
        self.trace(0, || "some links are cut".into());
    }

    /// An administrator edits the configuration of one member and has it read.
    fn reload(&mut self, i: usize) {
        let edition = self.rng.index(self.plan.editions.len());
        self.trace(i, || format!("reads edition {edition} of its configuration"));
        let settings = self.plan.settings_of(self.nodes[i].id, edition);
        self.nodes[i].settings = settings.clone();
        self.deliver(i, Event::Reload(settings));
    }

    /// Somebody takes a backup.
    fn keep_image(&mut self, i: usize) {
        let disk = &mut self.nodes[i].disk;
        disk.image = Some(Box::new((disk.durable.clone(), disk.lsn)));
    }

    /// A disk is put back in time, or lost: one at a time, since no protocol survives a majority that forgets.
    fn lose_disk(&mut self, i: usize) {
        let others_sound = self.may_lose_power(i);
        let others_vote = (0..self.nodes.len()).filter(|&j| j != i && self.nodes[j].votes(self.time)).count();
        if !self.plan.faults.disks || !others_sound || others_vote + 1 < self.nodes.len() {
            return;
        }
        if self.nodes[i].disk.durable.own.formation.is_none() {
            return;
        }
        self.power_off(i);
        let wiped = self.nodes.len() > 2 && self.rng.percent(40);
        let identity = Identity(u128::from(self.rng.next()));
        let disk = &mut self.nodes[i].disk;
        match disk.image.take() {
            Some(image) if !wiped => {
                let own = &image.0.own;
                if own.formation.is_none() {
                    return self.schedule(self.time + SECOND, Happening::Boot { node: i });
                }
                (disk.durable, disk.lsn) = *image;
            }
            None if !wiped => {}
            _ => *disk = Disk { durable: Durable::new(identity), lsn: 0, image: None, suspect: true },
        }
        disk.suspect = true;
        self.nodes[i].proof = None;
        self.trace(i, || format!("disk lost, wiped {wiped}"));
        let at = self.time + self.a_while();
        self.schedule(at, Happening::Boot { node: i });
    }
}
