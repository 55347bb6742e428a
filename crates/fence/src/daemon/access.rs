//! Who may connect: root, the daemon's own user, and those of `allow-uid`, which a reload can change.

use tokio::sync::watch;
use tracing::warn;

use super::listen::admit_users;
use crate::config::Config;

/// Decides for those who accept clients.
#[derive(Debug)]
pub(super) struct Access(watch::Sender<Allowed>);

/// Users who may connect, beside root and the daemon's own.
pub(super) type Allowed = Vec<u32>;

/// What those who accept clients see of it.
#[derive(Clone, Debug)]
pub(super) struct Gate(watch::Receiver<Allowed>);

impl Access {
    pub(super) fn new(config: &Config) -> (Self, Gate) {
        let (access, allowed) = watch::channel(config.allow_uid.clone());
        (Self(access), Gate(allowed))
    }

    /// Whether others than root and the daemon's own user may connect.
    pub(super) fn open(&self) -> bool {
        !self.0.borrow().is_empty()
    }

    /// From now on it is as `config` says. Who is connected stays so.
    pub(super) fn change(&self, config: &Config) {
        if *self.0.borrow() == config.allow_uid {
            return;
        }
        self.0.send_replace(config.allow_uid.clone());
        if let Err(error) = admit_users(&config.socket, self.open()) {
            warn!("cannot change who may open {}: {error}", config.socket.display());
        }
    }
}

impl Gate {
    pub(super) fn open(&self) -> bool {
        !self.0.borrow().is_empty()
    }

    pub(super) fn admits(&self, uid: u32) -> bool {
        uid == 0 || uid == rustix::process::geteuid().as_raw() || self.0.borrow().contains(&uid)
    }
}
