//! What this member has promised and voted for, in words: each as it was committed.

use sitegate_protocol::{Accepted, Intent, Key, Now, Ownership, Record, TicketName, Token, Value, Wanted};

use super::content::{Ballot, ChosenValue, Proposal, Register, Renewal, Vote, Wanted as WantedDetail};
use super::{Content, Draft};
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
    let mut vote = Vote {
        register: register_name(key, names),
        promised: Ballot(promised),
        accepted: None,
        learnt: None,
        renewed: None,
    };
    let text = match accepted {
        Some(accepted) if accepted.ballot == promised && !accepted.adopted => {
            let (words, proposal) = describe_accepted(accepted, names);
            vote.accepted = Some(proposal);
            format!("voted on {subject}, in ballot {promised}: {words}")
        }
        Some(accepted) if accepted.adopted && accepted.ballot >= promised => {
            let (words, proposal) = describe_accepted(accepted, names);
            vote.learnt = Some(proposal);
            format!("learnt about {subject}, of ballot {}: {words}", accepted.ballot)
        }
        _ => {
            if let Key::Ownership(ticket) = key {
                vote.renewed = renewed(ticket).map(|(token, at)| Renewal {
                    token,
                    boot_ns: at.boot.0,
                    raw_ns: at.raw.0,
                });
            }
            format!("promised on {subject} to take no ballot before {promised}")
        }
    };
    let ticket = key.ticket().map(ToString::to_string);
    Some(Draft { ticket, member: None, text, content: Content::Vote(vote) })
}

fn register_name(key: &Key, names: &Names) -> Register {
    match key {
        Key::Ownership(ticket) => Register::Ownership(ticket.to_string()),
        Key::Intent(ticket) => Register::Intent(ticket.to_string()),
        Key::Standby(site) => Register::Standby(names.name(*site)),
        Key::Identities => Register::Identities,
    }
}

fn describe_accepted(accepted: &Accepted, names: &Names) -> (String, Proposal) {
    let (words, value) = describe_value(&accepted.value, names);
    (words, Proposal { ballot: Ballot(accepted.ballot), value })
}

fn describe_value(value: &Value, names: &Names) -> (String, ChosenValue) {
    match value {
        Value::Ownership(Ownership::Held(tenancy)) => {
            let site = names.name(tenancy.site);
            let words = format!("{site}, with token {}", tenancy.token);
            let value = ChosenValue::Held {
                holder: site,
                token: tenancy.token,
                incarnation: tenancy.incarnation.0,
                expire_ms: tenancy.expire.as_millis(),
                acquire_after_ms: tenancy.acquire_after.as_millis(),
                takeovers: tenancy.takeovers.count,
            };
            (words, value)
        }
        Value::Ownership(Ownership::Free { last_token, proof, .. }) => {
            let value = ChosenValue::Free { holder: (), token: *last_token, proof: *proof };
            let proof = format!("{proof:?}").to_lowercase();
            (format!("nobody, since token {last_token} ({proof})"), value)
        }
        Value::Intent(intent) => {
            let revoked = intent.wanted == Wanted::Revoked;
            let value = ChosenValue::Intent {
                version: intent.version,
                wanted: if revoked { WantedDetail::Revoked } else { WantedDetail::Managed },
                paused: intent.paused,
                attested: intent.attested,
            };
            (describe_intent(intent, names), value)
        }
        Value::Standby(standby) => {
            let value = ChosenValue::Version { version: standby.version };
            (format!("{:?}", standby.mode).to_lowercase(), value)
        }
        Value::Identities(identities) => {
            let epoch = identities.epoch.0;
            (format!("epoch {epoch}"), ChosenValue::Identities { epoch })
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
