//! The shell around the sitegate protocol that site daemons and arbitrators share.

pub mod config;
pub mod tls;
