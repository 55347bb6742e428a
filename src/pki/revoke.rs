//! The list of certificates that no longer count.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{CertificateRevocationListParams, KeyIdMethod, RevokedCertParams, SerialNumber};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};
use sitegate_host::diagnostic::Diagnostic;
use sitegate_member::tls::Principal;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

use super::authority::Authority;
use super::days::CA_DAYS;
use super::error::PkiError;
use super::files::{self, Readers};
use super::pack::certificate_in;

/// What [`Authority::revoke`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Revoked {
    /// Whose certificate it was.
    pub(super) principal: Principal,
    /// Whether it stood in the list before.
    pub(super) already: bool,
    /// The list.
    pub(super) list: PathBuf,
}

struct Entry {
    serial: Vec<u8>,
    revoked: SystemTime,
}

impl Authority {
    /// Adds the certificate in `file`, or in the pack `file`, to the CA's list.
    pub(super) fn revoke(&self, file: &Path) -> Result<Revoked, PkiError> {
        let file = if file.is_dir() { certificate_in(file)? } else { file.to_owned() };
        let principal = self.owner_of(&file)?;
        let serial = self.serial_of(&file)?;
        let list = self.revoked_file();
        let (number, mut entries) = self.read_list()?;
        let already = entries.iter().any(|entry| entry.serial == serial);
        if !already {
            entries.push(Entry { serial, revoked: SystemTime::now() });
            let pem = self.sign_list(number + 1, &entries)?;
            files::write(&list, &pem, Readers::All)?;
        }
        Ok(Revoked { principal, already, list })
    }

    /// The serial number of a certificate that this CA signed.
    fn serial_of(&self, file: &Path) -> Result<Vec<u8>, PkiError> {
        let text = files::read(file, "name a certificate in PEM form")?;
        let wrong = |cause: &str| {
            Diagnostic::of_file(file, cause)
                .hint("name a certificate that this CA signed, or its CA with --pki")
        };
        let der = CertificateDer::from_pem_slice(text.as_bytes())
            .map_err(|_| wrong("no certificate in PEM form"))?;
        let (_, certificate) =
            X509Certificate::from_der(&der).map_err(|_| wrong("not an X.509 certificate"))?;
        if !self.has_signed(&certificate) {
            return Err(wrong("another CA signed this certificate").into());
        }
        Ok(certificate.raw_serial().to_vec())
    }

    fn has_signed(&self, certificate: &X509Certificate<'_>) -> bool {
        X509Certificate::from_der(self.certificate())
            .is_ok_and(|(_, own)| certificate.verify_signature(Some(own.public_key())).is_ok())
    }

    /// The list as it is: its number and entries; number 0 if there is none yet.
    fn read_list(&self) -> Result<(u64, Vec<Entry>), PkiError> {
        let file = self.revoked_file();
        if !file.exists() {
            return Ok((0, Vec::new()));
        }
        let wrong = |cause: &str| Diagnostic::of_file(&file, cause).hint("restore it from a backup");
        let text = files::read(&file, "restore it from a backup")?;
        let der = CertificateRevocationListDer::from_pem_slice(text.as_bytes())
            .map_err(|_| wrong("no list of revoked certificates in PEM form"))?;
        let (_, list) = CertificateRevocationList::from_der(&der)
            .map_err(|_| wrong("not a list of revoked certificates"))?;
        let signed = X509Certificate::from_der(self.certificate())
            .is_ok_and(|(_, own)| list.verify_signature(own.public_key()).is_ok());
        if !signed {
            return Err(wrong("another CA signed this list").into());
        }
        let number = list.crl_number().and_then(|number| number.to_u64_digits().first().copied());
        let entries = list.iter_revoked_certificates().map(|entry| Entry {
            serial: entry.raw_serial().to_vec(),
            revoked: SystemTime::UNIX_EPOCH
                + Duration::from_secs(u64::try_from(entry.revocation_date.timestamp()).unwrap_or(0)),
        });
        Ok((number.unwrap_or(0), entries.collect()))
    }

    fn sign_list(&self, number: u64, entries: &[Entry]) -> Result<String, PkiError> {
        let now = SystemTime::now();
        let entries = entries.iter().map(|entry| RevokedCertParams {
            serial_number: SerialNumber::from_slice(&entry.serial),
            revocation_time: entry.revoked.into(),
            reason_code: None,
            invalidity_date: None,
        });
        let list = CertificateRevocationListParams {
            this_update: now.into(),
            // Members believe a list however old it is; others that read it should too.
            next_update: (now + Duration::from_secs(24 * 3600) * CA_DAYS).into(),
            crl_number: SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs: entries.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = list.signed_by(&self.issuer).map_err(PkiError::making("list of revoked certificates"))?;
        list.pem().map_err(PkiError::making("list of revoked certificates"))
    }
}
