//! What a formation file means, in a number that members compare.

use std::fmt::{self, Write as _};

use ring::digest::{SHA256, digest};

use super::Formation;

/// A SHA-256 over the meaning of a formation file: not over its bytes, so comments, order and defaults written out make no
/// difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FormationDigest([u8; 32]);

impl FormationDigest {
    /// Of everything in the formation.
    pub fn of(formation: &Formation) -> Self {
        let mut text = id_map(formation);
        describe(&mut text, formation).expect("writing to a String cannot fail");
        Self::of_text(&text)
    }

    /// Of the formation's name and the ids, names and roles of its members: members that differ in it refuse each other.
    pub fn of_id_map(formation: &Formation) -> Self {
        Self::of_text(&id_map(formation))
    }

    fn of_text(text: &str) -> Self {
        let digest = digest(&SHA256, text.as_bytes());
        Self(digest.as_ref().try_into().expect("SHA-256 has 32 bytes"))
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first 12 hexadecimal digits: enough for people to compare.
    pub fn short(&self) -> String {
        self.to_string()[..12].to_owned()
    }
}

impl fmt::Display for FormationDigest {
    /// All 64 hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

// The canonical texts have one fact a line. No name or address can contain a space or a newline, so two different formations
// never have the same text. The first line is the version of this scheme.

fn id_map(formation: &Formation) -> String {
    let mut text = format!("sitegate formation 1\nname {}\n", formation.name);
    for member in &formation.members {
        writeln!(text, "member {} {} {}", member.id, member.role, member.name)
            .expect("writing to a String cannot fail");
    }
    text
}

fn describe(text: &mut String, formation: &Formation) -> fmt::Result {
    writeln!(text, "heartbeat {}", formation.heartbeat.as_millis())?;
    writeln!(text, "max-clock-drift {}", formation.max_clock_drift.ppm())?;
    writeln!(text, "rtt-max {}", formation.rtt_max.as_millis())?;
    writeln!(text, "recovery-wait {}", formation.recovery_wait.as_millis())?;
    writeln!(text, "trust-disk {}", formation.trust_disk)?;
    for member in &formation.members {
        for address in &member.addresses {
            writeln!(text, "address {} {address}", member.id)?;
        }
    }
    for (name, terms) in &formation.tickets {
        write!(text, "ticket {name} {} {}", terms.expire.as_millis(), terms.acquire_after.as_millis())?;
        write!(text, " {} {} {} order", terms.takeover, terms.failback, terms.takeover_limit)?;
        for site in &terms.order {
            write!(text, " {site}")?;
        }
        writeln!(text)?;
    }
    Ok(())
}
