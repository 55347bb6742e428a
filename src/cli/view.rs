//! What the API tells, as far as it is shown to people. `--json` passes on what came, with all fields; `docs/cli.md` lists
//! them.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::exit::Exit;
use super::failure::Failure;

/// `GET /v1/status`.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Status {
    /// Who answers.
    pub(crate) member: String,
    /// `site` or `arbitrator`.
    pub(crate) role: String,
    /// The formation's name.
    pub(crate) formation: String,
    /// Whether it votes, in one word.
    pub(crate) standing: String,
    /// More about that.
    pub(crate) standing_detail: Option<String>,
    /// Members whose formation file means something else.
    #[serde(default)]
    pub(crate) config_differs: Vec<String>,
    /// `up`, `down` or `none`.
    pub(crate) fence: String,
    /// Why a holder's heartbeats stop.
    pub(crate) bar: Option<String>,
    /// Sentences.
    #[serde(default)]
    pub(crate) warnings: Vec<String>,
    /// Everybody.
    pub(crate) members: Vec<Member>,
    /// Everything.
    pub(crate) tickets: Vec<Ticket>,
}

/// One member, as the one that answers sees it.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Member {
    /// Its name.
    pub(crate) name: String,
    /// `site` or `arbitrator`.
    pub(crate) role: String,
    /// Whether it was heard lately.
    pub(crate) reachable: bool,
    /// How long ago.
    pub(crate) heard_ago_ms: Option<u64>,
    /// Whether its identity is not the formation's.
    #[serde(default)]
    pub(crate) quarantined: bool,
    /// Whether its clock runs off.
    #[serde(default)]
    pub(crate) clock_off: bool,
    /// Until its certificate ends.
    pub(crate) certificate_days_left: Option<i64>,
    /// `online`, `keep` or `vacate`; none for arbitrators.
    pub(crate) standby: Option<String>,
}

/// One ticket, as the one that answers sees it.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Ticket {
    /// Its name.
    pub(crate) ticket: String,
    /// `managed`, `revoked` or `unset`.
    pub(crate) wanted: String,
    /// The site that was named last.
    pub(crate) preferred: Option<String>,
    /// Whether new tenures are barred.
    #[serde(default)]
    pub(crate) paused: bool,
    /// Who holds it.
    pub(crate) holder: Option<String>,
    /// Of the tenure that runs or ran last.
    pub(crate) token: Option<u64>,
    /// Why it is free.
    pub(crate) proof: Option<String>,
    /// After losses, since the last command.
    #[serde(default)]
    pub(crate) takeovers: u64,
    /// How long this member still refuses other candidates.
    pub(crate) guard_remaining_ms: Option<u64>,
    /// Candidates that wait for that.
    #[serde(default)]
    pub(crate) parked: Vec<String>,
    /// What this site does about it.
    pub(crate) local: Option<Local>,
    /// The round that this member runs.
    pub(crate) round: Option<Round>,
}

/// What a site does about a ticket.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Local {
    /// In one word.
    pub(crate) state: String,
    /// Until it fences unless it is renewed.
    pub(crate) remaining_ms: Option<u64>,
    /// Why it would not take it.
    pub(crate) refusal: Option<String>,
    /// Whether all levels of its fence plan failed.
    #[serde(default)]
    pub(crate) fence_failing: bool,
    /// Whether its plan only kills what was started.
    #[serde(default)]
    pub(crate) unfenced: bool,
}

/// A round under way.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Round {
    /// What for.
    pub(crate) aim: String,
    /// Who has promised or voted.
    #[serde(default)]
    pub(crate) agreed: Vec<String>,
}

/// `GET /v1/explain/TICKET`.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Explanation {
    /// One sentence.
    pub(crate) headline: String,
    /// Sentences.
    pub(crate) reasons: Vec<String>,
    /// What would happen next.
    #[serde(default)]
    pub(crate) next: Vec<Next>,
}

/// Something that would happen.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Next {
    /// What.
    pub(crate) what: String,
    /// When, if that is known.
    pub(crate) in_ms: Option<u64>,
}

/// `GET /v1/history`.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct History {
    /// Oldest first.
    pub(crate) entries: Vec<Value>,
}

/// What is shown of an entry.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Entry {
    /// When.
    pub(crate) at: String,
    /// About which ticket.
    pub(crate) ticket: Option<String>,
    /// What happened.
    pub(crate) text: String,
}

/// `POST /v1/reload`.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Reloaded {
    /// What is different.
    pub(crate) changed: Vec<String>,
}

/// Reads an answer.
///
/// # Errors
/// It lacks what every version of the API has.
pub(crate) fn read<T: DeserializeOwned>(answer: &Value) -> Result<T, Failure> {
    T::deserialize(answer).map_err(|error| {
        Failure::new(Exit::Failed, format!("the member gave an answer that is not understood: {error}"))
            .hint("check that daemon and command line are of the same version")
    })
}

/// A length of time for people: `0.3 s`, `12 s`, `5 min`, `3 h`.
#[must_use]
pub(crate) fn length(ms: u64) -> String {
    match ms {
        0..10_000 => format!("{}.{} s", ms / 1000, ms % 1000 / 100),
        10_000..120_000 => format!("{} s", ms / 1000),
        120_000..7_200_000 => format!("{} min", ms / 60_000),
        _ => format!("{} h", ms / 3_600_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_short() {
        for (ms, shown) in
            [(340, "0.3 s"), (9_999, "9.9 s"), (61_000, "61 s"), (600_000, "10 min"), (7_200_000, "2 h")]
        {
            assert_eq!(length(ms), shown);
        }
    }
}
