//! What the protocol noted, in words.

use serde_json::{Value, json};
use sitegate_protocol::{
    Bar, Deadline, GiveUp, Intent, MemberId, Note, Now, StandbyMode, TicketName, Token, Wanted,
};

use super::Draft;
use crate::settings::Names;

/// What `note`, made about `now`, says.
#[must_use]
pub fn describe(note: &Note, names: &Names, now: Now) -> Draft {
    of_ticket(note, names, now).or_else(|| of_tenure(note)).or_else(|| of_member(note, names)).unwrap_or_else(
        || {
            // Every note is in one of the three; a new one that is in none still gets an entry.
            Draft {
                kind: "note",
                ticket: None,
                member: None,
                text: format!("{note:?}"),
                detail: serde_json::to_value(note).unwrap_or_default(),
            }
        },
    )
}

fn about(kind: &'static str, ticket: &TicketName, text: String, detail: Value) -> Draft {
    Draft { kind, ticket: Some(ticket.to_string()), member: None, text, detail }
}

/// How a ticket is acquired, and what is wanted for it.
fn of_ticket(note: &Note, names: &Names, now: Now) -> Option<Draft> {
    let draft = match note {
        Note::CheckFailed(ticket) => about(
            "check-failed",
            ticket,
            format!("the check before acquiring {ticket} failed here"),
            json!({}),
        ),
        Note::Candidate(ticket, ballot) => {
            let text = format!("tries to acquire {ticket}, with ballot {ballot}");
            about("candidate", ticket, text, json!({ "ballot": ballot.to_string() }))
        }
        Note::Acquired(ticket, token) => {
            let text = format!("a majority agreed that this site holds {ticket}, with token {token}");
            about("acquired", ticket, text, json!({ "token": token }))
        }
        Note::Held(ticket, token, deadline) => held(ticket, *token, *deadline, now),
        Note::Resumed(ticket, token) => {
            let text = format!("holds {ticket} again after a restart, with the same token {token}");
            about("resumed", ticket, text, json!({ "token": token }))
        }
        Note::Intent(ticket, intent) => self::intent(ticket, intent, names),
        Note::Flapping(ticket) => {
            let text = format!("{ticket} was taken over too often: it is paused until somebody resumes it");
            about("flapping", ticket, text, json!({}))
        }
        Note::Parked(ticket, candidate, remaining) => {
            let candidate = names.name(*candidate);
            let left = remaining.as_millis();
            let text = format!(
                "{candidate} asks for {ticket}, but this member guards another's lease for {left} ms more"
            );
            let draft = about("parked", ticket, text, json!({ "remaining_ms": left }));
            Draft { member: Some(candidate), ..draft }
        }
        _ => return None,
    };
    Some(draft)
}

fn held(ticket: &TicketName, token: Token, deadline: Deadline, now: Now) -> Draft {
    let left = deadline.remaining(now).as_millis();
    let text =
        format!("holds {ticket} with token {token}; the fence daemon is armed, for {left} ms unless renewed");
    let detail = json!({
        "token": token,
        "deadline_boot_ns": deadline.boot.0,
        "deadline_raw_ns": deadline.raw.0,
        "remaining_ms": left,
    });
    about("held", ticket, text, detail)
}

/// How a tenure ends.
fn of_tenure(note: &Note) -> Option<Draft> {
    let with = |kind, ticket: &TicketName, token: &Token, text: String| {
        Some(about(kind, ticket, text, json!({ "token": token })))
    };
    match note {
        Note::Lost(ticket, token) => with(
            "lost",
            ticket,
            token,
            format!("lost {ticket} (token {token}): its lease could not be renewed"),
        ),
        Note::Relinquishing(ticket, token, why) => {
            let why = match why {
                GiveUp::Revoked => "it was revoked",
                GiveUp::Vacate => "it is to be moved",
                GiveUp::Standby => "this site is on standby",
                GiveUp::Unhealthy => "what it gates is ill here",
                GiveUp::Unconfigured => "it is not configured here any more",
            };
            with("relinquishing", ticket, token, format!("gives {ticket} up (token {token}): {why}"))
        }
        Note::Fenced(ticket, token) => {
            with("fenced", ticket, token, format!("{ticket} is fenced here up to token {token}, by receipt"))
        }
        Note::FenceFailing(ticket, token) => with(
            "fence-failing",
            ticket,
            token,
            format!(
                "FENCING FAILS: {ticket} (token {token}) may still run here; the fence daemon tries again and again"
            ),
        ),
        Note::Released(ticket, token) => {
            with("released", ticket, token, format!("a majority knows that {ticket} (token {token}) is free"))
        }
        Note::StartFailed(ticket, token) => {
            with("start-failed", ticket, token, format!("the start hook of {ticket} (token {token}) failed"))
        }
        Note::Unhealthy(ticket, token) => {
            let text = format!("the health check of {ticket} (token {token}) failed too often");
            with("unhealthy", ticket, token, text)
        }
        Note::RestartsHere(ticket, token) => with(
            "restarts-here",
            ticket,
            token,
            format!("no other site takes {ticket}: restarts it here, still with token {token}"),
        ),
        _ => None,
    }
}

/// What a member learns about itself and others.
fn of_member(note: &Note, names: &Names) -> Option<Draft> {
    let own = |kind, text: String, detail| Draft { kind, ticket: None, member: None, text, detail };
    let other = |kind, id: MemberId, what: &str| {
        let member = names.name(id);
        let text = format!("{member} {what}");
        Draft { kind, ticket: None, member: Some(member), text, detail: json!({}) }
    };
    let draft = match note {
        Note::Born => own("born", "all members have met: the formation is born".into(), json!({})),
        Note::Recovering => {
            own("recovering", "may have forgotten: looks for witnesses before it votes".into(), json!({}))
        }
        Note::Recovered => own("recovered", "has found enough witnesses".into(), json!({})),
        Note::TrustsDisk { answered, needed } => {
            let text = format!(
                "TRUSTS ITS DISK: only {answered} of {needed} witnesses answered within recovery-wait"
            );
            own("trusts-disk", text, json!({ "answered": answered, "needed": needed }))
        }
        Note::Voting => own("voting", "votes".into(), json!({})),
        Note::Quarantined => {
            let text = "QUARANTINED: the others know another identity for this member; \
                 run `sitegate member readmit` on another member";
            own("quarantined", text.into(), json!({}))
        }
        Note::EpochChanged(epoch) => {
            let text = format!("the identities of the formation have changed: epoch {}", epoch.0);
            own("epoch", text, json!({ "epoch": epoch.0 }))
        }
        Note::RolledBack => {
            let text = "ROLLED BACK: the world remembers more than this member does; starts again";
            own("rolled-back", text.into(), json!({}))
        }
        Note::Stranger(id) => other("stranger", *id, "speaks with another identity: it is in quarantine"),
        Note::PeerRestarted(id, incarnation) => {
            let draft = other("peer-started", *id, &format!("has started (incarnation {})", incarnation.0));
            Draft { detail: json!({ "incarnation": incarnation.0 }), ..draft }
        }
        Note::PeerRolledBack(id) => other("peer-rolled-back", *id, "has forgotten what it had told"),
        Note::ClockOff(id, ppm) => {
            let draft = other("clock-off", *id, &format!("has a clock that runs off by {ppm} ppm"));
            Draft { detail: json!({ "ppm": ppm }), ..draft }
        }
        Note::Standby(id, mode) => {
            let draft = other("standby", *id, standby(*mode));
            Draft { detail: json!({ "standby": mode }), ..draft }
        }
        Note::Barred(bar) => {
            let text = format!("stops its heartbeats: {}", barred(*bar));
            own("barred", text, json!({ "bar": bar }))
        }
        Note::Unbarred => own("unbarred", "sends heartbeats again".into(), json!({})),
        _ => return None,
    };
    Some(draft)
}

const fn standby(mode: StandbyMode) -> &'static str {
    match mode {
        StandbyMode::Online => "is online: it takes tickets",
        StandbyMode::Keep => "is on standby: it takes no tickets and keeps what it has",
        StandbyMode::Vacate => "is on standby: it takes no tickets and gives up what it has",
    }
}

/// Why heartbeats stop, in words.
pub(crate) const fn barred(bar: Bar) -> &'static str {
    match bar {
        Bar::Disk => "the disk has not finished a commit in time",
        Bar::Fence => "sitegate-fenced does not answer",
        Bar::Unheard => "no majority answers",
    }
}

fn intent(ticket: &TicketName, intent: &Intent, names: &Names) -> Draft {
    let mut text = match intent.wanted {
        Wanted::Revoked => format!("{ticket} is revoked: nobody should hold it"),
        Wanted::Managed { preferred: Some(site) } => {
            format!("{ticket} should be held, rather by {}", names.name(site))
        }
        Wanted::Managed { preferred: None } => format!("{ticket} should be held"),
    };
    if intent.paused {
        text.push_str("; it is paused");
    }
    if let Some(token) = intent.vacate {
        text.push_str(&format!("; the holder up to token {token} gives it up"));
    }
    if let Some(token) = intent.attested {
        text.push_str(&format!("; attested dead up to token {token}"));
    }
    let author = &intent.author;
    let via = author.via.map(|via| names.name(via));
    if !author.who.is_empty() {
        text.push_str(&format!(" (by {}", author.who));
        if !intent.reason.is_empty() {
            text.push_str(&format!(": {}", intent.reason));
        }
        text.push(')');
    }
    let preferred = match intent.wanted {
        Wanted::Managed { preferred } => preferred.map(|site| names.name(site)),
        Wanted::Revoked => None,
    };
    let detail = json!({
        "version": intent.version,
        "wanted": if intent.wanted == Wanted::Revoked { "revoked" } else { "managed" },
        "preferred": preferred,
        "paused": intent.paused,
        "vacate": intent.vacate,
        "attested": intent.attested,
        "by": author.who,
        "via": via,
        "reason": intent.reason,
    });
    about("intent", ticket, text, detail)
}
