//! The driver `agent`: fence agents of ClusterLabs (docs/fencing.md, "Fence agents").
//!
//! An agent is a program that reads options as `key=value` lines on stdin, one of them the `action`, and answers by its exit
//! code: [FenceAgentAPI.md](https://github.com/ClusterLabs/fence-agents/blob/main/doc/FenceAgentAPI.md). [`off`] is the level:
//! `off` of all plugs at once, believed only when `status` says so. [`trial`] asks the agent without fencing anything; [`check`]
//! compares a configuration with what agents say of themselves.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub mod check;
mod here;
mod metadata;
pub mod off;
mod options;
mod places;
pub mod trial;

pub use options::{Options, OptionsError};
pub(crate) use options::{secret, usable_name, usable_value};
pub use places::Places;

/// Where agents with a bare name are looked for, in this order.
pub const DIRECTORIES: [&str; 2] = ["/usr/sbin", "/usr/local/sbin"];
/// The most plugs of a level: two power supplies of some machines, not a rack. Each costs programs and files while it is fenced.
pub const PLUGS_MAX: usize = 16;

/// What to run, and what about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    /// A bare name, or an absolute path.
    pub name: String,
    /// What it is told, without action, plug and secrets.
    pub options: BTreeMap<String, String>,
    /// A file with more of that, secrets mostly.
    pub options_file: Option<PathBuf>,
    /// What to switch off, at once; without any, the agent is run once and knows from its options.
    pub plugs: Vec<String>,
    /// The option that names the plug.
    pub plug_option: String,
    /// How long to wait after a failure.
    pub retry_after: Duration,
    /// How long one run of the agent may take.
    pub attempt_within: Duration,
}

/// What an agent is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Switch it off.
    Off,
    /// Tell whether it is on: exit code [`Action::IS_ON`] or [`Action::IS_OFF`].
    Status,
    /// Tell whether the device answers.
    Monitor,
    /// Describe itself.
    Metadata,
}

impl Action {
    /// The exit code of `status` that says on; that of success for the others.
    pub const IS_ON: i32 = 0;
    /// The exit code of `status` that says off.
    pub const IS_OFF: i32 = 2;

    /// As it is written on stdin.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Status => "status",
            Self::Monitor => "monitor",
            Self::Metadata => "metadata",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Agent {
    /// The program: of a bare name the first that is there.
    #[must_use]
    pub fn program(&self) -> PathBuf {
        if self.name.starts_with('/') {
            return PathBuf::from(&self.name);
        }
        let candidates = DIRECTORIES.map(|directory| Path::new(directory).join(&self.name));
        candidates.iter().find(|path| path.exists()).unwrap_or(&candidates[0]).clone()
    }

    /// What is switched off one by one: the plugs, or the one thing that the options name.
    fn targets(&self) -> Vec<Option<String>> {
        if self.plugs.is_empty() { vec![None] } else { self.plugs.iter().cloned().map(Some).collect() }
    }

    /// What it reads on stdin. Of an option that stands twice, agents take the last.
    fn input(&self, secrets: &Options, action: Action, plug: Option<&str>) -> Vec<u8> {
        let mut lines = String::new();
        let options =
            self.options.iter().chain(secrets.iter()).map(|(name, value)| (name.as_str(), value.as_str()));
        let plug = plug.map(|plug| (self.plug_option.as_str(), plug));
        for (name, value) in options.chain(plug).chain([("action", action.name())]) {
            lines.extend([name, "=", value, "\n"]);
        }
        lines.into_bytes()
    }
}

#[cfg(test)]
pub(crate) mod fixture;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plug_and_action_come_last() {
        let agent = Agent {
            options: BTreeMap::from([("ip".to_owned(), "192.0.2.7".to_owned())]),
            ..fixture::agent("/x", &["1", "2"])
        };
        let secrets = Options::parse("action=on\npassword=a=b\n").unwrap_or_default();
        assert_eq!(secrets, Options::default(), "an action is not for a file to say");
        let secrets = Options::parse("password=a=b\n").unwrap();
        let input = String::from_utf8(agent.input(&secrets, Action::Off, Some("2"))).unwrap();
        assert_eq!(input, "ip=192.0.2.7\npassword=a=b\nplug=2\naction=off\n");
    }

    #[test]
    fn a_bare_name_is_looked_up() {
        assert_eq!(fixture::agent("/opt/x", &[]).program(), Path::new("/opt/x"));
        assert_eq!(
            fixture::agent("fence_nonexistent", &[]).program(),
            Path::new("/usr/sbin/fence_nonexistent")
        );
    }
}
