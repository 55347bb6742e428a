//! Who asks.

use std::fmt;

use axum::http::HeaderMap;

use crate::tls::Principal;

/// The header in which a command line run under sudo says for whom. It is a claim, recorded as one.
pub const SUDO_HEADER: &str = "x-sitegate-sudo-user";
/// The longest claim that is recorded, in bytes: as long as a user's name gets.
const CLAIM_BYTES_MAX: usize = 64;

/// Who opened a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// A process of this host, by the kernel's word.
    Local {
        /// Its user.
        uid: u32,
    },
    /// Somebody with a certificate.
    Certificate(Principal),
}

impl Who {
    /// Whether they may change anything.
    #[must_use]
    pub const fn may_command(&self) -> bool {
        matches!(self, Self::Local { .. } | Self::Certificate(Principal::Operator(_)))
    }

    /// As it is recorded, with the claim in `headers`.
    #[must_use]
    pub fn recorded(&self, headers: &HeaderMap) -> String {
        let claim = headers.get(SUDO_HEADER).and_then(|value| value.to_str().ok()).map(str::trim);
        let claim = claim.filter(|claim| !claim.is_empty() && claim.len() <= CLAIM_BYTES_MAX);
        match claim {
            Some(claim) if matches!(self, Self::Local { .. }) => format!("{self} (sudo by {claim})"),
            _ => self.to_string(),
        }
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local { uid } => match user_name(*uid) {
                Some(name) => f.write_str(&name),
                None => write!(f, "uid {uid}"),
            },
            Self::Certificate(principal) => principal.fmt(f),
        }
    }
}

/// The name of a user of this host, from passwd(5): users of a directory service go by number.
fn user_name(uid: u32) -> Option<String> {
    let users = std::fs::read_to_string("/etc/passwd").ok()?;
    let mut fields = users.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let user = fields.find(|fields| fields.get(2).and_then(|uid| uid.parse().ok()) == Some(uid))?;
    user.first().map(|name| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_recorded_as_one() {
        let root = Who::Local { uid: 0 };
        let mut headers = HeaderMap::new();
        assert_eq!(root.recorded(&headers), "root");
        headers.insert(SUDO_HEADER, "alice".parse().unwrap());
        assert_eq!(root.recorded(&headers), "root (sudo by alice)");
        let operator = Who::Certificate(Principal::Operator("bob".parse().unwrap()));
        assert_eq!(operator.recorded(&headers), "operator bob", "no claims over TLS");
        assert_eq!(Who::Local { uid: 4_294_967_000 }.to_string(), "uid 4294967000");
    }

    #[test]
    fn only_operators_and_locals_command() {
        let of = |uri: &str| Who::Certificate(uri.parse::<crate::tls::Subject>().unwrap().principal);
        assert!(of("sitegate://a/operator/x").may_command());
        assert!(!of("sitegate://a/viewer/x").may_command());
        assert!(!of("sitegate://a/member/x").may_command());
    }
}
