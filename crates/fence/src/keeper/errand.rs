//! What a keeper is told to do, as its command line.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use sitegate_fence_client::wire::{Name, Token};

/// One program to run and keep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Errand {
    /// Whose it is; shows in the process list.
    pub resource: Name,
    /// The lease that has to stand when the program is started, if it needs one.
    pub lease: Option<Lease>,
    /// The control group to join first.
    pub cgroup: Option<PathBuf>,
    /// Whether what the program leaves running is kept (`start`) rather than killed (everything else).
    pub stay: bool,
    /// Whether the program reads what the keeper was given on stdin; else it finds nothing there.
    pub input: bool,
    /// The program and its arguments; never empty.
    pub argv: Vec<OsString>,
}

/// Where to look whether a resource may be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The file with the leases.
    pub leases: PathBuf,
    /// The resource.
    pub resource: Name,
    /// The token it has to be armed with.
    pub token: Token,
}

impl Errand {
    /// As arguments, without the subcommand.
    #[must_use]
    pub fn arguments(&self) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = vec![self.resource.as_str().into()];
        if let Some(lease) = &self.lease {
            arguments.extend(["--token".into(), lease.token.to_string().into()]);
            arguments.extend(["--leases".into(), lease.leases.clone().into()]);
        }
        if let Some(cgroup) = &self.cgroup {
            arguments.extend(["--cgroup".into(), cgroup.clone().into()]);
        }
        if self.stay {
            arguments.push("--stay".into());
        }
        if self.input {
            arguments.push("--input".into());
        }
        arguments.push("--".into());
        arguments.extend(self.argv.iter().cloned());
        arguments
    }

    /// From what [`arguments`](Self::arguments) gives.
    #[must_use]
    pub fn from_arguments(mut arguments: impl Iterator<Item = OsString>) -> Option<Self> {
        let resource = Name::new(arguments.next()?.to_str()?).ok()?;
        let (mut token, mut leases, mut cgroup, mut stay, mut input) = (None, None, None, false, false);
        loop {
            let argument = arguments.next()?;
            match argument.to_str()? {
                "--token" => token = Some(arguments.next()?.to_str()?.parse().ok()?),
                "--leases" => leases = Some(PathBuf::from(arguments.next()?)),
                "--cgroup" => cgroup = Some(PathBuf::from(arguments.next()?)),
                "--stay" => stay = true,
                "--input" => input = true,
                "--" => break,
                _ => return None,
            }
        }
        let lease = match (token, leases) {
            (Some(token), Some(leases)) => Some(Lease { leases, resource: resource.clone(), token }),
            (None, None) => None,
            // Half a lease is not taken for none.
            _ => return None,
        };
        let argv: Vec<OsString> = arguments.collect();
        let begins = argv.first().is_some_and(|program| program.as_os_str() != OsStr::new(""));
        begins.then_some(Self { resource, lease, cgroup, stay, input, argv })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Option<Errand> {
        Errand::from_arguments(arguments.iter().map(OsString::from))
    }

    #[test]
    fn comes_back_from_its_arguments() {
        let resource = Name::new("db").unwrap();
        let lease = Lease { leases: "/run/l".into(), resource: resource.clone(), token: 259 };
        for (lease, cgroup, stay, input) in
            [(Some(lease), Some("/cg".into()), true, false), (None, None, false, true)]
        {
            let argv = ["/bin/x", "--", "--stay"].map(OsString::from).to_vec();
            let errand = Errand { resource: resource.clone(), lease, cgroup, stay, input, argv };
            assert_eq!(Errand::from_arguments(errand.arguments().into_iter()), Some(errand));
        }
    }

    #[test]
    fn nothing_else_is_taken_for_one() {
        for arguments in [
            &[][..],
            &["db"],
            &["db", "--"],
            &["db", "--token", "1", "--", "/bin/x"],
            &["db", "--token", "x", "--leases", "/l", "--", "/bin/x"],
            &["a b", "--", "/bin/x"],
            &["db", "--colour", "--", "/bin/x"],
        ] {
            assert_eq!(parse(arguments), None, "{arguments:?}");
        }
    }
}
