//! What a certificate says: who, and how long.

use std::fmt;
use std::time::{Duration, SystemTime};

use ring::digest::{SHA256, digest};
use rustls::pki_types::CertificateDer;
use sitegate_host::diagnostic::Rejected;
use webpki::EndEntityCert;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use x509_parser::time::ASN1Time;

use super::principal::{Subject, is_identity};

/// From so many days before the end on, a certificate counts as expiring: long enough to renew it at leisure.
pub const EXPIRY_WARNING_DAYS: i64 = 60;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// From when to when a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// The first second.
    pub not_before: SystemTime,
    /// The last second.
    pub not_after: SystemTime,
}

/// Where in its validity a certificate stands. Ordered from harmless to worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// Nothing to do.
    Valid,
    /// Ends within [`EXPIRY_WARNING_DAYS`]: time to renew it.
    Expiring,
    /// Begins later than now: the clock is wrong, here or where it was issued.
    NotYetValid,
    /// Has ended.
    Expired,
}

impl Validity {
    /// Whole days left at `now`, rounded down; negative once it has ended.
    pub fn days_left(&self, now: SystemTime) -> i64 {
        let days = |length: Duration| i64::try_from(length.as_secs() / DAY.as_secs()).unwrap_or(i64::MAX);
        match self.not_after.duration_since(now) {
            Ok(left) => days(left),
            Err(gone) => -1 - days(gone.duration()),
        }
    }

    /// How it stands at `now`.
    pub fn standing(&self, now: SystemTime) -> Standing {
        if now > self.not_after {
            Standing::Expired
        } else if now < self.not_before {
            Standing::NotYetValid
        } else if self.days_left(now) < EXPIRY_WARNING_DAYS {
            Standing::Expiring
        } else {
            Standing::Valid
        }
    }
}

/// The validity of any certificate in DER.
pub fn validity_of(certificate: &CertificateDer<'_>) -> Result<Validity, Rejected> {
    let (_, parsed) = X509Certificate::from_der(certificate)
        .map_err(|error| Rejected::new(format!("not an X.509 certificate: {error}"), HINT_REISSUE))?;
    let validity = parsed.validity();
    Ok(Validity { not_before: system_time(validity.not_before), not_after: system_time(validity.not_after) })
}

/// The identity in a certificate in DER. It says nothing about who signed it.
pub fn subject_of(certificate: &CertificateDer<'_>) -> Result<Subject, Rejected> {
    let parsed = EndEntityCert::try_from(certificate)
        .map_err(|error| Rejected::new(format!("not an X.509 certificate: {error}"), HINT_REISSUE))?;
    let mut ours = parsed.valid_uri_names().filter(|uri| is_identity(uri));
    match (ours.next(), ours.next()) {
        (Some(uri), None) => uri.parse(),
        (None, _) => Err(Rejected::new(
            "the certificate has no sitegate:// identity in its subjectAltName",
            HINT_REISSUE,
        )),
        (Some(_), Some(_)) => {
            Err(Rejected::new("the certificate has two sitegate:// identities", HINT_REISSUE))
        }
    }
}

const HINT_REISSUE: &str = "issue one with `sitegate pki issue`";

/// The SHA-256 fingerprint of a certificate in DER, in lower-case hexadecimal.
pub fn fingerprint_of(certificate: &CertificateDer<'_>) -> Fingerprint {
    let digest = digest(&SHA256, certificate);
    Fingerprint(digest.as_ref().try_into().expect("SHA-256 has 32 bytes"))
}

/// A certificate of ours, for status and for warnings that come in time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateReport {
    /// The identity URI, or `ca`.
    pub subject: String,
    /// How long it is valid.
    pub validity: Validity,
    /// What identifies it.
    pub fingerprint: Fingerprint,
}

impl CertificateReport {
    pub(super) fn of(subject: String, certificate: &CertificateDer<'_>) -> Result<Self, Rejected> {
        Ok(Self { subject, validity: validity_of(certificate)?, fingerprint: fingerprint_of(certificate) })
    }
}

/// SHA-256 over a certificate in DER.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

fn system_time(time: ASN1Time) -> SystemTime {
    let seconds = Duration::from_secs(time.timestamp().unsigned_abs());
    if time.timestamp() < 0 { SystemTime::UNIX_EPOCH - seconds } else { SystemTime::UNIX_EPOCH + seconds }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_days_both_ways() {
        let at = |day: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(day * 86_400);
        let validity = Validity { not_before: at(100), not_after: at(200) };
        for (day, left, standing) in [
            (99, 101, Standing::NotYetValid),
            (100, 100, Standing::Valid),
            (140, 60, Standing::Valid),
            (141, 59, Standing::Expiring),
            (200, 0, Standing::Expiring),
            (202, -3, Standing::Expired),
        ] {
            assert_eq!(
                (validity.days_left(at(day)), validity.standing(at(day))),
                (left, standing),
                "day {day}"
            );
        }
        assert_eq!(validity.days_left(at(200) + Duration::from_secs(1)), -1);
    }
}
