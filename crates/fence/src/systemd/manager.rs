//! The way to systemd: its D-Bus interface, by the system's message bus.
//!
//! `systemctl` of root has another way, straight to PID 1 (`/run/systemd/private`), which does not need the bus. It is not for
//! others to use, and PID 1 signs what it answers there with a name that zbus, to the letter of the specification, refuses.

use std::collections::{BTreeSet, HashMap};

use tokio::time::{Instant, timeout_at};
use zbus::connection::Builder;
use zbus::{Connection, Error, Message, OwnedObjectPath, OwnedVariant, Variant};

use super::members::{Table, Unit, members};

const DESTINATION: &str = "org.freedesktop.systemd1";
const PATH: &str = "/org/freedesktop/systemd1";
const INTERFACE: &str = "org.freedesktop.systemd1.Manager";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
/// A job that is queued gives way to this one.
const REPLACE: &str = "replace";
/// The number of SIGKILL, as systemd takes it.
const SIGKILL: i32 = 9;

/// Properties that name what a unit starts, what starts it, and what systemd stops with it; see `unit_atoms` in systemd's
/// `unit-dependency-atom.c`. Older versions lack some, and have nothing in their place.
const PULLS: [&str; 5] = ["Requires", "Wants", "BindsTo", "Upholds", "Triggers"];
const PULLED_BY: [&str; 5] = ["RequiredBy", "WantedBy", "BoundBy", "UpheldBy", "TriggeredBy"];
const STOPS: [&str; 5] = ["RequiredBy", "RequisiteOf", "BoundBy", "ConsistsOf", "PropagatesStopTo"];

/// A connection to systemd. What it is asked takes as long as systemd takes: the caller limits that.
#[derive(Debug)]
pub(super) struct Manager {
    connection: Connection,
}

impl Manager {
    /// Connects.
    ///
    /// # Errors
    /// Why not, as a sentence.
    pub(super) async fn connect() -> Result<Self, String> {
        Self::by(Builder::system()).await
    }

    async fn by(bus: Builder<'_>) -> Result<Self, String> {
        let connection = bus.build().await.map_err(|error| {
            format!("systemd cannot be asked, as the system's message bus cannot be reached: {error}; is dbus.service (or dbus-broker.service) up?")
        })?;
        Ok(Self { connection })
    }

    /// The same, with a bound.
    pub(super) async fn connect_until(until: Instant) -> Result<Self, String> {
        timeout_at(until, Self::connect()).await.unwrap_or_else(|_| Err(SILENT.to_owned()))
    }

    async fn ask<B>(&self, method: &str, body: &B) -> Result<Message, String>
    where
        B: serde::Serialize + zbus::DynamicType,
    {
        let answer =
            self.connection.call_method(Some(DESTINATION), PATH, Some(INTERFACE), method, body).await;
        answer.map_err(|error| format!("{method}: {}", in_words(&error)))
    }

    /// What systemd says of a unit, also of one that does not exist.
    pub(super) async fn unit(&self, name: &str) -> Result<Unit, String> {
        let loaded = self.ask("LoadUnit", &(name,)).await?;
        let path: OwnedObjectPath =
            loaded.body().deserialize().map_err(|error| format!("{name}: {error}"))?;
        // Of all its interfaces: the control group is a service's or a mount's.
        let all = ("",);
        let answer =
            self.connection.call_method(Some(DESTINATION), &path, Some(PROPERTIES), "GetAll", &all).await;
        let answer = answer.map_err(|error| format!("{name}: {}", in_words(&error)))?;
        let properties: HashMap<String, OwnedVariant> =
            answer.body().deserialize().map_err(|error| format!("{name}: {error}"))?;
        read(&properties).ok_or_else(|| format!("{name}: systemd does not describe it as a unit"))
    }

    /// What belongs to `root`, and what systemd says of each; `root` with its own name where it was an alias.
    pub(super) async fn look(&self, root: &str) -> Result<Looked, String> {
        let unit = self.unit(root).await?;
        let root = unit.id.clone();
        let mut table = Table::from([(root.clone(), unit)]);
        loop {
            let found = members(&root, &table);
            if found.unread.is_empty() {
                return Ok(Looked { root, found, table });
            }
            for name in found.unread {
                let unit = self.unit(&name).await?;
                table.insert(name, unit);
            }
        }
    }

    /// Queues its start.
    pub(super) async fn start(&self, name: &str) -> Result<(), String> {
        self.ask("StartUnit", &(name, REPLACE)).await.map(drop)
    }

    /// Queues its stop, and takes what else is queued for it out of the queue.
    pub(super) async fn stop(&self, name: &str) -> Result<(), String> {
        self.ask("StopUnit", &(name, REPLACE)).await.map(drop)
    }

    /// Forgets that it has failed, and how often it was started.
    pub(super) async fn reset(&self, name: &str) -> Result<(), String> {
        self.ask("ResetFailedUnit", &(name,)).await.map(drop)
    }

    /// Kills all its processes that systemd knows of.
    pub(super) async fn kill(&self, name: &str) -> Result<(), String> {
        self.ask("KillUnit", &(name, "all", SIGKILL)).await.map(drop)
    }
}

/// What was found at a look.
#[derive(Debug)]
pub(super) struct Looked {
    pub(super) root: String,
    pub(super) found: super::members::Members,
    pub(super) table: Table,
}

/// For when a limit is over and nothing was answered.
pub(super) const SILENT: &str =
    "systemd does not answer: it hangs, or is busy; look at its own log (journalctl _PID=1)";

/// The text that systemd gives, without the name of the error.
fn in_words(error: &Error) -> String {
    match error {
        Error::MethodError(name, text, _) => text.clone().unwrap_or_else(|| name.to_string()),
        other => other.to_string(),
    }
}

fn read(properties: &HashMap<String, OwnedVariant>) -> Option<Unit> {
    let text = |name: &str| <&str>::try_from(properties.get(name)?).ok().map(str::to_owned);
    let names =
        |of: &[&str]| of.iter().flat_map(|name| strings(properties.get(*name))).collect::<BTreeSet<_>>();
    Some(Unit {
        id: text("Id")?,
        load: text("LoadState")?,
        active: text("ActiveState")?,
        sub: text("SubState")?,
        job: job(properties.get("Job")?)?,
        cgroup: text("ControlGroup").unwrap_or_default(),
        pulls: names(&PULLS),
        pulled_by: names(&PULLED_BY),
        stops: names(&STOPS),
    })
}

/// The number of a job with its path, or 0.
fn job(value: &OwnedVariant) -> Option<u32> {
    let Variant::Structure(job) = &**value else { return None };
    match job.fields().first()? {
        Variant::U32(number) => Some(*number),
        _ => None,
    }
}

fn strings(value: Option<&OwnedVariant>) -> Vec<String> {
    let Some(Variant::Array(array)) = value.map(|value| &**value) else { return Vec::new() };
    array.iter().filter_map(|name| <&str>::try_from(name).ok().map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_socket_that_nobody_serves_is_an_error_and_a_silent_one_is_not_waited_for_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("bus");
        let address = format!("unix:path={}", socket.display());
        let bus = || Manager::by(Builder::address(address.as_str()));
        let error = bus().await.unwrap_err();
        assert!(error.contains("is dbus.service"), "{error}");
        let _silent = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let until = Instant::now() + Duration::from_millis(100);
        assert!(timeout_at(until, bus()).await.is_err());
    }

    #[test]
    fn a_unit_is_read_from_its_properties() {
        let value = |value: Variant<'static>| OwnedVariant::try_from(value).unwrap();
        let text = |text: &'static str| value(Variant::from(text));
        let mut properties: HashMap<String, OwnedVariant> = [
            ("Id", "a.service"),
            ("LoadState", "loaded"),
            ("ActiveState", "active"),
            ("SubState", "running"),
        ]
        .map(|(name, content)| (name.to_owned(), text(content)))
        .into();
        assert_eq!(read(&properties), None, "no job is not the same as none queued");
        let path = zbus::ObjectPath::try_from("/").unwrap();
        properties.insert("Job".to_owned(), value(Variant::from((7_u32, path))));
        properties.insert("Wants".to_owned(), value(Variant::from(vec!["b.service", "c.service"])));
        properties.insert("BoundBy".to_owned(), value(Variant::from(vec!["d.service"])));
        let unit = read(&properties).unwrap();
        assert_eq!((unit.job, unit.cgroup.as_str()), (7, ""));
        assert_eq!(unit.pulls, BTreeSet::from(["b.service", "c.service"].map(str::to_owned)));
        assert_eq!(unit.stops, BTreeSet::from(["d.service".to_owned()]));
        assert_eq!(unit.stops, unit.pulled_by);
    }
}
