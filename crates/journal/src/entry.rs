//! One entry: before it is written, and as it is read.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sitegate_host::clock::unix_ms;
use sitegate_protocol::Now;

use crate::content::{Content, Unread};

/// Something worth writing down, before it is written.
#[derive(Clone, Debug, PartialEq)]
pub struct Draft {
    /// The ticket it is about.
    pub ticket: Option<String>,
    /// The member it is about, if not this one.
    pub member: Option<String>,
    /// One sentence.
    pub text: String,
    /// What it is, and the sentence for programs.
    pub content: Content,
}

impl Draft {
    /// About the member that writes it.
    #[must_use]
    pub const fn new(text: String, content: Content) -> Self {
        Self { ticket: None, member: None, text, content }
    }

    /// About a ticket.
    #[must_use]
    pub fn about(ticket: &str, text: String, content: Content) -> Self {
        Self { ticket: Some(ticket.to_owned()), ..Self::new(text, content) }
    }
}

/// A line of the journal, as `history` gives it. Kind and detail are as they were written, by whatever version, so that the
/// chain can be checked; [`Entry::content`] reads them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Counts all entries of this member from 1.
    pub seq: u64,
    /// The time of day, RFC 3339.
    pub at: String,
    /// `CLOCK_BOOTTIME`, ns.
    pub boot_ns: u64,
    /// `CLOCK_MONOTONIC_RAW`, ns.
    pub raw_ns: u64,
    /// One word for what it is.
    pub kind: String,
    /// The ticket it is about.
    pub ticket: Option<String>,
    /// The member it is about, if not the one whose journal it is.
    pub member: Option<String>,
    /// One sentence.
    pub text: String,
    /// The same for programs.
    pub detail: Value,
    /// SHA-256 over the hash before and this line up to here; 64 hexadecimal digits.
    #[serde(default)]
    pub hash: String,
}

impl Entry {
    /// The entry that `draft` becomes as number `seq`, without its hash.
    pub(crate) fn of(draft: Draft, seq: u64, moment: Moment) -> Self {
        Self {
            seq,
            at: format!("{:.3}", moment.wall),
            boot_ns: moment.now.boot.0,
            raw_ns: moment.now.raw.0,
            kind: draft.content.kind().to_owned(),
            ticket: draft.ticket,
            member: draft.member,
            text: draft.text,
            detail: draft.content.detail(),
            hash: String::new(),
        }
    }

    /// What it says, for programs.
    ///
    /// # Errors
    /// If this version cannot read it.
    pub fn content(&self) -> Result<Content, Unread> {
        Content::read(&self.kind, &self.detail)
    }
}

/// `GET /v1/history`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// Oldest first.
    pub entries: Vec<Entry>,
}

/// When something happened.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    now: Now,
    wall: jiff::Timestamp,
}

impl Moment {
    /// `now`, and the time of day.
    #[must_use]
    pub fn new(now: Now) -> Self {
        Self::at(now, unix_ms())
    }

    /// `now`, and a time of day in milliseconds since 1970.
    #[must_use]
    pub fn at(now: Now, unix_ms: u64) -> Self {
        let ms = i64::try_from(unix_ms).unwrap_or(i64::MAX);
        Self { now, wall: jiff::Timestamp::from_millisecond(ms).unwrap_or(jiff::Timestamp::MAX) }
    }
}
