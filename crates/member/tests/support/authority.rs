//! A CA with the files that it issues.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType, SerialNumber,
};
use sitegate_member::config::TlsFiles;

const DAY: Duration = Duration::from_secs(24 * 3600);

pub struct Authority {
    directory: PathBuf,
    issuer: Issuer<'static, KeyPair>,
    serials: u64,
}

impl Authority {
    /// A new CA whose files lie in `directory`.
    pub fn new(directory: &Path) -> Self {
        std::fs::create_dir_all(directory).unwrap();
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let mut params = CertificateParams::new([]).unwrap();
        params.distinguished_name.push(DnType::CommonName, "test CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        std::fs::write(directory.join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        Self { directory: directory.into(), issuer: Issuer::new(params, key), serials: 0 }
    }

    /// Issues a certificate for this identity, valid for these days from now.
    pub fn issue(&mut self, uri: &str, days: std::ops::Range<i64>) -> TlsFiles {
        self.issue_between(uri, in_days(days.start), in_days(days.end))
    }

    /// Issues a certificate for this identity that is valid until then.
    pub fn issue_until(&mut self, uri: &str, end: SystemTime) -> TlsFiles {
        self.issue_between(uri, in_days(-1), end)
    }

    fn issue_between(&mut self, uri: &str, start: SystemTime, end: SystemTime) -> TlsFiles {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let mut params = CertificateParams::new([]).unwrap();
        params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        self.serials += 1;
        params.serial_number = Some(SerialNumber::from(self.serials));
        params.not_before = start.into();
        params.not_after = end.into();
        let file = |kind: &str| self.directory.join(format!("{}.{kind}", self.serials));
        let (cert, key_file) = (file("pem"), file("key"));
        std::fs::write(&cert, params.signed_by(&key, &self.issuer).unwrap().pem()).unwrap();
        std::fs::write(&key_file, key.serialize_pem()).unwrap();
        std::fs::set_permissions(&key_file, std::fs::Permissions::from_mode(0o600)).unwrap();
        TlsFiles { ca: self.directory.join("ca.pem"), cert, key: key_file, crl: None, strict_expiry: false }
    }
}

fn in_days(days: i64) -> SystemTime {
    let length = DAY * u32::try_from(days.unsigned_abs()).unwrap();
    if days < 0 { SystemTime::now() - length } else { SystemTime::now() + length }
}
