//! Waiting for what another process does: never for longer than [`PATIENCE`], and no longer than it takes.

use std::time::{Duration, Instant};

/// How long anything may take before a test fails: far longer than it does on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// How often is looked.
const EVERY: Duration = Duration::from_millis(10);

/// Looks again and again until `look` finds something.
///
/// # Panics
/// If it does not.
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
        std::thread::sleep(EVERY);
    }
}
