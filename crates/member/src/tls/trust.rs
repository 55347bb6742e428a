//! Whom to believe: the chain to our CA, the formation, the time, and what was revoked.

use std::time::{Duration, SystemTime};

use rustls::CertificateError;
use rustls::pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{
    CertRevocationList, EndEntityCert, ExtendedKeyUsageValidator, RevocationOptionsBuilder,
    UnknownStatusPolicy,
};

use super::certificate::{Standing, Validity, subject_of, validity_of};
use super::principal::{Principal, Subject};
use crate::config::FormationName;

/// What the certificates of others are checked against.
#[derive(Debug)]
pub(super) struct Trust {
    /// At least one; two while a CA is being replaced.
    pub(super) anchors: Vec<TrustAnchor<'static>>,
    /// At most one for each anchor, each signed by it.
    pub(super) revoked: Vec<CertRevocationList<'static>>,
    /// The only formation to which others may belong.
    pub(super) formation: FormationName,
    /// Whether a member whose certificate is out of date is refused too.
    pub(super) strict_expiry: bool,
}

/// Somebody whose certificate was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Who it is.
    pub principal: Principal,
    /// How long its certificate is valid. That of a member may have ended: say so loudly.
    pub validity: Validity,
}

impl Peer {
    /// How its certificate stands at `now`.
    pub fn standing(&self, now: SystemTime) -> Standing {
        self.validity.standing(now)
    }
}

/// Why a certificate was not believed. The other side sent it, so the fault is mostly over there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not a certificate that can be read, or without a usable identity.
    #[error("its certificate is unusable: {0}")]
    Unusable(String),
    /// Signed by somebody else.
    #[error("its certificate was not signed by the CA of formation {0}")]
    OtherCa(FormationName),
    /// Of another formation, although our CA signed it.
    #[error("it is {0}, but this is formation {1}")]
    OtherFormation(Subject, FormationName),
    /// Of this formation, but not in its file.
    #[error("{0} is not in this member's formation.toml")]
    NotAMember(Principal),
    /// Not whom we meant to call.
    #[error("{found} answered where {expected} was expected")]
    SomebodyElse {
        /// Who answered.
        found: Principal,
        /// Whom we called.
        expected: Principal,
    },
    /// Out of date, where that matters.
    #[error("the certificate of {0} expired {days} days ago; renew it with `sitegate pki renew`", days = .1)]
    Expired(Principal, i64),
    /// Valid only later, where that matters.
    #[error("the certificate of {0} is not valid yet; check the clocks")]
    NotYetValid(Principal),
    /// In the list of revoked certificates.
    #[error("the certificate of {0} was revoked")]
    Revoked(Principal),
    /// Only members speak with members.
    #[error("{0} asked for the members' protocol")]
    NotForPeers(Principal),
}

impl Refusal {
    /// The nearest that TLS has a word for, so that the other side learns the reason too.
    pub(super) fn for_the_other_side(&self) -> CertificateError {
        match self {
            Self::Unusable(_) => CertificateError::BadEncoding,
            Self::OtherCa(_) => CertificateError::UnknownIssuer,
            Self::Expired(..) | Self::NotYetValid(_) => CertificateError::Expired,
            Self::Revoked(_) => CertificateError::Revoked,
            Self::OtherFormation(..)
            | Self::NotAMember(_)
            | Self::SomebodyElse { .. }
            | Self::NotForPeers(_) => CertificateError::ApplicationVerificationFailure,
        }
    }
}

impl Trust {
    /// Checks the certificate that somebody showed.
    ///
    /// A member whose certificate is out of date is believed all the same unless `strict_expiry`: a forgotten renewal must
    /// not take a site down, nor must a wall clock that lost its battery. Its chain is then checked as of the nearest moment
    /// at which the certificate was valid.
    pub(super) fn check(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        usage: impl ExtendedKeyUsageValidator,
        now: UnixTime,
    ) -> Result<Peer, Refusal> {
        let unusable =
            |rejected: sitegate_host::diagnostic::Rejected| Refusal::Unusable(rejected.cause().to_owned());
        let validity = validity_of(certificate).map_err(unusable)?;
        let subject = subject_of(certificate);
        let lenient = !self.strict_expiry && matches!(&subject, Ok(subject) if is_member(subject));
        let moment = if lenient { nearest_moment(&validity, now) } else { now };
        match self.check_chain(certificate, intermediates, usage, moment) {
            Ok(()) => {}
            Err(webpki::Error::UnknownIssuer | webpki::Error::InvalidSignatureForPublicKey) => {
                return Err(Refusal::OtherCa(self.formation.clone()));
            }
            Err(error) => return Err(self.refusal(error, subject.as_ref().ok(), &validity, now)),
        }
        let subject = subject.map_err(unusable)?;
        if subject.formation != self.formation {
            return Err(Refusal::OtherFormation(subject, self.formation.clone()));
        }
        Ok(Peer { principal: subject.principal, validity })
    }

    fn check_chain(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        usage: impl ExtendedKeyUsageValidator,
        moment: UnixTime,
    ) -> Result<(), webpki::Error> {
        let lists: Vec<&CertRevocationList<'_>> = self.revoked.iter().collect();
        // Without any list there is nothing to check against. While a CA is replaced, only one of the two may have a list. A
        // list does not go out of date: an old one is better than none.
        let revocation = RevocationOptionsBuilder::new(&lists)
            .ok()
            .map(|options| options.with_status_policy(UnknownStatusPolicy::Allow).build());
        EndEntityCert::try_from(certificate)?
            .verify_for_usage(
                webpki::ALL_VERIFICATION_ALGS,
                &self.anchors,
                intermediates,
                moment,
                usage,
                revocation,
                None,
            )
            .map(|_| ())
    }

    fn refusal(
        &self,
        error: webpki::Error,
        subject: Option<&Subject>,
        validity: &Validity,
        now: UnixTime,
    ) -> Refusal {
        match (error, subject) {
            (webpki::Error::CertExpired { .. }, Some(subject)) => {
                let days = -validity.days_left(system_time(now));
                Refusal::Expired(subject.principal.clone(), days)
            }
            (webpki::Error::CertNotValidYet { .. }, Some(subject)) => {
                Refusal::NotYetValid(subject.principal.clone())
            }
            (webpki::Error::CertRevoked, Some(subject)) => Refusal::Revoked(subject.principal.clone()),
            (error, _) => Refusal::Unusable(error.to_string()),
        }
    }
}

fn is_member(subject: &Subject) -> bool {
    matches!(subject.principal, Principal::Member(_))
}

fn nearest_moment(validity: &Validity, now: UnixTime) -> UnixTime {
    unix_time(system_time(now).clamp(validity.not_before, validity.not_after.max(validity.not_before)))
}

pub(super) fn system_time(time: UnixTime) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(time.as_secs())
}

fn unix_time(time: SystemTime) -> UnixTime {
    UnixTime::since_unix_epoch(time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
}
