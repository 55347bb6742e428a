//! The configuration as the protocol takes it: numbers for names, spans for durations.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sitegate_protocol::{Drift, LocalTicket, MemberId, Role, Settings, Span, Takeover, TicketName};
use sitegate_protocol::{TicketSettings, Timing};

use crate::config::{self, Configuration, Formation, MemberName, Terms, timing};

/// How long a site stays unwilling after its health check failed, where member.toml says nothing of the ticket.
const CHECK_HOLD_DEFAULT: Duration = Duration::from_secs(600);

/// Who is behind a number. Fixed for the life of a process: another table means another formation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    me: MemberId,
    by_id: BTreeMap<MemberId, MemberName>,
    roles: BTreeMap<MemberId, Role>,
}

impl Names {
    /// The members of `configuration`.
    #[must_use]
    pub fn of(configuration: &Configuration) -> Self {
        let members = &configuration.formation.members;
        Self {
            me: id(configuration.me()),
            by_id: members.iter().map(|member| (id(member), member.name.clone())).collect(),
            roles: roles(&configuration.formation),
        }
    }

    /// This member's number.
    #[must_use]
    pub const fn me(&self) -> MemberId {
        self.me
    }

    /// The name of member `id`, or `member 7` for a number that the formation does not have.
    #[must_use]
    pub fn name(&self, id: MemberId) -> String {
        self.by_id.get(&id).map_or_else(|| format!("member {id}"), ToString::to_string)
    }

    /// The number of the member of that name.
    #[must_use]
    pub fn id(&self, name: &str) -> Option<MemberId> {
        self.by_id.iter().find(|(_, known)| known.as_str() == name).map(|(id, _)| *id)
    }

    /// What member `id` does.
    #[must_use]
    pub fn role(&self, id: MemberId) -> Option<Role> {
        self.roles.get(&id).copied()
    }

    /// All members, by number.
    pub fn all(&self) -> impl Iterator<Item = (MemberId, &MemberName)> {
        self.by_id.iter().map(|(id, name)| (*id, name))
    }

    /// All members but this one.
    pub fn others(&self) -> impl Iterator<Item = (MemberId, &MemberName)> {
        self.all().filter(|(id, _)| *id != self.me)
    }

    /// Names instead of numbers, in the same order.
    pub fn list<'n>(&self, ids: impl IntoIterator<Item = &'n MemberId>) -> Vec<String> {
        ids.into_iter().map(|id| self.name(*id)).collect()
    }
}

/// What the protocol is told. `runnable` are the tickets that this site's fence daemon knows, if that has said so: only
/// those can be armed here.
#[must_use]
pub fn settings(configuration: &Configuration, runnable: Option<&BTreeSet<TicketName>>) -> Settings {
    let formation = &configuration.formation;
    Settings {
        me: id(configuration.me()),
        members: roles(formation),
        timing: timing(formation),
        trust_disk: formation.trust_disk,
        tickets: tickets(formation),
        local: local_tickets(configuration, runnable),
    }
}

/// The members, by number.
#[must_use]
pub fn roles(formation: &Formation) -> BTreeMap<MemberId, Role> {
    formation.members.iter().map(|member| (id(member), role(member.role))).collect()
}

/// What all members must have alike.
#[must_use]
pub fn timing(formation: &Formation) -> Timing {
    Timing {
        heartbeat: span(formation.heartbeat),
        drift: Drift::from_ppm(formation.max_clock_drift.ppm())
            .expect("the configuration allows far less drift than the protocol"),
        rtt_max: span(formation.rtt_max),
        commit_max: span(timing::COMMIT_MAX),
        recovery_wait: span(formation.recovery_wait),
    }
}

/// The tickets.
#[must_use]
pub fn tickets(formation: &Formation) -> BTreeMap<TicketName, TicketSettings> {
    let tickets = formation.tickets.iter();
    tickets.map(|(name, terms)| (ticket(name), ticket_settings(terms, formation))).collect()
}

/// A ticket's name as the protocol has it.
#[must_use]
pub fn ticket(name: &config::TicketName) -> TicketName {
    TicketName::new(name.as_str()).expect("the configuration allows fewer names than the protocol")
}

/// A duration as the protocol has it; 584 years and more are as good as for ever.
#[must_use]
pub fn span(duration: Duration) -> Span {
    Span::from_nanos(sitegate_host::clock::duration_ns(duration))
}

fn id(member: &config::Member) -> MemberId {
    MemberId::new(member.id.get()).expect("an id in the configuration is not 0")
}

const fn role(role: config::Role) -> Role {
    match role {
        config::Role::Site => Role::Site,
        config::Role::Arbitrator => Role::Arbitrator,
    }
}

fn ticket_settings(terms: &Terms, formation: &Formation) -> TicketSettings {
    TicketSettings {
        expire: span(terms.expire),
        acquire_after: span(terms.acquire_after),
        takeover: match terms.takeover {
            config::Takeover::Timed => Takeover::Timed,
            config::Takeover::Confirmed => Takeover::Confirmed,
        },
        order: terms.order.iter().filter_map(|site| formation.member(site)).map(id).collect(),
        failback: terms.failback,
        takeover_limit: terms.takeover_limit.get(),
    }
}

fn local_tickets(
    configuration: &Configuration,
    runnable: Option<&BTreeSet<TicketName>>,
) -> BTreeMap<TicketName, LocalTicket> {
    if configuration.me().role == config::Role::Arbitrator {
        return BTreeMap::new();
    }
    let of = |name: &config::TicketName| {
        let written = configuration.local.tickets.get(name);
        let check = written.and_then(|ticket| ticket.before_acquire.as_ref());
        LocalTicket {
            check_within: check.map_or(Span::ZERO, |hook| span(hook.within)),
            check_hold: span(written.map_or(CHECK_HOLD_DEFAULT, |ticket| ticket.check_hold)),
        }
    };
    let known = configuration.formation.tickets.keys().map(|name| (ticket(name), of(name)));
    known.filter(|(name, _)| runnable.is_none_or(|runnable| runnable.contains(name))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example::configuration;

    #[test]
    fn a_site_runs_what_its_fence_daemon_knows() {
        let hooks = "[ticket.db]\nbefore-acquire = { command = [\"/ready\"], within = \"5s\" }\n";
        let configuration = configuration("paris", hooks);
        let db = TicketName::new("db").unwrap();
        let all = settings(&configuration, None);
        assert_eq!(all.local.len(), 2);
        assert_eq!(all.local[&db].check_within, Span::from_secs(5));
        let some = settings(&configuration, Some(&BTreeSet::from([db.clone()])));
        assert_eq!(some.local.keys().collect::<Vec<_>>(), [&db]);
        assert_eq!(some.tickets, all.tickets);
        assert_eq!(all.tickets[&db].order, [MemberId::new(2).unwrap(), MemberId::new(1).unwrap()]);
    }

    #[test]
    fn an_arbitrator_runs_nothing() {
        let arbitrator = settings(&configuration("tiebreak", ""), None);
        assert!(arbitrator.local.is_empty() && arbitrator.tickets.len() == 2);
        assert_eq!(arbitrator.majority(), 2);
    }
}
