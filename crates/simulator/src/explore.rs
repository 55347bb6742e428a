//! An exhaustive explorer: all states that a small world can get into, with the real member and the real deadman in it
//! (docs/testing.md, "Exhaustive exploration").
//!
//! Time goes by in ticks, in which whole numbers of clock units pass, on each clock as many as its rate says. A [`World`] says
//! who there is, what may go wrong how often, and for how many ticks it is looked at. Within these bounds *everything* that can
//! happen is gone through: [`World::explore`] ends when nothing is left, or at the first violation, with what led to it.

mod choice;
#[cfg(test)]
mod crosscheck;
pub mod deadman;
mod judge;
mod machine;
mod react;
mod root;
mod scene;
mod search;
mod shared;
mod site;
mod step;
mod tell;
mod world;
mod worlds;

pub use search::{Outcome, STATES_MAX, Violation};
pub use world::{Begin, Budget, Fault, Planted, World};
pub use worlds::{Case, Size, planted, worlds};
