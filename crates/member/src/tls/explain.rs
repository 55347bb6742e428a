//! What went wrong with a connection, in words for a log, a status or a terminal.

use std::io;

use rustls::{AlertDescription, CertificateError, Error};

use super::Refusal;

/// Why connecting, accepting, reading or writing failed: what TLS knows about it, or else the operating system.
pub fn explain(error: &io::Error) -> String {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(error) => explain_tls(error),
        None if error.kind() == io::ErrorKind::UnexpectedEof => "the other side hung up".to_owned(),
        None => error.to_string(),
    }
}

/// As [`explain`], of an error of rustls itself.
pub fn explain_tls(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(CertificateError::Other(other)) => {
            match other.0.downcast_ref::<Refusal>() {
                Some(refusal) => refusal.to_string(),
                None => other.to_string(),
            }
        }
        Error::AlertReceived(alert) => match refused_because(*alert) {
            Some(why) => format!("the other side refused our certificate: {why}"),
            None => error.to_string(),
        },
        Error::InvalidMessage(_) => format!("the other side does not speak TLS ({error})"),
        Error::PeerIncompatible(_) => format!("the other side does not speak TLS 1.3 ({error})"),
        Error::NoCertificatesPresented => "the other side showed no certificate".to_owned(),
        Error::NoApplicationProtocol => {
            "the other side wants neither the members' protocol nor HTTP/1.1".to_owned()
        }
        _ => error.to_string(),
    }
}

/// What the other side said with an alert (RFC 8446 §6.2); [`Refusal`] chooses them.
const fn refused_because(alert: AlertDescription) -> Option<&'static str> {
    match alert {
        AlertDescription::CertificateExpired => Some("it has expired, or one of the clocks is wrong"),
        AlertDescription::CertificateRevoked => Some("it was revoked"),
        AlertDescription::UnknownCA => Some("another CA signed it"),
        AlertDescription::AccessDenied => {
            Some("it is of another formation, or of no member that is known there")
        }
        AlertDescription::CertificateRequired => Some("we showed none"),
        AlertDescription::BadCertificate => Some("it has no usable identity"),
        AlertDescription::CertificateUnknown => Some("its log says why"),
        _ => None,
    }
}
