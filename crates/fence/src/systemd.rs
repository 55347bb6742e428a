//! Units of systemd that run only with a ticket (docs/fencing.md, "Units of systemd").
//!
//! Everything that speaks to systemd does so in a process of its own, `sitegate-fenced systemd …`, run and killed as any other
//! program of a resource: no bus that hangs, and no library that speaks to it, comes near the loop that fences. `members.rs` says
//! which units belong, `manager.rs` is the way to systemd, `stop.rs`, `start.rs` and `look.rs` are what is done with both.

use std::ffi::OsString;
use std::fmt;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use sitegate_fence_client::wire::Name;
use tokio::time::Instant;

pub mod check;
mod look;
mod manager;
mod members;
mod start;
mod stop;
mod ticket;
mod unit;

pub use unit::UnitName;

/// The hidden subcommand.
pub const SUBCOMMAND: &str = "systemd";
/// The daemon's own program, as whoever runs it sees itself; also when its file has been replaced by an upgrade.
const OWN_PROGRAM: &str = "/proc/self/exe";
/// What `status` exits with if nothing runs, as init scripts do.
const NOT_RUNNING: u8 = 3;
/// Which part of a limit is left for telling why it was not kept, and the most of that: who overruns is killed without a word.
const LAST_WORDS_SHARE: u32 = 10;
const LAST_WORDS_MAX: Duration = Duration::from_millis(300);
/// How long to wait before looking again at what is on its way.
const POLL: Duration = Duration::from_millis(50);

/// What is to be done with a unit and all that belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Start it, under a ticket that is held here.
    Start,
    /// Stop it gracefully.
    Stop,
    /// Tell by the exit code whether anything of it runs.
    Status,
    /// Make certain that nothing of it runs.
    Fence,
    /// Tell what a fence would do.
    Test,
}

impl Verb {
    const ALL: [Self; 5] = [Self::Start, Self::Stop, Self::Status, Self::Fence, Self::Test];

    /// As a word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Status => "status",
            Self::Fence => "fence",
            Self::Test => "test",
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Something to do with a unit, as the command line of the process that does it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// What.
    pub verb: Verb,
    /// On whose behalf.
    pub resource: Name,
    /// With which unit.
    pub unit: UnitName,
    /// How long it may take.
    pub within: Duration,
}

impl Call {
    /// Program and arguments.
    #[must_use]
    pub fn command(&self) -> Vec<String> {
        let within_ms = self.within.as_millis().to_string();
        let words = [OWN_PROGRAM, SUBCOMMAND, self.verb.name(), self.resource.as_str(), self.unit.as_str()];
        words.into_iter().map(str::to_owned).chain([within_ms]).collect()
    }

    /// What the log calls it.
    #[must_use]
    pub fn shown(&self) -> String {
        format!("systemd {} {}", self.verb, self.unit)
    }

    /// From the arguments after the subcommand.
    fn from_arguments(mut arguments: impl Iterator<Item = OsString>) -> Option<Self> {
        let mut next = || arguments.next()?.into_string().ok();
        let verb = next()?;
        let verb = Verb::ALL.into_iter().find(|known| known.name() == verb)?;
        let resource = Name::new(&next()?).ok()?;
        let unit = UnitName::new(&next()?).ok()?;
        let within = Duration::from_millis(next()?.parse().ok()?);
        next().is_none().then_some(Self { verb, resource, unit, within })
    }

    /// Until when there has to be something to tell.
    fn until(&self) -> Instant {
        Instant::now() + (self.within - (self.within / LAST_WORDS_SHARE).min(LAST_WORDS_MAX))
    }
}

/// Does what the arguments (those after the subcommand) say, and prints one line: what was done, or why it was not.
#[must_use]
pub fn run(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let Some(call) = Call::from_arguments(arguments) else {
        eprintln!("sitegate-fenced systemd: this is for sitegate-fenced itself");
        return ExitCode::from(2);
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            println!("cannot make a runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let (tickets, until) = (Path::new(ticket::DIRECTORY), call.until());
    let done = runtime.block_on(async {
        match call.verb {
            Verb::Start => start::start(&call, tickets, until).await,
            Verb::Stop => stop::stop(&call, tickets, until).await,
            Verb::Fence => stop::fence(&call, tickets, until).await,
            Verb::Test => look::test(&call, until).await,
            Verb::Status => match look::running(&call, until).await {
                Ok(None) => return Err(ExitCode::from(NOT_RUNNING)),
                Ok(Some(what)) => Ok(what),
                Err(why) => Err(why),
            },
        }
        .map_err(|why| {
            println!("{why}");
            ExitCode::FAILURE
        })
    });
    match done {
        Ok(what) => {
            println!("{what}");
            ExitCode::SUCCESS
        }
        Err(code) => code,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Option<Call> {
        Call::from_arguments(words.iter().map(OsString::from))
    }

    #[test]
    fn comes_back_from_its_command_line() {
        for verb in Verb::ALL {
            let call = Call {
                verb,
                resource: Name::new("a/x").unwrap(),
                unit: UnitName::new("sitegate-ticket@a:x.target").unwrap(),
                within: Duration::from_millis(1500),
            };
            let command = call.command();
            assert_eq!(command[..2], [OWN_PROGRAM, SUBCOMMAND]);
            assert_eq!(Call::from_arguments(command.into_iter().skip(2).map(OsString::from)), Some(call));
        }
    }

    #[test]
    fn nothing_else_is_taken_for_one() {
        assert!(parse(&["fence", "db", "db.service", "100"]).is_some());
        for words in [
            &[][..],
            &["fence", "db", "db.service"],
            &["fence", "db", "db.service", "x"],
            &["fence", "db", "db", "100"],
            &["fence", "d b", "db.service", "100"],
            &["mask", "db", "db.service", "100"],
            &["fence", "db", "db.service", "100", "more"],
        ] {
            assert_eq!(parse(words), None, "{words:?}");
        }
    }
}
