//! The service manager: that we are up, alive, reloading, and how it goes. Without one, nothing is said.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sitegate_host::service::ServiceManager;

/// The line to the service manager. Clones share it.
#[derive(Clone, Debug)]
pub struct Service {
    manager: Arc<ServiceManager>,
    status: Arc<Mutex<String>>,
}

impl Service {
    /// As the environment says.
    #[must_use]
    pub fn from_environment() -> Self {
        Self { manager: Arc::new(ServiceManager::from_environment()), status: Arc::default() }
    }

    /// How often to say that we are alive: as often as `otherwise`, or as the service manager asks for.
    #[must_use]
    pub fn look_every(&self, otherwise: Duration) -> Duration {
        // Three times within its patience, so that two late ones do no harm.
        self.manager.watchdog().map_or(otherwise, |patience| otherwise.min(patience / 3))
    }

    /// The loop is alive. Only the loop itself may say so.
    pub fn alive(&self) {
        if self.manager.watchdog().is_some() {
            self.manager.alive();
        }
    }

    /// This daemon serves, or serves again after a reload.
    pub fn ready(&self) {
        self.manager.ready();
    }

    /// A reload has begun; [`Service::ready`] ends it.
    pub fn reloading(&self) {
        self.manager.reloading();
    }

    /// This daemon is about to end.
    pub fn stopping(&self) {
        self.manager.stopping();
    }

    /// How it goes, in one line; said only when it has changed.
    pub fn status(&self, line: &str) {
        let mut said = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        if *said != line {
            self.manager.status(line);
            line.clone_into(&mut said);
        }
    }
}
