//! Where an exploration begins: all members are started, born and granted the ticket, without faults.

use sitegate_protocol::Command;

use super::choice::Rules;
use super::judge::Judge;
use super::machine::{Input, Machine};
use super::scene::{At, Scene};
use super::shared::Shared;
use super::world::{Begin, Budget, Planted, id};
use crate::script::db;

/// Ticks in which a formation is born and a ticket granted; many times more than it takes.
const TICKS_MAX: u16 = 100;

/// Where the exploration begins: played from birth without faults.
pub(super) fn root(rules: &mut Rules<'_>) -> Scene {
    let world = rules.world;
    let machines = (0..world.n()).map(|i| Shared::new(Machine::new(world, i))).collect();
    let scene = Scene {
        tick: 1,
        end: TICKS_MAX,
        at: At::Cut,
        machines,
        due: Vec::new(),
        next: Vec::new(),
        tomorrow: Vec::new(),
        stray: Vec::new(),
        awake: 0,
        paused: 0,
        cut: None,
        left: Budget::none(),
        commanded: true,
        judge: Shared::new(Judge::default()),
        broken: None,
    };
    let ready = |scene: &Scene| scene.machines.iter().all(|m| m.is_voting());
    let mut scene = play(rules, scene, ready);
    rules.act(&mut scene, 0, &Input::Command(1, Command::Grant(db(), id(0))), None, false);
    if world.begin == Begin::Held {
        let runs = |scene: &Scene| scene.machines[0].site.as_ref().is_some_and(|site| site.running.is_some());
        scene = play(rules, scene, runs);
    }
    if world.planted == Some(Planted::OldDisk) {
        for machine in &mut scene.machines {
            let mut imaged = Machine::clone(machine);
            imaged.take_image();
            *machine = Shared::new(imaged);
        }
    }
    scene.end = scene.tick + world.ticks;
    scene.left = world.budget;
    scene.commanded = false;
    rules.forget();
    scene
}

/// Plays on, without faults, to the first morning at which `enough` holds, or until something is violated.
fn play(rules: &mut Rules<'_>, mut scene: Scene, enough: impl Fn(&Scene) -> bool) -> Scene {
    while scene.broken.is_none() && (scene.at != At::Cut || !enough(&scene)) {
        if scene.at == At::End {
            scene.broken = Some(("L1", "without any fault, nobody comes to hold the ticket".into()));
            break;
        }
        let choice = rules.choices(&scene)[0];
        scene = rules.apply(&scene, choice);
    }
    scene
}
