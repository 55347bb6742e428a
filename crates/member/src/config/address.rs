//! Where a member listens.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Deserializer};
use sitegate_host::diagnostic::{Rejected, deserialize_text};

/// The port of members that name none: booth's, so that firewalls that let booth through need no change.
pub const PORT_DEFAULT: u16 = 9929;

/// A DNS name or IP address with a port. Its [`Display`](fmt::Display) is `host:port`, with an IPv6 address in brackets.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// The machine.
    pub host: Host,
    /// The TCP port, never 0.
    pub port: u16,
}

/// A machine.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// By address.
    Ip(IpAddr),
    /// By DNS name, in lower case and without a dot at the end.
    Name(String),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(ip) => ip.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]:{}", self.port),
            host => write!(f, "{host}:{}", self.port),
        }
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserialize_text(deserializer)
    }
}

impl FromStr for Address {
    type Err = Rejected;

    fn from_str(text: &str) -> Result<Self, Rejected> {
        let (host, port) = split(text)?;
        let port = match port {
            None => PORT_DEFAULT,
            Some(port) => parse_port(text, port)?,
        };
        Ok(Self { host, port })
    }
}

/// The host of `text`, and what stands behind the colon after it.
fn split(text: &str) -> Result<(Host, Option<&str>), Rejected> {
    if let Some(rest) = text.strip_prefix('[') {
        let (ip, rest) = rest.split_once(']').ok_or_else(|| bad_ipv6(text))?;
        let ip: Ipv6Addr = ip.parse().map_err(|_| bad_ipv6(text))?;
        let port = match rest {
            "" => None,
            rest => Some(rest.strip_prefix(':').ok_or_else(|| bad_ipv6(text))?),
        };
        return Ok((reachable(text, ip.into())?, port));
    }
    if text.matches(':').count() > 1 {
        let ip: Ipv6Addr = text.parse().map_err(|_| bad_ipv6(text))?;
        return Ok((reachable(text, ip.into())?, None));
    }
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    let host = match host.parse::<IpAddr>() {
        Ok(ip) => reachable(text, ip)?,
        Err(_) => dns_name(text, host)?,
    };
    Ok((host, port))
}

fn bad_ipv6(text: &str) -> Rejected {
    Rejected::new(
        format!("\"{text}\" is not an IPv6 address"),
        "write it as \"2001:db8::3\" or, with a port, as \"[2001:db8::3]:9929\"",
    )
}

/// An address at which one machine can be reached.
fn reachable(text: &str, ip: IpAddr) -> Result<Host, Rejected> {
    if ip.is_unspecified() || ip.is_multicast() {
        return Err(Rejected::new(
            format!("\"{text}\" is not the address of one machine"),
            "write an address at which the other members reach this one",
        ));
    }
    Ok(Host::Ip(ip))
}

/// A DNS name by RFC 1123 §2.1, with `_` allowed since it is in use.
fn dns_name(text: &str, host: &str) -> Result<Host, Rejected> {
    let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    let good_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_'))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last = name.rsplit('.').next().unwrap_or_default();
    if name.len() > 253 || !name.split('.').all(good_label) || last.bytes().all(|c| c.is_ascii_digit()) {
        return Err(Rejected::new(
            format!("\"{text}\" is neither a DNS name nor an IP address"),
            "write it as \"paris.example.net\", \"192.0.2.10\" or \"2001:db8::3\", each with or without :port",
        ));
    }
    Ok(Host::Name(name))
}

fn parse_port(text: &str, port: &str) -> Result<u16, Rejected> {
    port.parse().ok().filter(|port| *port != 0).ok_or_else(|| {
        Rejected::new(
            format!("\"{port}\" in \"{text}\" is not a port"),
            format!("write a number from 1 to 65535, or leave it out for {PORT_DEFAULT}"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_names_and_both_kinds_of_ip() {
        for (text, shown) in [
            ("paris.example.net", "paris.example.net:9929"),
            ("Paris.Example.NET.", "paris.example.net:9929"),
            ("paris_2:1234", "paris_2:1234"),
            ("192.0.2.10", "192.0.2.10:9929"),
            ("192.0.2.10:77", "192.0.2.10:77"),
            ("2001:db8::3", "[2001:db8::3]:9929"),
            ("[2001:db8::3]", "[2001:db8::3]:9929"),
            ("[2001:db8:0::3]:77", "[2001:db8::3]:77"),
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), shown);
        }
    }

    #[test]
    fn says_what_is_wrong_with_an_address() {
        for (bad, cause) in [
            ("", "\"\" is neither a DNS name nor an IP address"),
            ("-a.example", "\"-a.example\" is neither a DNS name nor an IP address"),
            ("192.0.2.300", "\"192.0.2.300\" is neither a DNS name nor an IP address"),
            ("https://paris", "\"//paris\" in \"https://paris\" is not a port"),
            ("paris:0", "\"0\" in \"paris:0\" is not a port"),
            ("paris:99999", "\"99999\" in \"paris:99999\" is not a port"),
            ("2001:db8::g", "\"2001:db8::g\" is not an IPv6 address"),
            ("[2001:db8::3", "\"[2001:db8::3\" is not an IPv6 address"),
            ("[2001:db8::3]77", "\"[2001:db8::3]77\" is not an IPv6 address"),
            ("0.0.0.0", "\"0.0.0.0\" is not the address of one machine"),
            ("[::]:9929", "\"[::]:9929\" is not the address of one machine"),
            ("ff02::1", "\"ff02::1\" is not the address of one machine"),
        ] {
            assert_eq!(bad.parse::<Address>().unwrap_err().cause(), cause);
        }
    }
}
