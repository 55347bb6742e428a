//! Why a command was refused, and what to do instead.

use sitegate_protocol::{CommandRefusal, Refusal};

use super::types::Progress;
use crate::settings::Names;

/// The last line of a refused command.
pub(super) fn refused(refusal: &CommandRefusal, names: &Names) -> Progress {
    let (code, text, hint) = parts(refusal, names);
    Progress::Refused { code: code.into(), text, hint: hint.into() }
}

fn parts(refusal: &CommandRefusal, names: &Names) -> (&'static str, String, &'static str) {
    let name = |id| names.name(id);
    match refusal {
        CommandRefusal::NotVoting => (
            "not-voting",
            format!("{} does not vote now", name(names.me())),
            "`sitegate status` says why; ask another member, or wait",
        ),
        CommandRefusal::Busy => ("busy", "too many commands wait here".into(), "ask again in a moment"),
        CommandRefusal::NoSuchTicket => (
            "no-such-ticket",
            "the formation has no such ticket".into(),
            "`sitegate status` lists them; a new one needs [ticket.NAME] in formation.toml and a reload",
        ),
        CommandRefusal::NotASite(id) => (
            "not-a-site",
            format!("{} is not a site", name(*id)),
            "name a site: arbitrators never hold tickets",
        ),
        CommandRefusal::HeldElsewhere(id) => (
            "held-elsewhere",
            format!("{} holds it", name(*id)),
            "move it instead: `sitegate move TICKET --to SITE`",
        ),
        CommandRefusal::NotHeld => {
            ("not-held", "nobody holds it".into(), "grant it instead: `sitegate grant TICKET --site SITE`")
        }
        CommandRefusal::Paused => {
            ("paused", "the ticket is paused".into(), "resume it first: `sitegate resume TICKET`")
        }
        CommandRefusal::Revoked => (
            "revoked",
            "the ticket is revoked".into(),
            "grant it instead: `sitegate grant TICKET --site SITE`",
        ),
        CommandRefusal::OnStandby(id) => (
            "on-standby",
            format!("{} is on standby", name(*id)),
            "take it online first: `sitegate online SITE`",
        ),
        CommandRefusal::Unwilling(id, why) => (
            "unwilling",
            format!("{} does not want it: {}", name(*id), unwilling(*why)),
            unwilling_hint(*why),
        ),
        CommandRefusal::Unreachable(id) => {
            ("unreachable", format!("{} does not answer", name(*id)), "nothing was changed; is it up?")
        }
        CommandRefusal::Heard(id) => (
            "heard",
            format!("{} was heard since: it is not dead", name(*id)),
            "cut it off or switch it off first, then attest",
        ),
        CommandRefusal::NothingHeld(id) => {
            ("nothing-held", format!("{} holds nothing that could be attested", name(*id)), "")
        }
        CommandRefusal::Overruled => (
            "overruled",
            "another command has changed the wish since".into(),
            "`sitegate history` says which",
        ),
        CommandRefusal::WentTo(id) => (
            "went-elsewhere",
            format!("{} got it", name(*id)),
            "`sitegate explain TICKET` says why; to have it elsewhere, move it",
        ),
        CommandRefusal::NotQuarantined(id) => (
            "not-quarantined",
            format!("{} is not in quarantine, or was not heard with its new identity", name(*id)),
            "start it after `init`, and see that it reaches this member",
        ),
        CommandRefusal::TooFewMembers => (
            "too-few-members",
            "with two members, one cannot be readmitted".into(),
            "build the formation anew: read \"Lost disks\" in docs/operations.md",
        ),
    }
}

/// Why a site does not take a ticket.
pub(super) const fn unwilling(why: Refusal) -> &'static str {
    match why {
        Refusal::NotConfigured => "the ticket is not configured there, or its fence daemon does not know it",
        Refusal::Standby => "the site is on standby",
        Refusal::Resting => "its health check failed there not long ago",
        Refusal::CheckFailed => "its check before acquiring fails there",
        Refusal::NoFence => "its fence daemon does not answer",
        Refusal::NotVoting => "that member does not vote now",
    }
}

const fn unwilling_hint(why: Refusal) -> &'static str {
    match why {
        Refusal::NotConfigured => "add [resource.TICKET] to fenced.toml there, and restart sitegate-fenced",
        Refusal::Standby => "take it online first: `sitegate online SITE`",
        Refusal::Resting => "a grant to that site overrides it",
        Refusal::CheckFailed => "look into that site's log for what the check said",
        Refusal::NoFence => "start sitegate-fenced there",
        Refusal::NotVoting => "`sitegate status` there says why",
    }
}
