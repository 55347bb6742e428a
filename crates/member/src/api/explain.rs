//! Why a ticket stands as it does, and what happens next: sentences made from what this member knows.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use sitegate_protocol::{Command, StandbyMode, StandingView, TicketName};

use super::types::{Explanation, MemberStatus, NextStep, TicketStatus};
use super::{Api, ApiError};
use crate::driver::Observed;
use crate::journal::barred;

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

/// What `command` waits for, in one sentence.
pub(super) fn waits_for(api: &Api, command: &Command, observed: &Observed) -> String {
    let ticket = match command {
        Command::Grant(t, _) | Command::Move(t, _) => t,
        Command::Revoke(t) | Command::Pause(t) | Command::Resume(t) | Command::Inspect(t) => t,
        Command::AttestDead(..) => return "asks the other members whether they still hear it".into(),
        Command::Standby(site, StandbyMode::Vacate) => {
            let name = api.shared.names.name(*site);
            let holds =
                |view: &sitegate_protocol::TicketView| view.ownership.held().is_some_and(|t| t.site == *site);
            let left: Vec<String> = observed
                .view
                .tickets
                .iter()
                .filter(|(_, view)| holds(view))
                .map(|(t, _)| t.to_string())
                .collect();
            if left.is_empty() {
                return "a majority has to agree".into();
            }
            return format!("{name} still gives up {}", left.join(", "));
        }
        Command::Standby(..) | Command::Readmit(_) => return "a majority has to agree".into(),
    };
    match Scene::of(api, ticket, observed) {
        Some(scene) => scene.obstacle().unwrap_or_else(|| scene.headline()),
        None => "a majority has to agree".into(),
    }
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
        let TicketStatus { ticket, holder, token, chosen, paused, preferred, .. } = &self.status;
        let wanted = self.status.wanted.as_str();
        let sure = if *chosen { "" } else { ", as far as this member knows" };
        match (holder, wanted) {
            (Some(holder), "revoked") => {
                format!("{ticket} is revoked, but {holder} holds it yet, with token {token}{sure}.")
            }
            (Some(holder), _) => format!("{holder} holds {ticket}, with token {token}{sure}."),
            (None, "revoked") => format!("{ticket} is revoked, and nobody holds it{sure}."),
            (None, "unset") => format!("Nobody has ever asked for {ticket}, and nobody holds it{sure}."),
            (None, _) if *paused => format!("{ticket} is paused, and nobody holds it{sure}."),
            (None, _) => match preferred {
                Some(site) => format!(
                    "{ticket} should be held, by {site} rather than others, but nobody holds it{sure}."
                ),
                None => format!("{ticket} should be held, but nobody holds it{sure}."),
            },
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

    /// The reason that matters most to somebody who waits.
    fn obstacle(&self) -> Option<String> {
        let tenure = self.status.local.as_ref().filter(|local| local.state != "idle");
        let order = [
            self.about_members().into_iter().filter(|_| !self.has_majority()).collect(),
            self.about_this_member(),
            tenure.map(|_| self.about_local()).unwrap_or_default(),
            self.about_round(),
            self.about_guard(),
            self.about_local(),
            self.about_tenure(),
        ];
        order.into_iter().flatten().next()
    }

    fn about_wish(&self) -> Vec<String> {
        let TicketStatus { ticket, intent_by, intent_reason, intent_version, paused, .. } = &self.status;
        if *intent_version == 0 {
            return vec![format!("It waits for a first `sitegate grant {ticket} --site SITE`.")];
        }
        let mut sentences = Vec::new();
        let because = if intent_reason.is_empty() { String::new() } else { format!(": {intent_reason}") };
        let wish = match (self.status.wanted.as_str(), &self.status.preferred) {
            ("revoked", _) => "nobody should hold it".to_owned(),
            (_, Some(site)) => format!("{site} should hold it, or else another site"),
            (_, None) => "some site should hold it".to_owned(),
        };
        sentences
            .push(format!("The wish (version {intent_version}, by {intent_by}{because}) is that {wish}."));
        if *paused {
            sentences.push(format!(
                "It is paused: no site begins a new tenure until `sitegate resume {ticket}`; one that runs goes on."
            ));
        }
        if let Some(limit) = self.takeover_limit
            && self.status.takeovers > 0
        {
            sentences.push(format!(
                "It was taken over {}× since the last command; after {limit}× it is paused.",
                self.status.takeovers
            ));
        }
        sentences
    }

    fn about_this_member(&self) -> Vec<String> {
        let not_voting = self.not_voting.as_ref().map(|why| format!("This member ({}) {why}.", self.me));
        let bar = self.bar.map(|why| format!("This site sends no heartbeats, and so renews nothing: {why}."));
        not_voting.into_iter().chain(bar).collect()
    }

    fn has_majority(&self) -> bool {
        self.members.iter().filter(|member| member.reachable && !member.quarantined).count() >= self.majority
    }

    fn about_members(&self) -> Vec<String> {
        let mut sentences = Vec::new();
        let (n, reachable) =
            (self.members.len(), self.members.iter().filter(|member| member.reachable).count());
        let gone: Vec<&str> = self.members.iter().filter(|m| !m.reachable).map(|m| m.name.as_str()).collect();
        if !self.has_majority() {
            sentences.push(format!(
                "Only {reachable} of {n} members can be reached from here, and it takes {} to decide anything; out of reach: {}.",
                self.majority,
                gone.join(", ")
            ));
        } else if !gone.is_empty() {
            sentences.push(format!("Out of reach from here: {}.", gone.join(", ")));
        }
        for member in self.members.iter().filter(|member| member.quarantined) {
            sentences.push(format!("{} is in quarantine and does not vote.", member.name));
        }
        for member in &self.members {
            match member.standby.as_deref() {
                Some("keep") => {
                    sentences.push(format!("{} is on standby: it takes no tickets.", member.name));
                }
                Some("vacate") => {
                    sentences.push(format!(
                        "{} is on standby: it takes no tickets and gives up its own.",
                        member.name
                    ));
                }
                _ => {}
            }
        }
        sentences
    }

    fn about_tenure(&self) -> Vec<String> {
        let TicketStatus { ticket, holder, takeover, proof, .. } = &self.status;
        let mut sentences = Vec::new();
        if let Some(holder) = holder {
            let reachable = self.members.iter().any(|member| member.name == *holder && member.reachable);
            if !reachable && takeover == "confirmed" {
                sentences.push(format!(
                    "{holder} is out of reach, and takeover is `confirmed`: nobody takes {ticket} over without its fence receipt or \
                     `sitegate attest-dead {holder}`."
                ));
            } else if !reachable {
                sentences.push(format!(
                    "{holder} is out of reach: once its lease and its time to fence are over, another site takes {ticket} over."
                ));
            }
        }
        let proof = proof.as_deref().and_then(|proof| match proof {
            "receipt" => Some("its last holder has proven that nothing runs there any more"),
            "waited" => Some("its last holder has had the time to fence"),
            "attested" => Some("an operator vouches that nothing of its last holder runs"),
            _ => None,
        });
        sentences.extend(proof.map(|why| format!("It is free: {why}.")));
        sentences
    }

    fn about_local(&self) -> Vec<String> {
        let Some(local) = &self.status.local else { return Vec::new() };
        let mut sentences = Vec::new();
        let token = local.token.unwrap_or_default();
        let here = match local.state.as_str() {
            "resuming" => Some("held it before its restart and asks a majority to go on".to_owned()),
            "arming" => Some(format!("was agreed on and has its fence daemon armed (token {token})")),
            "held" => Some(format!("holds it (token {token})")),
            "stopping" => Some(format!("gives it up: the stop hook runs (token {token})")),
            "fencing" => Some(format!("fences it (token {token})")),
            "stopped" => Some(format!("has stopped it, by receipt, and tells the others (token {token})")),
            _ => None,
        };
        sentences.extend(here.map(|what| format!("This site ({}) {what}.", self.me)));
        if local.fence_failing {
            sentences.push(
                "FENCING FAILS here: every level of the plan failed, and it is tried again; the ticket stays here until it succeeds."
                    .into(),
            );
        }
        if let Some(refusal) = &local.refusal {
            sentences.push(format!("This site ({}) would not take it: {refusal}.", self.me));
        }
        match local.check.as_str() {
            "running" => sentences.push("Its check before acquiring is running here.".into()),
            "failed" => sentences.push("Its check before acquiring failed here; it is tried again.".into()),
            _ => {}
        }
        if !self.fence_up && local.refusal.is_none() {
            sentences.push(
                "The fence daemon of this site does not answer: nothing is acquired or renewed.".into(),
            );
        }
        sentences
    }

    fn about_guard(&self) -> Vec<String> {
        let Some(remaining) = self.status.guard_remaining_ms else { return Vec::new() };
        let holder = self.status.holder.as_deref().unwrap_or("its last holder");
        if holder == self.me {
            return Vec::new();
        }
        let mut sentences = vec![format!(
            "This member has promised {holder} its lease: it votes for nobody else for {} unless {holder} gives the ticket up.",
            seconds(remaining)
        )];
        if !self.status.parked.is_empty() {
            sentences.push(format!("Until then it lets {} wait.", self.status.parked.join(" and ")));
        }
        sentences
    }

    fn about_round(&self) -> Vec<String> {
        let Some(round) = &self.status.round else { return Vec::new() };
        let mut sentences = Vec::new();
        for leased in &round.leased {
            sentences.push(format!(
                "{} has promised {} its lease, and does not vote for this site for {} more.",
                leased.by,
                leased.holder,
                seconds(leased.remaining_ms)
            ));
        }
        let asks = if round.accepting { "votes" } else { "promises" };
        let agreed = if round.agreed.is_empty() {
            "nobody has".to_owned()
        } else {
            format!("{} did", round.agreed.join(", "))
        };
        sentences.push(format!(
            "This site asks for {asks} to {} it (ballot {}): {agreed} so far, and it takes {}.",
            round.aim, round.ballot, self.majority
        ));
        sentences
    }

    fn next(&self) -> Vec<NextStep> {
        let mut next = Vec::new();
        let mut step = |what: String, in_ms: Option<u64>| next.push(NextStep { what, in_ms });
        let ticket = &self.status.ticket;
        if let Some(local) = &self.status.local
            && let Some(remaining) = local.remaining_ms
        {
            step(
                format!("Unless a majority answers until then, {} loses {ticket} and fences it.", self.me),
                Some(remaining),
            );
        }
        if let Some(round) = &self.status.round
            && let Some(first) = round.leased.iter().map(|leased| leased.remaining_ms).max()
        {
            step(
                format!("The last of these leases ends, and {} may acquire {ticket}.", self.me),
                Some(first),
            );
        }
        match (&self.status.holder, self.status.wanted.as_str()) {
            (Some(holder), "revoked") => step(format!("{holder} stops it, fences it and gives it up."), None),
            (Some(holder), _) if *holder != self.me => {
                if let Some(guard) = self.status.guard_remaining_ms {
                    let what = if self.status.takeover == "confirmed" {
                        format!(
                            "Unless {holder} renews, its lease ends; {ticket} then waits for its receipt or an attestation."
                        )
                    } else {
                        format!(
                            "Unless {holder} renews, its lease ends, and another site may take {ticket} over."
                        )
                    };
                    step(what, Some(guard));
                }
            }
            (None, "managed") if self.status.paused => {
                step(format!("Somebody runs `sitegate resume {ticket}`."), None);
            }
            (None, "managed") => step(format!("The best site that wants {ticket} acquires it."), None),
            (None, _) => step(format!("Somebody runs `sitegate grant {ticket} --site SITE`."), None),
            _ => {}
        }
        next
    }
}

fn seconds(ms: u64) -> String {
    format!("{}.{} s", ms / 1000, ms % 1000 / 100)
}
