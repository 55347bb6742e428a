//! Messages to the service manager (sd_notify(3)). Sending never blocks: systemd reads its socket when it gets to it, and a
//! daemon that waits until there is room does nothing else meanwhile.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tracing::{debug, warn};

use crate::clock::monotonic_us;

/// The line to the service manager. Without one, nothing is said.
#[derive(Debug)]
pub struct ServiceManager {
    socket: Option<SocketAddr>,
    watchdog: Option<Duration>,
    /// There was no room for `READY=1`, without which a start or a reload never ends.
    ready_is_owed: AtomicBool,
}

impl ServiceManager {
    /// As the environment says.
    #[must_use]
    pub fn from_environment() -> Self {
        let socket = std::env::var_os("NOTIFY_SOCKET").and_then(|name| match address(&name) {
            Ok(address) => Some(address),
            Err(error) => {
                warn!("the service manager is told nothing: NOTIFY_SOCKET is no socket's name: {error}");
                None
            }
        });
        Self { socket, watchdog: watchdog(), ready_is_owed: AtomicBool::new(false) }
    }

    /// How long it waits for a word before it ends this process, if it does.
    #[must_use]
    pub fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// The start, or a reload, is over.
    pub fn ready(&self) {
        let said = self.tell("READY=1");
        self.ready_is_owed.store(!said, Ordering::Relaxed);
    }

    /// This process is alive. A word that is lost does no harm, if the next comes within [`watchdog`](Self::watchdog).
    pub fn alive(&self) {
        if self.ready_is_owed.load(Ordering::Relaxed) {
            self.ready();
        }
        self.tell("WATCHDOG=1");
    }

    /// A reload has begun; [`ready`](Self::ready) ends it.
    pub fn reloading(&self) {
        self.ready_is_owed.store(false, Ordering::Relaxed);
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={}", monotonic_us()));
    }

    /// This process is about to end.
    pub fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    /// How it goes, in one line.
    pub fn status(&self, line: &str) {
        self.tell(&format!("STATUS={line}"));
    }

    /// Whether it was said, or there is nobody to whom it could be.
    fn tell(&self, what: &str) -> bool {
        let Some(socket) = &self.socket else { return true };
        match send(socket, what) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                debug!("the service manager does not listen: not told {what}");
                false
            }
            // It would fail again.
            Err(error) => {
                warn!("cannot tell the service manager: {error}");
                true
            }
        }
    }
}

fn send(to: &SocketAddr, what: &str) -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.send_to_addr(what.as_bytes(), to).map(|_| ())
}

/// `NOTIFY_SOCKET`: a path, or after an `@` an abstract name.
fn address(name: &OsStr) -> io::Result<SocketAddr> {
    match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(name),
    }
}

/// As sd_watchdog_enabled(3) reads it.
fn watchdog() -> Option<Duration> {
    let number = |name| std::env::var(name).ok()?.parse::<u64>().ok();
    let for_us = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
    number("WATCHDOG_USEC").filter(|_| for_us).map(Duration::from_micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(socket: SocketAddr) -> ServiceManager {
        ServiceManager { socket: Some(socket), watchdog: None, ready_is_owed: AtomicBool::new(false) }
    }

    /// All that was said, once nothing more waits.
    fn heard(listener: &UnixDatagram) -> Vec<String> {
        listener.set_nonblocking(true).unwrap();
        let mut buffer = [0; 100];
        let said = std::iter::from_fn(|| listener.recv(&mut buffer).ok().map(|n| buffer[..n].to_vec()));
        said.map(|bytes| String::from_utf8(bytes).unwrap()).collect()
    }

    #[test]
    fn a_manager_that_does_not_listen_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let listener = UnixDatagram::bind(&path).unwrap();
        let manager = at(address(path.as_os_str()).unwrap());
        while manager.tell("STATUS=busy") {}
        manager.ready();
        assert!(heard(&listener).iter().all(|word| word == "STATUS=busy"));
        manager.alive();
        assert_eq!(
            heard(&listener),
            ["READY=1", "WATCHDOG=1"],
            "what is owed is said as soon as there is room"
        );
        manager.alive();
        assert_eq!(heard(&listener), ["WATCHDOG=1"]);
    }

    #[test]
    fn abstract_names_are_known() {
        let name = format!("sitegate-test-{}", std::process::id());
        let own = SocketAddr::from_abstract_name(&name).unwrap();
        let listener = UnixDatagram::bind_addr(&own).unwrap();
        at(address(OsStr::new(&format!("@{name}"))).unwrap()).stopping();
        assert_eq!(heard(&listener), ["STOPPING=1"]);
    }
}
