//! L1, L2, L3: what must come true once faults stop, and by when.

use std::collections::BTreeSet;
use std::fmt::Debug;

use sitegate_protocol::{Command, Ownership, Span, Takeover, Tenancy, TicketName, Token, Wanted};

use crate::clock::{MS, SECOND, Time};
use crate::world::World;

/// How often the observer looks whether something has come true.
const LOOK: Time = 50 * MS;
/// What lies between being granted and holding: the fence daemon's record, and messages to it and back.
const ARMING: Time = 10 * MS;
/// The longest pause after a lost round, in times of `Timing::retry`.
const PAUSE_MAX: u64 = 16;
/// That, and the twelve times that a nacked proposal is repeated before it is given up.
const REPEATED_MAX: u64 = 12 + PAUSE_MAX;
/// Duels in a row before the ticket is with somebody. No number of them is impossible: of 134 failovers with rivals 5
/// took more than a lease longer than the bound, and none two.
const DUELS_MAX: u64 = 4;

/// Who holds each ticket, where that is not to change by itself.
pub(crate) type Tenures = Vec<(TicketName, Option<Token>)>;

impl World {
    /// Lets time pass until `come_true`, at most `within`. Whether it has.
    pub(crate) fn until(&mut self, within: Time, come_true: impl Fn(&Self) -> bool) -> bool {
        let last = self.time + within;
        while !come_true(self) {
            if self.time >= last || self.checks.is_violated() {
                return false;
            }
            self.run_until((self.time + LOOK).min(last));
        }
        true
    }

    // Bounds.

    /// How long a failover takes at most (docs/protocol.md, "Inequalities"): from when the conditions hold to the ticket
    /// being held elsewhere. A holder that still sends takes half of E to find out that nobody answers.
    pub(crate) fn failover_within(&self, expire: Span, acquire_after: Span, sends: bool) -> Time {
        let timing = &self.plan.settings.timing;
        let ppm = u64::from(timing.drift.ppm());
        let stretched = |span: Time| span * (1_000_000 + ppm) / (1_000_000 - ppm) + 1;
        let silence = if sends { expire.as_nanos() / 2 } else { 0 };
        // Of the last one that is left when one is lost: the others may rest after a failed check.
        let rank = self.plan.settings.sites().count() as u64 - 1;
        let round = timing.rtt_max.as_nanos() * 3 / 2 + 2 * timing.commit_max.as_nanos();
        stretched(silence + expire.plus(acquire_after).as_nanos()) + rank * timing.step().as_nanos() + round
    }

    /// How long it takes at most, after faults have stopped and everybody votes, until what is wanted is held: a failover
    /// from a lease that is guarded in full since somebody recovered, a fence plan that still has to end, and then what
    /// the faults have left behind: a candidate of any rank that ran its check for nothing and tries again after two
    /// seconds, two lost rounds with the longest pause after each, a rest after a failed health check.
    pub(crate) fn aftermath_within(&self) -> Time {
        let timing = &self.plan.settings.timing;
        let of_ticket = |t: &sitegate_protocol::TicketSettings| {
            self.failover_within(t.expire, t.acquire_after, true) + t.acquire_after.as_nanos()
        };
        let tickets = self.plan.editions.iter().flat_map(|edition| edition.values());
        let failover = tickets.map(of_ticket).max().unwrap_or(0);
        let local = self.plan.settings.local.values().next();
        let check = local.map_or(0, |l| l.check_within.as_nanos());
        let rest = local.map_or(0, |l| l.check_hold.as_nanos());
        let ranks = self.nodes.len() as u64 * (timing.step().as_nanos() + check);
        failover + ranks + 2 * PAUSE_MAX * timing.retry().as_nanos() + 2 * SECOND + rest
    }

    /// What others add to a failover of such a lease. Where there is nobody to duel with, be it for a command that waits for a
    /// round, or where no candidate needs another's vote, the guards of all acceptors end within one step, and the network is as
    /// fast as configured: a round, for a command that nobody but its member knows of any more.
    /// Elsewhere two may have a part of the votes each: one repeats its proposal until it gives up, pauses, and waits for
    /// the end of the guards that the other's proposal has left.
    fn others_within(&self, expire: Span, acquire_after: Span) -> Time {
        let timing = &self.plan.settings.timing;
        let rivals = self.plan.settings.sites().count().saturating_sub(2);
        let lease = expire.plus(acquire_after).as_nanos();
        let drift = u64::from(timing.drift.ppm());
        let apart = 2 * lease * drift / (1_000_000 - drift);
        let round_trip = 2 * self.plan.network.delay_max;
        let apart_within_step = apart + round_trip <= timing.step().as_nanos();
        let votes_left = self.nodes.len() - 1 - rivals >= sitegate_protocol::majority(self.nodes.len());
        let as_configured = round_trip <= timing.rtt_max.as_nanos();
        let alone = rivals == 0 || (votes_left && apart_within_step && as_configured);
        let retry = timing.retry().as_nanos().max(round_trip);
        if alone && self.workload.open.is_empty() {
            return 2 * retry;
        }
        let repeated = REPEATED_MAX * retry;
        DUELS_MAX * (self.failover_within(expire, acquire_after, false) + repeated)
    }

    /// How long a revoke takes at most where nothing is lost: the wish, the stop hook, the fence plan, the release; each
    /// of the two rounds may lose once to another.
    fn revoke_within(&self) -> Time {
        let timing = &self.plan.settings.timing;
        let tickets = self.plan.editions.iter().flat_map(|edition| edition.values());
        let fencing = tickets.map(|t| t.acquire_after.as_nanos()).max().unwrap_or(0);
        let round = 4 * timing.retry().as_nanos();
        self.plan.faults.stop_max + fencing + 6 * round + LOOK
    }

    // L1.

    /// Each of these tenures of `lost`, soonest first, is followed by another elsewhere in time.
    pub(crate) fn expect_failover(&mut self, lost: usize, tenures: &[(TicketName, Tenancy)], sends: bool) {
        let began = self.time;
        let moved = |world: &Self, ticket: &TicketName, token: Token| {
            world.holder(ticket).is_some_and(|(site, new)| site != lost && new > token)
        };
        let within = |t: &Tenancy| {
            let bound = self.failover_within(t.expire, t.acquire_after, sends);
            bound + ARMING + self.others_within(t.expire, t.acquire_after)
        };
        let mut expected: Vec<(Time, &TicketName, Token)> =
            tenures.iter().map(|(ticket, t)| (within(t), ticket, t.token)).collect();
        expected.sort_unstable();
        for (within, ticket, token) in expected {
            let left = (began + within + LOOK).saturating_sub(self.time);
            if !self.until(left, |world| moved(world, ticket, token)) {
                let what =
                    format!("{ticket} has not failed over in {within} ns: {}", self.describe_all(ticket));
                self.checks.violate("L1", self.time, what);
            }
        }
    }

    /// What `sites` can hold is held by them, within the bound of the aftermath.
    pub(crate) fn expect_held_by(&mut self, sites: &[usize], lame: usize) {
        let within = self.aftermath_within();
        let well = sites.to_vec();
        let tickets = self.plan.tickets.clone();
        self.until(within, |world| tickets.iter().all(|ticket| world.is_held_by(&well, ticket)));
        for ticket in tickets {
            if !self.is_held_by(sites, &ticket) {
                let lame = self.nodes[lame].id;
                let what = format!(
                    "{ticket} is not held though only {lame:?} is lame: {}",
                    self.describe_all(&ticket)
                );
                self.checks.violate("L1", self.time, what);
            }
        }
    }

    fn is_held_by(&self, sites: &[usize], ticket: &TicketName) -> bool {
        let wanted = self.sees(sites[0], ticket);
        let managed = wanted.as_ref().is_some_and(|w| matches!(w.0, Some(Wanted::Managed { .. })));
        // A confirmed tenure of the lame site waits for what that cannot say.
        let waits = wanted.is_some_and(|w| w.1.held().is_some_and(|t| t.takeover == Takeover::Confirmed));
        let holds =
            |i: usize| self.nodes[i].process.as_ref().is_some_and(|p| p.member().holds(ticket).is_some());
        !managed || waits || sites.iter().any(|&i| holds(i))
    }

    pub(crate) fn expect_all_vote(&mut self, within: Time) {
        let all_vote = |world: &Self| (0..world.nodes.len()).all(|i| world.nodes[i].votes());
        self.until(within, all_vote);
        for i in 0..self.nodes.len() {
            if !self.nodes[i].votes() {
                let now = self.nodes[i].now(self.time);
                let standing = self.nodes[i].process.as_ref().map(|p| p.member().view(now).standing);
                let what = format!("{:?} does not vote: {standing:?}", self.nodes[i].id);
                self.checks.violate("L1", self.time, what);
            } else {
                self.nodes[i].disk.suspect = false;
            }
        }
    }

    /// Everything that is wanted is held, and runs.
    pub(crate) fn expect_all_held(&mut self, within: Time) -> Tenures {
        let tickets = self.plan.tickets.clone();
        let held_once = |world: &Self, ticket: &TicketName| {
            world.holders(ticket).len() == 1 || world.is_stuck_for_good(ticket)
        };
        let moves = tickets.iter().any(|ticket| self.fails_back(ticket) && !held_once(self, ticket));
        let within = if moves { self.aftermath_within() } else { within };
        self.until(within, |world| tickets.iter().all(|ticket| held_once(world, ticket)));
        let mut tenures = Vec::new();
        for ticket in tickets {
            let holders = self.holders(&ticket);
            if !held_once(self, &ticket) {
                let what = format!(
                    "{ticket} has {} holders in the calm: {}",
                    holders.len(),
                    self.describe_all(&ticket)
                );
                self.checks.violate("L1", self.time, what);
            }
            // A failback is a change that somebody wanted.
            let fails_back = self.fails_back(&ticket);
            tenures.push((ticket, holders.first().map(|(_, token)| *token).filter(|_| !fails_back)));
        }
        tenures
    }

    // L2.

    /// No tenure has changed.
    pub(crate) fn expect_unchanged(&mut self, before: &Tenures, since: &str) {
        let after = self.expect_all_held(0);
        self.expect_kept(before, &after, since);
    }

    /// Every tenure of `before` is there still.
    pub(crate) fn expect_kept<T: Ord + Debug>(&mut self, before: &[T], after: &[T], since: &str) {
        /// Told of so many.
        const FEW: usize = 5;
        let after: BTreeSet<&T> = after.iter().collect();
        let gone: Vec<&T> = before.iter().filter(|tenure| !after.contains(tenure)).collect();
        if !gone.is_empty() {
            let (n, few) = (gone.len(), &gone[..gone.len().min(FEW)]);
            let what = format!("{n} of {} tenures changed {since}, such as {few:?}", before.len());
            self.checks.violate("L2", self.time, what);
        }
    }

    // L3.

    /// A revoke that was just given for every one of these ends.
    pub(crate) fn expect_free(&mut self, tickets: &[TicketName]) {
        let within = self.revoke_within();
        let given = self.time;
        let over = |world: &Self, ticket: &TicketName| {
            let open = world.workload.open.values();
            let mut open = open.filter(|(command, _, at)| {
                matches!(command, Command::Revoke(t) if t == ticket) && *at >= given
            });
            open.next().is_none() && world.holders(ticket).is_empty()
        };
        self.until(within, |world| tickets.iter().all(|ticket| over(world, ticket)));
        for ticket in tickets {
            if !over(self, ticket) && !self.is_stuck_for_good(ticket) {
                let what = format!("the revoke of {ticket} does not end: {}", self.describe_all(ticket));
                self.checks.violate("L3", self.time, what);
            }
        }
    }

    /// In the calm, heartbeats go on and little else: no round, no commit is repeated without end.
    pub(crate) fn expect_quiet(&mut self, commits: u64, frames: u64, since: Time) {
        let n = self.nodes.len() as u64;
        let beats = (self.time - since) / self.plan.settings.timing.heartbeat.as_nanos() * 5 / 4 + 4;
        let commits = self.commits - commits;
        let frames = self.frames - frames;
        // A test write and its like at each beat; a frame each way between any two; twice that for what else goes on.
        let (commits_max, frames_max) = (2 * n * beats + 100, 4 * n * n * beats + 400);
        if commits > commits_max || frames > frames_max {
            let what = format!("{commits} commits and {frames} frames in {beats} beats of the calm");
            self.checks.violate("quiet", self.time, what);
        }
    }

    // What the members know.

    /// Who holds `ticket` by its own account.
    fn holders(&self, ticket: &TicketName) -> Vec<(usize, Token)> {
        let holds =
            |i: usize| self.nodes[i].process.as_ref()?.member().holds(ticket).map(|(token, _)| (i, token));
        (0..self.nodes.len()).filter_map(holds).collect()
    }

    pub(crate) fn holder(&self, ticket: &TicketName) -> Option<(usize, Token)> {
        match self.holders(ticket)[..] {
            [holder] => Some(holder),
            _ => None,
        }
    }

    pub(crate) fn fails_back(&self, ticket: &TicketName) -> bool {
        self.plan.settings.tickets.get(ticket).is_some_and(|t| t.failback)
    }

    /// A tenure that waits for a receipt of a site whose fence daemon knows nothing of it any more.
    fn is_stuck_for_good(&self, ticket: &TicketName) -> bool {
        let confirmed =
            self.plan.settings.tickets.get(ticket).is_some_and(|t| t.takeover == Takeover::Confirmed);
        confirmed && self.nodes.iter().any(|n| n.disk.suspect)
    }

    pub(crate) fn sees(&self, i: usize, ticket: &TicketName) -> Option<(Option<Wanted>, Ownership)> {
        let node = &self.nodes[i];
        let view = node.process.as_ref()?.member().ticket_view(node.now(self.time), ticket);
        Some((view.intent.map(|intent| intent.wanted), view.ownership))
    }

    fn describe_all(&self, ticket: &TicketName) -> String {
        let states: Vec<String> = self
            .nodes
            .iter()
            .map(|node| match &node.process {
                Some(process) => {
                    format!("{:?}: {:?}", node.id, process.member().ticket_view(node.now(self.time), ticket))
                }
                None => format!("{:?} is down", node.id),
            })
            .collect();
        states.join("; ")
    }
}
