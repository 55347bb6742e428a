//! The playground's directory: CA, certificates, and the configuration of three members on loopback.
//!
//! ```text
//! sitegate-XXXXXX/
//!   pki/                     the CA, and a pack for every member and the operator `you`
//!   paris/ lyon/ tiebreak/   formation.toml, member.toml, fenced.toml, state, sockets, logs
//!   writes                   the shared file
//!   hooks                    when hooks ran
//! ```

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use super::processes::mark_of;
use super::writer::SUBCOMMAND;
use crate::pki::FormationCertificates;
use crate::terminal::failure::Failure;

/// The sites, in the order in which they take the ticket.
pub(super) const SITES: [&str; 2] = ["paris", "lyon"];
/// All members, by ascending id.
pub(super) const MEMBERS: [&str; 3] = ["paris", "lyon", "tiebreak"];

/// P.
pub(super) const HEARTBEAT: Duration = Duration::from_millis(300);
/// E.
pub(super) const EXPIRE: Duration = Duration::from_secs(3);
/// A.
pub(super) const ACQUIRE_AFTER: Duration = Duration::from_secs(2);

/// What a scenario changes about the hooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hooks {
    /// They work.
    Plain,
    /// `start` of paris hangs for so long before it starts anything.
    StartHangs(Duration),
    /// The writer is started out of reach of the containment, and the first level of the fence plan fails.
    FenceFails,
}

/// A directory with everything that a formation needs.
#[derive(Debug)]
pub(super) struct Ground {
    directory: TempDir,
    program: PathBuf,
    ports: [u16; 3],
}

impl Ground {
    /// Makes it. Nothing runs yet.
    pub(super) fn make(hooks: Hooks) -> Result<Self, Failure> {
        let failed = |error: io::Error| Failure::machine("make the playground's directory", &error);
        let directory = tempfile::Builder::new().prefix("sitegate-").tempdir().map_err(failed)?;
        let program = std::env::current_exe().map_err(failed)?;
        let ground = Self { directory, program, ports: free_ports().map_err(failed)? };
        ground.make_certificates()?;
        for member in MEMBERS {
            ground.write_configuration(member, hooks).map_err(failed)?;
        }
        Ok(ground)
    }

    /// The directory.
    pub(super) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// A member's directory.
    pub(super) fn of(&self, member: &str) -> PathBuf {
        self.path().join(member)
    }

    /// Every member's journal, as `sitegate verify` takes it.
    pub(super) fn journals(&self) -> Vec<String> {
        let journal = |member: &&str| format!("{member}={}", self.of(member).join("state/journal").display());
        MEMBERS.iter().map(journal).collect()
    }

    /// The socket of a member's API.
    pub(super) fn socket(&self, member: &str) -> PathBuf {
        self.of(member).join("member.sock")
    }

    /// Where a member listens.
    pub(super) fn address(&self, member: &str) -> String {
        let index = MEMBERS.iter().position(|name| *name == member).unwrap_or_default();
        format!("127.0.0.1:{}", self.ports[index])
    }

    /// This program.
    pub(super) fn program(&self) -> &Path {
        &self.program
    }

    /// Removes what a reboot removes: what lies in `/run`.
    pub(super) fn forget_boot(&self, member: &str) -> io::Result<()> {
        remove_all(&self.of(member), &["run", "fenced-run"])
    }

    /// Removes what a new disk lacks.
    pub(super) fn wipe(&self, member: &str) -> io::Result<()> {
        remove_all(&self.of(member), &["state", "fenced-state", "run", "fenced-run"])
    }

    /// Adds tickets that gate nothing, with the times of `db`, before anything runs. All of them can be fenced at once.
    pub(super) fn add_tickets(&self, names: &[String]) -> io::Result<()> {
        let (expire, acquire_after) = (EXPIRE.as_secs(), ACQUIRE_AFTER.as_secs());
        let ticket = |name| {
            format!("\n[ticket.{name}]\nexpire = \"{expire}s\"\nacquire-after = \"{acquire_after}s\"\n")
        };
        let resource = |name| format!("\n[resource.{name}]\nfence = []\nunfenced = true\n");
        let tickets: String = names.iter().map(ticket).collect();
        let resources: String = names.iter().map(resource).collect();
        for member in MEMBERS {
            add(&self.of(member).join("formation.toml"), "", &tickets)?;
        }
        let at_once = format!("concurrency = {}\n", names.len() + 1);
        SITES.iter().try_for_each(|site| add(&self.of(site).join("fenced.toml"), &at_once, &resources))
    }

    /// Leaves the directory where it is.
    pub(super) fn keep(&mut self) -> PathBuf {
        self.directory.disable_cleanup(true);
        self.path().to_owned()
    }

    fn make_certificates(&self) -> Result<(), Failure> {
        let name = |text: &str| text.parse().map_err(Failure::from);
        let members = MEMBERS.iter().map(|member| member.parse().map_err(Failure::from));
        let members = members.collect::<Result<Vec<_>, _>>()?;
        let operators = vec!["you".parse().map_err(Failure::from)?];
        FormationCertificates::new(name("playground")?, members, operators).make(&self.path().join("pki"))?;
        Ok(())
    }

    fn write_configuration(&self, member: &str, hooks: Hooks) -> io::Result<()> {
        let directory = self.of(member);
        fs::create_dir(&directory)?;
        fs::create_dir(mark_of(self.path(), member))?;
        fs::write(directory.join("formation.toml"), self.formation_file())?;
        fs::write(directory.join("member.toml"), self.member_file(member))?;
        if SITES.contains(&member) {
            fs::write(directory.join("fenced.toml"), self.fenced_file(member, hooks))?;
        }
        Ok(())
    }

    fn formation_file(&self) -> String {
        let mut text = format!(
            "formation = \"playground\"\nheartbeat = \"{}ms\"\nrtt-max = \"100ms\"\n",
            HEARTBEAT.as_millis()
        );
        for (id, member) in (1..).zip(MEMBERS) {
            let role = if SITES.contains(&member) { "site" } else { "arbitrator" };
            let address = self.address(member);
            write!(
                text,
                "\n[[member]]\nid = {id}\nname = \"{member}\"\nrole = \"{role}\"\naddress = [\"{address}\"]\n"
            )
            .expect("writing to a String cannot fail");
        }
        let (expire, acquire_after) = (EXPIRE.as_secs(), ACQUIRE_AFTER.as_secs());
        write!(
            text,
            "\n[ticket.db]\nexpire = \"{expire}s\"\nacquire-after = \"{acquire_after}s\"\norder = [\"paris\", \"lyon\"]\n"
        )
        .expect("writing to a String cannot fail");
        text
    }

    fn member_file(&self, member: &str) -> String {
        let fence = if SITES.contains(&member) { "fence-socket = \"fenced-run/fenced.sock\"\n" } else { "" };
        let address = self.address(member);
        format!(
            "name = \"{member}\"\nstate-dir = \"state\"\nruntime-dir = \"run\"\nsocket = \"member.sock\"\n{fence}\
             listen = [\"{address}\"]\n\n[tls]\nca = \"../pki/{member}/ca.pem\"\ncert = \"../pki/{member}/{member}.pem\"\n\
             key = \"../pki/{member}/{member}.key\"\n"
        )
    }

    /// The last level may fail here: a playground must not reboot the machine. Control groups are left alone, so that none is
    /// left behind.
    fn fenced_file(&self, site: &str, hooks: Hooks) -> String {
        let directory = self.of(site);
        let hook = |step: &str, options: &[&str]| {
            let dir = self.path().to_string_lossy();
            let program = self.program.to_string_lossy();
            let line = [&program, SUBCOMMAND, step, "--dir", &dir, "--site", site]
                .into_iter()
                .chain(options.iter().copied());
            toml::Value::from(line.map(str::to_owned).collect::<Vec<_>>()).to_string()
        };
        let hang = match hooks {
            Hooks::StartHangs(hang) if site == SITES[0] => format!("{}ms", hang.as_millis()),
            _ => String::new(),
        };
        let start = match hooks {
            Hooks::FenceFails => hook("start", &["--delegate"]),
            _ if hang.is_empty() => hook("start", &[]),
            _ => hook("start", &["--hang", &hang]),
        };
        let level = |step: &str, within: &str| {
            format!("  {{ driver = \"command\", command = {}, within = \"{within}\" }},\n", hook(step, &[]))
        };
        let levels = match hooks {
            Hooks::FenceFails => level("fail", "400ms") + &level("kill", "400ms"),
            _ => level("kill", "1s"),
        };
        format!(
            "site = \"{site}\"\nstate-dir = \"{0}/fenced-state\"\nruntime-dir = \"{0}/fenced-run\"\nkill-within = \"200ms\"\n\
             containment = \"tree\"\n\n[resource.db]\nstart = {{ command = {start}, within = \"30s\" }}\n\
             stop = {{ command = {1}, within = \"5s\" }}\nfence = [\n{levels}]\nlast-level-may-fail = true\n",
            directory.display(),
            hook("stop", &[]),
        )
    }
}

/// Puts text before and after what is in a file.
fn add(file: &Path, before: &str, after: &str) -> io::Result<()> {
    let text = fs::read_to_string(file)?;
    fs::write(file, format!("{before}{text}{after}"))
}

fn remove_all(directory: &Path, names: &[&str]) -> io::Result<()> {
    for name in names {
        match fs::remove_dir_all(directory.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Where ports are looked for: below those that Linux hands out to outgoing connections, one of which could otherwise sit on
/// the port of a daemon that is being restarted.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// Three ports on which nobody listens. They are let go together, so they are different.
fn free_ports() -> io::Result<[u16; 3]> {
    let mut held = Vec::new();
    // Two playgrounds at once begin their search at different places.
    let start = std::process::id() % u32::from(PORTS.end - PORTS.start);
    let start = PORTS.start + u16::try_from(start).unwrap_or(0);
    for port in (start..PORTS.end).chain(PORTS.start..start) {
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", port)) {
            held.push((port, listener));
        }
        if let [(a, _), (b, _), (c, _)] = held[..] {
            return Ok([a, b, c]);
        }
    }
    Err(io::Error::other("no free ports on 127.0.0.1"))
}

#[cfg(test)]
mod tests {
    use sitegate_fence::config::Config as FenceConfig;
    use sitegate_member::config::Configuration;

    use super::*;
    use sitegate_check::check;

    #[test]
    fn every_configuration_keeps_its_promises() {
        for hooks in [Hooks::Plain, Hooks::StartHangs(Duration::from_millis(8500)), Hooks::FenceFails] {
            let ground = Ground::make(hooks).unwrap();
            for member in MEMBERS {
                Configuration::load(&ground.of(member)).unwrap();
                let checked = check(&ground.of(member)).unwrap();
                assert!(checked.is_good(), "{member} with {hooks:?}: {:?}", checked.problems);
            }
            let fence = FenceConfig::load(&ground.of("paris").join("fenced.toml")).unwrap();
            assert!(fence.all_fenced_within(None) <= Duration::from_millis(1500), "{fence:?}");
        }
    }
}
