//! What stands between the protocol and the machine, as state machines without I/O, clocks or threads.
//!
//! A *pump* is told what happened and says what it wants done; whoever runs it does that and tells what came of it. The daemons are
//! tokio around the pumps, the simulator and the explorer run them with faults in every place that tokio fills. The bounds and the
//! order of all queues are the pumps' own.

#![no_std]

extern crate alloc;

pub mod member;
pub mod site;

pub use member::MemberPump;
pub use site::SitePump;
