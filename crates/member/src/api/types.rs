//! What the API says, as types: members by name, lengths of time in milliseconds, times of day in RFC 3339.

use serde::{Deserialize, Serialize};

pub use sitegate_journal::History;

/// `GET /v1/status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Who answers.
    pub member: String,
    /// `site` or `arbitrator`.
    pub role: String,
    /// The formation's name.
    pub formation: String,
    /// The version of sitegate that answers.
    pub version: String,
    /// `voting`, `unborn`, `recovering`, `settling` or `quarantined`.
    pub standing: String,
    /// The same in a sentence.
    pub standing_detail: String,
    /// The epoch of identities: 0, and one more with each readmission.
    pub epoch: u64,
    /// How often this member has started.
    pub incarnation: u64,
    /// The first digits of the digest of its formation.toml.
    pub config_digest: String,
    /// Members whose formation.toml differs.
    pub config_differs: Vec<String>,
    /// Whether the fence daemon answers: `up` or `down`; `none` on an arbitrator.
    pub fence: String,
    /// Why this site sends no heartbeats: `disk`, `fence` or `unheard`; null while it does.
    pub bar: Option<String>,
    /// What an operator should look after, a sentence each.
    pub warnings: Vec<String>,
    /// All members, by number.
    pub members: Vec<MemberStatus>,
    /// All tickets, by name.
    pub tickets: Vec<TicketStatus>,
}

/// One member, as the one that answers sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MemberStatus {
    /// Its name.
    pub name: String,
    /// Its number in formation.toml.
    pub id: u8,
    /// `site` or `arbitrator`.
    pub role: String,
    /// Whether it can be reached, as far as that is known here.
    pub reachable: bool,
    /// How long ago it was last heard; null if not since this process began, and for the one that answers.
    pub heard_ago_ms: Option<u64>,
    /// Whether it speaks with an identity that is not the formation's.
    pub quarantined: bool,
    /// Whether its clock runs off.
    pub clock_off: bool,
    /// The first digits of the digest of its formation.toml; null if not known.
    pub config_digest: Option<String>,
    /// Whole days until its certificate ends, negative once it has; null if not known.
    pub certificate_days_left: Option<i64>,
    /// `online`, `keep` or `vacate`; null for an arbitrator.
    pub standby: Option<String>,
    /// Why connecting to it fails; null if it does not.
    pub problem: Option<String>,
}

/// One ticket, as the member that answers knows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TicketStatus {
    /// Its name.
    pub ticket: String,
    /// `managed`: somebody should hold it; `revoked`: nobody; `unset`: nobody has ever said.
    pub wanted: String,
    /// The preferred site.
    pub preferred: Option<String>,
    /// Whether new tenures are held off.
    pub paused: bool,
    /// Counts the changes of the wish; 0 before the first.
    pub intent_version: u64,
    /// Who changed the wish last.
    pub intent_by: String,
    /// Why.
    pub intent_reason: String,
    /// Who holds it.
    pub holder: Option<String>,
    /// The fencing token of the tenure that runs, or ran last; 0 before the first.
    pub token: u64,
    /// Why it is certain that nothing runs: `never`, `receipt`, `waited` or `attested`; null while it is held.
    pub proof: Option<String>,
    /// Takeovers after a loss, since the last command.
    pub takeovers: u32,
    /// `timed` or `confirmed`.
    pub takeover: String,
    /// E.
    pub expire_ms: u64,
    /// A.
    pub acquire_after_ms: u64,
    /// Whether the answering member knows that a majority has agreed on this holder (or on nobody).
    pub chosen: bool,
    /// How long this member guards somebody's lease yet; null if it guards none.
    pub guard_remaining_ms: Option<u64>,
    /// Candidates that wait here for the end of that guard.
    pub parked: Vec<String>,
    /// What this site does about it; null on an arbitrator.
    pub local: Option<LocalStatus>,
    /// The round of votes that this member runs about it.
    pub round: Option<RoundStatus>,
}

/// What a site does about a ticket.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LocalStatus {
    /// `idle`, `resuming`, `arming`, `held`, `stopping`, `fencing` or `stopped`.
    pub state: String,
    /// The token of its tenure.
    pub token: Option<u64>,
    /// How long the fence daemon is armed yet, unless it is extended.
    pub remaining_ms: Option<u64>,
    /// Why this site would not take the ticket, in a sentence; null if it would.
    pub refusal: Option<String>,
    /// The check before acquiring: `unknown`, `running`, `passed` or `failed`.
    pub check: String,
    /// Whether all levels of the fence plan fail.
    pub fence_failing: bool,
    /// Whether the fence daemon has no plan for it beyond killing its processes.
    pub unfenced: bool,
}

/// A round of votes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RoundStatus {
    /// What for: `acquire`, `renew`, `resume`, `release`, `settle` or `wish`.
    pub aim: String,
    /// Its number and who made it, as in `7.2`.
    pub ballot: String,
    /// Whether it asks for votes already, or for promises yet.
    pub accepting: bool,
    /// Who has agreed.
    pub agreed: Vec<String>,
    /// Who guards whose lease against it.
    pub leased: Vec<LeasedStatus>,
}

/// A member that guards a lease against a round.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LeasedStatus {
    /// Who guards.
    pub by: String,
    /// Whose lease.
    pub holder: String,
    /// For how long yet, unless it is renewed.
    pub remaining_ms: u64,
}

/// `GET /v1/explain/TICKET`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// The ticket.
    pub ticket: String,
    /// How it stands, in one sentence.
    pub headline: String,
    /// Why, a sentence each.
    pub reasons: Vec<String>,
    /// What happens next.
    pub next: Vec<NextStep>,
    /// The same for programs.
    pub status: TicketStatus,
}

/// Something that is going to happen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NextStep {
    /// What, in a sentence.
    pub what: String,
    /// In how long; null if that depends on something else.
    pub in_ms: Option<u64>,
}

/// `GET /v1/members`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Members {
    /// All members, by number.
    pub members: Vec<MemberStatus>,
}

/// `POST /v1/reload`, if it went well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// What has changed, a phrase each; empty if nothing.
    pub changed: Vec<String>,
}

/// Whatever went wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What.
    pub error: String,
    /// What to do about it.
    pub hint: String,
}

/// The body of `POST /v1/commands`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandRequest {
    /// `grant`, `revoke`, `move`, `pause`, `resume`, `standby`, `online`, `attest-dead` or `readmit`.
    pub command: String,
    /// For `grant`, `revoke`, `move`, `pause`, `resume`; for `attest-dead` if only this ticket is meant.
    #[serde(default)]
    pub ticket: Option<String>,
    /// For `grant`, `move`, `standby`, `online`, `attest-dead`.
    #[serde(default)]
    pub site: Option<String>,
    /// For `readmit`.
    #[serde(default)]
    pub member: Option<String>,
    /// For `standby`: keep the tickets that the site holds.
    #[serde(default)]
    pub keep: bool,
    /// Why; must be given for `attest-dead`.
    #[serde(default)]
    pub reason: Option<String>,
    /// Made up by whoever asks: a command with the number of an earlier one is that command. 0 or null: a new one.
    #[serde(default)]
    pub request: Option<u64>,
    /// How long to wait for the end; null: as long as the connection lasts.
    #[serde(default)]
    pub timeout_ms: Option<u64>,
}

/// One line of the answer to `POST /v1/commands`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Progress {
    /// The member has taken the command.
    Accepted {
        /// The number of the request: the same one given again is the same command.
        request: u64,
    },
    /// The wish is chosen: it will come true even if nobody waits.
    Recorded,
    /// What it waits for; said again when that changes.
    Waiting {
        /// In a sentence.
        text: String,
    },
    /// What was asked for holds. The last line.
    Done {
        /// In a sentence.
        text: String,
        /// Who holds the ticket now, if it is about one.
        holder: Option<String>,
        /// With which token.
        token: Option<u64>,
    },
    /// It was not carried out. The last line.
    Refused {
        /// One word for why.
        code: String,
        /// In a sentence.
        text: String,
        /// What to do instead; may be empty.
        hint: String,
    },
    /// Nobody waits any more; what was recorded may still come true. The last line.
    Timeout {
        /// In a sentence.
        text: String,
    },
}
