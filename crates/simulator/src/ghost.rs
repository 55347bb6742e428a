//! A disk is cloned: the old machine stands still, another with a copy of its disk takes its name, and then the old one
//! goes on where it stood. What it says still reaches everybody; what the others say reaches the new one.

use sitegate_protocol::{Event, Frame, ValidFrame};

use crate::clock::Time;
use crate::node::{Disk, Process};
use crate::world::{Happening, World, trace_seconds};

/// An old machine whose name another has taken.
pub(crate) struct Ghost {
    node: usize,
    generation: u64,
    process: Process,
    disk: Disk,
}

impl World {
    /// Only of a member that fences nothing: with the fence daemon's disk cloned, the copy would give receipts for what
    /// the original runs, and only an operator can know of that. Nor while another's disk is lost, as the
    /// copy has to recover.
    pub(crate) fn clone_machine(&mut self, i: usize, span: Time) -> bool {
        if self.nodes[i].is_site() || self.ghost.is_some() || !self.runs(i) || !self.may_lose_power(i) {
            return false;
        }
        let newest = self.newest_generation();
        let node = &mut self.nodes[i];
        let (disk, generation) = (node.disk.clone(), node.generation);
        let Some(mut process) = node.process.take() else { return false };
        // What the old machine was committing is on its own disk, if anywhere.
        process.frozen_until = self.time + span;
        process.wake = None;
        let until = process.frozen_until;
        node.generation = newest;
        self.ghost = Some(Ghost { node: i, generation, process, disk });
        self.forget_commands(i);
        self.trace(i, || format!("cloned; the old one goes on at {}", trace_seconds(until)));
        self.schedule(until, Happening::Thaw { node: i, generation });
        self.schedule(until + span, Happening::Exorcise);
        // Another machine, whose /run knows nothing.
        let node = &mut self.nodes[i];
        node.boot += 1;
        node.proof = None;
        let at = self.time + self.rng.range(crate::clock::MS, span);
        self.schedule(at, Happening::StartMember { node: i });
        true
    }

    /// Whether what happens to process `generation` of `i` happens to an old machine.
    pub(crate) fn is_ghost(&self, i: usize, generation: u64) -> bool {
        self.ghost.as_ref().is_some_and(|ghost| (ghost.node, ghost.generation) == (i, generation))
    }

    /// A frame may reach the old machine as well: its connections were never closed.
    pub(crate) fn haunt_with(&mut self, to: usize, from: usize, frame: &Frame) {
        let here = self.ghost.as_ref().is_some_and(|ghost| ghost.node == to);
        if !here || self.rng.percent(50) {
            return;
        }
        if let Ok(frame) = ValidFrame::check(frame.clone(), self.nodes[from].id, &self.nodes[to].settings) {
            let generation = self.ghost.as_ref().map_or(0, |ghost| ghost.generation);
            self.haunt(Happening::Member { node: to, generation, event: Event::Frame(frame) });
        }
    }

    /// Lets something happen on the old machine.
    pub(crate) fn haunt(&mut self, happening: Happening) {
        let Some(ghost) = self.ghost.take() else { return };
        let Ghost { node: i, generation, process, disk } = ghost;
        let node = &mut self.nodes[i];
        let new = (
            node.generation,
            node.process.replace(process),
            std::mem::replace(&mut node.disk, disk),
            node.proof,
        );
        node.generation = generation;
        self.checks.haunted = true;
        self.happen_here(happening);
        self.checks.haunted = false;
        let node = &mut self.nodes[i];
        let old = (node.generation, node.process.take(), std::mem::replace(&mut node.disk, new.2));
        (node.generation, node.process, node.proof) = (new.0, new.1, new.3);
        // A process that has ended is not started again: its operator reads why.
        if let (generation, Some(process), disk) = old {
            self.ghost = Some(Ghost { node: i, generation, process, disk });
        }
    }
}
