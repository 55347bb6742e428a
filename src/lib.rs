//! The `sitegate` command line and site daemon.

mod api;
pub mod cli;
pub mod pki;
mod playground;
mod simulate;
mod terminal;
