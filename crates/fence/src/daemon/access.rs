//! Who may connect, and what each may ask for: root, the daemon's own user and those of `allow-uid` may do everything, those whom
//! a resource lets join may do that, and look. A reload can change both.

use sitegate_fence_client::request::Request;
use sitegate_host::process::{self, Process};
use tokio::net::unix::UCred;
use tokio::sync::watch;
use tracing::warn;

use super::listen::admit_users;
use crate::config::Config;

/// Decides for those who accept clients.
#[derive(Debug)]
pub(super) struct Access(watch::Sender<Allowed>);

/// Users who may connect, beside root and the daemon's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Allowed {
    everything: Vec<u32>,
    join: Vec<u32>,
}

/// What those who accept clients see of it.
#[derive(Clone, Debug)]
pub(super) struct Gate(watch::Receiver<Allowed>);

/// What a client may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rights {
    /// Everything.
    Everything,
    /// To look, to watch, and to join what lists its user.
    Join,
}

/// Who has connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Peer {
    pub(super) uid: u32,
    /// The process, as it was found when it had just connected; none if it cannot be seen from here.
    pub(super) process: Option<Process>,
    pub(super) rights: Rights,
}

impl Access {
    pub(super) fn new(config: &Config) -> (Self, Gate) {
        let (access, allowed) = watch::channel(Allowed::of(config));
        (Self(access), Gate(allowed))
    }

    /// From now on it is as `config` says. Who is connected stays so.
    pub(super) fn change(&self, config: &Config) {
        let allowed = Allowed::of(config);
        if *self.0.borrow() == allowed {
            return;
        }
        let open = allowed.open();
        self.0.send_replace(allowed);
        if let Err(error) = admit_users(&config.socket, open) {
            warn!("cannot change who may open {}: {error}", config.socket.display());
        }
    }
}

impl Allowed {
    fn of(config: &Config) -> Self {
        Self { everything: config.allow_uid.clone(), join: config.join_uid.clone() }
    }

    /// Whether others than root and the daemon's own user may connect.
    fn open(&self) -> bool {
        !self.everything.is_empty() || !self.join.is_empty()
    }
}

impl Gate {
    pub(super) fn open(&self) -> bool {
        self.0.borrow().open()
    }

    /// Who it is, if it may connect.
    pub(super) fn admits(&self, peer: UCred) -> Option<Peer> {
        let uid = peer.uid();
        let allowed = self.0.borrow();
        let own = uid == 0 || uid == rustix::process::geteuid().as_raw();
        let rights = if own || allowed.everything.contains(&uid) {
            Rights::Everything
        } else if allowed.join.contains(&uid) {
            Rights::Join
        } else {
            return None;
        };
        // Looked at right away. Should it have ended, and its pid be in use again already, a join looks at the user once more.
        let process = peer.pid().and_then(process::stat).map(|stat| stat.process);
        Some(Peer { uid, process, rights })
    }
}

impl Rights {
    /// Whether `request` may be asked at all; which resources may be joined is decided by each of them.
    pub(super) fn permit(self, request: &Request) -> bool {
        match self {
            Self::Everything => true,
            Self::Join => matches!(
                request,
                Request::Hello { site: None, .. }
                    | Request::Status {}
                    | Request::History { .. }
                    | Request::Watch { .. }
                    | Request::Join { .. }
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use sitegate_fence_client::wire::Name;
    use sitegate_host::diagnostic::Source;

    use super::*;

    #[test]
    fn who_may_only_join_may_touch_nothing_else() {
        let resource = Name::new("db").unwrap();
        for request in [
            Request::Hello { site: None, watch: true },
            Request::Status {},
            Request::History { resource: None, limit: None },
            Request::Watch { resource: resource.clone() },
            Request::Join { resource: resource.clone() },
        ] {
            assert!(Rights::Join.permit(&request), "{request:?}");
        }
        for request in [
            Request::Hello { site: Some(resource.clone()), watch: false },
            Request::Extend { incarnation: 0, set: Vec::new() },
            Request::Start { resource: resource.clone(), token: 1 },
            Request::Stop { resource: resource.clone(), token: 1 },
            Request::Test { resource: None },
        ] {
            assert!(!Rights::Join.permit(&request) && Rights::Everything.permit(&request), "{request:?}");
        }
    }

    #[test]
    fn the_socket_is_open_to_those_who_may_join() {
        let load = |text: &str| Config::from_source(&Source::new("fenced.toml", text)).unwrap();
        let text = "[resource.db]\nfence = []\nunfenced = true\n";
        let (access, gate) = Access::new(&load(text));
        assert!(!gate.open());
        access.change(&load(&format!("{text}join = {{ uid = [990] }}\n")));
        assert!(gate.open());
        access.change(&load(&format!("allow-uid = [990]\n{text}")));
        assert!(gate.open());
        access.change(&load(text));
        assert!(!gate.open());
    }
}
