//! What the tests with whole members share: a CA, a formation on loopback, its processes, and a client.

#![allow(dead_code, reason = "every test file uses its own part of this")]
#![allow(unreachable_pub, reason = "a module of tests is exported to nobody")]

pub mod authority;
pub mod fence;
pub mod formation;

pub use sitegate_test_support::http;
pub use sitegate_test_support::wait::{comes_true, wait_for};
