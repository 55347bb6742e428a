//! A deterministic simulator: the real protocol ([`sitegate_protocol::Member`]) and the real deadman
//! ([`sitegate_fence::deadman::Deadman`]) of every member in one thread, with a network, disks, clocks and processes
//! that fail as real ones do, and an observer that sees true time and everything that runs.
//!
//! A run is a seed: it draws the formation, the clocks, the faults and the commands. It ends with a calm phase, in
//! which faults stop and progress must follow. Every violation names its invariant (docs/protocol.md, "Invariants")
//! and the one command that replays the run.

mod checks;
mod clock;
pub mod cost;
mod coverage;
mod drive;
pub mod explore;
mod fault;
mod fenced;
pub mod forecast;
mod ghost;
mod line;
mod machine;
#[cfg(sitegate_mutants)]
pub mod mutants;
mod network;
mod node;
mod plan;
mod process;
mod programs;
#[cfg(test)]
mod regressions;
mod rng;
mod run;
pub mod script;
mod story;
mod workload;
mod world;

pub use coverage::Coverage;
pub use drive::{Driven, drive};
pub use plan::{Options, Plan};
pub use run::{Report, Violation, run};
