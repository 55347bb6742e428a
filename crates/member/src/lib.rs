//! The shell around the sitegate protocol that site daemons and arbitrators share.
//!
//! `driver` is the loop around the protocol; `store` what it must not forget; `peers` and `port` the network; `api` what
//! people and programs see; `journal` what happened. `daemon` puts them together.

pub mod api;
pub mod arguments;
pub mod complaints;
pub mod config;
pub mod daemon;
pub mod driver;
#[cfg(test)]
mod example;
pub mod init;
pub mod journal;
pub mod live;
pub mod metrics;
pub mod peers;
pub mod port;
pub mod service;
pub mod settings;
pub mod shared;
pub mod site;
pub mod store;
pub mod suspicion;
pub mod tls;
pub mod wire;
