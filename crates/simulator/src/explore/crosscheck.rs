//! Another checker goes through the same worlds: `stateright`, with the same transition relation as its `Model`, and its own
//! search, its own set of states and its own hashes.

use stateright::{Checker, Model, Property};

use super::choice::{Choice, Rules};
use super::root::root;
use super::scene::Scene;
use super::search::{STATES_MAX, Space};
use super::world::World;
use super::worlds::{planted, worlds};

struct Checked(World);

impl Model for Checked {
    type State = Scene;
    type Action = Choice;

    fn init_states(&self) -> Vec<Scene> {
        vec![root(&mut Rules::new(&self.0))]
    }

    fn actions(&self, scene: &Scene, actions: &mut Vec<Choice>) {
        if scene.broken.is_none() {
            actions.extend(Rules::new(&self.0).choices(scene));
        }
    }

    fn next_state(&self, scene: &Scene, choice: Choice) -> Option<Scene> {
        Some(Rules::new(&self.0).follow(scene, choice))
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![Property::always("no invariant is broken", |_, scene: &Scene| scene.broken.is_none())]
    }
}

#[test]
fn another_checker_counts_the_same_states() {
    let case = worlds().into_iter().find(|case| case.world.name == "failover").unwrap();
    let checker = Checked(case.world.clone()).checker().spawn_bfs().join();
    checker.assert_properties();
    let counted = u64::try_from(checker.unique_state_count()).unwrap();
    assert_eq!((counted, case.world.explore(STATES_MAX).states), (case.states, case.states));
}

#[test]
fn another_checker_finds_what_is_planted() {
    let (world, _) = planted().swap_remove(0);
    let checker = Checked(world).checker().spawn_bfs().join();
    assert!(checker.discovery("no invariant is broken").is_some());
}
