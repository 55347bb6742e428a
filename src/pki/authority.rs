//! The CA of one formation, and what it signs.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType, SerialNumber,
};
use ring::rand::{SecureRandom, SystemRandom};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use sitegate_host::diagnostic::Diagnostic;
use sitegate_member::config::FormationName;
use sitegate_member::tls::{Principal, Subject, Validity, validity_of};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use super::days::CA_DAYS;
use super::error::PkiError;
use super::files::{self, Readers};

const CERTIFICATE_FILE: &str = "ca.pem";
const KEY_FILE: &str = "ca.key";
const REVOKED_FILE: &str = "crl.pem";

/// How far certificates reach back: the clocks of the hosts that check them may be behind.
const BACKDATED: Duration = Duration::from_secs(3600);

const DAY: Duration = Duration::from_secs(24 * 3600);

const HINT_INIT: &str =
    "make a CA with `sitegate pki init`, or name the directory that holds `ca/` with --pki";

/// The CA of one formation, with its key, in the directory `ca/` of a PKI directory.
pub struct Authority {
    directory: PathBuf,
    formation: FormationName,
    certificate: CertificateDer<'static>,
    certificate_pem: String,
    validity: Validity,
    pub(super) issuer: Issuer<'static, KeyPair>,
}

/// A certificate that was just made, with its key if that is new.
pub(super) struct Issued {
    pub(super) certificate_pem: String,
    pub(super) key_pem: Option<String>,
    pub(super) not_after: SystemTime,
}

impl Authority {
    /// Makes a CA for `formation` in `pki/ca`. There must be none yet.
    pub fn create(pki: &Path, formation: &FormationName) -> Result<Self, PkiError> {
        let directory = Self::check_place(pki)?;
        let key = new_key()?;
        let mut params = CertificateParams::default();
        // A name of its own, so that it can be told from the CA that replaces it one day.
        let common_name = format!("sitegate CA of {formation} {}", hex(&random::<4>()?));
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.subject_alt_names = vec![uri(&authority_uri(formation))?];
        params.serial_number = Some(new_serial()?);
        let now = whole_seconds_now();
        params.not_before = (now - BACKDATED).into();
        params.not_after = (now + DAY * CA_DAYS).into();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).map_err(PkiError::making("certificate of the CA"))?;
        files::make_directory(&directory, Readers::Owner)?;
        // The key first: a certificate without a key looks like a CA, and is none.
        files::write(&directory.join(KEY_FILE), &key.serialize_pem(), Readers::Owner)?;
        files::write(&directory.join(CERTIFICATE_FILE), &certificate.pem(), Readers::All)?;
        Self::load(pki)
    }

    /// Where a new CA goes, if there is none yet.
    pub(super) fn check_place(pki: &Path) -> Result<PathBuf, PkiError> {
        let directory = pki.join("ca");
        let hint = "use `sitegate pki issue` and `renew` with the CA that is there, or another directory for a new one";
        files::must_be_free(&directory, hint)?;
        Ok(directory)
    }

    /// Loads the CA in `pki/ca`.
    pub fn load(pki: &Path) -> Result<Self, PkiError> {
        let directory = pki.join("ca");
        let certificate_file = directory.join(CERTIFICATE_FILE);
        let certificate_pem = files::read(&certificate_file, HINT_INIT)?;
        let not_ours = |cause: String| Diagnostic::of_file(&certificate_file, cause).hint(HINT_INIT);
        let certificate = CertificateDer::from_pem_slice(certificate_pem.as_bytes())
            .map_err(|error| not_ours(format!("no certificate in PEM form: {error}")))?;
        let formation = formation_of(&certificate)
            .ok_or_else(|| not_ours("not the certificate of a CA that sitegate made".to_owned()))?;
        let validity = validity_of(&certificate).map_err(|error| error.of_file(&certificate_file))?;
        let key = read_key(&directory.join(KEY_FILE))?;
        if !is_key_of(&key, &certificate) {
            let cause = format!("this is not the key of {}", certificate_file.display());
            return Err(Diagnostic::of_file(directory.join(KEY_FILE), cause)
                .hint("restore both files from one backup")
                .into());
        }
        let issuer = Issuer::from_ca_cert_der(&certificate, key)
            .map_err(|error| not_ours(format!("not the certificate of a CA: {error}")))?;
        Ok(Self { directory, formation, certificate, certificate_pem, validity, issuer })
    }

    /// The formation whose CA it is.
    pub fn formation(&self) -> &FormationName {
        &self.formation
    }

    /// Its own certificate in DER.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// How long its own certificate is valid.
    pub fn validity(&self) -> Validity {
        self.validity
    }

    /// Where the list of the certificates that it revoked is, if there is one.
    pub fn revoked_file(&self) -> PathBuf {
        self.directory.join(REVOKED_FILE)
    }

    pub(super) fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Signs a certificate for `principal`, valid for `days` or as long as the CA is. Makes a new key unless `key` is given.
    pub(super) fn issue(
        &self,
        principal: &Principal,
        days: u32,
        key: Option<KeyPair>,
    ) -> Result<Issued, PkiError> {
        let (key, key_pem) = match key {
            Some(key) => (key, None),
            None => {
                let key = new_key()?;
                let pem = key.serialize_pem();
                (key, Some(pem))
            }
        };
        let subject = Subject { formation: self.formation.clone(), principal: principal.clone() };
        let now = whole_seconds_now();
        let not_after = (now + DAY * days).min(self.validity.not_after);
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::OrganizationName, self.formation.as_str());
        params.distinguished_name.push(DnType::CommonName, principal.name());
        params.subject_alt_names = vec![uri(&subject.to_string())?];
        params.serial_number = Some(new_serial()?);
        params.not_before = (now - BACKDATED).into();
        params.not_after = not_after.into();
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = match principal {
            Principal::Member(_) => {
                vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth]
            }
            Principal::Operator(_) | Principal::Viewer(_) => vec![ExtendedKeyUsagePurpose::ClientAuth],
        };
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.issuer).map_err(PkiError::making("certificate"))?;
        Ok(Issued { certificate_pem: certificate.pem(), key_pem, not_after })
    }
}

/// Reads a private key that only its owner may be able to read.
fn read_key(file: &Path) -> Result<KeyPair, PkiError> {
    let text = files::read(file, "fetch the CA's key from where it is kept")?;
    let mode = file.metadata().map_or(0, |metadata| metadata.mode() & 0o777);
    if mode & 0o077 != 0 {
        let cause = format!("the key of the CA has mode {mode:04o}: others than its owner can get at it");
        let hint = format!("run `chmod 600 {}`; if they may have read it, make a new CA", file.display());
        return Err(Diagnostic::of_file(file, cause).hint(hint).into());
    }
    KeyPair::from_pem(&text).map_err(|error| {
        Diagnostic::of_file(file, format!("no usable private key in PEM form: {error}"))
            .hint("restore it from a backup")
            .into()
    })
}

/// Whether `key` is the private half of the key in `certificate`.
fn is_key_of(key: &KeyPair, certificate: &CertificateDer<'_>) -> bool {
    X509Certificate::from_der(certificate)
        .is_ok_and(|(_, parsed)| *parsed.public_key().subject_public_key.data == *key.public_key_raw())
}

/// Certificates know no fractions of a second.
fn whole_seconds_now() -> SystemTime {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    SystemTime::UNIX_EPOCH + Duration::from_secs(since.as_secs())
}

fn authority_uri(formation: &FormationName) -> String {
    format!("sitegate://{formation}/ca")
}

/// The formation whose CA has this certificate.
fn formation_of(certificate: &CertificateDer<'_>) -> Option<FormationName> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let names = parsed.subject_alternative_name().ok()??;
    names.value.general_names.iter().find_map(|name| match name {
        GeneralName::URI(uri) => uri.strip_prefix("sitegate://")?.strip_suffix("/ca")?.parse().ok(),
        _ => None,
    })
}

fn uri(text: &str) -> Result<SanType, PkiError> {
    text.try_into().map(SanType::URI).map_err(PkiError::making("identity"))
}

fn new_key() -> Result<KeyPair, PkiError> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(PkiError::making("key"))
}

/// 127 random bits, positive (RFC 5280 §4.1.2.2).
fn new_serial() -> Result<SerialNumber, PkiError> {
    let mut bytes = random::<16>()?;
    bytes[0] = bytes[0] & 0x7f | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

fn random<const N: usize>() -> Result<[u8; N], PkiError> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| PkiError::NoRandomness)?;
    Ok(bytes)
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
