//! The `sitegate` command line and site daemon.

pub mod check;
pub mod cli;
pub mod pki;
mod playground;
mod simulate;
pub mod site;
