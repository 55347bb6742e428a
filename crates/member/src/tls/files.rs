//! Certificates and keys from PEM files, with errors that say which file and what to do.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, TrustAnchor};
use sitegate_host::diagnostic::{ConfigError, Diagnostic};
use webpki::{CertRevocationList, OwnedCertRevocationList, anchor_from_trusted_cert};

/// The largest PEM file that is read, in bytes: a list of some ten thousand revoked certificates fits.
const PEM_BYTES_MAX: u64 = 1024 * 1024;

/// Bits of a key file's mode that let anybody but the owner and group in, or the group write.
const KEY_MODE_FORBIDDEN: u32 = 0o027;

/// All certificates of a file, at least one.
pub(super) fn read_certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let text = read(file, None)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err(not_pem(file, "certificate", &pem::Error::NoItemsFound)),
        Err(error) => Err(not_pem(file, "certificate", &error)),
    }
}

/// The private key of a file, which nobody but its owner and group may be able to read.
pub(super) fn read_key(file: &Path) -> Result<PrivateKeyDer<'static>, ConfigError> {
    let text = read(file, Some(KEY_MODE_FORBIDDEN))?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| not_pem(file, "private key", &error))
}

/// The lists of revoked certificates of a file, at most one of each CA in `anchors`, and of nobody else.
pub(super) fn read_revoked(
    file: &Path,
    anchors: &[TrustAnchor<'_>],
) -> Result<Vec<CertRevocationList<'static>>, ConfigError> {
    let text = read(file, None)?;
    let wrong = |cause: String| ConfigError::from(Diagnostic::of_file(file, cause).hint(HINT_CRL));
    let mut lists: Vec<CertRevocationList<'static>> = Vec::new();
    for der in CertificateRevocationListDer::pem_slice_iter(&text) {
        let der = der.map_err(|error| not_pem(file, "list of revoked certificates", &error))?;
        let list = OwnedCertRevocationList::from_der(&der)
            .map_err(|error| wrong(format!("not a usable list of revoked certificates: {error}")))?;
        let list = CertRevocationList::from(list);
        if !anchors.iter().any(|anchor| &*anchor.subject == list.issuer()) {
            return Err(wrong("a list of certificates that another CA revoked".to_owned()));
        }
        if lists.iter().any(|earlier| earlier.issuer() == list.issuer()) {
            return Err(wrong("two lists of one CA".to_owned()));
        }
        lists.push(list);
    }
    if lists.is_empty() {
        return Err(not_pem(file, "list of revoked certificates", &pem::Error::NoItemsFound));
    }
    Ok(lists)
}

const HINT_CRL: &str = "copy the crl.pem that `sitegate pki revoke` wrote, or remove `crl` from [tls]";

/// The CA: its certificate, or two while one is being replaced by the next.
pub(super) struct Authority {
    pub(super) certificates: Vec<CertificateDer<'static>>,
    pub(super) anchors: Vec<TrustAnchor<'static>>,
}

/// Whom to trust.
pub(super) fn read_authority(file: &Path) -> Result<Authority, ConfigError> {
    let certificates = read_certificates(file)?;
    let anchors: Result<Vec<_>, _> = certificates.iter().map(anchor_from_trusted_cert).collect();
    let anchors = anchors.map_err(|error| {
        Diagnostic::of_file(file, format!("not the certificate of a CA: {error}"))
            .hint("copy the ca.pem that `sitegate pki init` wrote")
    })?;
    let anchors = anchors.iter().map(TrustAnchor::to_owned).collect();
    Ok(Authority { certificates, anchors })
}

fn read(file: &Path, forbidden_mode: Option<u32>) -> Result<Vec<u8>, ConfigError> {
    let mut bytes = Vec::new();
    let open = File::open(file).and_then(|open| {
        let mode = open.metadata()?.mode() & 0o777;
        open.take(PEM_BYTES_MAX + 1).read_to_end(&mut bytes)?;
        Ok(mode)
    });
    let mode = open.map_err(|error| {
        Diagnostic::of_file(file, format!("cannot be read: {error}"))
            .hint("check the path in [tls], and that the user that this runs as may read the file")
    })?;
    if let Some(forbidden) = forbidden_mode.filter(|forbidden| mode & forbidden != 0) {
        let cause = format!("the private key has mode {mode:04o}: others than its owner can get at it");
        let hint = format!(
            "run `chmod {:04o} {}`; if they may have read it, renew it",
            mode & !forbidden,
            file.display()
        );
        return Err(Diagnostic::of_file(file, cause).hint(hint).into());
    }
    if bytes.len() as u64 > PEM_BYTES_MAX {
        let cause = format!("larger than {} MiB", PEM_BYTES_MAX / 1024 / 1024);
        return Err(Diagnostic::of_file(file, cause).hint("check that this is the right file").into());
    }
    Ok(bytes)
}

fn not_pem(file: &Path, what: &str, error: &pem::Error) -> ConfigError {
    let cause = match error {
        pem::Error::NoItemsFound => format!("no {what} in PEM form in this file"),
        error => format!("no {what} in PEM form: {error}"),
    };
    Diagnostic::of_file(file, cause).hint("check that the paths in [tls] are not mixed up").into()
}
