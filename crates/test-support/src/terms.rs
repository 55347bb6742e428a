//! What tests of the fence daemon and of its clients speak of, and how they wait.

use std::time::{Duration, Instant};

use sitegate_fence_client::wire::{Name, Reason};
use sitegate_host::process;

/// How long a condition may take to hold on a busy machine before the test fails.
pub const SOON: Duration = Duration::from_secs(60);
/// Far enough ahead not to pass during a test.
pub const FAR_MS: u64 = 3_600_000;

/// A resource.
///
/// # Panics
/// If it can have no such name.
#[must_use]
pub fn name(name: &str) -> Name {
    Name::new(name).unwrap()
}

/// The one that most tests are about.
#[must_use]
pub fn db() -> Name {
    name("db")
}

/// A usual reason to fence.
///
/// # Panics
/// Never.
#[must_use]
pub fn revoked() -> Reason {
    Reason::new("revoked").unwrap()
}

/// Whether that process runs.
#[must_use]
pub fn is_alive(pid: i32) -> bool {
    process::stat(pid).is_some_and(|stat| stat.alive())
}

/// Waits for a condition, for at most [`SOON`].
///
/// # Panics
/// If it does not hold by then.
pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + SOON;
    while !holds() {
        assert!(Instant::now() < until, "still not so: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
