//! How it all stands.

use std::sync::Arc;
use std::time::SystemTime;

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use sitegate_protocol::{
    Bar, CommandRefusal, Done, MemberId, Ownership, Reply, Role, StandbyMode, StandingView, TicketName,
    TicketView,
};

use super::ticket::{Context, ticket_status};
use super::types::{MemberStatus, Members, Status, TicketStatus};
use super::warnings::unconfirmed;
use super::{Api, ApiError, Asked};
use crate::config::FormationDigest;
use crate::driver::Observed;
use crate::peers::LinkState;
use crate::tls::Validity;

/// Heartbeats that may be missed until a member counts as out of reach.
const MISSED_MAX: u64 = 3;
/// However short the heartbeat: a member that was heard so lately can be reached.
const HEARD_LATELY_MS: u64 = 2000;

/// What may be asked of `/v1/status`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Question {
    consistent: Option<String>,
}

pub(super) async fn status(
    State(api): State<Arc<Api>>,
    Asked(question): Asked<Question>,
) -> Result<Json<Status>, ApiError> {
    let Some(name) = question.consistent else { return Ok(Json(api.status(&*api.look().await?))) };
    let ticket = TicketName::new(&name).map_err(|error| ApiError::bad_request(error.to_string(), ""))?;
    let inspected = api.inspect(ticket.clone()).await?;
    let observed = api.look().await?;
    let mut status = api.status(&observed);
    let view = observed.view.tickets.get(&ticket).cloned().unwrap_or_else(nothing_known);
    let view = TicketView { ownership: inspected.0, intent: Some(inspected.1), chosen: true, ..view };
    status.tickets = vec![api.ticket(&ticket, &view, &observed)];
    Ok(Json(status))
}

pub(super) async fn members(State(api): State<Arc<Api>>) -> Result<Json<Members>, ApiError> {
    Ok(Json(Members { members: api.members(&*api.look().await?) }))
}

/// Whether this member does its part: for load balancers and monitoring.
pub(super) async fn healthz(State(api): State<Arc<Api>>) -> Result<&'static str, ApiError> {
    let observed = api.look().await?;
    if observed.view.standing != StandingView::Voting {
        return Err(ApiError::unavailable(api.standing_detail(&observed), "`sitegate status` says more"));
    }
    if let Some(bar) = observed.view.bar {
        let why = format!("sends no heartbeats: {}", crate::journal::barred(bar));
        return Err(ApiError::unavailable(why, "`sitegate status` says more"));
    }
    Ok("ok\n")
}

/// Of a ticket that nobody has heard of.
pub(super) fn nothing_known() -> TicketView {
    TicketView {
        ownership: Ownership::NEVER,
        chosen: false,
        intent: None,
        guard: None,
        parked: Vec::new(),
        local: None,
        round: None,
    }
}

impl Api {
    pub(super) fn status(&self, observed: &Observed) -> Status {
        let configuration = self.shared.configuration.get();
        let names = &self.shared.names;
        let view = &observed.view;
        let digest = FormationDigest::of(&configuration.formation);
        let links = self.peers.states();
        let differs =
            |link: &LinkState| link.configuration.is_some_and(|theirs| theirs != *digest.as_bytes());
        let is_site = names.role(names.me()) == Some(Role::Site);
        let members = self.members(observed);
        let tickets: Vec<TicketStatus> =
            view.tickets.iter().map(|(name, ticket)| self.ticket(name, ticket, observed)).collect();
        let mut warnings = self.warnings(observed, &members, &links);
        warnings.extend(unconfirmed(&members, &tickets));
        Status {
            member: names.name(names.me()),
            role: role_name(names.role(names.me())),
            formation: configuration.formation.name.to_string(),
            version: env!("CARGO_PKG_VERSION").into(),
            standing: standing_name(&view.standing).into(),
            standing_detail: self.standing_detail(observed),
            epoch: view.epoch.0,
            incarnation: view.life.incarnation.0,
            config_digest: digest.short(),
            config_differs: names.list(links.iter().filter(|(_, link)| differs(link)).map(|(id, _)| id)),
            fence: (if !is_site {
                "none"
            } else if view.fence_up {
                "up"
            } else {
                "down"
            })
            .into(),
            bar: view.bar.map(|bar| bar_name(bar).into()),
            warnings,
            members,
            tickets,
        }
    }

    pub(super) fn members(&self, observed: &Observed) -> Vec<MemberStatus> {
        let links = self.peers.states();
        self.shared.names.all().map(|(id, _)| self.member(id, links.get(&id), observed)).collect()
    }

    fn member(&self, id: MemberId, link: Option<&LinkState>, observed: &Observed) -> MemberStatus {
        let names = &self.shared.names;
        let peer = observed.view.peers.get(&id);
        let heard_ago_ms = peer.and_then(|peer| peer.heard_ago).map(sitegate_protocol::Span::as_millis);
        let heartbeat_ms = self.shared.settings.get().timing.heartbeat.as_millis();
        let lately = heard_ago_ms.is_some_and(|ago| ago <= HEARD_LATELY_MS.max(MISSED_MAX * heartbeat_ms));
        // Two arbitrators have nothing to say to each other for hours: their connections have to tell.
        let silent = [id, names.me()].iter().all(|id| names.role(*id) == Some(Role::Arbitrator));
        let connected = link.is_some_and(LinkState::is_connected);
        let own = id == names.me();
        let ours = FormationDigest::of(&self.shared.configuration.get().formation);
        let theirs = if own { Some(*ours.as_bytes()) } else { link.and_then(|link| link.configuration) };
        MemberStatus {
            name: names.name(id),
            id: id.get(),
            role: role_name(names.role(id)),
            reachable: own || if silent { connected } else { lately },
            heard_ago_ms,
            quarantined: if own {
                observed.view.standing == StandingView::Quarantined
            } else {
                peer.is_some_and(|peer| peer.stranger)
            },
            clock_off: peer.is_some_and(|peer| peer.clock_off),
            config_digest: theirs.map(|digest| short(&digest)),
            certificate_days_left: self.certificate_days_left(own, link),
            standby: observed.view.standby.get(&id).map(|mode| standby_name(*mode).into()),
            problem: link.and_then(|link| link.refused.clone().or_else(|| link.failure().map(str::to_owned))),
        }
    }

    fn certificate_days_left(&self, own: bool, link: Option<&LinkState>) -> Option<i64> {
        let now = SystemTime::now();
        if own {
            let tls = self.shared.tls.get();
            return tls.credentials.reports().first().map(|report| report.validity.days_left(now));
        }
        let not_after = link?.certificate_ends?;
        Some(Validity { not_before: SystemTime::UNIX_EPOCH, not_after }.days_left(now))
    }

    pub(super) fn ticket(&self, name: &TicketName, view: &TicketView, observed: &Observed) -> TicketStatus {
        let context = Context {
            names: &self.shared.names,
            settings: &self.shared.settings.get(),
            facts: &self.shared.site(),
            failing: observed.failing.contains(name),
        };
        ticket_status(name, view, &context)
    }

    /// What a majority knows of `ticket`.
    async fn inspect(&self, ticket: TicketName) -> Result<(Ownership, sitegate_protocol::Intent), ApiError> {
        match self.ask_once(sitegate_protocol::Command::Inspect(ticket)).await? {
            Some(Reply::Done(Done::Inspected { ownership, intent })) => Ok((ownership, intent)),
            Some(Reply::Refused(CommandRefusal::NoSuchTicket)) => Err(ApiError::not_found(
                "the formation has no such ticket".into(),
                "`sitegate status` lists them",
            )),
            Some(Reply::Refused(_) | Reply::Recorded | Reply::Done(_)) => Err(ApiError::unavailable(
                "this member does not vote now".into(),
                "`sitegate status` says why; ask another member",
            )),
            None => Err(ApiError::unavailable(
                match self.lacks_majority(&*self.look().await?) {
                    Some(who) => format!("no majority has answered in time: {who}"),
                    None => "no majority has answered in time".into(),
                },
                "`sitegate status` without --consistent says what this member knows",
            )),
        }
    }
}

const fn standing_name(standing: &StandingView) -> &'static str {
    match standing {
        StandingView::Unborn { .. } => "unborn",
        StandingView::Recovering => "recovering",
        StandingView::Settling => "settling",
        StandingView::Voting => "voting",
        StandingView::Quarantined => "quarantined",
    }
}

const fn bar_name(bar: Bar) -> &'static str {
    match bar {
        Bar::Disk => "disk",
        Bar::Fence => "fence",
        Bar::Unheard => "unheard",
    }
}

const fn standby_name(mode: StandbyMode) -> &'static str {
    match mode {
        StandbyMode::Online => "online",
        StandbyMode::Keep => "keep",
        StandbyMode::Vacate => "vacate",
    }
}

fn role_name(role: Option<Role>) -> String {
    match role {
        Some(Role::Site) => "site".into(),
        Some(Role::Arbitrator) => "arbitrator".into(),
        None => "unknown".into(),
    }
}

fn short(digest: &[u8; 32]) -> String {
    /// As long as [`FormationDigest::short`].
    const BYTES: usize = 6;
    digest[..BYTES].iter().map(|byte| format!("{byte:02x}")).collect()
}
