//! What a process shows of itself and whom it trusts, from the files of `[tls]`.

use std::collections::BTreeSet;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::ring;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::NoServerSessionStorage;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, ServerConfig};
use sitegate_host::diagnostic::{ConfigError, Diagnostic, Problems};
use webpki::KeyUsage;

use super::certificate::{CertificateReport, subject_of};
use super::trust::{Refusal, Trust};
use super::verifier::{Callee, ClientVerifier, ServerVerifier};
use super::{Principal, Service, Subject, files};
use crate::config::{FormationName, MemberName, TlsFiles};

/// What one process shows and whom it trusts, as of one moment. It never changes.
#[derive(Debug)]
pub struct Credentials {
    subject: Subject,
    reports: Vec<CertificateReport>,
    trust: Arc<Trust>,
    key: Arc<CertifiedKey>,
}

impl Credentials {
    /// Loads and checks the files of `[tls]`; the error holds everything that is wrong with any of them.
    ///
    /// Our own certificate is checked as others will check it, so what they would refuse is found here.
    pub fn load(files: &TlsFiles) -> Result<Self, ConfigError> {
        Self::load_at(files, UnixTime::now())
    }

    pub(super) fn load_at(files: &TlsFiles, now: UnixTime) -> Result<Self, ConfigError> {
        let mut problems = Problems::new();
        let authority = problems.take(files::read_authority(&files.ca));
        let revoked = match (&files.crl, &authority) {
            (Some(crl), Some(authority)) => problems.take(files::read_revoked(crl, &authority.anchors)),
            _ => Some(Vec::new()),
        };
        let chain = problems.take(files::read_certificates(&files.cert));
        let key = problems.take(files::read_key(&files.key));
        let own = chain.zip(key).and_then(|(chain, key)| problems.take(pair(files, chain, &key)));
        let (Some(authority), Some(revoked), Some((key, subject))) = (authority, revoked, own) else {
            return problems.finish(None);
        };
        let trust = Trust {
            anchors: authority.anchors,
            revoked,
            formation: subject.formation.clone(),
            strict_expiry: files.strict_expiry,
        };
        problems.take(check_own(files, &trust, &key, &subject, now));
        let own = key.cert.first().map(|certificate| CertificateReport::of(subject.to_string(), certificate));
        let authority = authority
            .certificates
            .iter()
            .map(|certificate| CertificateReport::of("ca".to_owned(), certificate));
        let reports: Result<Vec<_>, _> = own.into_iter().chain(authority).collect();
        let reports = problems.take(reports.map_err(|error| error.of_file(&files.cert).into()));
        problems.finish(reports.map(|reports| Self {
            subject,
            reports,
            trust: Arc::new(trust),
            key: Arc::new(key),
        }))
    }

    /// Whose certificate this is.
    pub fn subject(&self) -> &Subject {
        &self.subject
    }

    /// Our own certificate and the CA's, for warnings that come in time.
    pub fn reports(&self) -> &[CertificateReport] {
        &self.reports
    }

    /// Checks that the certificate belongs to member `me` of `formation`.
    pub fn expect_member(
        &self,
        files: &TlsFiles,
        formation: &FormationName,
        me: &MemberName,
    ) -> Result<(), ConfigError> {
        let expected = Subject { formation: formation.clone(), principal: Principal::Member(me.clone()) };
        if self.subject == expected {
            return Ok(());
        }
        let cause = format!("this is the certificate of {}, but this host is {expected}", self.subject);
        let hint =
            format!("copy the files that `sitegate pki init` made for {me}, or check `name` in member.toml");
        Err(Diagnostic::of_file(&files.cert, cause).hint(hint).into())
    }

    /// For the port that `members`, operators and viewers of the formation connect to.
    pub fn server(&self, members: BTreeSet<MemberName>) -> Arc<ServerConfig> {
        let verifier = ClientVerifier { trust: self.trust.clone(), members };
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("the ring provider speaks TLS 1.3")
            .with_client_cert_verifier(Arc::new(verifier))
            .with_cert_resolver(Arc::new(self.shown()));
        config.alpn_protocols = Service::ALL.iter().map(|service| service.alpn().to_vec()).collect();
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.max_early_data_size = 0;
        Arc::new(config)
    }

    /// For calling `member`: the handshake fails if anybody else answers.
    pub fn client_to(&self, member: &MemberName, service: Service) -> Arc<ClientConfig> {
        self.client(Callee::Member(member.clone()), service)
    }

    /// For calling whichever member answers.
    pub fn client_to_any(&self, service: Service) -> Arc<ClientConfig> {
        self.client(Callee::AnyMember, service)
    }

    fn client(&self, callee: Callee, service: Service) -> Arc<ClientConfig> {
        let verifier = ServerVerifier { trust: self.trust.clone(), callee };
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("the ring provider speaks TLS 1.3")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(Arc::new(self.shown()));
        config.alpn_protocols = vec![service.alpn().to_vec()];
        config.resumption = Resumption::disabled();
        config.enable_sni = false;
        config.enable_early_data = false;
        Arc::new(config)
    }

    fn shown(&self) -> SingleCertAndKey {
        SingleCertAndKey::from((*self.key).clone())
    }
}

/// The certificate with its key, if they belong together, and whose it is.
fn pair(
    files: &TlsFiles,
    chain: Vec<CertificateDer<'static>>,
    key: &PrivateKeyDer<'static>,
) -> Result<(CertifiedKey, Subject), ConfigError> {
    let subject = subject_of(&chain[0]).map_err(|error| error.of_file(&files.cert))?;
    let signing_key = any_supported_type(key).map_err(|error| {
        Diagnostic::of_file(&files.key, format!("not a usable private key: {error}"))
            .hint("issue a certificate with `sitegate pki issue`; it makes an ECDSA P-256 key")
    })?;
    let pair = CertifiedKey::new(chain, signing_key);
    pair.keys_match().map_err(|_| {
        let cause = format!("this is not the key of {}", files.cert.display());
        Diagnostic::of_file(&files.key, cause)
            .hint("copy key and certificate from one pack of `sitegate pki`")
    })?;
    Ok((pair, subject))
}

/// Finds what others would refuse.
fn check_own(
    files: &TlsFiles,
    trust: &Trust,
    own: &CertifiedKey,
    subject: &Subject,
    now: UnixTime,
) -> Result<(), ConfigError> {
    let check = |usage| trust.check(&own.cert[0], &own.cert[1..], usage, now).map(|_| ());
    let checked = match subject.principal {
        Principal::Member(_) => check(KeyUsage::server_auth()).and_then(|()| check(KeyUsage::client_auth())),
        Principal::Operator(_) | Principal::Viewer(_) => check(KeyUsage::client_auth()),
    };
    checked.map_err(|refusal| {
        let (cause, hint) = match &refusal {
            Refusal::OtherCa(_) => (
                format!("not signed by the CA in {}", files.ca.display()),
                "copy ca.pem and certificate from one pack of `sitegate pki`".to_owned(),
            ),
            Refusal::Expired(who, days) => (
                format!("the certificate of {who} expired {days} days ago"),
                "run `sitegate pki renew`".to_owned(),
            ),
            Refusal::Revoked(who) => (
                format!("the certificate of {who} was revoked"),
                "issue a new one with `sitegate pki renew`".to_owned(),
            ),
            Refusal::NotYetValid(_) => (refusal.to_string(), "set this host's clock".to_owned()),
            _ => (refusal.to_string(), "issue one with `sitegate pki issue`".to_owned()),
        };
        Diagnostic::of_file(&files.cert, cause).hint(hint).into()
    })
}
