//! On what terms a site holds a ticket: `[ticket.NAME]` and `[ticket-defaults]` of `formation.toml`.

use std::fmt;
use std::num::NonZeroU32;
use std::ops::Range;
use std::time::Duration;

use serde::Deserialize;
use sitegate_host::diagnostic::{Diagnostic, Period, Problems, Source, Spanned, nearest};

use super::timing::{LOST_HEARTBEATS_MIN, RenewalBudget, WAKE_LATENESS_MAX};
use super::{ClockDrift, Member, MemberName, Role, TicketName};

/// What `expire` is unless the file says otherwise.
const EXPIRE_DEFAULT: Period = Period::from_secs(60);

/// The longest `expire` and `acquire-after`: a ticket that waits longer is better moved by people.
const LEASE_MAX: Period = Period::from_secs(24 * 3600);

const TAKEOVER_LIMIT_DEFAULT: NonZeroU32 = NonZeroU32::new(3).expect("3 is not 0");

/// The terms of one ticket, with defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// E: how long the holder may go on without hearing a majority.
    pub expire: Duration,
    /// A: what the other members wait on top of E, for the holder to fence.
    pub acquire_after: Duration,
    /// What another site needs to take the ticket from a holder that was lost.
    pub takeover: Takeover,
    /// Who takes the ticket over, best first: all sites, those that the file does not name last, by id.
    pub order: Vec<MemberName>,
    /// Whether a held ticket goes back to its preferred site, once that can have it.
    pub failback: bool,
    /// How many takeovers in a row, after loss or failed checks, happen before the ticket pauses itself.
    pub takeover_limit: NonZeroU32,
}

/// What another site needs to take a lost ticket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Takeover {
    /// That E and A have passed.
    #[default]
    Timed,
    /// A fence receipt of the lost site, or an operator's word that it is dead.
    Confirmed,
}

impl fmt::Display for Takeover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Timed => "timed",
            Self::Confirmed => "confirmed",
        })
    }
}

/// `[ticket.NAME]` or `[ticket-defaults]` as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct TermsEntry {
    expire: Option<Spanned<Period>>,
    acquire_after: Option<Spanned<Period>>,
    takeover: Option<Takeover>,
    order: Option<Spanned<Vec<Spanned<MemberName>>>>,
    failback: Option<bool>,
    takeover_limit: Option<NonZeroU32>,
}

/// What the terms of all tickets are checked against.
pub(super) struct Setting<'f> {
    pub(super) source: &'f Source,
    pub(super) members: &'f [Member],
    pub(super) heartbeat: Duration,
    pub(super) rtt_max: Duration,
    pub(super) drift: ClockDrift,
}

impl TermsEntry {
    /// The terms of ticket `name`, whose heading is at `heading`, with what is not written taken from `defaults`.
    pub(super) fn resolve(
        &self,
        name: &TicketName,
        heading: Range<usize>,
        defaults: &Self,
        setting: &Setting<'_>,
        problems: &mut Problems,
    ) -> Option<Terms> {
        let expire = self.expire.as_ref().or(defaults.expire.as_ref());
        let expire_at = expire.map_or_else(|| heading.clone(), Spanned::span);
        let expire = expire.map_or(EXPIRE_DEFAULT, |expire| *expire.get_ref());
        setting.bounded(expire, expire_at.clone(), problems);
        setting.renewable(expire.get(), expire_at, problems);
        let acquire_after = self.acquire_after.as_ref().or(defaults.acquire_after.as_ref());
        match acquire_after {
            Some(written) => setting.bounded(*written.get_ref(), written.span(), problems),
            None => problems.add(no_acquire_after(setting.source, name, heading)),
        }
        let order = self.order.as_ref().or(defaults.order.as_ref());
        let order = order.map(|order| setting.order(order, problems)).unwrap_or_default();
        Some(Terms {
            expire: expire.get(),
            acquire_after: acquire_after?.get_ref().get(),
            takeover: self.takeover.or(defaults.takeover).unwrap_or_default(),
            order: setting.with_the_rest(order),
            failback: self.failback.or(defaults.failback).unwrap_or(false),
            takeover_limit: self.takeover_limit.or(defaults.takeover_limit).unwrap_or(TAKEOVER_LIMIT_DEFAULT),
        })
    }
}

fn no_acquire_after(source: &Source, name: &TicketName, heading: Range<usize>) -> Diagnostic {
    Diagnostic::at(source, heading, format!("ticket `{name}` has no acquire-after")).hint(
        "write how long the other members must leave a lost site to fence, on top of expire, as in \
         `acquire-after = \"45s\"`, here or in [ticket-defaults]; `sitegate check` then shows the least that fenced.toml allows",
    )
}

impl Setting<'_> {
    fn bounded(&self, period: Period, at: Range<usize>, problems: &mut Problems) {
        if period > LEASE_MAX {
            let cause = format!("{period} is longer than the {LEASE_MAX} that a lease may take");
            problems.add(Diagnostic::at(self.source, at, cause).hint("write a shorter time"));
        }
    }

    /// Inequality 1.
    fn renewable(&self, expire: Duration, at: Range<usize>, problems: &mut Problems) {
        let budget = RenewalBudget::new(expire, self.heartbeat, self.rtt_max, self.drift);
        if budget.holds() {
            return;
        }
        let cause = format!(
            "expire is too short to survive {k} lost heartbeats: ({k}+1)·{:?} heartbeat + 2·{:?} rtt-max + {WAKE_LATENESS_MAX:?} \
             margin = {:?}, but expire·(1−ρ) = {:?}",
            self.heartbeat,
            self.rtt_max,
            budget.needed,
            budget.available,
            k = LOST_HEARTBEATS_MIN,
        );
        let hint = format!("raise expire to {:?} or more, or lower heartbeat", budget.expire_min(self.drift));
        problems.add(Diagnostic::at(self.source, at, cause).hint(hint));
    }

    fn sites(&self) -> Vec<MemberName> {
        let sites = self.members.iter().filter(|member| member.role == Role::Site);
        sites.map(|member| member.name.clone()).collect()
    }

    /// A written order: sites, each once.
    fn order(&self, written: &Spanned<Vec<Spanned<MemberName>>>, problems: &mut Problems) -> Vec<MemberName> {
        let names = written.get_ref();
        if names.is_empty() {
            problems.add(
                Diagnostic::at(self.source, written.span(), "an empty order")
                    .hint("list sites, best first; those left out come after them, by id"),
            );
        }
        for (index, name) in names.iter().enumerate() {
            if let Some(problem) = self.wrong_in_order(name, &names[..index]) {
                problems.add(problem);
            }
        }
        names.iter().map(|name| name.get_ref().clone()).collect()
    }

    fn with_the_rest(&self, mut order: Vec<MemberName>) -> Vec<MemberName> {
        let rest: Vec<_> = self.sites().into_iter().filter(|site| !order.contains(site)).collect();
        order.extend(rest);
        order
    }

    fn wrong_in_order(
        &self,
        name: &Spanned<MemberName>,
        before: &[Spanned<MemberName>],
    ) -> Option<Diagnostic> {
        let member = self.members.iter().find(|member| member.name == *name.get_ref());
        let at = |cause: String| Diagnostic::at(self.source, name.span(), cause);
        match member.map(|member| member.role) {
            None => Some(at(format!("no member is named `{name}`")).hint(self.meant(name.get_ref()))),
            Some(Role::Arbitrator) => Some(
                at(format!("`{name}` is an arbitrator and never holds tickets"))
                    .hint("list only sites in `order`"),
            ),
            Some(Role::Site) => {
                let twice = before.iter().any(|earlier| earlier.get_ref() == name.get_ref());
                twice.then(|| at(format!("`{name}` stands in this order twice")).hint("list each site once"))
            }
        }
    }

    fn meant(&self, name: &MemberName) -> String {
        let sites = self.sites();
        match nearest(name.as_str(), sites.iter().map(MemberName::as_str)) {
            Some(near) => format!("did you mean `{near}`?"),
            None => {
                let sites: Vec<&str> = sites.iter().map(MemberName::as_str).collect();
                format!("the sites are {}", sites.join(", "))
            }
        }
    }
}
