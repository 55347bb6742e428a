//! Which member a command talks to, and with which certificate.

use std::path::{Path, PathBuf};

use clap::Args;
use sitegate_host::diagnostic::Source;
use sitegate_member::config::{
    Address, DIRECTORY_DEFAULT, FENCE_SOCKET_DEFAULT, Local, MEMBER_FILE, TlsFiles,
};
use sitegate_member::tls::Credentials;

use crate::terminal::exit::Exit;
use crate::terminal::failure::Failure;

/// Where the member's socket is unless its configuration says otherwise.
pub(crate) const SOCKET_DEFAULT: &str = "/run/sitegate/sitegate.sock";

/// The variable that names another socket.
const SOCKET_VARIABLE: &str = "SITEGATE_SOCKET";
/// The variable that names another directory with the member's configuration.
pub(crate) const CONFIG_VARIABLE: &str = "SITEGATE_CONFIG";

/// Options of every command that talks to a member.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Whom to ask")]
pub(crate) struct PlaceArgs {
    /// The Unix socket of the member on this host [default: as in /etc/sitegate/member.toml] [env: SITEGATE_SOCKET]
    // Not clap's `env`: it would conflict with --member, which is to win over the environment.
    #[arg(long, value_name = "PATH", conflicts_with = "member")]
    socket: Option<PathBuf>,
    /// Ask this member over TLS, with an operator's or viewer's certificate
    #[arg(long, value_name = "HOST[:PORT]")]
    member: Option<Address>,
    /// Our certificate for --member [default: the one in ~/.config/sitegate] [env: SITEGATE_CERT]
    // Written by hand as above: clap would put the variable into a paragraph of its own.
    #[arg(long, value_name = "FILE", env = "SITEGATE_CERT", hide_env = true)]
    cert: Option<PathBuf>,
    /// Its private key [default: beside the certificate, with the ending .key] [env: SITEGATE_KEY]
    #[arg(long, value_name = "FILE", env = "SITEGATE_KEY", hide_env = true)]
    key: Option<PathBuf>,
    /// The certificate of the formation's CA [default: ca.pem beside our certificate] [env: SITEGATE_CA]
    #[arg(long, value_name = "FILE", env = "SITEGATE_CA", hide_env = true)]
    ca: Option<PathBuf>,
}

/// Where to connect.
#[derive(Debug)]
pub(crate) enum Place {
    /// To the member on this host.
    Socket(PathBuf),
    /// To any member, as whoever the credentials say.
    Member(Address, Box<Credentials>),
}

impl PlaceArgs {
    /// Only a socket; for programs that know where it is.
    #[must_use]
    pub(crate) fn at_socket(path: PathBuf) -> Self {
        Self { socket: Some(path), member: None, cert: None, key: None, ca: None }
    }

    /// Finds the place.
    ///
    /// # Errors
    /// With `--member`, if there is no usable certificate.
    pub(crate) fn resolve(&self) -> Result<Place, Failure> {
        if let Some(address) = &self.member {
            let files = self.tls_files()?;
            return Ok(Place::Member(address.clone(), Box::new(Credentials::load(&files)?)));
        }
        let named = || std::env::var_os(SOCKET_VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from);
        let socket = self.socket.clone().or_else(named);
        Ok(Place::Socket(socket.unwrap_or_else(configured_socket)))
    }

    fn tls_files(&self) -> Result<TlsFiles, Failure> {
        let cert = match &self.cert {
            Some(cert) => cert.clone(),
            None => find_certificate(&own_directory()?)?,
        };
        let key = self.key.clone().unwrap_or_else(|| cert.with_extension("key"));
        let ca = self.ca.clone().unwrap_or_else(|| cert.with_file_name("ca.pem"));
        // What the other side's certificate is worth is for this formation's CA to say; its age is the members' own worry.
        Ok(TlsFiles { ca, cert, key, crl: None, strict_expiry: false })
    }
}

/// The socket of this host's member, as far as its configuration can be read: a command must work while somebody edits it.
fn configured_socket() -> PathBuf {
    configured().map_or_else(|| SOCKET_DEFAULT.into(), |local| local.socket)
}

/// The socket of this host's fence daemon, likewise.
pub(crate) fn fence_socket() -> PathBuf {
    configured().map_or_else(|| FENCE_SOCKET_DEFAULT.into(), |local| local.fence_socket)
}

fn configured() -> Option<Local> {
    let directory = std::env::var_os(CONFIG_VARIABLE).map_or_else(|| DIRECTORY_DEFAULT.into(), PathBuf::from);
    Source::read(&directory.join(MEMBER_FILE)).and_then(|file| Local::parse(&file, None)).ok()
}

/// Where a person keeps the pack that was issued to them.
fn own_directory() -> Result<PathBuf, Failure> {
    let from =
        |variable: &str| std::env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = from("XDG_CONFIG_HOME").or_else(|| from("HOME").map(|home| home.join(".config")));
    let base = base.ok_or_else(|| {
        Failure::new(Exit::Usage, "--member needs a certificate, and there is no home directory to look in")
            .hint("name one with --cert")
    })?;
    Ok(base.join("sitegate"))
}

fn find_certificate(directory: &Path) -> Result<PathBuf, Failure> {
    let entries = directory.read_dir().into_iter().flatten().flatten().map(|entry| entry.path());
    let mut found: Vec<PathBuf> = entries.filter(|file| is_certificate(file)).collect();
    match (found.pop(), found.pop()) {
        (Some(only), None) => Ok(only),
        (None, _) => Err(Failure::new(
            Exit::Configuration,
            format!("--member needs a certificate, and there is none in {}", directory.display()),
        )
        .hint(
            "issue one with `sitegate pki issue --operator NAME`, and copy its pack there or name it with --cert",
        )),
        (Some(_), Some(_)) => Err(Failure::new(
            Exit::Configuration,
            format!("there are several certificates in {}", directory.display()),
        )
        .hint("name one with --cert")),
    }
}

fn is_certificate(file: &Path) -> bool {
    let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.ends_with(".pem") && !matches!(name, "ca.pem" | "crl.pem")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_only_certificate_of_a_directory_is_ours() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        assert_eq!(find_certificate(directory.path()).unwrap_err().exit, Exit::Configuration);
        for name in ["ca.pem", "alice.pem", "alice.key", "crl.pem"] {
            std::fs::write(at(name), "").unwrap();
        }
        assert_eq!(find_certificate(directory.path()).unwrap(), at("alice.pem"));
        std::fs::write(at("bob.pem"), "").unwrap();
        assert!(find_certificate(directory.path()).unwrap_err().to_string().contains("--cert"));
    }

    #[test]
    fn key_and_ca_lie_beside_the_certificate() {
        let mut args = PlaceArgs::at_socket("/s".into());
        args.cert = Some("/pack/alice.pem".into());
        let files = args.tls_files().unwrap();
        assert_eq!((files.key, files.ca), ("/pack/alice.key".into(), "/pack/ca.pem".into()));
    }
}
