//! Worlds of the deadman alone: the real one, under a client that asks for anything at any time, with a disk that is late, programs
//! that come late to their exec, plans that fail, and deaths at any moment.
//!
//! Ticks are seconds, since the deadman itself rests for seconds between two rounds of a plan. Within a tick everything that can
//! happen does so in every order.

mod choice;
mod judge;
mod scene;
mod step;
mod world;
mod worlds;

pub use world::{DeadmanWorld, Planted, Start};
pub use worlds::{planted, worlds};
