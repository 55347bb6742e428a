//! What this member has promised and voted for, in words: each as it was committed.

use serde_json::{Value as Json, json};
use sitegate_protocol::{Intent, Key, Now, Ownership, Record, TicketName, Token, Value, Wanted};

use super::Draft;
use crate::settings::Names;

/// What a committed record says about this member's votes; nothing if it is about something else. `renewed` tells which
/// tenure of a ticket this member guards or guarded last, and when that was renewed last: with a promise it shows how long
/// the holder had been silent.
#[must_use]
pub fn describe_vote(
    record: &Record,
    names: &Names,
    renewed: &dyn Fn(&TicketName) -> Option<(Token, Now)>,
) -> Option<Draft> {
    let Record::Register(key, register) = record else { return None };
    let subject = match key {
        Key::Ownership(ticket) => format!("who holds {ticket}"),
        Key::Intent(ticket) => format!("what is wanted for {ticket}"),
        Key::Standby(site) => format!("the standby of {}", names.name(*site)),
        Key::Identities => "the identities".to_owned(),
    };
    let accepted = register.accepted();
    let promised = register.promised();
    let mut detail = json!({ "register": register_name(key, names), "promised": promised.to_string() });
    let text = match accepted {
        Some(accepted) if accepted.ballot == promised && !accepted.adopted => {
            let (words, value) = describe_value(&accepted.value, names);
            detail["accepted"] = json!({ "ballot": accepted.ballot.to_string(), "value": value });
            format!("voted on {subject}, in ballot {promised}: {words}")
        }
        Some(accepted) if accepted.adopted && accepted.ballot >= promised => {
            let (words, value) = describe_value(&accepted.value, names);
            detail["learnt"] = json!({ "ballot": accepted.ballot.to_string(), "value": value });
            format!("learnt about {subject}, of ballot {}: {words}", accepted.ballot)
        }
        _ => {
            if let Key::Ownership(ticket) = key
                && let Some((token, at)) = renewed(ticket)
            {
                detail["renewed"] = json!({ "token": token, "boot_ns": at.boot.0, "raw_ns": at.raw.0 });
            }
            format!("promised on {subject} to take no ballot before {promised}")
        }
    };
    Some(Draft { kind: "vote", ticket: key.ticket().map(ToString::to_string), member: None, text, detail })
}

fn register_name(key: &Key, names: &Names) -> String {
    match key {
        Key::Ownership(ticket) => format!("ownership/{ticket}"),
        Key::Intent(ticket) => format!("intent/{ticket}"),
        Key::Standby(site) => format!("standby/{}", names.name(*site)),
        Key::Identities => "identities".to_owned(),
    }
}

fn describe_value(value: &Value, names: &Names) -> (String, Json) {
    match value {
        Value::Ownership(Ownership::Held(tenancy)) => {
            let site = names.name(tenancy.site);
            let json = json!({
                "holder": site,
                "incarnation": tenancy.incarnation.0,
                "token": tenancy.token,
                "expire_ms": tenancy.expire.as_millis(),
                "acquire_after_ms": tenancy.acquire_after.as_millis(),
                "takeovers": tenancy.takeovers.count,
            });
            (format!("{site}, with token {}", tenancy.token), json)
        }
        Value::Ownership(Ownership::Free { last_token, proof, .. }) => {
            let json = json!({ "holder": null, "token": last_token, "proof": proof });
            let proof = format!("{proof:?}").to_lowercase();
            (format!("nobody, since token {last_token} ({proof})"), json)
        }
        Value::Intent(intent) => {
            let wanted = if intent.wanted == Wanted::Revoked { "revoked" } else { "managed" };
            let json = json!({
                "version": intent.version,
                "wanted": wanted,
                "paused": intent.paused,
                "attested": intent.attested,
            });
            (describe_intent(intent, names), json)
        }
        Value::Standby(standby) => {
            (format!("{:?}", standby.mode).to_lowercase(), json!({ "version": standby.version }))
        }
        Value::Identities(identities) => {
            (format!("epoch {}", identities.epoch.0), json!({ "epoch": identities.epoch.0 }))
        }
    }
}

fn describe_intent(intent: &Intent, names: &Names) -> String {
    let wanted = match intent.wanted {
        Wanted::Revoked => "nobody".to_owned(),
        Wanted::Managed { preferred: Some(site) } => format!("rather {}", names.name(site)),
        Wanted::Managed { preferred: None } => "anybody".to_owned(),
    };
    let paused = if intent.paused { ", paused" } else { "" };
    format!("{wanted}{paused} (version {})", intent.version)
}
