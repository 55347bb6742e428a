//! What can happen next in a state.

use std::collections::BTreeMap;
use std::sync::Arc;

use sitegate_protocol::Token;

use super::machine::{Hitch, How, Input, Machine, Reaction};
use super::root::root;
use super::scene::{At, Scene};
use super::search::{Broken, Space};
use super::shared::Shared;
use super::tell::tell;
use super::world::{Fault, World};

/// In which direction somebody is cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Way {
    Both,
    /// It hears nobody.
    In,
    /// Nobody hears it.
    Out,
}

/// One thing that can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Choice {
    /// Nothing out of the ordinary; a late frame stays late.
    Pass,
    Cut(usize, Way),
    Heal,
    Start,
    Strike(Fault),
    Command,
    /// A late frame arrives.
    Release,
    Drop(usize),
    Straggle(usize),
    Copy(usize),
    /// A member does something: with its timers, mail or finished commit, or with a frame.
    React {
        frame: Option<usize>,
        hitch: Option<Hitch>,
        swift: bool,
    },
}

/// What machines did, by everything that it depends on. Each is computed by the real member once.
#[derive(Default)]
pub(super) struct Known {
    pub(super) reactions: BTreeMap<u128, Arc<Reaction>>,
    /// Equal machines are one, in memory too.
    pub(super) machines: BTreeMap<u128, Shared<Machine>>,
}

/// The rules of a world.
pub(crate) struct Rules<'a> {
    pub(crate) world: &'a World,
    pub(super) known: Known,
}

impl<'a> Rules<'a> {
    pub(crate) fn new(world: &'a World) -> Self {
        Self { world, known: Known::default() }
    }

    /// Forgets what was computed: it is of a tick that is over.
    pub(crate) fn forget(&mut self) {
        self.known = Known::default();
    }

    /// Everything that can happen next; the first is what happens if nothing goes wrong.
    pub(crate) fn choices(&mut self, scene: &Scene) -> Vec<Choice> {
        let left = |fault| scene.left.left(fault) > 0;
        match scene.at {
            At::Cut if scene.cut.is_some() => vec![Choice::Pass, Choice::Heal],
            At::Cut if left(Fault::Cut) => {
                let ways = [Way::Both, Way::In, Way::Out];
                let cuts =
                    (0..self.world.n()).flat_map(|i| ways.into_iter().map(move |way| Choice::Cut(i, way)));
                std::iter::once(Choice::Pass).chain(cuts).collect()
            }
            At::Cut => vec![Choice::Pass],
            At::Machine(i) if scene.machines[i].process.is_none() => vec![Choice::Start, Choice::Pass],
            At::Machine(i) => {
                let mut faults = vec![Fault::Kill, Fault::Power, Fault::Pause];
                faults.extend(self.world.is_site(i).then_some(Fault::KillFenced));
                let strikes = faults.into_iter().filter(|fault| left(*fault)).map(Choice::Strike);
                std::iter::once(Choice::Pass).chain(strikes).collect()
            }
            At::Command if self.may_command(scene) => vec![Choice::Pass, Choice::Command],
            At::Command => vec![Choice::Pass],
            At::Stray(c) if c < scene.stray.len() => vec![Choice::Pass, Choice::Release],
            At::Stray(_) => vec![Choice::Pass],
            At::Turn(i) => self.turn_choices(scene, i),
            At::End => Vec::new(),
        }
    }

    fn may_command(&self, scene: &Scene) -> bool {
        let command = self.world.command.as_ref().filter(|_| !scene.commanded);
        command.is_some_and(|(via, _)| scene.machines[*via].process.is_some())
    }

    fn turn_choices(&mut self, scene: &Scene, i: usize) -> Vec<Choice> {
        let mut choices = Vec::new();
        if scene.awake & (1 << i) != 0 {
            self.reactions(scene, i, None, &mut choices);
        }
        let frames = scene.frames_for(i);
        for &k in &frames {
            self.reactions(scene, i, Some(k), &mut choices);
        }
        for (fault, choice) in [
            (Fault::Drop, Choice::Drop as fn(usize) -> Choice),
            (Fault::Straggle, Choice::Straggle),
            (Fault::Copy, Choice::Copy),
        ] {
            if scene.left.left(fault) > 0 {
                choices.extend(frames.iter().map(|k| choice(*k)));
            }
        }
        choices
    }

    /// A reaction in all of its variants: with each fault at each of its turns, and with quick and slow kills.
    fn reactions(&mut self, scene: &Scene, i: usize, frame: Option<usize>, choices: &mut Vec<Choice>) {
        let input = input_of(scene, i, frame);
        for swift in [false, true] {
            let reaction = self.react(i, scene.tick, &scene.machines[i], &input, None, swift);
            choices.push(Choice::React { frame, hitch: None, swift });
            let (kill, slow) = (scene.left.left(Fault::Kill) > 0, scene.left.left(Fault::SlowCommit) > 0);
            for (turn, (dirty, loud)) in (0..).zip(reaction.did.turns.iter().copied()) {
                let hitch = |how| Some(Hitch { turn, how });
                let mut add = |how| choices.push(Choice::React { frame, hitch: hitch(how), swift });
                if kill && dirty {
                    add(How::Unwritten);
                }
                if kill && (dirty || loud) {
                    add(How::Silent);
                    add(How::Done);
                }
                if slow && dirty {
                    add(How::Slow);
                }
            }
            if !reaction.did.kills {
                break; // quick or not makes no difference
            }
        }
    }
}

impl Space for Rules<'_> {
    type State = Scene;
    type Choice = Choice;

    fn root(&mut self) -> Scene {
        root(self)
    }

    fn choices(&mut self, scene: &Scene) -> Vec<Choice> {
        Rules::choices(self, scene)
    }

    fn apply(&mut self, scene: &Scene, choice: Choice) -> Scene {
        Rules::apply(self, scene, choice)
    }

    fn tell(&mut self, scene: &Scene, choice: Choice) -> Vec<String> {
        tell(self, scene, choice)
    }

    fn tick(scene: &Scene) -> u16 {
        scene.tick
    }

    fn newest(scene: &Scene) -> Option<Token> {
        scene.judge.newest()
    }

    fn broken(scene: &Scene) -> Option<&Broken> {
        scene.broken.as_ref()
    }

    fn forget(&mut self) {
        Rules::forget(self);
    }
}

/// What member `i` takes in its turn: a frame, or what is due.
pub(super) fn input_of(scene: &Scene, i: usize, frame: Option<usize>) -> Input {
    match frame {
        Some(k) => Input::Frame(scene.due[k].frame.clone()),
        None if scene.machines[i].is_committing() => Input::Written,
        None => Input::Wake,
    }
}
