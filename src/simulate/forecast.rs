//! From a formation to simulations, and from what they came to to what it means.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use sitegate_member::config::{Formation, Takeover, Terms, timing};
use sitegate_member::settings::{roles, span, ticket, tickets, timing as timing_of};
use sitegate_protocol::{MemberId, TicketName};
use sitegate_simulator::forecast::{Failure, Outcome, Ran, Setup};

use super::jobs::{Came, Job};

/// A formation is watched for so many seconds at a time: enough that its start counts little, few enough that all
/// processors have something to do.
const WATCH_SECONDS: u64 = 5_000;
/// Losses of a holder that are simulated at least.
const FAILOVERS_MIN: u64 = 20;
/// What a loss takes beside its lease: the members meet, tickets are granted.
const AROUND_FAILOVER_SECONDS: u64 = 15;
const YEAR_SECONDS: f64 = 365.25 * 86_400.0;
/// Of the normal distribution: 95 % lie within so many standard deviations.
const WITHIN_95: f64 = 1.959_964;

/// What the caller chose.
#[derive(Clone, Debug)]
pub(super) struct Conditions {
    pub(super) seconds: u64,
    pub(super) seed: u64,
    pub(super) loss_per_million: u64,
    pub(super) delay: (Duration, Duration),
}

/// All that is said.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Forecast {
    pub(super) formation: String,
    pub(super) members: usize,
    pub(super) sites: usize,
    pub(super) seed: u64,
    pub(super) loss_percent: f64,
    pub(super) delay_min_ms: f64,
    pub(super) delay_max_ms: f64,
    pub(super) events: u64,
    pub(super) simulated_seconds: f64,
    pub(super) wall_seconds: f64,
    pub(super) violations: Vec<String>,
    pub(super) tickets: Vec<Ticket>,
    pub(super) failures: Vec<Failed>,
}

/// A ticket, and all that have the same terms.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Ticket {
    pub(super) ticket: String,
    pub(super) like: Vec<String>,
    pub(super) takeover: &'static str,
    pub(super) failovers: usize,
    pub(super) never: usize,
    pub(super) median_ms: Option<f64>,
    pub(super) p99_ms: Option<f64>,
    pub(super) worst_ms: Option<f64>,
    pub(super) bound_ms: Option<f64>,
    pub(super) lost: u64,
    pub(super) watched_seconds: u64,
    pub(super) lost_per_year: f64,
    pub(super) lost_per_year_low: f64,
    pub(super) lost_per_year_high: f64,
}

/// A failure, and what it does.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Failed {
    pub(super) kind: &'static str,
    pub(super) fails: Vec<String>,
    pub(super) tickets: Vec<Cost>,
}

/// What it does to a ticket.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Cost {
    pub(super) ticket: String,
    pub(super) outcome: &'static str,
    pub(super) site: Option<String>,
    pub(super) unheld_ms: Option<f64>,
}

impl Forecast {
    /// Has simulated by `run` whatever there is to know.
    pub(super) fn new(
        formation: &Formation,
        conditions: &Conditions,
        run: impl FnOnce(&[Job]) -> Vec<(Came, Ran)>,
    ) -> Self {
        let groups = groups(formation);
        let came = run(&jobs(formation, conditions, &groups));
        let ms = |length: Duration| length.as_secs_f64() * 1000.0;
        let mut forecast = Self {
            formation: formation.name.to_string(),
            members: formation.members.len(),
            sites: formation.sites().count(),
            seed: conditions.seed,
            loss_percent: as_f64(conditions.loss_per_million) / 10_000.0,
            delay_min_ms: ms(conditions.delay.0),
            delay_max_ms: ms(conditions.delay.1),
            events: came.iter().map(|(_, ran)| ran.events).sum(),
            simulated_seconds: as_f64(came.iter().map(|(_, ran)| ran.simulated_ns).sum()) / 1e9,
            wall_seconds: 0.0,
            violations: Vec::new(),
            tickets: groups.iter().map(|group| group.ticket(formation, &came)).collect(),
            failures: Vec::new(),
        };
        for (came, ran) in &came {
            if let Some(violation) = &ran.violation {
                forecast.violations.push(format!("{}: {}", violation.invariant, violation.what));
            }
            if let Came::Outage(failure, outcomes) = came {
                forecast.failures.push(failed(formation, *failure, outcomes));
            }
        }
        forecast
    }
}

/// Tickets with the same terms fare alike: one of each is simulated.
struct Group<'f> {
    first: TicketName,
    like: Vec<String>,
    terms: &'f Terms,
}

fn groups(formation: &Formation) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for (name, terms) in &formation.tickets {
        match groups.iter_mut().find(|group| group.terms == terms) {
            Some(group) => group.like.push(name.to_string()),
            None => groups.push(Group { first: ticket(name), like: Vec::new(), terms }),
        }
    }
    groups
}

fn jobs(formation: &Formation, conditions: &Conditions, groups: &[Group<'_>]) -> Vec<Job> {
    let all = tickets(formation);
    let setup = |number: u64| Setup {
        members: roles(formation),
        timing: timing_of(formation),
        trust_disk: formation.trust_disk,
        tickets: groups.iter().map(|group| (group.first.clone(), all[&group.first].clone())).collect(),
        delay: (span(conditions.delay.0), span(conditions.delay.1)),
        loss_per_million: conditions.loss_per_million,
        // Seeds of neighbours must not share runs.
        seed: conditions.seed.wrapping_mul(1 << 32).wrapping_add(number),
    };
    let mut jobs: Vec<Job> =
        failures(formation).into_iter().map(|failure| Job::Outage(setup(0), failure)).collect();
    let leases = groups.iter().map(|group| group.terms.expire + group.terms.acquire_after);
    let each = leases.max().unwrap_or_default().as_secs() + AROUND_FAILOVER_SECONDS;
    let failovers = (conditions.seconds / 2 / each).max(FAILOVERS_MIN);
    jobs.extend((1..=failovers).map(|number| Job::Failover(setup(number))));
    let mut left = conditions.seconds.div_ceil(2);
    for number in failovers + 1.. {
        let seconds = left.min(WATCH_SECONDS);
        jobs.push(Job::Endure(setup(number), seconds));
        left -= seconds;
        if left == 0 {
            break;
        }
    }
    jobs
}

fn failures(formation: &Formation) -> Vec<Failure> {
    let ids: Vec<MemberId> = roles(formation).into_keys().collect();
    let pairs =
        || ids.iter().enumerate().flat_map(|(i, &one)| ids[i + 1..].iter().map(move |&other| (one, other)));
    let members = ids.iter().map(|&member| Failure::Member(member));
    let links = pairs().map(|(one, other)| Failure::Link(one, other));
    members.chain(links).chain(pairs().map(|(one, other)| Failure::Members(one, other))).collect()
}

impl Group<'_> {
    fn ticket(&self, formation: &Formation, came: &[(Came, Ran)]) -> Ticket {
        let (mut took, mut never, mut lost, mut watched) = (Vec::new(), 0, 0, 0);
        for (came, _) in came {
            match came {
                Came::Failover(failovers) => {
                    for failover in failovers.iter().filter(|failover| failover.ticket == self.first) {
                        took.extend(failover.took_ns);
                        never += usize::from(failover.took_ns.is_none());
                    }
                }
                Came::Endure(losses, seconds) => {
                    lost += losses.get(&self.first).copied().unwrap_or(0);
                    watched += seconds;
                }
                Came::Outage(..) => {}
            }
        }
        took.sort_unstable();
        let terms = self.terms;
        let timed = terms.takeover == Takeover::Timed;
        let last = u32::try_from(terms.order.len().saturating_sub(1)).unwrap_or(u32::MAX);
        let bound = timing::failover_max(
            terms.expire,
            terms.acquire_after,
            last,
            formation.rtt_max,
            formation.max_clock_drift,
        );
        let (low, high) = interval_95(lost);
        let a_year = YEAR_SECONDS / as_f64(watched.max(1));
        Ticket {
            ticket: self.first.to_string(),
            like: self.like.clone(),
            takeover: if timed { "timed" } else { "confirmed" },
            failovers: took.len() + never,
            never,
            median_ms: quantile(&took, 50),
            p99_ms: quantile(&took, 99),
            worst_ms: quantile(&took, 100),
            bound_ms: timed.then_some(bound.as_secs_f64() * 1000.0),
            lost,
            watched_seconds: watched,
            lost_per_year: as_f64(lost) * a_year,
            lost_per_year_low: low * a_year,
            lost_per_year_high: high * a_year,
        }
    }
}

/// The smallest that `percent` of all are not larger than, in ms.
fn quantile(sorted_ns: &[u64], percent: usize) -> Option<f64> {
    let rank = (sorted_ns.len() * percent).div_ceil(100).max(1);
    sorted_ns.get(rank - 1).map(|ns| as_f64(ns / 1000) / 1000.0)
}

/// Between which means a count of independent events lies, with 95 % confidence. Of none, the rule of three (Hanley and
/// Lippman-Hand, 1983); else Byar's approximation of the exact interval (Breslow and Day, 1987), which is close from 1 on.
fn interval_95(count: u64) -> (f64, f64) {
    if count == 0 {
        return (0.0, 3.0);
    }
    let byar = |k: f64, sign: f64| k * (1.0 - 1.0 / (9.0 * k) + sign * WITHIN_95 / (3.0 * k.sqrt())).powi(3);
    (byar(as_f64(count), -1.0).max(0.0), byar(as_f64(count + 1), 1.0))
}

fn failed(formation: &Formation, failure: Failure, outcomes: &BTreeMap<TicketName, Outcome>) -> Failed {
    let name = |id: MemberId| {
        let member = formation.members.iter().find(|member| member.id.get() == id.get());
        member.map_or_else(|| format!("member {id}"), |member| member.name.to_string())
    };
    let (kind, fails) = match failure {
        Failure::Member(member) => ("member", vec![name(member)]),
        Failure::Link(one, other) => ("link", vec![name(one), name(other)]),
        Failure::Members(one, other) => ("members", vec![name(one), name(other)]),
    };
    let cost = |(ticket, outcome): (&TicketName, &Outcome)| {
        let (outcome, site, unheld_ns) = match outcome {
            Outcome::Stays(site) => ("stays", Some(name(*site)), Some(0)),
            Outcome::Moves { to, unheld_ns } => ("moves", Some(name(*to)), Some(*unheld_ns)),
            Outcome::Unheld => ("unheld", None, None),
            Outcome::NeverHeld => ("never-held", None, None),
        };
        let unheld_ms = unheld_ns.map(|ns| as_f64(ns / 1_000_000));
        Cost { ticket: ticket.to_string(), outcome, site, unheld_ms }
    };
    Failed { kind, fails, tickets: outcomes.iter().map(cost).collect() }
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
pub(super) fn as_f64(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use sitegate_host::diagnostic::Source;

    use super::super::{EXAMPLE, jobs::run_all};
    use super::*;

    fn forecast(seconds: u64, loss_per_million: u64, threads: usize) -> Forecast {
        let formation = Formation::parse(&Source::new("formation.toml", EXAMPLE)).unwrap();
        let delay = Duration::from_millis(10);
        let conditions = Conditions { seconds, seed: 7, loss_per_million, delay: (delay, delay) };
        Forecast::new(&formation, &conditions, |jobs| run_all(jobs, threads))
    }

    #[test]
    fn the_example_keeps_its_bound_and_its_tickets() {
        let forecast = forecast(4000, 10_000, 2);
        let ticket = &forecast.tickets[0];
        assert_eq!((forecast.violations.len(), ticket.never, ticket.lost), (0, 0, 0), "{forecast:?}");
        assert!(ticket.failovers >= 20 && ticket.watched_seconds == 2000, "{ticket:?}");
        assert!(ticket.median_ms <= ticket.p99_ms && ticket.p99_ms <= ticket.worst_ms, "{ticket:?}");
        assert!(ticket.worst_ms.unwrap() <= ticket.bound_ms.unwrap(), "{ticket:?}");
        assert!((ticket.lost_per_year_high - 3.0 * YEAR_SECONDS / 2000.0).abs() < 1.0, "{ticket:?}");
        let of = |fails: &[&str]| {
            forecast
                .failures
                .iter()
                .find(|failed| failed.fails == fails)
                .map(|failed| failed.tickets[0].clone())
        };
        assert_eq!(of(&["tiebreak"]).unwrap().outcome, "stays");
        assert_eq!(of(&["paris"]).unwrap().site.as_deref(), Some("lyon"));
        assert_eq!(forecast.failures.len(), 3 + 3 + 3);
    }

    #[test]
    fn threads_change_nothing() {
        let (one, two) = (forecast(2000, 50_000, 1), forecast(2000, 50_000, 2));
        assert_eq!(serde_json::to_string(&one).unwrap(), serde_json::to_string(&two).unwrap());
    }

    #[test]
    fn intervals_are_those_of_the_tables() {
        assert_eq!(interval_95(0), (0.0, 3.0));
        // The exact ones: 0.03 to 5.57, 4.80 to 18.39, 81.4 to 121.6.
        for (count, low, high) in [(1, 0.03, 5.57), (10, 4.80, 18.39), (100, 81.36, 121.63)] {
            let (found_low, found_high) = interval_95(count);
            assert!(
                (found_low - low).abs() < 0.05 && (found_high - high).abs() < 0.05,
                "{found_low} {found_high}"
            );
        }
    }
}
