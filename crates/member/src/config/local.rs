//! `member.toml`: what is one host's own.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sitegate_host::diagnostic::{ConfigError, Diagnostic, Problems, Source, Spanned, nearest};
use sitegate_host::log::{Log, LogFormat};
use tracing_subscriber::EnvFilter;

use super::{Formation, Member, MemberName, PORT_DEFAULT, Role, TicketName};

mod hooks;

use hooks::LocalTicketEntry;
pub use hooks::{Check, Hook, LocalTicket};

const STATE_DIR_DEFAULT: &str = "/var/lib/sitegate";
const RUNTIME_DIR_DEFAULT: &str = "/run/sitegate";
/// In the runtime directory.
const SOCKET_DEFAULT: &str = "sitegate.sock";
/// Where `sitegate-fenced` listens unless its configuration says otherwise.
pub const FENCE_SOCKET_DEFAULT: &str = "/run/sitegate-fenced/fenced.sock";
const LOG_FILTER_DEFAULT: &str = "info";
/// `sun_path` has 108 bytes with the zero at its end; see unix(7).
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// What is one host's own: who it is, where it keeps and serves things, its certificate, and the hooks of its tickets.
///
/// Paths that the file gives as relative are taken from the directory of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Local {
    /// Which member of the formation this host is.
    pub name: MemberName,
    /// Where identity and store lie; must outlive a reboot.
    pub state_dir: PathBuf,
    /// Where sockets and what is true for one boot lie; should be gone after a reboot.
    pub runtime_dir: PathBuf,
    /// The Unix socket of the API.
    pub socket: PathBuf,
    /// The Unix socket of sitegate-fenced; sites only look at it.
    pub fence_socket: PathBuf,
    /// Where to listen for members and for API clients with a certificate.
    pub listen: Listen,
    /// The host's certificate and what belongs to it.
    pub tls: TlsFiles,
    /// What is logged, and how.
    pub log: Log,
    /// Hooks, by ticket. A ticket without an entry has none.
    pub tickets: BTreeMap<TicketName, LocalTicket>,
}

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// On this port of every address of the host, IPv6 and IPv4: what is meant when nothing is written.
    Everywhere(u16),
    /// On these, at least one.
    On(Vec<SocketAddr>),
}

/// The PEM files of `[tls]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate of the formation's CA.
    pub ca: PathBuf,
    /// This host's certificate.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Revoked certificates, if any were.
    pub crl: Option<PathBuf>,
    /// Whether an expired certificate of a member cuts it off.
    pub strict_expiry: bool,
}

impl Local {
    /// Reads and checks a member file, also against `formation` if there is one that could be read.
    pub fn parse(source: &Source, formation: Option<&Formation>) -> Result<Self, ConfigError> {
        source.parse::<LocalFile>()?.resolve(source, formation)
    }
}

/// The file as written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct LocalFile {
    name: Spanned<MemberName>,
    state_dir: Option<PathBuf>,
    runtime_dir: Option<PathBuf>,
    socket: Option<Spanned<PathBuf>>,
    fence_socket: Option<Spanned<PathBuf>>,
    listen: Option<Spanned<Vec<Spanned<String>>>>,
    tls: TlsSection,
    #[serde(default)]
    log: LogSection,
    #[serde(default)]
    ticket: BTreeMap<Spanned<TicketName>, LocalTicketEntry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct TlsSection {
    ca: PathBuf,
    cert: PathBuf,
    key: PathBuf,
    crl: Option<PathBuf>,
    strict_expiry: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct LogSection {
    #[serde(default)]
    format: LogFormat,
    filter: Option<Spanned<String>>,
}

impl LocalFile {
    fn resolve(self, source: &Source, formation: Option<&Formation>) -> Result<Local, ConfigError> {
        let mut problems = Problems::new();
        let me = formation.and_then(|formation| self.find_me(formation, source, &mut problems));
        if me.is_some_and(|me| me.role == Role::Arbitrator) {
            self.check_arbitrator(source, &mut problems);
        }
        let base = source.file().parent().unwrap_or(Path::new(""));
        let path = |written: PathBuf| base.join(written);
        let runtime_dir = path(self.runtime_dir.unwrap_or_else(|| RUNTIME_DIR_DEFAULT.into()));
        let socket = resolve_socket(self.socket, runtime_dir.join(SOCKET_DEFAULT), source, &mut problems);
        let fence_socket =
            resolve_socket(self.fence_socket, FENCE_SOCKET_DEFAULT.into(), source, &mut problems);
        let local = Local {
            name: self.name.into_inner(),
            state_dir: path(self.state_dir.unwrap_or_else(|| STATE_DIR_DEFAULT.into())),
            runtime_dir,
            socket,
            fence_socket,
            listen: resolve_listen(self.listen, me, source, &mut problems),
            tls: TlsFiles {
                ca: path(self.tls.ca),
                cert: path(self.tls.cert),
                key: path(self.tls.key),
                crl: self.tls.crl.map(path),
                strict_expiry: self.tls.strict_expiry.unwrap_or(false),
            },
            log: resolve_log(self.log, source, &mut problems),
            tickets: resolve_tickets(self.ticket, formation, source, &mut problems),
        };
        problems.finish(Some(local))
    }

    fn find_me<'f>(
        &self,
        formation: &'f Formation,
        source: &Source,
        problems: &mut Problems,
    ) -> Option<&'f Member> {
        let name = self.name.get_ref();
        let me = formation.member(name);
        if me.is_none() {
            let names: Vec<&str> = formation.members.iter().map(|member| member.name.as_str()).collect();
            let hint = match nearest(name.as_str(), names.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("its members are {}", names.join(", ")),
            };
            let cause = format!("no member of formation `{}` is named `{name}`", formation.name);
            problems.add(Diagnostic::at(source, self.name.span(), cause).hint(hint));
        }
        me
    }

    fn check_arbitrator(&self, source: &Source, problems: &mut Problems) {
        let name = self.name.get_ref();
        if let Some(written) = &self.fence_socket {
            let cause = format!("`{name}` is an arbitrator and fences nothing");
            problems.add(Diagnostic::at(source, written.span(), cause).hint("remove fence-socket"));
        }
        if let Some(ticket) = self.ticket.keys().next() {
            let cause = format!("`{name}` is an arbitrator and runs no hooks");
            problems.add(Diagnostic::at(source, ticket.span(), cause).hint("remove every [ticket.…]"));
        }
    }
}

fn resolve_socket(
    written: Option<Spanned<PathBuf>>,
    default: PathBuf,
    source: &Source,
    problems: &mut Problems,
) -> PathBuf {
    let base = source.file().parent().unwrap_or(Path::new(""));
    let (path, at) = match written {
        Some(written) => (base.join(written.get_ref()), Some(written.span())),
        None => (default, None),
    };
    let length = path.as_os_str().len();
    if length > SOCKET_PATH_BYTES_MAX {
        let cause = format!(
            "{} is {length} bytes long; the path of a socket has at most {SOCKET_PATH_BYTES_MAX}",
            path.display()
        );
        let diagnostic = match at {
            Some(at) => Diagnostic::at(source, at, cause),
            None => Diagnostic::of_file(source.file(), cause),
        };
        problems.add(diagnostic.hint("choose a shorter path, in /run say"));
    }
    path
}

fn resolve_listen(
    written: Option<Spanned<Vec<Spanned<String>>>>,
    me: Option<&Member>,
    source: &Source,
    problems: &mut Problems,
) -> Listen {
    let port = me.and_then(|me| me.addresses.first()).map_or(PORT_DEFAULT, |address| address.port);
    let Some(written) = written else { return Listen::Everywhere(port) };
    if written.get_ref().is_empty() {
        let hint = "write addresses as in `listen = [\"192.0.2.10:9929\"]`, or leave it out for all of them";
        problems.add(Diagnostic::at(source, written.span(), "nothing to listen on").hint(hint));
    }
    let mut addresses = Vec::new();
    for text in written.get_ref() {
        match text.get_ref().parse::<SocketAddr>() {
            Ok(address) => addresses.push(address),
            Err(_) => {
                let cause = format!("\"{}\" is not an IP address and port to listen on", text.get_ref());
                let hint = "write \"192.0.2.10:9929\", \"[2001:db8::3]:9929\" or, for all, \"[::]:9929\"";
                problems.add(Diagnostic::at(source, text.span(), cause).hint(hint));
            }
        }
    }
    Listen::On(addresses)
}

fn resolve_log(section: LogSection, source: &Source, problems: &mut Problems) -> Log {
    if let Some(filter) = &section.filter
        && let Err(error) = EnvFilter::builder().parse(filter.get_ref())
    {
        let hint = "write a level (error, warn, info, debug, trace), or per module as in \"info,sitegate_member=debug\"";
        problems.add(Diagnostic::at(source, filter.span(), format!("not a log filter: {error}")).hint(hint));
    }
    let filter = section.filter.map_or_else(|| LOG_FILTER_DEFAULT.to_owned(), Spanned::into_inner);
    Log { format: section.format, filter }
}

fn resolve_tickets(
    entries: BTreeMap<Spanned<TicketName>, LocalTicketEntry>,
    formation: Option<&Formation>,
    source: &Source,
    problems: &mut Problems,
) -> BTreeMap<TicketName, LocalTicket> {
    let mut tickets = BTreeMap::new();
    for (name, entry) in entries {
        if let Some(formation) = formation.filter(|formation| !formation.tickets.contains_key(name.get_ref()))
        {
            let known = formation.tickets.keys().map(TicketName::as_str);
            let hint = match nearest(name.get_ref().as_str(), known) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("add [ticket.{name}] to formation.toml on every member, or remove this"),
            };
            let cause = format!("formation.toml has no ticket `{name}`");
            problems.add(Diagnostic::at(source, name.span(), cause).hint(hint));
        }
        let ticket = entry.resolve(source, problems);
        tickets.insert(name.into_inner(), ticket);
    }
    tickets
}
