//! Mutual TLS 1.3: who members, operators and viewers are, by certificate.
//!
//! One port serves members (the peers' protocol) and API clients; ALPN says which. Everybody shows a certificate that the
//! formation's CA signed and whose subjectAltName has one URI `sitegate://FORMATION/KIND/NAME`, and is that [`Principal`].
//! DNS names and addresses play no part, so a member may move. Sessions are never resumed and no data is sent early: who
//! was revoked is out with the next connection.
//!
//! [`Credentials`] are what one loading of the files gives, for a daemon or for a client. A daemon makes [`MemberTls`] of
//! them, and keeps it in a [`LiveTls`] to swap it while it runs.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ServerConfig};
use sitegate_host::diagnostic::{ConfigError, Rejected};

use crate::config::{Formation, MemberName, TlsFiles};

mod certificate;
mod credentials;
mod explain;
mod files;
mod principal;
mod refused;
mod trust;
mod verifier;

pub use certificate::{
    CertificateReport, EXPIRY_WARNING_DAYS, Fingerprint, Standing, Validity, fingerprint_of, subject_of,
    validity_of,
};
pub use credentials::Credentials;
pub use explain::{explain, explain_tls};
pub use principal::{Principal, Subject};
pub use refused::with_refusal;
pub use trust::{Peer, Refusal};

/// What a connection is for; agreed by ALPN (RFC 7301).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// Frames between members.
    Peer,
    /// HTTP/1.1 with JSON.
    Api,
}

impl Service {
    const ALL: [Self; 2] = [Self::Peer, Self::Api];

    /// The protocol id in ALPN.
    pub const fn alpn(self) -> &'static [u8] {
        match self {
            Self::Peer => b"sitegate-peer/1",
            Self::Api => b"http/1.1",
        }
    }

    /// What an accepted connection is for. A client that offers no ALPN wants the API; only members get [`Service::Peer`].
    pub fn of(alpn: Option<&[u8]>, client: &Principal) -> Result<Self, Refusal> {
        match alpn {
            Some(id) if id == Self::Peer.alpn() => match client {
                Principal::Member(_) => Ok(Self::Peer),
                Principal::Operator(_) | Principal::Viewer(_) => Err(Refusal::NotForPeers(client.clone())),
            },
            _ => Ok(Self::Api),
        }
    }
}

/// The name to pass to rustls' clients. It goes nowhere: certificates are checked by identity, and no SNI is sent.
pub fn server_name() -> ServerName<'static> {
    ServerName::try_from("sitegate.invalid").expect("this is a DNS name")
}

/// Who is at the other end of a connection that [`Credentials`] let through.
pub fn principal_of(chain: &[CertificateDer<'_>]) -> Result<Peer, Rejected> {
    let certificate = chain.first().ok_or_else(|| {
        Rejected::new("the other side showed no certificate", "connect with a client certificate")
    })?;
    Ok(Peer { principal: subject_of(certificate)?.principal, validity: validity_of(certificate)? })
}

/// Everything that a member needs to be called and to call.
#[derive(Debug)]
pub struct MemberTls {
    /// Ours.
    pub credentials: Credentials,
    /// For the port that the others connect to.
    pub server: Arc<ServerConfig>,
    clients: BTreeMap<MemberName, Arc<ClientConfig>>,
}

impl MemberTls {
    /// Loads what member `me` of `formation` needs; the error holds everything that is wrong with the files.
    pub fn load(files: &TlsFiles, formation: &Formation, me: &MemberName) -> Result<Self, ConfigError> {
        let credentials = Credentials::load(files)?;
        credentials.expect_member(files, &formation.name, me)?;
        let names = || formation.members.iter().map(|member| member.name.clone());
        Ok(Self {
            server: credentials.server(names().collect()),
            clients: names()
                .map(|name| (name.clone(), credentials.client_to(&name, Service::Peer)))
                .collect(),
            credentials,
        })
    }

    /// For calling `member` as a peer: the handshake fails if anybody else answers. None if the formation has no such member.
    pub fn client(&self, member: &MemberName) -> Option<Arc<ClientConfig>> {
        self.clients.get(member).cloned()
    }
}

/// [`MemberTls`] that a reload may replace. Connections keep what they began with.
#[derive(Debug)]
pub struct LiveTls(RwLock<Arc<MemberTls>>);

impl LiveTls {
    /// Begins with `tls`.
    pub fn new(tls: MemberTls) -> Self {
        Self(RwLock::new(Arc::new(tls)))
    }

    /// What holds now: take it anew for every connection.
    pub fn get(&self) -> Arc<MemberTls> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Lets `tls` hold from the next connection on.
    pub fn swap(&self, tls: MemberTls) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(tls);
    }
}
