//! A CA with the files that it issues.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, RevokedCertParams, SanType,
    SerialNumber,
};
use sitegate_member::config::TlsFiles;
use tempfile::TempDir;

const DAY: Duration = Duration::from_secs(24 * 3600);

pub struct Authority {
    directory: PathBuf,
    /// Removes the directory in the end, if it is its own.
    own: Option<TempDir>,
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
        Self { directory: directory.into(), own: None, issuer: Issuer::new(params, key), serials: 0 }
    }

    /// A new CA with a directory of its own, which goes when it goes.
    pub fn alone() -> Self {
        let own = tempfile::tempdir().unwrap();
        let authority = Self::new(own.path());
        Self { own: Some(own), ..authority }
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Of a file of that name.
    pub fn path(&self, file: &str) -> PathBuf {
        self.directory.join(file)
    }

    /// Issues a certificate for a member, valid now.
    pub fn member(&mut self, name: &str) -> TlsFiles {
        self.issue(&format!("sitegate://acme/member/{name}"), -1..1000)
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
        let name = uri.rsplit('/').next().unwrap();
        let file = |kind: &str| self.path(&format!("{}-{name}.{kind}", self.serials));
        let (cert, key_file) = (file("pem"), file("key"));
        std::fs::write(&cert, params.signed_by(&key, &self.issuer).unwrap().pem()).unwrap();
        std::fs::write(&key_file, key.serialize_pem()).unwrap();
        std::fs::set_permissions(&key_file, std::fs::Permissions::from_mode(0o600)).unwrap();
        TlsFiles { ca: self.path("ca.pem"), cert, key: key_file, crl: None, strict_expiry: false }
    }

    /// Revokes the certificates with these serials.
    pub fn revoke(&self, serials: &[u64]) -> PathBuf {
        let revoked = serials.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: in_days(-1).into(),
            reason_code: None,
            invalidity_date: None,
        });
        let list = CertificateRevocationListParams {
            this_update: in_days(-1).into(),
            next_update: in_days(1).into(),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let file = self.path("crl.pem");
        std::fs::write(&file, list.signed_by(&self.issuer).unwrap().pem().unwrap()).unwrap();
        file
    }
}

fn in_days(days: i64) -> SystemTime {
    let length = DAY * u32::try_from(days.unsigned_abs()).unwrap();
    if days < 0 { SystemTime::now() - length } else { SystemTime::now() + length }
}
