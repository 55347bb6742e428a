//! What runs have met: faults that struck, what members noted, said and refused. A sweep that meets too little proves little.

use std::collections::BTreeMap;
use std::fmt::{self, Debug, Write};
use std::mem::{Discriminant, discriminant};

use sitegate_protocol::Body;

/// How often each thing was met, by its kind and name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    counts: BTreeMap<&'static str, BTreeMap<String, u64>>,
    /// What members said in a run that goes on, by its variant: so often that writing its name each time would show.
    said: Vec<(Discriminant<Body>, String, u64)>,
}

/// What a sweep has to meet: every fault, and every branch of the protocol that is taken only when something goes wrong.
const EXPECTED: [(&str, &[&str]); 7] = [
    (
        "fault",
        &[
            "Kill",
            "Freeze",
            "Suspend",
            "Drift",
            "Power",
            "Blackout",
            "CutOff",
            "Cuts",
            "KillFenced",
            "SlowLine",
            "SlowDisk",
            "Ill",
            "Unhealthy",
            "Stuck",
            "Reload",
            "Abandon",
            "Suspect",
            "Image",
            "Disk",
            "Clone",
        ],
    ),
    ("done", &["Grant", "Revoke", "Move", "Pause", "Resume", "Standby", "AttestDead", "Readmit"]),
    ("fence", &["Interrupted", "Hangs", "Leaves", "KillFails"]),
    ("disk", &["Wiped", "PutBack", "BeforeBirth", "Unproven"]),
    (
        "note",
        &[
            "Born",
            "Recovering",
            "Recovered",
            "TrustsDisk",
            "Voting",
            "Quarantined",
            "EpochChanged",
            "Stranger",
            "PeerRestarted",
            "RolledBack",
            "CheckFailed",
            "Acquired",
            "Held",
            "Resumed",
            "Lost",
            "Relinquishing",
            "Fenced",
            "FenceFailing",
            "Released",
            "Intent",
            "Standby",
            "Flapping",
            "StartFailed",
            "Unhealthy",
            "RestartsHere",
            "Barred",
            "Unbarred",
            "Parked",
        ],
    ),
    (
        "refusal",
        &[
            "NotVoting",
            "HeldElsewhere",
            "NotHeld",
            "Paused",
            "Revoked",
            "OnStandby",
            "Unwilling",
            "Unreachable",
            "NothingHeld",
            "Overruled",
            "WentTo",
            "NotQuarantined",
            "TooFewMembers",
        ],
    ),
    (
        "said",
        &[
            "Promise",
            "Nack",
            "Leased",
            "Accept",
            "Accepted",
            "Chosen",
            "Heartbeat",
            "Ack",
            "Ping",
            "Pong",
            "ListAsk",
            "Listing",
            "Forgo",
            "Compare",
            "Want",
            "Settle",
            "Settled",
            "Willing",
            "Willingness",
            "HeardAsk",
            "Heard",
            "Meet",
            "Met",
            "RecoverAsk",
            "RecoverPage",
            "Epoch",
            "RolledBack",
        ],
    ),
];

impl Coverage {
    /// `what` was met; only the name of its variant counts.
    pub(crate) fn met(&mut self, kind: &'static str, what: &impl Debug) {
        *self.counts.entry(kind).or_default().entry(Name::of(what)).or_default() += 1;
    }

    /// A member said `body`.
    pub(crate) fn said(&mut self, body: &Body) {
        let variant = discriminant(body);
        match self.said.iter_mut().find(|(known, ..)| *known == variant) {
            Some((.., count)) => *count += 1,
            None => self.said.push((variant, Name::of(body), 1)),
        }
    }

    /// The run is over: what was said counts by its name, like the rest.
    pub(crate) fn over(mut self) -> Self {
        let said = self.counts.entry("said").or_default();
        for (_, name, count) in self.said.drain(..) {
            *said.entry(name).or_default() += count;
        }
        self
    }

    /// Adds what other runs have met.
    pub fn add(&mut self, other: &Self) {
        for (kind, names) in &other.counts {
            let of_kind = self.counts.entry(kind).or_default();
            for (name, count) in names {
                *of_kind.entry(name.clone()).or_default() += count;
            }
        }
    }

    /// Everything that was met, by kind and name.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &str, u64)> {
        self.counts
            .iter()
            .flat_map(|(kind, names)| names.iter().map(|(name, count)| (*kind, name.as_str(), *count)))
    }

    /// What was to be met and was met less often than `least`.
    #[must_use]
    pub fn missing(&self, least: u64) -> Vec<String> {
        let met = |kind: &str, name: &str| {
            self.counts.get(kind).and_then(|names| names.get(name)).copied().unwrap_or(0)
        };
        let expected = EXPECTED.iter().flat_map(|(kind, names)| names.iter().map(move |name| (*kind, *name)));
        expected
            .map(|(kind, name)| (kind, name, met(kind, name)))
            .filter(|(.., count)| *count < least)
            .map(|(kind, name, count)| format!("{kind} {name}: {count}"))
            .collect()
    }
}

/// The first word of what is written to it, after which it takes no more: what follows can be long, and is met often.
#[derive(Default)]
struct Name(String);

impl Name {
    fn of(what: &impl Debug) -> String {
        let mut name = Self::default();
        // It ends with an error where the name of the variant does.
        let _ = write!(name, "{what:?}");
        name.0
    }
}

impl Write for Name {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let text = if self.0.is_empty() { text.trim_start_matches('"') } else { text };
        let end = text.find(|c: char| !c.is_alphanumeric()).unwrap_or(text.len());
        self.0.push_str(&text[..end]);
        if end < text.len() { Err(fmt::Error) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_met_too_seldom_is_named() {
        let mut coverage = Coverage::default();
        (0..3).for_each(|_| coverage.met("disk", &"Wiped"));
        coverage.met("disk", &Some(1));
        assert!(!coverage.missing(3).contains(&"disk Wiped: 3".to_owned()));
        assert!(coverage.missing(4).contains(&"disk Wiped: 3".to_owned()));
        assert!(coverage.missing(1).contains(&"fault Kill: 0".to_owned()));
        let mut sum = Coverage::default();
        sum.add(&coverage);
        sum.add(&coverage);
        assert!(sum.iter().any(|met| met == ("disk", "Some", 2)));
    }
}
