//! A run told as text: what members say to each other, write down and order, one line each. Golden traces are made of
//! it (tests/trace).

use std::collections::BTreeMap;

use sitegate_protocol::{
    Accepted, Body, Effects, Frame, Intent, Key, MemberId, Note, Order, Ownership, Reply, StandbyMode, Value,
    Wanted,
};

use crate::clock::{MS, Time};

/// Tells what happens.
#[derive(Debug, Default)]
pub(crate) struct Story {
    pub(crate) lines: Vec<String>,
    /// Heartbeats and their answers are left out unless they are the story.
    pub(crate) pulse: bool,
}

pub(crate) fn name(member: MemberId) -> &'static str {
    match member.get() {
        1 => "paris",
        2 => "lyon",
        3 => "tiebreak",
        _ => "another",
    }
}

impl Story {
    pub(crate) fn say(&mut self, time: Time, text: &str) {
        self.lines.push(format!("{:>6} ms  {text}", time / MS));
    }

    /// What `me` does at the end of a turn.
    pub(crate) fn tell(&mut self, time: Time, me: MemberId, effects: &Effects) {
        for note in &effects.notes {
            if let Some(text) = note_text(note) {
                self.say(time, &format!("{} {text}", name(me)));
            }
        }
        self.tell_frames(time, me, &effects.frames);
        for order in &effects.orders {
            if let Some(text) = order_text(order, self.pulse) {
                self.say(time, &format!("{} orders its fence daemon: {text}", name(me)));
            }
        }
        for (_, reply) in &effects.replies {
            self.say(time, &format!("{} answers the command: {}", name(me), reply_text(reply)));
        }
    }

    /// What `me` says at one moment, once for all it is said to.
    pub(crate) fn tell_frames(&mut self, time: Time, me: MemberId, frames: &[(MemberId, Frame)]) {
        let mut said: BTreeMap<(usize, String), Vec<&str>> = BTreeMap::new();
        for (to, frame) in frames {
            for (order, body) in frame.bodies.iter().enumerate() {
                if self.pulse || !body.is_prompt() {
                    said.entry((order, body_text(body))).or_default().push(name(*to));
                }
            }
        }
        for ((_, text), to) in said {
            self.say(time, &format!("{} -> {}: {text}", name(me), to.join(", ")));
        }
    }
}

fn key_text(key: &Key) -> String {
    match key {
        Key::Ownership(ticket) => format!("ownership of {ticket}"),
        Key::Intent(ticket) => format!("intent for {ticket}"),
        Key::Standby(site) => format!("standby of {}", name(*site)),
        Key::Identities => "identities".into(),
    }
}

fn value_text(value: &Value) -> String {
    match value {
        Value::Ownership(Ownership::Free { last_token, proof, .. }) => {
            format!("Free after token {last_token} ({proof:?})")
        }
        Value::Ownership(Ownership::Held(t)) => {
            format!("Held by {} life {} under token {}", name(t.site), t.incarnation.0, t.token)
        }
        Value::Intent(intent) => intent_text(intent),
        Value::Standby(standby) => match standby.mode {
            StandbyMode::Online => "Online".into(),
            StandbyMode::Keep => "Keep".into(),
            StandbyMode::Vacate => "Vacate".into(),
        },
        Value::Identities(identities) => format!("epoch {}", identities.epoch.0),
    }
}

fn intent_text(intent: &Intent) -> String {
    let wanted = match intent.wanted {
        Wanted::Managed { preferred: Some(site) } => format!("Managed, prefers {}", name(site)),
        Wanted::Managed { preferred: None } => "Managed".into(),
        Wanted::Revoked => "Revoked".into(),
    };
    let vacate = intent.vacate.map_or(String::new(), |token| format!(", vacate up to token {token}"));
    let paused = if intent.paused { ", paused" } else { "" };
    format!("version {} {wanted}{vacate}{paused}", intent.version)
}

fn accepted_text(accepted: Option<&Accepted>) -> String {
    accepted.map_or("nothing".into(), |a| {
        let adopted = if a.adopted { ", adopted" } else { "" };
        format!("{} at {}{adopted}", value_text(&a.value), a.ballot)
    })
}

pub(crate) fn body_text(body: &Body) -> String {
    match body {
        Body::Prepare { key, ballot, .. } => format!("Prepare {ballot} for {}", key_text(key)),
        Body::Promise { key, ballot, accepted, context } => {
            let known: Vec<String> =
                context.iter().map(|(k, a)| format!("{}: {}", key_text(k), accepted_text(Some(a)))).collect();
            let known =
                if known.is_empty() { String::new() } else { format!("; knows {}", known.join("; ")) };
            format!("Promise {ballot} for {}, had {}{known}", key_text(key), accepted_text(accepted.as_ref()))
        }
        Body::Nack { key, ballot, promised } => {
            format!("Nack {ballot} for {}, promised {promised}", key_text(key))
        }
        Body::Leased { ticket, ballot, holder, remaining } => {
            format!(
                "Leased: {ballot} for {ticket} waits, {} is guarded for {} ms",
                name(*holder),
                remaining.as_millis()
            )
        }
        Body::Accept { key, ballot, value, .. } => {
            format!("Accept {ballot} for {}: {}", key_text(key), value_text(value))
        }
        Body::Accepted { key, ballot, .. } => format!("Accepted {ballot} for {}", key_text(key)),
        Body::Chosen { key, ballot, value } => {
            format!("Chosen {ballot} for {}: {}", key_text(key), value_text(value))
        }
        Body::Heartbeat { seq } => format!("Heartbeat {seq}"),
        Body::Ack { seq, support, .. } => {
            format!(
                "Ack {seq}, supports {}",
                if *support == 0 { "nothing" } else { "a set with that digest" }
            )
        }
        Body::Settle { ticket, .. } => format!("Settle {ticket}"),
        Body::Settled { ticket, ownership, .. } => {
            format!("Settled {ticket}: {}", value_text(&Value::Ownership(ownership.clone())))
        }
        Body::Willing { ticket, .. } => format!("Willing to take {ticket}?"),
        Body::Willingness { refusal: None, .. } => "Willing".into(),
        Body::Willingness { refusal: Some(refusal), .. } => format!("Unwilling: {refusal:?}"),
        Body::RecoverAsk { .. } => "RecoverAsk".into(),
        Body::RecoverPage { registers, unsure, .. } => {
            format!("RecoverPage of {} registers{}", registers.len(), if *unsure { ", unsure" } else { "" })
        }
        Body::Meet { .. } => "Meet".into(),
        Body::Met { identities, born, .. } => {
            format!("Met {}{}", identities.len(), if born.is_some() { ", born" } else { "" })
        }
        Body::Epoch { identities, .. } => format!("Epoch {}", identities.epoch.0),
        Body::ListAsk { .. } => "ListAsk".into(),
        Body::Listing { entries, .. } => format!("Listing of {}", entries.len()),
        Body::Forgo { tickets } => format!("Forgo {}", tickets.len()),
        other => {
            let text = format!("{other:?}");
            text.split([' ', '{']).next().unwrap_or_default().to_owned()
        }
    }
}

pub(crate) fn note_text(note: &Note) -> Option<String> {
    let text = match note {
        Note::Acquired(ticket, token) => format!("has acquired {ticket} under token {token}"),
        Note::Held(ticket, token, _) => format!("holds {ticket} under token {token}: armed"),
        Note::Resumed(ticket, token) => format!("goes on with {ticket} under token {token}"),
        Note::Lost(ticket, token) => format!("has lost {ticket}, token {token}"),
        Note::Relinquishing(ticket, token, why) => format!("gives up {ticket}, token {token}: {why:?}"),
        Note::Fenced(ticket, token) => format!("has the receipt for {ticket}, token {token}"),
        Note::Released(ticket, token) => format!("has released {ticket}, token {token}"),
        Note::Born => "is born: all have met".into(),
        Note::Recovering => "may have forgotten: looks for witnesses".into(),
        Note::Recovered => "has found its witnesses".into(),
        Note::Voting => "votes".into(),
        Note::Quarantined => "is in quarantine: the others know another identity".into(),
        Note::EpochChanged(epoch) => format!("lives in epoch {}", epoch.0),
        Note::Stranger(member) => format!("hears a stranger under the name of {}", name(*member)),
        Note::RolledBack => "is told that it has forgotten: starts again".into(),
        Note::Barred(bar) => format!("sends pings: {bar:?}"),
        Note::Unbarred => "sends heartbeats again".into(),
        _ => return None,
    };
    Some(text)
}

fn order_text(order: &Order, pulse: bool) -> Option<String> {
    let text = match order {
        Order::Arm(ticket, token, _) => format!("arm {ticket}, token {token}"),
        Order::Extend(_) if !pulse => return None,
        Order::Extend(extensions) => {
            format!("extend {}", extensions.iter().map(|e| e.tickets.len()).sum::<usize>())
        }
        Order::Start(ticket, token) => format!("start {ticket}, token {token}"),
        Order::Stop(ticket, token) => format!("stop {ticket}, token {token}"),
        Order::Fence(ticket, token, reason) => format!("fence {ticket}, token {token}: {reason:?}"),
    };
    Some(text)
}

fn reply_text(reply: &Reply) -> String {
    match reply {
        Reply::Recorded => "recorded".into(),
        Reply::Done(done) => format!("done, {done:?}"),
        Reply::Refused(refusal) => format!("refused, {refusal:?}"),
    }
}
