//! The published leases: one small file in the runtime directory, replaced as a whole, which the next start of the daemon
//! reads, and every keeper before it starts a program (docs/fencing.md, "What it promises", 2).
//!
//! One line per armed resource: `name token incarnation boot_ns raw_ns activity`; the first line bears the boot id.

use std::fs;
use std::io;
use std::path::Path;

use sitegate_fence_client::wire::{Activity, Deadline, Instant, Name, Token};
use sitegate_host::clock::{boot_id, boot_ns, raw_ns};
use sitegate_host::durable::{self, DurableError};

use crate::deadman::{self, Lease, Leases};

const HEADER: &str = "sitegate-leases-1";

/// The name of the file in the runtime directory.
pub const FILE_NAME: &str = "leases";

/// Now, on both clocks.
#[must_use]
pub fn now() -> Instant {
    Instant { boot_ns: boot_ns(), raw_ns: raw_ns() }
}

/// Replaces the file.
///
/// # Errors
/// If it cannot be written; then the old leases are still published.
pub fn publish(path: &Path, boot_id: &str, leases: &Leases) -> Result<(), DurableError> {
    durable::replace(path, format(boot_id, leases).as_bytes())
}

/// Withdraws all leases; needs no space on the file system, so it may work where [`publish`] does not.
///
/// # Errors
/// If the file is still there.
pub fn withdraw_all(path: &Path) -> Result<(), DurableError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(DurableError::on("remove", path)(error)),
        _ => Ok(()),
    }
}

/// The leases published during this boot; none if the file is missing or of another boot.
///
/// # Errors
/// If it cannot be read, or is none of ours.
pub fn read(path: &Path, boot_id: &str) -> Result<Leases, LeaseError> {
    let bytes = durable::read(path)?.unwrap_or_default();
    if bytes.is_empty() {
        return Ok(Leases::new());
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| LeaseError::Garbled)?;
    parse(text, boot_id).ok_or(LeaseError::Garbled)
}

/// Why the leases could not be read.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] DurableError),
    /// It holds something else.
    #[error("the file with the leases is garbled")]
    Garbled,
}

/// Whether a program of (`resource`, `token`) may be executed now.
///
/// # Errors
/// Why not, as a sentence.
pub fn may_exec(path: &Path, resource: &Name, token: Token) -> Result<(), String> {
    let boot_id = boot_id().map_err(|error| format!("cannot read the boot id: {error}"))?;
    let leases = read(path, &boot_id).map_err(|error| format!("cannot tell whether it is armed: {error}"))?;
    deadman::may_exec(&leases, resource, token, now()).map_err(|barred| barred.to_string())
}

fn format(boot_id: &str, leases: &Leases) -> String {
    let mut text = format!("{HEADER} {boot_id}\n");
    for (name, lease) in leases {
        let Lease { token, incarnation, deadline, activity } = lease;
        let Deadline { boot_ns, raw_ns } = deadline;
        let activity = word(activity);
        text.push_str(&format!("{name} {token} {incarnation} {boot_ns} {raw_ns} {activity}\n"));
    }
    text
}

fn parse(text: &str, boot_id: &str) -> Option<Leases> {
    let mut lines = text.lines();
    let (header, boot) = lines.next()?.split_once(' ')?;
    if header != HEADER {
        return None;
    }
    if boot != boot_id {
        return Some(Leases::new());
    }
    lines.map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<(Name, Lease)> {
    let mut words = line.split(' ');
    let name = Name::new(words.next()?).ok()?;
    let mut number = || words.next()?.parse().ok();
    let (token, incarnation) = (number()?, number()?);
    let deadline = Deadline { boot_ns: number()?, raw_ns: number()? };
    let activity = activity(words.next()?)?;
    words.next().is_none().then_some((name, Lease { token, incarnation, deadline, activity }))
}

fn word(activity: &Activity) -> &'static str {
    match activity {
        Activity::Idle => "idle",
        Activity::Starting => "starting",
        Activity::Started => "started",
        Activity::Stopping => "stopping",
        Activity::Stopped => "stopped",
        Activity::Failed(_) => "failed",
        Activity::Interrupted => "interrupted",
    }
}

fn activity(word: &str) -> Option<Activity> {
    Some(match word {
        "idle" => Activity::Idle,
        "starting" => Activity::Starting,
        "started" => Activity::Started,
        "stopping" => Activity::Stopping,
        "stopped" => Activity::Stopped,
        "failed" => Activity::Failed("before sitegate-fenced was restarted".to_owned()),
        "interrupted" => Activity::Interrupted,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str) -> Name {
        Name::new(name).unwrap()
    }

    fn lease(activity: Activity, deadline: Deadline) -> Lease {
        Lease { token: 259, incarnation: 4, deadline, activity }
    }

    #[test]
    fn come_back_on_the_same_boot_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE_NAME);
        assert!(read(&path, "boot").unwrap().is_empty());
        let deadline = Deadline { boot_ns: 5, raw_ns: 6 };
        let leases = Leases::from([
            (name("a"), lease(Activity::Started, deadline)),
            (name("b"), lease(Activity::Interrupted, deadline)),
        ]);
        publish(&path, "boot", &leases).unwrap();
        assert_eq!(read(&path, "boot").unwrap(), leases);
        assert!(read(&path, "another").unwrap().is_empty());
        fs::write(&path, "sitegate-leases-1 boot\na 1 x\n").unwrap();
        assert!(matches!(read(&path, "boot"), Err(LeaseError::Garbled)));
    }

    #[test]
    fn decide_at_exec() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE_NAME);
        let boot = boot_id().unwrap();
        let check = |token| may_exec(&path, &name("db"), token);
        assert!(check(259).unwrap_err().contains("not armed"));
        let ahead = now().after(3_600_000_000_000);
        let leases = Leases::from([(name("db"), lease(Activity::Idle, ahead))]);
        publish(&path, &boot, &leases).unwrap();
        check(259).unwrap();
        assert!(check(258).unwrap_err().contains("another token"));
        let past = Deadline { raw_ns: 1, ..ahead };
        publish(&path, &boot, &Leases::from([(name("db"), lease(Activity::Idle, past))])).unwrap();
        assert!(check(259).unwrap_err().contains("passed"));
        publish(&path, "another boot", &leases).unwrap();
        assert!(check(259).unwrap_err().contains("not armed"));
        fs::write(&path, "x").unwrap();
        assert!(check(259).unwrap_err().contains("garbled"));
        withdraw_all(&path).unwrap();
        withdraw_all(&path).unwrap();
        assert!(check(259).is_err());
    }
}
