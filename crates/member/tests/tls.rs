//! Who gets in by certificate, who does not, and what either side hears about it. Handshakes run in memory.

mod support;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::SystemTime;

use rustls::{AlertDescription, CertificateError, ClientConnection, Error, ServerConnection};
use sitegate_host::diagnostic::Source;
use sitegate_member::config::{Formation, MemberName, TlsFiles};
use sitegate_member::tls::{
    Credentials, LiveTls, MemberTls, Peer, Principal, Service, Standing, explain_tls, principal_of,
    server_name,
};
use support::authority::Authority;

fn formation() -> Formation {
    Formation::parse(&Source::new("formation.toml", include_str!("acme.toml"))).unwrap()
}

fn name(name: &str) -> MemberName {
    name.parse().unwrap()
}

fn load(files: &TlsFiles, me: &str) -> MemberTls {
    MemberTls::load(files, &formation(), &name(me)).unwrap()
}

fn load_error(files: &TlsFiles, directory: &Path) -> String {
    let error = MemberTls::load(files, &formation(), &name("paris")).unwrap_err().to_string();
    error.replace(&directory.display().to_string(), "DIR")
}

/// How a handshake ended, for either side.
struct Outcome {
    client: Result<(), Error>,
    server: Result<(Peer, Service), Error>,
}

fn handshake(client: std::sync::Arc<rustls::ClientConfig>, server: &MemberTls) -> Outcome {
    let mut client = ClientConnection::new(client, server_name()).unwrap();
    let mut server = ServerConnection::new(server.server.clone()).unwrap();
    let mut ends: (Result<(), Error>, Result<(), Error>) = (Ok(()), Ok(()));
    while client.wants_write() || server.wants_write() {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        ends.1 = ends.1.and_then(|()| feed_server(&mut server, &wire));
        wire.clear();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        ends.0 = ends.0.and_then(|()| feed_client(&mut client, &wire));
    }
    Outcome {
        client: ends.0,
        server: ends.1.map(|()| {
            assert!(!server.is_handshaking());
            let peer = principal_of(server.peer_certificates().unwrap()).unwrap();
            let service = Service::of(server.alpn_protocol(), &peer.principal).unwrap();
            (peer, service)
        }),
    }
}

fn feed_server(server: &mut ServerConnection, mut wire: &[u8]) -> Result<(), Error> {
    while !wire.is_empty() {
        server.read_tls(&mut wire).unwrap();
        server.process_new_packets()?;
    }
    Ok(())
}

fn feed_client(client: &mut ClientConnection, mut wire: &[u8]) -> Result<(), Error> {
    while !wire.is_empty() {
        client.read_tls(&mut wire).unwrap();
        client.process_new_packets()?;
    }
    Ok(())
}

#[test]
fn members_and_operators_meet() {
    let mut ca = Authority::alone();
    let paris = load(&ca.member("paris"), "paris");
    let lyon = load(&ca.member("lyon"), "lyon");
    let met = handshake(paris.client(&name("lyon")).unwrap(), &lyon);
    assert_eq!(met.client, Ok(()));
    let (peer, service) = met.server.unwrap();
    assert_eq!((peer.principal, service), (Principal::Member(name("paris")), Service::Peer));
    assert_eq!(peer.validity.standing(SystemTime::now()), Standing::Valid);

    let alice = Credentials::load(&ca.issue("sitegate://acme/operator/alice", -1..300)).unwrap();
    let met = handshake(alice.client_to_any(Service::Api), &lyon);
    assert_eq!(met.client, Ok(()));
    let (peer, service) = met.server.unwrap();
    assert_eq!((peer.principal, service), (Principal::Operator("alice".parse().unwrap()), Service::Api));
    assert!(Service::of(Some(Service::Peer.alpn()), &alice.subject().principal).is_err());
}

#[test]
fn another_ca_is_refused_by_both_sides() {
    let (mut ours, mut theirs) = (Authority::alone(), Authority::alone());
    let paris = load(&theirs.member("paris"), "paris");
    let lyon = load(&ours.member("lyon"), "lyon");
    let met = handshake(paris.client(&name("lyon")).unwrap(), &lyon);
    assert_eq!(
        explain_tls(&met.client.unwrap_err()),
        "its certificate was not signed by the CA of formation acme"
    );
    assert_eq!(met.server.unwrap_err(), Error::AlertReceived(AlertDescription::CertificateUnknown));

    // A client that believes the server all the same is refused by it.
    let files = theirs.member("paris");
    let outcome = handshake(raw_client(&files), &lyon);
    assert_eq!(outcome.server.unwrap_err(), Error::InvalidCertificate(CertificateError::UnknownIssuer));
    assert_eq!(
        explain_tls(&outcome.client.unwrap_err()),
        "the other side refused our certificate: another CA signed it"
    );
    let mixed = TlsFiles { ca: ours.path("ca.pem"), ..files };
    assert!(load_error(&mixed, theirs.directory()).contains("not signed by the CA in"));
}

#[test]
fn strangers_are_refused_and_told_why() {
    let mut ca = Authority::alone();
    let lyon = load(&ca.member("lyon"), "lyon");
    let not_ours = CertificateError::ApplicationVerificationFailure;
    for (uri, days, refused, alert) in [
        // The server's alert reaches the client after its own handshake is done, as TLS 1.3 has it.
        ("sitegate://acme/member/rome", -1..9, not_ours.clone(), AlertDescription::AccessDenied),
        ("sitegate://other/member/paris", -1..9, not_ours.clone(), AlertDescription::AccessDenied),
        (
            "sitegate://acme/robot/paris",
            -1..9,
            CertificateError::BadEncoding,
            AlertDescription::BadCertificate,
        ),
        ("https://acme/member/paris", -1..9, CertificateError::BadEncoding, AlertDescription::BadCertificate),
    ] {
        let outcome = handshake(raw_client(&ca.issue(uri, days)), &lyon);
        assert_eq!(outcome.server.unwrap_err(), Error::InvalidCertificate(refused), "{uri}");
        assert_eq!(outcome.client.unwrap_err(), Error::AlertReceived(alert), "{uri}");
    }
}

#[test]
fn expired_operators_are_refused_and_told_why() {
    let mut ca = Authority::alone();
    let lyon = load(&ca.member("lyon"), "lyon");
    for kind in ["operator", "viewer"] {
        let files = ca.issue(&format!("sitegate://acme/{kind}/alice"), -10..-3);
        let outcome = handshake(raw_client(&files), &lyon);
        assert_eq!(outcome.server.unwrap_err(), Error::InvalidCertificate(CertificateError::Expired));
        assert_eq!(outcome.client.unwrap_err(), Error::AlertReceived(AlertDescription::CertificateExpired));
        let error = Credentials::load(&files).unwrap_err().to_string();
        assert!(
            error.ends_with(&format!(
                "the certificate of {kind} alice expired 4 days ago\nhint: run `sitegate pki renew`"
            )),
            "{error}"
        );
    }
}

#[test]
fn expired_members_stay_in_unless_strict() {
    let mut ca = Authority::alone();
    let expired = ca.issue("sitegate://acme/member/paris", -100..-3);
    let paris = load(&expired, "paris");
    assert_eq!(paris.credentials.reports()[0].validity.standing(SystemTime::now()), Standing::Expired);
    let lyon_files = ca.member("lyon");
    let lyon = load(&lyon_files, "lyon");
    let met = handshake(paris.client(&name("lyon")).unwrap(), &lyon);
    assert_eq!(met.client, Ok(()));
    let (peer, _) = met.server.unwrap();
    assert_eq!(peer.standing(SystemTime::now()), Standing::Expired);
    assert_eq!(peer.validity.days_left(SystemTime::now()), -4);
    // And the other way round.
    assert_eq!(handshake(lyon.client(&name("paris")).unwrap(), &paris).client, Ok(()));

    let strict = load(&TlsFiles { strict_expiry: true, ..lyon_files }, "lyon");
    let refused = handshake(paris.client(&name("lyon")).unwrap(), &strict);
    assert_eq!(refused.server.unwrap_err(), Error::InvalidCertificate(CertificateError::Expired));
    let refused = handshake(strict.client(&name("paris")).unwrap(), &paris);
    assert_eq!(
        explain_tls(&refused.client.unwrap_err()),
        "the certificate of member paris expired 4 days ago; renew it with `sitegate pki renew`"
    );
    let error = load_error(&TlsFiles { strict_expiry: true, ..expired }, ca.directory());
    assert!(error.contains("the certificate of member paris expired 4 days ago"), "{error}");
}

#[test]
fn members_of_the_future_stay_in() {
    let mut ca = Authority::alone();
    let paris = load(&ca.issue("sitegate://acme/member/paris", 3..9), "paris");
    let lyon = load(&ca.member("lyon"), "lyon");
    let (peer, _) = handshake(paris.client(&name("lyon")).unwrap(), &lyon).server.unwrap();
    assert_eq!(peer.standing(SystemTime::now()), Standing::NotYetValid);
}

#[test]
fn revoked_members_are_refused() {
    let mut ca = Authority::alone();
    let paris_files = ca.member("paris");
    let paris = load(&paris_files, "paris");
    let lyon_files = ca.member("lyon");
    let crl = Some(ca.revoke(&[1]));
    let lyon = load(&TlsFiles { crl: crl.clone(), ..lyon_files }, "lyon");
    let refused = handshake(paris.client(&name("lyon")).unwrap(), &lyon);
    assert_eq!(refused.server.unwrap_err(), Error::InvalidCertificate(CertificateError::Revoked));
    assert_eq!(refused.client.unwrap_err(), Error::AlertReceived(AlertDescription::CertificateRevoked));
    assert!(handshake(lyon.client(&name("paris")).unwrap(), &paris).client.is_err());

    let error = load_error(&TlsFiles { crl, ..paris_files }, ca.directory());
    assert_eq!(
        error,
        "error: DIR/1-paris.pem: the certificate of member paris was revoked\n\
         hint: issue a new one with `sitegate pki renew`"
    );
}

#[test]
fn somebody_else_at_the_address_is_not_spoken_to() {
    let mut ca = Authority::alone();
    let paris = load(&ca.member("paris"), "paris");
    let met = handshake(paris.client(&name("lyon")).unwrap(), &paris);
    assert_eq!(explain_tls(&met.client.unwrap_err()), "member paris answered where member lyon was expected");
    // An operator's certificate does not make a server.
    let alice = Credentials::load(&ca.issue("sitegate://acme/operator/alice", -1..9)).unwrap();
    let mut impostor = load(&ca.member("lyon"), "lyon");
    impostor.server = alice.server([name("paris")].into());
    let met = handshake(paris.client(&name("lyon")).unwrap(), &impostor);
    assert_eq!(
        explain_tls(&met.client.unwrap_err()),
        "operator alice is not in this member's formation.toml"
    );
}

#[test]
fn tls_1_2_is_refused() {
    let mut ca = Authority::alone();
    let paris = load(&ca.member("paris"), "paris");
    let mut server = ServerConnection::new(paris.server.clone()).unwrap();
    let error = feed_server(&mut server, &client_hello_of_tls_1_2()).unwrap_err();
    assert!(matches!(error, Error::PeerIncompatible(_)), "{error:?}");
    let mut answer = Vec::new();
    server.write_tls(&mut answer).unwrap();
    // A fatal alert: protocol_version (RFC 8446 §6.2).
    assert_eq!(answer[5..], [2, 70]);
}

#[test]
fn a_client_without_certificate_is_refused() {
    let mut ca = Authority::alone();
    let files = ca.member("paris");
    let paris = load(&files, "paris");
    let mut config = (*raw_client(&files)).clone();
    config.client_auth_cert_resolver = std::sync::Arc::new(NoCertificate);
    let outcome = handshake(config.into(), &paris);
    assert_eq!(outcome.server.unwrap_err(), Error::NoCertificatesPresented);
    assert_eq!(outcome.client.unwrap_err(), Error::AlertReceived(AlertDescription::CertificateRequired));
}

#[test]
fn reload_swaps_for_new_connections() {
    let mut ca = Authority::alone();
    let lyon_files = ca.member("lyon");
    let live = LiveTls::new(load(&lyon_files, "lyon"));
    let paris = load(&ca.member("paris"), "paris");
    let before = live.get();
    live.swap(load(&TlsFiles { crl: Some(ca.revoke(&[2])), ..lyon_files }, "lyon"));
    assert!(handshake(paris.client(&name("lyon")).unwrap(), &before).server.is_ok());
    assert!(handshake(paris.client(&name("lyon")).unwrap(), &live.get()).server.is_err());
}

#[test]
fn files_that_do_not_fit_are_named() {
    let mut ca = Authority::alone();
    let directory = ca.directory().to_owned();
    let (good, other) = (ca.member("paris"), ca.member("lyon"));
    let text = ca.path("text");
    std::fs::write(&text, "hello\n").unwrap();
    std::fs::set_permissions(&text, std::fs::Permissions::from_mode(0o644)).unwrap();
    let with = |change: &dyn Fn(&mut TlsFiles)| {
        let mut files = good.clone();
        change(&mut files);
        load_error(&files, &directory)
    };
    assert_eq!(
        with(&|files| {
            files.ca = directory.join("none");
            files.key = text.clone();
        }),
        "error: DIR/none: cannot be read: No such file or directory (os error 2)\n\
         hint: check the path in [tls], and that the user that this runs as may read the file\n\n\
         error: DIR/text: the private key has mode 0644: others than its owner can get at it\n\
         hint: run `chmod 0640 DIR/text`; if they may have read it, renew it"
    );
    assert_eq!(
        with(&|files| files.cert = text.clone()),
        "error: DIR/text: no certificate in PEM form in this file\n\
         hint: check that the paths in [tls] are not mixed up"
    );
    assert_eq!(
        with(&|files| files.key = other.key.clone()),
        "error: DIR/2-lyon.key: this is not the key of DIR/1-paris.pem\n\
         hint: copy key and certificate from one pack of `sitegate pki`"
    );
    assert_eq!(
        with(&|files| (files.cert, files.key) = (other.cert.clone(), other.key.clone())),
        "error: DIR/2-lyon.pem: this is the certificate of sitegate://acme/member/lyon, but this host is \
         sitegate://acme/member/paris\n\
         hint: copy the files that `sitegate pki init` made for paris, or check `name` in member.toml"
    );
    assert!(
        with(&|files| files.crl = Some(text.clone())).contains("no list of revoked certificates in PEM form")
    );
}

#[test]
fn a_certificate_of_another_formation_is_named() {
    let mut ca = Authority::alone();
    let files = ca.issue("sitegate://other/member/paris", -1..9);
    let error = load_error(&files, ca.directory());
    assert!(error.contains("this is the certificate of sitegate://other/member/paris"), "{error}");
}

#[test]
fn a_list_of_another_ca_is_refused() {
    let (mut ours, theirs) = (Authority::alone(), Authority::alone());
    let files = TlsFiles { crl: Some(theirs.revoke(&[1])), ..ours.member("paris") };
    // Both test CAs have one name: what gives the list away is its signature.
    let error = load_error(&files, ours.directory());
    assert!(error.contains("InvalidCrlSignatureForPublicKey"), "{error}");
}

/// A client that shows any certificate at all and believes every server.
fn raw_client(files: &TlsFiles) -> std::sync::Arc<rustls::ClientConfig> {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let certificate = CertificateDer::from_pem_file(&files.cert).unwrap();
    let key = PrivateKeyDer::from_pem_file(&files.key).unwrap();
    let mut config =
        rustls::ClientConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(std::sync::Arc::new(Gullible))
            .with_client_auth_cert(vec![certificate], key)
            .unwrap();
    config.alpn_protocols = vec![Service::Api.alpn().to_vec()];
    config.into()
}

#[derive(Debug)]
struct NoCertificate;

impl rustls::client::ResolvesClientCert for NoCertificate {
    fn resolve(
        &self,
        _: &[&[u8]],
        _: &[rustls::SignatureScheme],
    ) -> Option<std::sync::Arc<rustls::sign::CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

#[derive(Debug)]
struct Gullible;

impl rustls::client::danger::ServerCertVerifier for Gullible {
    fn verify_server_cert(
        &self,
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &[rustls::pki_types::CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, Error> {
        unreachable!("TLS 1.2 is not spoken")
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        rustls::crypto::ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

/// A well-formed hello of a client that knows only TLS 1.2 (RFC 5246 §7.4.1.2).
fn client_hello_of_tls_1_2() -> Vec<u8> {
    let extensions: &[&[u8]] = &[
        &[0, 10, 0, 4, 0, 2, 0, 29], // supported_groups: x25519
        &[0, 11, 0, 2, 1, 0],        // ec_point_formats: uncompressed
        &[0, 13, 0, 4, 0, 2, 4, 3],  // signature_algorithms: ecdsa_secp256r1_sha256
        &[0, 23, 0, 0],              // extended_master_secret
    ];
    let extensions = extensions.concat();
    let mut body = vec![3, 3]; // TLS 1.2
    body.extend([7; 32]); // random
    body.extend([0, 0, 2, 0xc0, 0x2b, 1, 0]); // no session, ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, no compression
    body.extend(u16::try_from(extensions.len()).unwrap().to_be_bytes());
    body.extend(extensions);
    let length = u16::try_from(body.len()).unwrap();
    let mut record = vec![22, 3, 1];
    record.extend((length + 4).to_be_bytes());
    record.extend([1, 0]);
    record.extend(length.to_be_bytes());
    record.extend(body);
    record
}
