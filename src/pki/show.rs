//! What a certificate says, and whether it fits what lies beside it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use jiff::Timestamp;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde::Serialize;
use sitegate_host::diagnostic::Diagnostic;
use sitegate_member::tls::{Standing, Subject, Validity, fingerprint_of, subject_of, validity_of};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::authority::hex;
use super::error::PkiError;
use super::files;

/// One certificate, as `sitegate pki show` shows it; in JSON with the names of the fields.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Shown {
    /// The file.
    pub file: PathBuf,
    /// The identity URI; none in the certificate of a CA or of something else.
    pub subject: Option<String>,
    /// The name of the CA that signed it.
    pub issuer: String,
    /// The serial number in hexadecimal.
    pub serial: String,
    /// When it begins to be valid, in RFC 3339.
    pub not_before: String,
    /// When it ends, in RFC 3339.
    pub not_after: String,
    /// Whole days left, negative once it has ended.
    pub days_left: i64,
    /// `valid`, `expiring` (within 60 days), `expired` or `not-yet-valid`.
    pub standing: &'static str,
    /// SHA-256 over the certificate in DER, in hexadecimal.
    pub fingerprint_sha256: String,
    /// The key file of the same name beside it, if there is one.
    pub key: Option<ShownKey>,
    /// Whether the `ca.pem` beside it signed it; none if there is none.
    pub signed_by_ca: Option<bool>,
}

/// A key file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ShownKey {
    /// The file.
    pub file: PathBuf,
    /// Whether it is the key of the certificate.
    pub matches: bool,
}

/// Shows the certificate in a file, all of a pack, or all packs of a PKI directory.
pub(super) fn show(path: &Path, now: SystemTime) -> Result<Vec<Shown>, PkiError> {
    if !path.is_dir() {
        return Ok(vec![show_file(path, now)?]);
    }
    let mut found = certificates_in(path)?;
    if found.is_empty() {
        for directory in subdirectories(path)? {
            found.extend(certificates_in(&directory)?);
        }
    }
    if found.is_empty() {
        return Err(Diagnostic::of_file(path, "there are no certificates in this directory")
            .hint("name a certificate, a pack, or the directory that `sitegate pki init` made")
            .into());
    }
    found.iter().map(|file| show_file(file, now)).collect()
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>, PkiError> {
    let entries = directory.read_dir().map_err(|error| {
        Diagnostic::of_file(directory, format!("cannot be read: {error}")).hint("check the path")
    })?;
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
    paths.sort();
    Ok(paths)
}

fn subdirectories(directory: &Path) -> Result<Vec<PathBuf>, PkiError> {
    Ok(entries(directory)?.into_iter().filter(|path| path.is_dir()).collect())
}

/// The certificates of a pack without its ca.pem; that only where it is with its key.
fn certificates_in(directory: &Path) -> Result<Vec<PathBuf>, PkiError> {
    let is_shown = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.ends_with(".pem")
            && name != "crl.pem"
            && (name != "ca.pem" || path.with_extension("key").exists())
    };
    Ok(entries(directory)?.into_iter().filter(is_shown).collect())
}

fn show_file(file: &Path, now: SystemTime) -> Result<Shown, PkiError> {
    let text = files::read(file, "check the path")?;
    let wrong = |cause: String| Diagnostic::of_file(file, cause).hint("name a certificate in PEM form");
    let der = CertificateDer::from_pem_slice(text.as_bytes())
        .map_err(|error| wrong(format!("no certificate in PEM form: {error}")))?;
    let validity = validity_of(&der).map_err(|error| error.of_file(file))?;
    let (_, certificate) = X509Certificate::from_der(&der)
        .map_err(|error| wrong(format!("not an X.509 certificate: {error}")))?;
    let ca_file = file.with_file_name("ca.pem");
    let signed_by_ca = if ca_file == file { None } else { has_signed(&ca_file, &certificate)? };
    Ok(Shown {
        subject: subject_of(&der).ok().map(|subject: Subject| subject.to_string()),
        issuer: certificate.issuer().to_string(),
        serial: hex(certificate.raw_serial()),
        not_before: rfc3339(validity.not_before),
        not_after: rfc3339(validity.not_after),
        days_left: validity.days_left(now),
        standing: standing(&validity, now),
        fingerprint_sha256: fingerprint_of(&der).to_string(),
        key: find_key(file, &der),
        signed_by_ca,
        file: file.to_owned(),
    })
}

/// Whether the CA in `ca_file` signed `certificate`; none if there is no such file.
fn has_signed(ca_file: &Path, certificate: &X509Certificate<'_>) -> Result<Option<bool>, PkiError> {
    if !ca_file.exists() {
        return Ok(None);
    }
    let text = files::read(ca_file, "check its permissions")?;
    let mut authorities = CertificateDer::pem_slice_iter(text.as_bytes()).flatten();
    Ok(Some(authorities.any(|der| {
        X509Certificate::from_der(&der)
            .is_ok_and(|(_, ca)| certificate.verify_signature(Some(ca.public_key())).is_ok())
    })))
}

fn find_key(file: &Path, certificate: &CertificateDer<'static>) -> Option<ShownKey> {
    let key_file = file.with_extension("key");
    if !key_file.exists() {
        return None;
    }
    let matches = PrivateKeyDer::from_pem_file(&key_file)
        .ok()
        .and_then(|key| rustls::crypto::ring::sign::any_supported_type(&key).ok())
        .is_some_and(|key| {
            rustls::sign::CertifiedKey::new(vec![certificate.clone()], key).keys_match().is_ok()
        });
    Some(ShownKey { file: key_file, matches })
}

fn standing(validity: &Validity, now: SystemTime) -> &'static str {
    match validity.standing(now) {
        Standing::Valid => "valid",
        Standing::Expiring => "expiring",
        Standing::NotYetValid => "not-yet-valid",
        Standing::Expired => "expired",
    }
}

/// A moment in UTC, in RFC 3339.
pub(super) fn rfc3339(time: SystemTime) -> String {
    Timestamp::try_from(time).map_or_else(|_| "a time out of range".to_owned(), |time| time.to_string())
}

impl fmt::Display for Shown {
    /// Several lines, with a newline at the end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.file.display())?;
        writeln!(f, "  subject      {}", self.subject.as_deref().unwrap_or("no sitegate identity"))?;
        writeln!(f, "  issuer       {}", self.issuer)?;
        let left = match self.days_left {
            days if days < 0 => format!("EXPIRED {} days ago", -days),
            days => format!("{days} days left"),
        };
        let remark = match self.standing {
            "expiring" => ": renew it",
            "not-yet-valid" => ": not valid yet",
            _ => "",
        };
        writeln!(f, "  valid        {} to {} ({left}{remark})", self.not_before, self.not_after)?;
        writeln!(f, "  serial       {}", self.serial)?;
        writeln!(f, "  fingerprint  sha256:{}", self.fingerprint_sha256)?;
        match &self.key {
            None => writeln!(f, "  key          none beside it")?,
            Some(key) => {
                let matches = if key.matches { "matches" } else { "DOES NOT MATCH" };
                writeln!(f, "  key          {}: {matches}", key.file.display())?;
            }
        }
        match self.signed_by_ca {
            None => Ok(()),
            Some(true) => writeln!(f, "  signed by    the ca.pem beside it"),
            Some(false) => writeln!(f, "  signed by    NOT the ca.pem beside it"),
        }
    }
}
