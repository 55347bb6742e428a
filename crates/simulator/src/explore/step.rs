//! What comes of a choice.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::choice::{Choice, Rules, input_of};
use super::judge::Judge;
use super::machine::{Hitch, How, Input, Machine, Reaction};
use super::react::Reacting;
use super::scene::{At, Scene, insert};
use super::shared::{Shared, hash_of};
use super::world::Fault;

impl Rules<'_> {
    /// What becomes of `scene` if `choice` happens in it.
    pub(crate) fn apply(&mut self, scene: &Scene, choice: Choice) -> Scene {
        let mut scene = scene.clone();
        match choice {
            Choice::Pass => self.pass(&mut scene),
            Choice::Cut(member, way) => {
                scene.left.spend(Fault::Cut);
                scene.cut = Some((member, way));
                self.pass(&mut scene);
            }
            Choice::Heal => {
                scene.cut = None;
                self.pass(&mut scene);
            }
            Choice::Start => {
                let At::Machine(i) = scene.at else { return scene };
                self.act(&mut scene, i, &Input::Start, None, false);
                self.pass(&mut scene);
            }
            Choice::Strike(fault) => self.strike(&mut scene, fault),
            Choice::Command => {
                if let Some((via, command)) = self.world.command.clone() {
                    scene.commanded = true;
                    self.act(&mut scene, via, &Input::Command(2, command), None, false);
                }
                self.pass(&mut scene);
            }
            Choice::Release => {
                if let At::Stray(c) = scene.at {
                    let parcel = scene.stray.remove(c);
                    insert(&mut scene.due, parcel);
                }
            }
            Choice::Drop(k) => self.take(&mut scene, Fault::Drop, k),
            Choice::Straggle(k) => {
                let parcel = scene.due[k].clone();
                insert(&mut scene.stray, parcel);
                self.take(&mut scene, Fault::Straggle, k);
            }
            Choice::Copy(k) => {
                let parcel = scene.due[k].clone();
                scene.left.spend(Fault::Copy);
                insert(&mut scene.stray, parcel);
            }
            Choice::React { frame, hitch, swift } => self.take_turn(&mut scene, frame, hitch, swift),
        }
        self.advance(&mut scene);
        scene
    }

    fn take(&self, scene: &mut Scene, fault: Fault, k: usize) {
        scene.left.spend(fault);
        scene.due.remove(k);
    }

    fn take_turn(&mut self, scene: &mut Scene, frame: Option<usize>, hitch: Option<Hitch>, swift: bool) {
        let At::Turn(i) = scene.at else { return };
        let input = input_of(scene, i, frame);
        match frame {
            None => scene.awake &= !(1 << i),
            Some(k) => drop(scene.due.remove(k)),
        }
        if let Some(hitch) = hitch {
            scene.left.spend(if hitch.how == How::Slow { Fault::SlowCommit } else { Fault::Kill });
        }
        self.act(scene, i, &input, hitch, swift);
    }

    fn strike(&mut self, scene: &mut Scene, fault: Fault) {
        let At::Machine(i) = scene.at else { return };
        scene.left.spend(fault);
        match fault {
            Fault::Kill => self.act(scene, i, &Input::Kill, None, false),
            Fault::Power => self.act(scene, i, &Input::Power, None, false),
            Fault::KillFenced => self.act(scene, i, &Input::KillFenced, None, false),
            _ => scene.paused |= 1 << i,
        }
        self.pass(scene);
    }

    /// On to the next decision of a morning.
    fn pass(&self, scene: &mut Scene) {
        scene.at = match scene.at {
            At::Cut => At::Machine(0),
            At::Machine(i) if i + 1 < self.world.n() => At::Machine(i + 1),
            At::Machine(_) => At::Command,
            At::Command => At::Stray(0),
            At::Stray(c) if c < scene.stray.len() => At::Stray(c + 1),
            At::Stray(_) => self.begin_rounds(scene),
            at => at,
        };
    }

    fn begin_rounds(&self, scene: &mut Scene) -> At {
        for (i, machine) in scene.machines.iter().enumerate() {
            let awake = machine.is_committing() || machine.is_due(self.world.now(i, scene.tick));
            scene.awake |= u16::from(awake) << i;
        }
        At::Turn(0)
    }

    /// Passes by turns in which nothing can happen, and from round to round and tick to tick.
    fn advance(&mut self, scene: &mut Scene) {
        while let At::Turn(i) = scene.at {
            if i == self.world.n() {
                if scene.next.is_empty() {
                    return self.end_tick(scene);
                }
                scene.due = std::mem::take(&mut scene.next);
                scene.at = At::Turn(0);
                continue;
            }
            let absent = scene.machines[i].process.is_none();
            if absent || scene.paused & (1 << i) != 0 {
                scene.awake &= !(1 << i);
                let waiting = scene.take_due(i);
                // A dead process loses what was on its way to it; one that stands still finds it when it goes on.
                waiting.into_iter().filter(|_| !absent).for_each(|p| insert(&mut scene.tomorrow, p));
            } else if scene.awake & (1 << i) != 0 || !scene.frames_for(i).is_empty() {
                return;
            } else {
                // What a running commit holds up.
                scene.take_due(i).into_iter().for_each(|p| insert(&mut scene.tomorrow, p));
            }
            scene.at = At::Turn(i + 1);
        }
    }

    fn end_tick(&mut self, scene: &mut Scene) {
        for i in 0..self.world.n() {
            if scene.paused & (1 << i) == 0 {
                self.act(scene, i, &Input::Dusk, None, false);
            }
        }
        if scene.tick == scene.end {
            scene.at = At::End;
            return;
        }
        scene.tick += 1;
        scene.paused = 0;
        scene.due = std::mem::take(&mut scene.tomorrow);
        scene.at = At::Cut;
        for i in 0..self.world.n() {
            self.act(scene, i, &Input::Dawn, None, false);
        }
    }

    /// A machine reacts, and the judge looks at it.
    pub(super) fn act(
        &mut self,
        scene: &mut Scene,
        i: usize,
        input: &Input,
        hitch: Option<Hitch>,
        swift: bool,
    ) {
        let reaction = self.react(i, scene.tick, &scene.machines[i], input, hitch, swift);
        scene.machines[i] = reaction.machine.clone();
        scene.send(i, &reaction.did.frames);
        Judge::look(self.world, scene, i, &reaction);
    }

    pub(super) fn react(
        &mut self,
        i: usize,
        tick: u16,
        machine: &Shared<Machine>,
        input: &Input,
        hitch: Option<Hitch>,
        swift: bool,
    ) -> Arc<Reaction> {
        let key = hash_of(&(i, tick, machine, input, hitch, swift));
        if let Some(known) = self.known.reactions.get(&key) {
            return Arc::clone(known);
        }
        let reacting = Reacting::new(self.world, i, tick, Machine::clone(machine), hitch, swift);
        // What the protocol asserts itself is told like any other violation.
        let reaction = catch_unwind(AssertUnwindSafe(|| reacting.run(input)));
        let broken = |_| Reaction::broken(machine.clone(), ("assertion", "the panic above".into()));
        let mut reaction = reaction.unwrap_or_else(broken);
        let hash = reaction.machine.hash();
        let one = self.known.machines.entry(hash).or_insert_with(|| reaction.machine.clone());
        reaction.machine = one.clone();
        let reaction = Arc::new(reaction);
        self.known.reactions.insert(key, Arc::clone(&reaction));
        reaction
    }
}
