//! The configuration of a member: `formation.toml`, the same on every member, and `member.toml`, this host's own.
//!
//! Both become types that hold only what makes sense together; everything that is wrong is reported at once, with file,
//! line and fix. `docs/configuration.md` lists every key. What starts, stops and fences
//! resources stands in the fence daemon's own file, not here.

use std::path::Path;

use sitegate_host::diagnostic::{ConfigError, Problems, Source};

mod address;
mod digest;
mod drift;
mod formation;
mod local;
mod names;
mod terms;
pub mod timing;

pub use address::{Address, Host, PORT_DEFAULT};
pub use digest::FormationDigest;
pub use drift::ClockDrift;
pub use formation::{Formation, MEMBERS_MAX, MEMBERS_MIN, Member, Role, TICKETS_MAX};
pub use local::{Check, FENCE_SOCKET_DEFAULT, Hook, Listen, Local, LocalTicket, TlsFiles};
pub use names::{FormationName, MemberName, NAME_LENGTH_MAX, PersonName, TicketName};
pub use sitegate_host::log::{Log, LogFormat};
pub use terms::{Takeover, Terms};

/// Where the configuration lies unless somebody says otherwise.
pub const DIRECTORY_DEFAULT: &str = "/etc/sitegate";

/// The name of the file that all members share.
pub const FORMATION_FILE: &str = "formation.toml";

/// The name of the file that is one host's own.
pub const MEMBER_FILE: &str = "member.toml";

/// Both files of a member, checked against each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Configuration {
    /// What all members share.
    pub formation: Formation,
    /// What is this host's own.
    pub local: Local,
}

impl Configuration {
    /// Loads `formation.toml` and `member.toml` of `directory`; the error holds everything that is wrong with either.
    pub fn load(directory: &Path) -> Result<Self, ConfigError> {
        let mut problems = Problems::new();
        let formation =
            Source::read(&directory.join(FORMATION_FILE)).and_then(|file| Formation::parse(&file));
        let formation = problems.take(formation);
        let local = Source::read(&directory.join(MEMBER_FILE));
        let local = problems.take(local.and_then(|file| Local::parse(&file, formation.as_ref())));
        problems.finish(formation.zip(local).map(|(formation, local)| Self { formation, local }))
    }

    /// This host's entry in the formation.
    pub fn me(&self) -> &Member {
        self.formation.member(&self.local.name).expect("loading checked that the formation has this member")
    }
}
