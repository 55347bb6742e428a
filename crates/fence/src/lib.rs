//! Local fencing: how a resource is made certain not to run at this site.
//!
//! [`deadman`] decides when (a state machine without I/O, which the simulator runs too), [`plan`] says what, [`config`] reads
//! both from `fenced.toml`. The rest is what the daemon `sitegate-fenced` is made of: [`daemon`] drives the deadman,
//! [`journal`] and [`leases`] keep its state; [`containment`], [`keeper`], [`programs`] and
//! [`strike`] run and kill programs; [`agent`], [`reboot`], [`systemd`] and [`watchdog`] are what levels fence by.

pub mod agent;
mod aside;
pub mod config;
pub mod containment;
pub mod daemon;
pub mod deadman;
pub mod journal;
pub mod keeper;
pub mod leases;
pub mod plan;
pub mod programs;
pub mod reboot;
pub mod store;
pub mod strike;
pub mod systemd;
pub mod watchdog;
