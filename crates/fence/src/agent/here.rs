//! This very host: the names and addresses by which a fence agent may be aimed at it.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What this host is called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Here {
    name: String,
    addresses: BTreeSet<IpAddr>,
}

impl Here {
    /// As things stand; what cannot be read is missing.
    pub(super) fn look() -> Self {
        let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let v4 = fs::read_to_string("/proc/net/fib_trie").unwrap_or_default();
        let v6 = fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
        Self::new(&name, &v4, &v6)
    }

    pub(super) fn new(name: &str, fib_trie: &str, if_inet6: &str) -> Self {
        let v4 = local_v4(fib_trie).into_iter().map(IpAddr::from);
        let v6 = local_v6(if_inet6).into_iter().map(IpAddr::from);
        Self { name: name.to_ascii_lowercase(), addresses: v4.chain(v6).collect() }
    }

    /// Whether `text` is its name, with or without the domain, or one of its addresses.
    pub(super) fn is(&self, text: &str) -> bool {
        let text = text.trim().to_ascii_lowercase();
        let bare = text.trim_start_matches('[').trim_end_matches(']');
        if let Ok(address) = bare.split('%').next().unwrap_or(bare).parse::<IpAddr>() {
            return address.is_loopback() || self.addresses.contains(&address.to_canonical());
        }
        text == "localhost" || (!self.name.is_empty() && same_host(&text, &self.name))
    }
}

/// Of two names with a domain all must agree; of others the first part.
fn same_host(a: &str, b: &str) -> bool {
    if a.contains('.') && b.contains('.') { a == b } else { a.split('.').next() == b.split('.').next() }
}

/// The own addresses in `/proc/net/fib_trie`: leaves whose next line says `/32 host LOCAL`.
fn local_v4(fib_trie: &str) -> BTreeSet<Ipv4Addr> {
    let mut leaf: Option<Ipv4Addr> = None;
    let mut found = BTreeSet::new();
    for line in fib_trie.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            leaf = address.parse().ok();
        } else if line.starts_with("/32 host LOCAL") {
            found.extend(leaf);
        }
    }
    found
}

/// The addresses in `/proc/net/if_inet6`: 32 hexadecimal digits at the beginning of each line.
fn local_v6(if_inet6: &str) -> BTreeSet<Ipv6Addr> {
    let first = if_inet6.lines().filter_map(|line| line.split_whitespace().next());
    first.filter_map(|digits| u128::from_str_radix(digits, 16).ok()).map(Ipv6Addr::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIB_TRIE: &str = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 192.0.2.0\n        /24 link UNICAST\n\
        Local:\n     |-- 127.0.0.0\n        /8 host LOCAL\n           |-- 192.0.2.11\n              /32 host LOCAL\n\
              |-- 192.0.2.255\n              /32 link BROADCAST\n";
    const IF_INET6: &str = "20010db8000000000000000000000011 02 40 00 80     eth0\n";

    #[test]
    fn knows_its_names_and_addresses() {
        let here = Here::new("Paris1.example.com", FIB_TRIE, IF_INET6);
        for own in [
            "paris1",
            "PARIS1.example.com",
            "192.0.2.11",
            "2001:db8::11",
            "[2001:db8::11]",
            "127.0.0.1",
            "localhost",
        ] {
            assert!(here.is(own), "{own}");
        }
        for other in
            ["", "1", "paris", "paris1.example.org", "192.0.2.255", "192.0.2.0", "192.0.2.12", "2001:db8::12"]
        {
            assert!(!here.is(other), "{other}");
        }
        assert!(Here::new("paris1", "", "").is("paris1.example.org"), "the domain is not known");
        assert!(!Here::default().is(""));
    }

    #[test]
    fn looks_at_this_machine() {
        let here = Here::look();
        assert!(here.is(&here.name) && !here.name.is_empty(), "{here:?}");
        assert!(here.addresses.contains(&IpAddr::from([127, 0, 0, 1])), "{here:?}");
    }
}
