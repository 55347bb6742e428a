//! The service manager: that we are up, alive, reloading, and how it goes. Without one, nothing is said.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sd_notify::NotifyState;
use tracing::debug;

/// The line to the service manager. Clones share it.
#[derive(Clone, Debug)]
pub struct Service {
    watchdog: Option<Duration>,
    status: Arc<Mutex<String>>,
}

impl Service {
    /// As the environment says.
    #[must_use]
    pub fn from_environment() -> Self {
        Self { watchdog: sd_notify::watchdog_enabled(), status: Arc::default() }
    }

    /// How often to say that we are alive: as often as `otherwise`, or as the service manager asks for.
    #[must_use]
    pub fn look_every(&self, otherwise: Duration) -> Duration {
        // Three times within its patience, so that two late ones do no harm.
        self.watchdog.map_or(otherwise, |patience| otherwise.min(patience / 3))
    }

    /// The loop is alive. Only the loop itself may say so.
    pub fn alive(&self) {
        if self.watchdog.is_some() {
            notify(&[NotifyState::Watchdog]);
        }
    }

    /// This daemon serves, or serves again after a reload.
    pub fn ready(&self) {
        notify(&[NotifyState::Ready]);
    }

    /// A reload has begun; [`Service::ready`] ends it.
    pub fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => notify(&[NotifyState::Reloading, now]),
            Err(error) => debug!(%error, "the service manager cannot be told of a reload"),
        }
    }

    /// This daemon is about to end.
    pub fn stopping(&self) {
        notify(&[NotifyState::Stopping]);
    }

    /// How it goes, in one line; said only when it has changed.
    pub fn status(&self, line: &str) {
        let mut said = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        if *said != line {
            notify(&[NotifyState::Status(line)]);
            line.clone_into(&mut said);
        }
    }
}

fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        debug!(%error, "the service manager cannot be told");
    }
}
