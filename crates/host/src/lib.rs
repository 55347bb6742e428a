//! What the sitegate daemons need of the machine: clocks, durable files, running programs with a time limit and killing
//! all of them, and configuration errors that help. Linux only.

pub mod cgroup;
pub mod clock;
pub mod diagnostic;
pub mod durable;
pub mod journald;
pub mod log;
pub mod output;
pub mod process;
pub mod program;
mod readiness;
pub mod service;
pub mod spawn;
pub mod sweep;
