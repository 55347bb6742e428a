//! What an operator should know of a member, in sentences.

use std::collections::BTreeMap;
use std::time::SystemTime;

use sitegate_protocol::{MemberId, StandingView};

use super::Api;
use super::types::{MemberStatus, TicketStatus};
use crate::driver::Observed;
use crate::peers::LinkState;
use crate::tls::EXPIRY_WARNING_DAYS;

impl Api {
    pub(super) fn standing_detail(&self, observed: &Observed) -> String {
        let names = &self.shared.names;
        match &observed.view.standing {
            StandingView::Unborn { met } => {
                let missing: Vec<String> = names
                    .others()
                    .filter(|(id, _)| !met.contains(id))
                    .map(|(_, name)| name.to_string())
                    .collect();
                if missing.is_empty() {
                    "it has met everybody, and waits until everybody has met everybody".into()
                } else {
                    format!("not all members have met yet; it waits for {}", missing.join(", "))
                }
            }
            StandingView::Recovering => {
                let wait = self.shared.configuration.get().formation.recovery_wait;
                let trust = if self.shared.configuration.get().formation.trust_disk {
                    format!("; if too few answer within {wait:?}, it trusts its disk")
                } else {
                    String::new()
                };
                format!("it may have forgotten, and asks the others what they know first{trust}")
            }
            StandingView::Settling => {
                "it was readmitted, and waits until every lease that it may have supported is over".into()
            }
            StandingView::Voting => "it votes".into(),
            StandingView::Quarantined => format!(
                "the others know another identity for this member; if it has lost its disk, run `sitegate member readmit {}` \
                 on another member",
                names.name(names.me())
            ),
        }
    }

    pub(super) fn warnings(
        &self,
        observed: &Observed,
        members: &[MemberStatus],
        links: &BTreeMap<MemberId, LinkState>,
    ) -> Vec<String> {
        let names = &self.shared.names;
        let mut warnings = Vec::new();
        if observed.view.standing != StandingView::Voting {
            warnings.push(format!("this member does not vote: {}", self.standing_detail(observed)));
        }
        for (id, link) in links {
            if let Some(why) = &link.refused {
                warnings.push(format!("{} and this member refuse each other: {why}", names.name(*id)));
            }
        }
        for member in members.iter().filter(|member| member.name != names.name(names.me())) {
            if member.quarantined {
                warnings.push(format!(
                    "{0} is in quarantine: it speaks with another identity; `sitegate member readmit {0}` takes it back",
                    member.name
                ));
            }
            if member.clock_off {
                warnings.push(format!("the clock of {} runs off by more than max-clock-drift", member.name));
            }
        }
        for member in members {
            if let Some(days) = member.certificate_days_left.filter(|days| *days < EXPIRY_WARNING_DAYS) {
                let when = if days < 0 { "has ended".into() } else { format!("ends in {days} days") };
                warnings.push(format!("the certificate of {} {when}: run `sitegate pki renew`", member.name));
            }
        }
        warnings.extend(self.authority_warning());
        warnings.extend(observed.view.tickets.iter().filter_map(|(ticket, view)| {
            let local = view.local.as_ref().filter(|local| !matches!(local.state, "idle" | "stopped"))?;
            let token = local.token.filter(|_| !observed.view.fence_up)?;
            Some(format!(
                "{ticket} (token {token}) MAY RUN HERE with nothing to fence it: sitegate-fenced does not answer; start it"
            ))
        }));
        for ticket in &observed.failing {
            warnings.push(format!(
                "FENCING FAILS: {ticket} may still run here; `sitegate fence history {ticket}` says why"
            ));
        }
        warnings.extend(self.shared.site().warnings);
        warnings
    }

    fn authority_warning(&self) -> Option<String> {
        let tls = self.shared.tls.get();
        let authorities = tls.credentials.reports().iter().skip(1);
        let days = authorities.map(|report| report.validity.days_left(SystemTime::now())).min()?;
        (days < EXPIRY_WARNING_DAYS)
            .then(|| format!("the certificate of the CA ends in {days} days: replace it"))
    }
}

/// How many tickets a warning names.
const NAMED_MAX: usize = 3;

/// What nobody takes over before somebody vouches that nothing of it runs, by the site that is lost.
pub(super) fn unconfirmed(members: &[MemberStatus], tickets: &[TicketStatus]) -> Vec<String> {
    let of = |lost: &MemberStatus| {
        let waits = |ticket: &&TicketStatus| {
            ticket.takeover == "confirmed"
                && ticket.guard_remaining_ms.is_none()
                && ticket.holder.as_ref() == Some(&lost.name)
        };
        let waiting: Vec<&str> = tickets.iter().filter(waits).map(|ticket| ticket.ticket.as_str()).collect();
        let mut named = waiting.iter().take(NAMED_MAX).copied().collect::<Vec<_>>().join(", ");
        match waiting.len().saturating_sub(NAMED_MAX) {
            0 => {}
            more => named = format!("{named} and {more} more"),
        }
        (!waiting.is_empty()).then(|| {
            format!(
                "NOBODY TAKES OVER {named}: {0} is lost, and takeover is `confirmed`. Its fence receipt is awaited; if you know \
                 that nothing of it runs there, `sitegate attest-dead {0}`",
                lost.name
            )
        })
    };
    members.iter().filter(|member| !member.reachable).filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example::{member_status, ticket_status};

    #[test]
    fn a_confirmed_takeover_that_waits_is_said() {
        let lost = |names: &[&str]| {
            let tickets: Vec<TicketStatus> = names
                .iter()
                .map(|name| TicketStatus {
                    takeover: "confirmed".into(),
                    guard_remaining_ms: None,
                    ..ticket_status(name)
                })
                .collect();
            let paris = MemberStatus { reachable: false, ..member_status("paris") };
            (vec![paris, member_status("lyon")], tickets)
        };
        let (members, tickets) = lost(&["db"]);
        let said = unconfirmed(&members, &tickets);
        assert!(said.len() == 1 && said[0].starts_with("NOBODY TAKES OVER db: paris is lost"), "{said:?}");
        let (_, many) = lost(&["a", "b", "c", "d", "e"]);
        assert!(unconfirmed(&members, &many)[0].contains("a, b, c and 2 more: paris"));

        let timed = TicketStatus { takeover: "timed".into(), ..tickets[0].clone() };
        let guarded = TicketStatus { guard_remaining_ms: Some(1), ..tickets[0].clone() };
        let elsewhere = TicketStatus { holder: Some("lyon".into()), ..tickets[0].clone() };
        assert_eq!(unconfirmed(&members, &[timed, guarded, elsewhere]), [""; 0]);
        assert_eq!(unconfirmed(&[member_status("paris")], &tickets), [""; 0]);
    }
}
