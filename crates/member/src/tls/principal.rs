//! Who a certificate speaks for.

use std::fmt;
use std::str::FromStr;

use sitegate_host::diagnostic::Rejected;

use crate::config::{FormationName, MemberName, PersonName};

/// What every identity URI begins with.
const SCHEME: &str = "sitegate://";

/// Somebody within a formation. The kind decides what they may do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Principal {
    /// A daemon that votes.
    Member(MemberName),
    /// A person or program that may give commands.
    Operator(PersonName),
    /// A person or program that may look.
    Viewer(PersonName),
}

impl Principal {
    /// The kind as it stands in the URI: `member`, `operator` or `viewer`.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Member(_) => "member",
            Self::Operator(_) => "operator",
            Self::Viewer(_) => "viewer",
        }
    }

    /// The name without the kind.
    pub fn name(&self) -> &str {
        match self {
            Self::Member(name) => name.as_str(),
            Self::Operator(name) | Self::Viewer(name) => name.as_str(),
        }
    }
}

impl fmt::Display for Principal {
    /// As in "operator alice".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind(), self.name())
    }
}

/// Somebody with the formation they belong to: the URI `sitegate://FORMATION/KIND/NAME`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Subject {
    /// The formation.
    pub formation: FormationName,
    /// Who within it.
    pub principal: Principal,
}

impl fmt::Display for Subject {
    /// The URI.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}/{}/{}", self.formation, self.principal.kind(), self.principal.name())
    }
}

impl FromStr for Subject {
    type Err = Rejected;

    fn from_str(uri: &str) -> Result<Self, Rejected> {
        let wrong = || {
            let hint =
                format!("identities are {SCHEME}FORMATION/member/NAME, …/operator/NAME and …/viewer/NAME");
            Rejected::new(format!("`{}` is no identity", uri.escape_debug()), hint)
        };
        let rest = uri.strip_prefix(SCHEME).ok_or_else(wrong)?;
        let [formation, kind, name] =
            <[&str; 3]>::try_from(rest.split('/').collect::<Vec<_>>()).map_err(|_| wrong())?;
        let principal = match kind {
            "member" => Principal::Member(name.parse()?),
            "operator" => Principal::Operator(name.parse()?),
            "viewer" => Principal::Viewer(name.parse()?),
            _ => return Err(wrong()),
        };
        Ok(Self { formation: formation.parse()?, principal })
    }
}

/// Whether `uri` is one of ours at all; others in a certificate do not concern us.
pub(super) fn is_identity(uri: &str) -> bool {
    uri.starts_with(SCHEME)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        for uri in [
            "sitegate://acme/member/paris",
            "sitegate://a.c-m_e/operator/alice",
            "sitegate://acme/viewer/grafana",
        ] {
            assert_eq!(uri.parse::<Subject>().unwrap().to_string(), uri);
        }
    }

    #[test]
    fn refuses_everything_else() {
        for uri in [
            "",
            "https://acme/member/paris",
            "sitegate://acme/member",
            "sitegate://acme/member/paris/",
            "sitegate://acme/Member/paris",
            "sitegate://acme/admin/paris",
            "sitegate://acme/member/",
            "sitegate:///member/paris",
            "sitegate://acme/member/pa%72is",
            "sitegate://acme/member/paris\n",
        ] {
            assert!(uri.parse::<Subject>().is_err(), "{uri:?}");
        }
    }
}
