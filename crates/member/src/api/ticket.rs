//! How one ticket stands.

use sitegate_protocol::{Ownership, Proof, Settings, Span, Takeover, TicketName, TicketView, Wanted};

use super::refusal::unwilling;
use super::types::{LeasedStatus, LocalStatus, RoundStatus, TicketStatus};
use crate::settings::Names;
use crate::site::SiteFacts;

/// What a ticket's status is made with.
pub(super) struct Context<'c> {
    pub(super) names: &'c Names,
    pub(super) settings: &'c Settings,
    pub(super) facts: &'c SiteFacts,
    pub(super) failing: bool,
}

pub(super) fn ticket_status(name: &TicketName, view: &TicketView, context: &Context<'_>) -> TicketStatus {
    let names = context.names;
    let intent = view.intent.as_ref().filter(|intent| intent.version > 0);
    let held = view.ownership.held();
    let configured = context.settings.tickets.get(name);
    let (wanted, preferred) = match intent.map(|intent| intent.wanted) {
        None => ("unset", None),
        Some(Wanted::Revoked) => ("revoked", None),
        Some(Wanted::Managed { preferred }) => ("managed", preferred),
    };
    let takeover = held.map(|t| t.takeover).or(configured.map(|t| t.takeover)).unwrap_or(Takeover::Timed);
    let expire = held.map(|t| t.expire).or(configured.map(|t| t.expire)).unwrap_or_default();
    let acquire_after =
        held.map(|t| t.acquire_after).or(configured.map(|t| t.acquire_after)).unwrap_or_default();
    TicketStatus {
        ticket: name.to_string(),
        wanted: wanted.into(),
        preferred: preferred.map(|site| names.name(site)),
        paused: intent.is_some_and(|intent| intent.paused),
        intent_version: intent.map_or(0, |intent| intent.version),
        intent_by: intent.map(|intent| intent.author.who.clone()).unwrap_or_default(),
        intent_reason: intent.map(|intent| intent.reason.clone()).unwrap_or_default(),
        holder: held.map(|tenancy| names.name(tenancy.site)),
        token: view.ownership.token().0,
        proof: proof_name(&view.ownership).map(Into::into),
        takeovers: view.ownership.takeovers().under(intent.map_or(0, |intent| intent.version)).count,
        takeover: (if takeover == Takeover::Timed { "timed" } else { "confirmed" }).into(),
        expire_ms: expire.as_millis(),
        acquire_after_ms: acquire_after.as_millis(),
        chosen: view.chosen,
        guard_remaining_ms: view.guard.as_ref().map(|guard| guard.remaining.as_millis()),
        parked: names.list(&view.parked),
        local: view.local.as_ref().map(|local| LocalStatus {
            state: local.state.into(),
            token: local.token.map(|token| token.0),
            remaining_ms: local.remaining.map(Span::as_millis),
            refusal: local.refusal.map(|why| unwilling(why).to_owned()),
            check: local.check.into(),
            fence_failing: context.failing,
            unfenced: context.facts.unfenced.contains(name),
        }),
        round: view.round.as_ref().map(|round| RoundStatus {
            aim: round.aim.into(),
            ballot: round.ballot.to_string(),
            accepting: round.accepting,
            agreed: names.list(&round.agreed),
            leased: round
                .leased
                .iter()
                .map(|(by, (holder, remaining))| LeasedStatus {
                    by: names.name(*by),
                    holder: names.name(*holder),
                    remaining_ms: remaining.as_millis(),
                })
                .collect(),
        }),
    }
}

const fn proof_name(ownership: &Ownership) -> Option<&'static str> {
    match ownership {
        Ownership::Held(_) => None,
        Ownership::Free { proof, .. } => Some(match proof {
            Proof::Never => "never",
            Proof::Receipt => "receipt",
            Proof::Waited => "waited",
            Proof::Attested => "attested",
        }),
    }
}
