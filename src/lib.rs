//! The `sitegate` command line and site daemon.

pub mod cli;
pub mod pki;
mod playground;
mod simulate;
pub mod site;
