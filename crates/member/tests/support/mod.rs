//! What the tests with whole members share: a CA, a formation on loopback, its processes, and a client.

#![allow(dead_code, reason = "every test file uses its own part of this")]
#![allow(unreachable_pub, reason = "a module of tests is exported to nobody")]

pub mod authority;
pub mod fence;
pub mod formation;
pub mod http;

use std::time::{Duration, Instant};

/// How long anything may take before a test fails: far longer than it does on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Looks again and again until `look` finds something.
pub fn wait_for<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    try_for(look).unwrap_or_else(|| panic!("waited in vain for {what}"))
}

/// Whether `look` finds something in good time.
pub fn comes_true(look: impl FnMut() -> Option<()>) -> bool {
    try_for(look).is_some()
}

fn try_for<T>(mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let until = Instant::now() + PATIENCE;
    loop {
        let found = look();
        if found.is_some() || Instant::now() >= until {
            return found;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
