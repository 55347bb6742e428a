//! What the protocol noted: for programs, and in words.

use sitegate_protocol::{Bar, GiveUp, Intent, MemberId, Note, Now, StandbyMode, TicketName, Wanted};

use super::content::{
    Acquiring, Armed, Ballot, EpochDetail, GivingUp, Intent as IntentDetail, Life, Mode, Nothing, Offset,
    Parked, Silence, TokenDetail, Until, Wanted as WantedDetail, Witnesses,
};
use super::{Content, Draft};
use crate::settings::Names;

/// What `note`, made about `now`, says.
#[must_use]
pub fn describe(note: &Note, names: &Names, now: Now) -> Draft {
    let words = of_ticket(note, names, now).or_else(|| of_tenure(note)).or_else(|| of_member(note, names));
    Draft {
        ticket: ticket(note).map(ToString::to_string),
        member: member(note).map(|member| names.name(member)),
        // A new note that nobody has found words for.
        text: words.unwrap_or_else(|| format!("{note:?}")),
        content: content(note, names, now),
    }
}

/// The ticket that `note` is about.
const fn ticket(note: &Note) -> Option<&TicketName> {
    match note {
        Note::CheckFailed(ticket)
        | Note::Candidate(ticket, _)
        | Note::Acquired(ticket, _)
        | Note::Held(ticket, ..)
        | Note::Resumed(ticket, _)
        | Note::Lost(ticket, _)
        | Note::Relinquishing(ticket, ..)
        | Note::Fenced(ticket, _)
        | Note::FenceFailing(ticket, _)
        | Note::Released(ticket, _)
        | Note::Intent(ticket, _)
        | Note::Flapping(ticket)
        | Note::StartFailed(ticket, _)
        | Note::Unhealthy(ticket, _)
        | Note::RestartsHere(ticket, _)
        | Note::Parked(ticket, ..) => Some(ticket),
        _ => None,
    }
}

/// The other member that `note` is about.
const fn member(note: &Note) -> Option<MemberId> {
    match note {
        Note::Stranger(member)
        | Note::PeerRestarted(member, _)
        | Note::PeerRolledBack(member)
        | Note::ClockOff(member, _)
        | Note::Standby(member, _)
        | Note::Parked(_, member, _) => Some(*member),
        _ => None,
    }
}

/// `note` for programs.
fn content(note: &Note, names: &Names, now: Now) -> Content {
    let nothing = Nothing {};
    match note {
        Note::Born => Content::Born(nothing),
        Note::Recovering => Content::Recovering(nothing),
        Note::Recovered => Content::Recovered(nothing),
        Note::TrustsDisk { answered, needed } => {
            Content::TrustsDisk(Witnesses { answered: *answered, needed: *needed })
        }
        Note::Voting => Content::Voting(nothing),
        Note::Quarantined => Content::Quarantined(nothing),
        Note::EpochChanged(epoch) => Content::Epoch(EpochDetail { epoch: epoch.0 }),
        Note::Stranger(_) => Content::Stranger(nothing),
        Note::PeerRestarted(_, life) => Content::PeerStarted(Life { incarnation: life.0 }),
        Note::PeerRolledBack(_) => Content::PeerRolledBack(nothing),
        Note::RolledBack => Content::RolledBack(nothing),
        Note::ClockOff(_, ppm) => Content::ClockOff(Offset { ppm: *ppm }),
        Note::CheckFailed(_) => Content::CheckFailed(nothing),
        Note::Candidate(_, ballot) => Content::Candidate(Acquiring { ballot: Ballot(*ballot) }),
        Note::Acquired(_, token) => Content::Acquired(TokenDetail { token: *token }),
        Note::Held(_, token, deadline) => Content::Held(Armed {
            token: *token,
            until: Some(Until::from(*deadline)),
            remaining_ms: deadline.remaining(now).as_millis(),
        }),
        Note::Resumed(_, token) => Content::Resumed(TokenDetail { token: *token }),
        Note::Lost(_, token) => Content::Lost(TokenDetail { token: *token }),
        Note::Relinquishing(_, token, _) => Content::Relinquishing(GivingUp { token: *token, until: None }),
        Note::Fenced(_, token) => Content::Fenced(TokenDetail { token: *token }),
        Note::FenceFailing(_, token) => Content::FenceFailing(TokenDetail { token: *token }),
        Note::Released(_, token) => Content::Released(TokenDetail { token: *token }),
        Note::Intent(_, intent) => Content::Intent(intent_detail(intent, names)),
        Note::Standby(_, mode) => Content::Standby(Mode { standby: *mode }),
        Note::Flapping(_) => Content::Flapping(nothing),
        Note::StartFailed(_, token) => Content::StartFailed(TokenDetail { token: *token }),
        Note::Unhealthy(_, token) => Content::Unhealthy(TokenDetail { token: *token }),
        Note::RestartsHere(_, token) => Content::RestartsHere(TokenDetail { token: *token }),
        Note::Barred(bar) => Content::Barred(Silence { bar: *bar }),
        Note::Unbarred => Content::Unbarred(nothing),
        Note::Parked(_, _, remaining) => Content::Parked(Parked { remaining_ms: remaining.as_millis() }),
    }
}

fn intent_detail(intent: &Intent, names: &Names) -> IntentDetail {
    let (wanted, preferred) = match intent.wanted {
        Wanted::Managed { preferred } => (WantedDetail::Managed, preferred),
        Wanted::Revoked => (WantedDetail::Revoked, None),
    };
    IntentDetail {
        version: intent.version,
        wanted: Some(wanted),
        preferred: preferred.map(|site| names.name(site)),
        paused: intent.paused,
        vacate: intent.vacate,
        attested: intent.attested,
        by: intent.author.who.clone(),
        via: intent.author.via.map(|via| names.name(via)),
        reason: intent.reason.clone(),
    }
}

/// How a ticket is acquired, and what is wanted for it, in words.
fn of_ticket(note: &Note, names: &Names, now: Now) -> Option<String> {
    Some(match note {
        Note::CheckFailed(ticket) => format!("the check before acquiring {ticket} failed here"),
        Note::Candidate(ticket, ballot) => format!("tries to acquire {ticket}, with ballot {ballot}"),
        Note::Acquired(ticket, token) => {
            format!("a majority agreed that this site holds {ticket}, with token {token}")
        }
        Note::Held(ticket, token, deadline) => {
            let left = deadline.remaining(now).as_millis();
            format!(
                "holds {ticket} with token {token}; the fence daemon is armed, for {left} ms unless renewed"
            )
        }
        Note::Resumed(ticket, token) => {
            format!("holds {ticket} again after a restart, with the same token {token}")
        }
        Note::Intent(ticket, intent) => self::intent(ticket, intent, names),
        Note::Flapping(ticket) => {
            format!("{ticket} was taken over too often: it is paused until somebody resumes it")
        }
        Note::Parked(ticket, candidate, remaining) => format!(
            "{} asks for {ticket}, but this member guards another's lease for {} ms more",
            names.name(*candidate),
            remaining.as_millis()
        ),
        _ => return None,
    })
}

/// How a tenure ends, in words.
fn of_tenure(note: &Note) -> Option<String> {
    Some(match note {
        Note::Lost(ticket, token) => format!("lost {ticket} (token {token}): its lease could not be renewed"),
        Note::Relinquishing(ticket, token, why) => {
            let why = match why {
                GiveUp::Revoked => "it was revoked",
                GiveUp::Vacate => "it is to be moved",
                GiveUp::Standby => "this site is on standby",
                GiveUp::Unhealthy => "what it gates is ill here",
                GiveUp::Unconfigured => "it is not configured here any more",
            };
            format!("gives {ticket} up (token {token}): {why}")
        }
        Note::Fenced(ticket, token) => format!("{ticket} is fenced here up to token {token}, by receipt"),
        Note::FenceFailing(ticket, token) => format!(
            "FENCING FAILS: {ticket} (token {token}) may still run here; the fence daemon tries again and again"
        ),
        Note::Released(ticket, token) => format!("a majority knows that {ticket} (token {token}) is free"),
        Note::StartFailed(ticket, token) => format!("the start hook of {ticket} (token {token}) failed"),
        Note::Unhealthy(ticket, token) => {
            format!("the health check of {ticket} (token {token}) failed too often")
        }
        Note::RestartsHere(ticket, token) => {
            format!("no other site takes {ticket}: restarts it here, still with token {token}")
        }
        _ => return None,
    })
}

/// What a member learns about itself and others, in words.
fn of_member(note: &Note, names: &Names) -> Option<String> {
    let other = |id: &MemberId, what: &str| format!("{} {what}", names.name(*id));
    Some(match note {
        Note::Born => "all members have met: the formation is born".into(),
        Note::Recovering => "may have forgotten: looks for witnesses before it votes".into(),
        Note::Recovered => "has found enough witnesses".into(),
        Note::TrustsDisk { answered, needed } => {
            format!("TRUSTS ITS DISK: only {answered} of {needed} witnesses answered within recovery-wait")
        }
        Note::Voting => "votes".into(),
        Note::Quarantined => "QUARANTINED: the others know another identity for this member; \
             run `sitegate member readmit` on another member"
            .into(),
        Note::EpochChanged(epoch) => {
            format!("the identities of the formation have changed: epoch {}", epoch.0)
        }
        Note::RolledBack => {
            "ROLLED BACK: the world remembers more than this member does; starts again".into()
        }
        Note::Stranger(id) => other(id, "speaks with another identity: it is in quarantine"),
        Note::PeerRestarted(id, incarnation) => {
            other(id, &format!("has started (incarnation {})", incarnation.0))
        }
        Note::PeerRolledBack(id) => other(id, "has forgotten what it had told"),
        Note::ClockOff(id, ppm) => other(id, &format!("has a clock that runs off by {ppm} ppm")),
        Note::Standby(id, mode) => other(id, standby(*mode)),
        Note::Barred(bar) => format!("stops its heartbeats: {}", barred(*bar)),
        Note::Unbarred => "sends heartbeats again".into(),
        _ => return None,
    })
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

fn intent(ticket: &TicketName, intent: &Intent, names: &Names) -> String {
    let mut text = match intent.wanted {
        Wanted::Revoked => format!("{ticket} is revoked: nobody should hold it"),
        Wanted::Managed { preferred: Some(site) } => {
            format!("{ticket} should be held, preferably by {}", names.name(site))
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
    let who = &intent.author.who;
    if !who.is_empty() {
        text.push_str(&format!(" (by {who}"));
        if !intent.reason.is_empty() {
            text.push_str(&format!(": {}", intent.reason));
        }
        text.push(')');
    }
    text
}
