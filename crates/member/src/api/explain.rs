//! Why a ticket stands as it does, and what happens next: sentences made from what this member knows.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use sitegate_protocol::{StandingView, TicketName};

use super::types::{Explanation, MemberStatus, TicketStatus};
use super::{Api, ApiError};
use crate::driver::Observed;
use crate::journal::barred;

mod next;
mod reasons;
#[cfg(test)]
mod tests;

pub(super) async fn explain(
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
) -> Result<Json<Explanation>, ApiError> {
    let unknown =
        || ApiError::not_found(format!("there is no ticket {name}"), "`sitegate status` lists them");
    let ticket = TicketName::new(&name).map_err(|_| unknown())?;
    let observed = api.look().await?;
    let scene = Scene::of(&api, &ticket, &observed).ok_or_else(unknown)?;
    Ok(Json(scene.explanation()))
}

/// What a command about `ticket` waits for, in one sentence; `None` if nobody has heard of the ticket.
pub(super) fn obstacle(api: &Api, ticket: &TicketName, observed: &Observed) -> Option<String> {
    let scene = Scene::of(api, ticket, observed)?;
    Some(scene.obstacle().unwrap_or_else(|| scene.headline()))
}

/// All that an explanation is made from.
struct Scene {
    status: TicketStatus,
    /// The member that explains.
    me: String,
    members: Vec<MemberStatus>,
    majority: usize,
    takeover_limit: Option<u32>,
    /// Why this member does not vote, if it does not.
    not_voting: Option<String>,
    /// Why its heartbeats stop, if they do.
    bar: Option<&'static str>,
    fence_up: bool,
}

impl Scene {
    /// The scene of `ticket`; `None` if nobody has heard of it.
    fn of(api: &Api, ticket: &TicketName, observed: &Observed) -> Option<Self> {
        let view = observed.view.tickets.get(ticket)?;
        let settings = api.shared.settings.get();
        let votes = observed.view.standing == StandingView::Voting;
        Some(Self {
            status: api.ticket(ticket, view, observed),
            me: api.shared.names.name(api.shared.names.me()),
            members: api.members(observed),
            majority: settings.majority(),
            takeover_limit: settings.tickets.get(ticket).map(|ticket| ticket.takeover_limit),
            not_voting: (!votes).then(|| api.standing_detail(observed)),
            bar: observed.view.bar.map(barred),
            fence_up: observed.view.fence_up,
        })
    }

    fn explanation(self) -> Explanation {
        Explanation {
            ticket: self.status.ticket.clone(),
            headline: self.headline(),
            reasons: self.reasons(),
            next: self.next(),
            status: self.status,
        }
    }

    fn headline(&self) -> String {
        if let Some(ending) = self.ending() {
            return ending;
        }
        let TicketStatus { ticket, holder, token, chosen, paused, preferred, .. } = &self.status;
        let wanted = self.status.wanted.as_str();
        let sure = if *chosen { "" } else { ", as far as this member knows" };
        match (holder, wanted) {
            (Some(holder), "revoked") => {
                format!("{ticket} is revoked, but {holder} holds it yet, with token {token}{sure}.")
            }
            (Some(holder), _) => format!("{holder} holds {ticket}, with token {token}{sure}."),
            (None, "revoked") => format!("{ticket} is revoked, and nobody holds it{sure}."),
            (None, "unset") if self.not_voting.is_some() => {
                format!("This member ({}) does not know how {ticket} stands: it does not vote.", self.me)
            }
            (None, "unset") => format!("Nobody has ever asked for {ticket}, and nobody holds it{sure}."),
            (None, _) if *paused => format!("{ticket} is paused, and nobody holds it{sure}."),
            (None, _) => match preferred {
                Some(site) => {
                    format!("{ticket} should be held, preferably by {site}, but nobody holds it{sure}.")
                }
                None => format!("{ticket} should be held, but nobody holds it{sure}."),
            },
        }
    }

    /// How a tenure of this site ends; until a majority has agreed on that, the register still names this site.
    fn ending(&self) -> Option<String> {
        let local = self.status.local.as_ref().filter(|_| self.status.holder.as_ref() == Some(&self.me))?;
        let (ticket, token, me) = (&self.status.ticket, self.status.token, &self.me);
        match local.state.as_str() {
            "stopping" => Some(format!("{me} gives {ticket} up (token {token}): it is being stopped.")),
            "fencing" if !self.fence_up => Some(format!(
                "{ticket} (token {token}) MAY STILL RUN at {me}, which may run it no more: its fence daemon does not answer."
            )),
            "fencing" => {
                Some(format!("{me} has lost {ticket} or gives it up (token {token}): it is being fenced."))
            }
            "stopped" => Some(format!(
                "Nothing of {ticket} runs at {me} any more (token {token}); a majority has yet to learn of it."
            )),
            _ => None,
        }
    }

    fn reasons(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        reasons.extend(self.about_wish());
        reasons.extend(self.about_this_member());
        reasons.extend(self.about_members());
        reasons.extend(self.about_tenure());
        reasons.extend(self.about_local());
        reasons.extend(self.about_guard());
        reasons.extend(self.about_round());
        reasons
    }

    /// The reason that matters most to somebody who waits, as long as a majority can be reached.
    fn obstacle(&self) -> Option<String> {
        let tenure = self.status.local.as_ref().filter(|local| local.state != "idle");
        let order = [
            self.about_this_member(),
            tenure.map(|_| self.about_local()).unwrap_or_default(),
            self.about_round(),
            self.about_guard(),
            self.about_local(),
            self.about_tenure(),
        ];
        order.into_iter().flatten().next()
    }
}
