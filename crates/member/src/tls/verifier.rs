//! [`Trust`] in the form that rustls asks for.

use std::collections::BTreeSet;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, ring, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
};
use webpki::KeyUsage;

use super::principal::Principal;
use super::trust::{Refusal, Trust};
use crate::config::MemberName;

/// How signatures are checked: both of rustls's traits ask for it, in the same words.
macro_rules! signatures_of_tls13 {
    () => {
        fn verify_tls12_signature(
            &self,
            _message: &[u8],
            _cert: &CertificateDer<'_>,
            _dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Err(only_tls13())
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            verify_tls13_signature(message, cert, dss, &algorithms())
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            algorithms().supported_schemes()
        }
    };
}

/// Whom a client means to reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Callee {
    /// This member and no other.
    Member(MemberName),
    /// Whichever member answers.
    AnyMember,
}

/// Checks the server that a client called.
#[derive(Debug)]
pub(super) struct ServerVerifier {
    pub(super) trust: Arc<Trust>,
    pub(super) callee: Callee,
}

impl ServerVerifier {
    fn check(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Refusal> {
        let peer = self.trust.check(certificate, intermediates, KeyUsage::server_auth(), now)?;
        match (&peer.principal, &self.callee) {
            (Principal::Member(name), Callee::Member(expected)) if name != expected => {
                Err(Refusal::SomebodyElse {
                    expected: Principal::Member(expected.clone()),
                    found: peer.principal,
                })
            }
            (Principal::Member(_), _) => Ok(()),
            (Principal::Operator(_) | Principal::Viewer(_), _) => Err(Refusal::NotAMember(peer.principal)),
        }
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.check(end_entity, intermediates, now) {
            Ok(()) => Ok(ServerCertVerified::assertion()),
            // The caller has to know why it cannot get through; the server gets no more than an alert.
            Err(refusal) => Err(CertificateError::Other(OtherError(Arc::new(refusal))).into()),
        }
    }

    signatures_of_tls13!();
}

/// Checks the clients of a server.
#[derive(Debug)]
pub(super) struct ClientVerifier {
    pub(super) trust: Arc<Trust>,
    /// Members that stand in the formation file.
    pub(super) members: BTreeSet<MemberName>,
}

impl ClientVerifier {
    fn check(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Refusal> {
        let peer = self.trust.check(certificate, intermediates, KeyUsage::client_auth(), now)?;
        match &peer.principal {
            Principal::Member(name) if !self.members.contains(name) => {
                Err(Refusal::NotAMember(peer.principal))
            }
            Principal::Member(_) | Principal::Operator(_) | Principal::Viewer(_) => Ok(()),
        }
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check(end_entity, intermediates, now).map(|()| ClientCertVerified::assertion()).map_err(
            |refusal| {
                let told = refusal.for_the_other_side();
                super::refused::note(refusal);
                told.into()
            },
        )
    }

    signatures_of_tls13!();
}

fn algorithms() -> WebPkiSupportedAlgorithms {
    ring::default_provider().signature_verification_algorithms
}

/// rustls never asks, as TLS 1.2 is not built in; were it to, the answer is no.
fn only_tls13() -> Error {
    Error::General("only TLS 1.3 is spoken here".to_owned())
}
