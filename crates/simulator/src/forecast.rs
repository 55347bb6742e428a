//! What would happen to a given formation: how long failovers take, how often the network alone costs a ticket, and what
//! each single failure does. The formation, its times and the conditions are the caller's; clocks run within ±ρ, and when
//! things happen within a heartbeat is drawn from the seed. The observer watches these runs like any other.

use std::cell::RefCell;
use std::collections::BTreeMap;

use sitegate_protocol::{
    Command, LocalTicket, MemberId, Note, Role, Settings, Span, TicketName, TicketSettings, Timing,
};

use crate::clock::{Clock, Clocks, MS, SECOND, Time};
use crate::plan::{FaultPlan, FencePlan, MemberPlan, NetworkPlan, Options, Plan, Theme, draw_rate};
use crate::rng::Rng;
use crate::run::Violation;
use crate::world::World;

/// For members to meet and tickets to be granted, however bad the network: whatever has not come by then is left out.
const READY_WITHIN: Time = 600 * SECOND;
/// A member takes so many commands at a time; half of them leaves room for those that take long.
const GRANTS_AT_ONCE: usize = 32;
/// Each check before acquiring, and each stop hook, takes this long at most; commits take this long. As on machines that are well.
const CHECK_MAX: Time = 20 * MS;
const COMMIT: (Time, Time) = (MS, 10 * MS);

/// A formation, and what it has to live with.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Who votes, in the order of their numbers.
    pub members: BTreeMap<MemberId, Role>,
    /// As all members have it.
    pub timing: Timing,
    /// Whether members ever trust an unproven disk.
    pub trust_disk: bool,
    /// The tickets. Each is granted to the first site of its order.
    pub tickets: BTreeMap<TicketName, TicketSettings>,
    /// What a frame takes from member to member: at least, and at most.
    pub delay: (Span, Span),
    /// How many frames of a million are lost for good.
    pub loss_per_million: u64,
    /// Whatever is left to chance.
    pub seed: u64,
}

/// What the runs of a question have in common.
#[derive(Clone, Debug, Default)]
pub struct Ran {
    /// Simulated time, ns.
    pub simulated_ns: u64,
    /// Events handled.
    pub events: u64,
    /// What was violated, if anything: then nothing else is worth anything.
    pub violation: Option<Violation>,
}

/// What became of one ticket whose holder lost its power.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failover {
    /// Which.
    pub ticket: TicketName,
    /// From the loss until another site held it, ns; none if none did in four times as long as it should take at most.
    pub took_ns: Option<u64>,
}

/// Something that fails for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// A member loses its power.
    Member(MemberId),
    /// Two members lose their power at once.
    Members(MemberId, MemberId),
    /// Two members hear each other no more.
    Link(MemberId, MemberId),
}

/// What a failure does to a ticket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Its holder keeps it.
    Stays(MemberId),
    /// Another site holds it after a while without.
    Moves {
        /// Who.
        to: MemberId,
        /// For how long nobody held it, ns.
        unheld_ns: u64,
    },
    /// Nobody holds it any more.
    Unheld,
    /// Nobody held it before.
    NeverHeld,
}

/// One holder is lost, at some moment; what it held must go to others.
#[must_use]
pub fn failover(setup: &Setup) -> (Vec<Failover>, Ran) {
    let mut run = Run::begin(setup, setup.loss_per_million);
    let holders: Vec<usize> = run.holders().into_values().collect();
    let mut failovers = Vec::new();
    if let Some(&lost) = holders.get(run.rng.index(holders.len())) {
        let wait = run.rng.range(0, setup.timing.heartbeat.as_nanos());
        run.pass(wait);
        // Whatever moved meanwhile is not lost now.
        let held: Vec<TicketName> =
            run.holders().into_iter().filter(|(_, site)| *site == lost).map(|(ticket, _)| ticket).collect();
        let since = run.world.time;
        run.world.power_off(lost);
        run.world.dead = Some(lost);
        let taken = run.watch(&held, lost, 4 * setup.lease());
        failovers = held
            .into_iter()
            .map(|ticket| Failover { took_ns: taken.get(&ticket).map(|at| at - since), ticket })
            .collect();
    }
    (failovers, run.end())
}

/// Nothing fails but frames, for `seconds`. Gives how often each ticket was lost all the same.
#[must_use]
pub fn endure(setup: &Setup, seconds: u64) -> (BTreeMap<TicketName, u64>, Ran) {
    let mut run = Run::begin(setup, setup.loss_per_million);
    let mut lost: BTreeMap<TicketName, u64> = setup.tickets.keys().map(|name| (name.clone(), 0)).collect();
    let until = run.world.time + seconds * SECOND;
    while run.world.time < until && !run.world.checks.is_violated() {
        run.pass((until - run.world.time).min(60 * SECOND));
        for (_, _, note) in run.notes() {
            if let Note::Lost(ticket, _) = note {
                *lost.entry(ticket).or_default() += 1;
            }
        }
    }
    (lost, run.end())
}

/// One failure, and nothing else: no frame is lost.
#[must_use]
pub fn outage(setup: &Setup, failure: Failure) -> (BTreeMap<TicketName, Outcome>, Ran) {
    let mut run = Run::begin(setup, 0);
    run.pass(setup.timing.heartbeat.as_nanos());
    let before = run.holders();
    let since = run.world.time;
    run.fail(failure);
    let (mut lost_at, mut held_at) = (BTreeMap::new(), BTreeMap::new());
    run.pass(4 * setup.lease());
    for (at, site, note) in run.notes() {
        match note {
            Note::Lost(ticket, _) if before.get(&ticket) == Some(&site) => {
                lost_at.entry(ticket).or_insert(at);
            }
            Note::Held(ticket, ..) => {
                held_at.entry(ticket).or_insert(at);
            }
            _ => {}
        }
    }
    let after = run.holders();
    let outcome = |ticket: &TicketName| {
        let (Some(from), to) = (before.get(ticket), after.get(ticket)) else { return Outcome::NeverHeld };
        match (to, held_at.get(ticket)) {
            (Some(to), None) if to == from => Outcome::Stays(run.id(*to)),
            (Some(to), Some(at)) => {
                let gone = lost_at.get(ticket).copied().unwrap_or(since);
                Outcome::Moves { to: run.id(*to), unheld_ns: at.saturating_sub(gone) }
            }
            _ => Outcome::Unheld,
        }
    };
    let outcomes = setup.tickets.keys().map(|ticket| (ticket.clone(), outcome(ticket))).collect();
    (outcomes, run.end())
}

impl Setup {
    /// The longest that any ticket's failover should take.
    fn lease(&self) -> Time {
        let drift = self.timing.drift;
        let leases = self.tickets.values().map(|t| drift.at_least(t.expire.plus(t.acquire_after)).as_nanos());
        leases.max().unwrap_or(0) + self.timing.retry().as_nanos() + SECOND
    }

    fn plan(&self, rng: &mut Rng) -> Plan {
        let drift = i64::from(self.timing.drift.ppm());
        let members: Vec<MemberPlan> = self
            .members
            .iter()
            .map(|(&id, &role)| {
                let mut clock = || Clock::new(rng.range(1, 1000 * SECOND), draw_rate(rng, drift));
                MemberPlan { id, role, clocks: Clocks { boot: clock(), raw: clock() } }
            })
            .collect();
        let check =
            LocalTicket { check_within: Span::from_nanos(CHECK_MAX), check_hold: Span::from_secs(600) };
        let settings = Settings {
            me: members[0].id,
            members: self.members.clone(),
            timing: self.timing,
            trust_disk: self.trust_disk,
            tickets: self.tickets.clone(),
            local: self.tickets.keys().map(|name| (name.clone(), check.clone())).collect(),
        };
        // A plan that takes about half of the shortest acquire-after at worst.
        let shortest = self.tickets.values().map(|t| t.acquire_after.as_nanos()).min().unwrap_or(SECOND);
        let (delay_min, delay_max) = (self.delay.0.as_nanos(), self.delay.1.as_nanos());
        Plan {
            options: Options { faults: false, ..Options::of(self.seed) },
            tickets: self.tickets.keys().cloned().collect(),
            editions: vec![settings.tickets.clone()],
            members,
            settings,
            network: NetworkPlan {
                delay_min,
                delay_max,
                loss_percent: 0,
                duplicate_percent: 0,
                straggler_max: 0,
                straggler_percent: 0,
            },
            fence: FencePlan {
                kill_within: shortest / 16,
                levels: vec![shortest / 8],
                worst_percent: 10,
                ipc_max: MS / 20,
                restart: shortest / 16,
                twice: false,
            },
            faults: FaultPlan {
                every: SECOND,
                commands_every: SECOND,
                crash_at_commit: 0,
                commit_min: COMMIT.0,
                commit_max: COMMIT.1,
                check_max: CHECK_MAX,
                stop_max: CHECK_MAX,
                start_max: SECOND,
                disks: false,
                theme: Theme::Mixed,
            },
        }
    }
}

/// A formation that is being watched.
struct Run {
    world: World,
    rng: Rng,
}

impl Run {
    /// Everybody has met, and every ticket is granted.
    fn begin(setup: &Setup, loss_per_million: u64) -> Self {
        let mut rng = Rng::new(setup.seed);
        let mut world = World::new(setup.plan(&mut rng), false);
        world.calm = true;
        world.noted = Some(Vec::new());
        if loss_per_million > 0 {
            let lots = RefCell::new(Rng::new(rng.next()));
            world.lost = Some(Box::new(move |_, _, _| lots.borrow_mut().per_million(loss_per_million)));
        }
        let mut run = Self { world, rng };
        run.until(|run| (0..run.world.nodes.len()).all(|i| run.world.nodes[i].votes()));
        let tickets: Vec<TicketName> = setup.tickets.keys().cloned().collect();
        for some in tickets.chunks(GRANTS_AT_ONCE) {
            for ticket in some {
                run.grant(ticket, setup);
            }
            run.until(|run| some.iter().all(|ticket| run.world.holder(ticket).is_some()));
        }
        run.notes();
        run
    }

    fn grant(&mut self, ticket: &TicketName, setup: &Setup) {
        let first = setup.tickets[ticket].order.first().copied();
        let site =
            first.or_else(|| setup.members.iter().find(|(_, role)| **role == Role::Site).map(|(id, _)| *id));
        if let Some(site) = site {
            self.world.command(self.index(site), Command::Grant(ticket.clone(), site));
        }
    }

    fn pass(&mut self, span: Time) {
        let until = self.world.time + span;
        self.world.run_until(until);
    }

    /// Waits until something holds, for as long as it may take.
    fn until(&mut self, holds: impl Fn(&Self) -> bool) {
        let until = self.world.time + READY_WITHIN;
        while self.world.time < until && !holds(self) && !self.world.checks.is_violated() {
            self.pass(SECOND / 4);
        }
    }

    /// What was noted since this was asked last.
    fn notes(&mut self) -> Vec<(Time, usize, Note)> {
        self.world.noted.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Who holds each ticket that somebody holds.
    fn holders(&self) -> BTreeMap<TicketName, usize> {
        let tickets = self.world.plan.tickets.iter();
        tickets.filter_map(|ticket| Some((ticket.clone(), self.world.holder(ticket)?.0))).collect()
    }

    /// When each of these tickets came to be held by anybody but `lost`, for as long as `within`.
    fn watch(&mut self, tickets: &[TicketName], lost: usize, within: Time) -> BTreeMap<TicketName, Time> {
        let until = self.world.time + within;
        let mut held = BTreeMap::new();
        self.notes();
        while self.world.time < until && held.len() < tickets.len() && !self.world.checks.is_violated() {
            self.pass(SECOND.min(until - self.world.time));
            for (at, site, note) in self.notes() {
                match note {
                    Note::Held(ticket, ..) if site != lost && tickets.contains(&ticket) => {
                        held.entry(ticket).or_insert(at);
                    }
                    _ => {}
                }
            }
        }
        held
    }

    fn fail(&mut self, failure: Failure) {
        match failure {
            Failure::Member(member) => self.world.power_off(self.index(member)),
            Failure::Members(one, other) => {
                self.world.power_off(self.index(one));
                self.world.power_off(self.index(other));
            }
            Failure::Link(one, other) => {
                let (one, other) = (self.index(one), self.index(other));
                self.world.network.cut(one, other, Time::MAX);
                self.world.network.cut(other, one, Time::MAX);
            }
        }
    }

    fn index(&self, member: MemberId) -> usize {
        self.world.nodes.iter().position(|node| node.id == member).unwrap_or(0)
    }

    fn id(&self, index: usize) -> MemberId {
        self.world.nodes[index].id
    }

    fn end(&mut self) -> Ran {
        Ran {
            simulated_ns: self.world.time,
            events: self.world.events,
            violation: self.world.checks.take_violation(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::{member, plan};

    fn setup(seed: u64) -> Setup {
        let settings = plan(vec![crate::script::db()], 0, 0).settings;
        Setup {
            members: settings.members,
            timing: settings.timing,
            trust_disk: true,
            tickets: settings.tickets,
            delay: (Span::from_millis(5), Span::from_millis(8)),
            loss_per_million: 0,
            seed,
        }
    }

    #[test]
    fn a_failover_takes_the_lease_and_little_more() {
        for seed in 0..20 {
            let (failovers, ran) = failover(&setup(seed));
            assert_eq!(ran.violation, None);
            let took = failovers[0].took_ns.unwrap();
            // E and A are 5 s and 2 s; the last heartbeat may be one period old.
            assert!((5 * SECOND..8 * SECOND).contains(&took), "{took}");
        }
    }

    #[test]
    fn a_good_network_costs_no_ticket_and_a_bad_one_does() {
        let (lost, ran) = endure(&setup(1), 300);
        assert_eq!((lost.values().sum::<u64>(), ran.violation), (0, None));
        let (lost, ran) = endure(&Setup { loss_per_million: 600_000, ..setup(1) }, 3000);
        assert!(lost.values().sum::<u64>() > 0 && ran.violation.is_none(), "{lost:?}");
    }

    #[test]
    fn failures_cost_what_they_must() {
        let setup = setup(3);
        let of = |failure| outage(&setup, failure).0.into_values().next().unwrap();
        let (paris, lyon, tiebreak) = (member(1), member(2), member(3));
        assert!(matches!(of(Failure::Member(paris)), Outcome::Moves { to, .. } if to == lyon));
        assert_eq!(of(Failure::Member(tiebreak)), Outcome::Stays(paris));
        assert_eq!(of(Failure::Link(paris, lyon)), Outcome::Stays(paris));
        assert_eq!(of(Failure::Members(paris, tiebreak)), Outcome::Unheld);
        assert_eq!(of(Failure::Members(lyon, tiebreak)), Outcome::Unheld);
    }
}
