//! What the service manager hears, and logs for programs.

mod support;

use std::os::unix::net::UnixDatagram;

use rustix::process::Signal;
use sitegate_test_support::wait::PATIENCE;
use support::formation::{Formation, enter};
use support::wait_for;

/// Not a test: the daemons of the tests enter here.
#[test]
#[ignore = "only for the daemons that the tests start"]
fn daemon() {
    enter();
}

/// A service manager's socket.
struct Manager(UnixDatagram);

impl Manager {
    /// Waits for a message with this line in it.
    fn hears(&self, line: &str) {
        let mut heard = Vec::new();
        wait_for(&format!("{line} from the daemon"), || {
            let mut message = [0; 4096];
            let length = self.0.recv(&mut message).ok()?;
            heard.push(String::from_utf8_lossy(&message[..length]).into_owned());
            heard.last().unwrap().lines().any(|have| have.starts_with(line)).then_some(())
        });
    }
}

#[test]
fn the_service_manager_is_told_how_it_goes() {
    let formation = Formation::new();
    let paris = &formation.members[0];
    assert!(paris.run(&["init"]).0.success());
    let path = formation.directory.path().join("notify");
    let manager = Manager(UnixDatagram::bind(&path).unwrap());
    manager.0.set_read_timeout(Some(PATIENCE)).unwrap();
    let daemon = paris.start_with(&[("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "900000")]);
    manager.hears("READY=1");
    manager.hears("STATUS=waits until all members have met; has heard 0 of 2 others");
    for _ in 0..3 {
        manager.hears("WATCHDOG=1");
    }
    daemon.signal(Signal::HUP);
    manager.hears("RELOADING=1");
    manager.hears("READY=1");
    daemon.signal(Signal::TERM);
    manager.hears("STOPPING=1");
    assert!(daemon.end().success());
    assert!(paris.api().connect().is_err(), "its socket is gone");
}

#[test]
fn a_log_in_json_is_json() {
    let formation = Formation::new();
    let paris = &formation.members[0];
    assert!(paris.run(&["init"]).0.success());
    let file = paris.directory.join("member.toml");
    let member = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, member + "[log]\nformat = \"json\"\nfilter = \"debug\"\n").unwrap();
    let daemon = paris.start();
    paris.wait_for_log(&["has started"]);
    assert!(daemon.stop().success());
    let log = paris.log();
    for line in log.lines() {
        let entry: serde_json::Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(
            entry["timestamp"].is_string() && entry["level"].is_string() && entry["message"].is_string(),
            "{line}"
        );
    }
    assert!(log.lines().count() > 3, "{log}");
}
