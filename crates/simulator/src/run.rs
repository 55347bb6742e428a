//! One run: a stormy phase, in which safety must hold, and a calm one, in which progress must follow.

use sitegate_protocol::{Command, Ownership, StandbyMode, Takeover, TicketName, Token, Wanted};

use crate::clock::{SECOND, Time};
use crate::plan::{Options, Plan};
use crate::world::{Happening, World};

/// A broken invariant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Its number, as in docs/protocol.md.
    pub invariant: &'static str,
    /// When, in nanoseconds of true time.
    pub at_ns: u64,
    /// What was seen.
    pub what: String,
}

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Report {
    /// Events handled.
    pub events: u64,
    /// Frames sent.
    pub frames: u64,
    /// Commits of members.
    pub commits: u64,
    /// Simulated time, ns.
    pub simulated_ns: u64,
    /// Tenures that began.
    pub tenures: u64,
    /// Leases that ran out.
    pub losses: u64,
    /// Commands that were answered with what holds.
    pub commands_done: u64,
    /// What was violated, if anything.
    pub violation: Option<Violation>,
    /// The command that replays the run.
    pub replay: String,
}

/// Runs `options`; prints every event if `print`.
#[must_use]
pub fn run(options: Options, print: bool) -> Report {
    let plan = Plan::draw(options);
    let replay = plan.replay();
    let storm = plan.options.seconds * SECOND;
    let faults = plan.options.faults;
    let mut world = World::new(plan, print);
    if faults {
        world.schedule_fault();
    }
    world.schedule_command();
    world.run_until(storm);
    if !world.checks.is_violated() {
        world.limp();
    }
    if !world.checks.is_violated() {
        world.calm_down();
    }
    Report {
        events: world.events,
        frames: world.frames,
        commits: world.commits,
        simulated_ns: world.time,
        tenures: world.checks.tenures,
        losses: world.checks.losses,
        commands_done: world.workload.done,
        violation: world.checks.take_violation(),
        replay,
    }
}

impl World {
    /// One member stays dead, deaf or mute; all others are well, and make a majority: what is wanted is held by them.
    fn limp(&mut self) {
        let n = self.nodes.len();
        if n < 3 || self.plan.faults.disks || !self.plan.options.faults || self.rng.percent(50) {
            return;
        }
        self.calm = true;
        self.network.heal();
        let lame = self.rng.index(n);
        match self.rng.range(0, 3) {
            0 => {
                self.power_off(lame);
                self.dead = Some(lame);
            }
            1 => (0..n).filter(|&j| j != lame).for_each(|j| self.network.cut(j, lame, Time::MAX)),
            _ => (0..n).filter(|&j| j != lame).for_each(|j| self.network.cut(lame, j, Time::MAX)),
        }
        self.trace(lame, || "stays lame".into());
        for i in (0..n).filter(|&i| i != lame) {
            self.schedule(self.time, Happening::Boot { node: i });
            self.schedule(self.time + SECOND, Happening::StartFenced { node: i });
            self.schedule(self.time + SECOND, Happening::StartMember { node: i });
        }
        let lease = self.longest_lease();
        self.wait(30 * SECOND + 4 * lease);
        let well: Vec<usize> = (0..n).filter(|&i| i != lame).collect();
        let sites: Vec<usize> = well.iter().copied().filter(|&i| self.nodes[i].is_site()).collect();
        self.command_through(&well, &sites);
        self.wait(20 * SECOND + 6 * lease);
        self.expect_held_by(&sites, lame);
    }

    fn command_through(&mut self, via: &[usize], sites: &[usize]) {
        for &i in sites {
            self.command(via[0], Command::Standby(self.nodes[i].id, StandbyMode::Online));
        }
        self.wait(5 * SECOND);
        for ticket in self.plan.tickets.clone() {
            self.command(via[0], Command::Resume(ticket.clone()));
            self.wait(5 * SECOND);
            self.command(via[0], Command::Grant(ticket, self.nodes[sites[0]].id));
        }
    }

    fn expect_held_by(&mut self, sites: &[usize], lame: usize) {
        for ticket in self.plan.tickets.clone() {
            let wanted = self.sees(sites[0], &ticket);
            let managed = wanted.as_ref().is_some_and(|w| matches!(w.0, Some(Wanted::Managed { .. })));
            // A confirmed tenure of the lame site waits for what that cannot say.
            let waits = wanted.is_some_and(|w| w.1.held().is_some_and(|t| t.takeover == Takeover::Confirmed));
            let holds =
                |i: usize| self.nodes[i].process.as_ref().is_some_and(|p| p.member.holds(&ticket).is_some());
            if managed && !waits && !sites.iter().any(|&i| holds(i)) {
                let states: Vec<_> = (0..self.nodes.len()).map(|i| self.describe(i, &ticket)).collect();
                let what = format!(
                    "{ticket} is not held though only {:?} is lame: {}",
                    self.nodes[lame].id,
                    states.join("; ")
                );
                self.checks.violate("L1", self.time, what);
            }
        }
    }

    /// Faults stop; whatever is down comes back; then everything must come right.
    fn calm_down(&mut self) {
        self.calm = true;
        self.dead = None;
        self.network.heal();
        for i in 0..self.nodes.len() {
            self.schedule(self.time, Happening::Boot { node: i });
            self.schedule(self.time + SECOND, Happening::StartFenced { node: i });
            self.schedule(self.time + SECOND, Happening::StartMember { node: i });
        }
        let lease = self.longest_lease();
        self.wait(30 * SECOND + 2 * lease);
        self.readmit_all();
        self.wait(20 * SECOND + 4 * lease);
        self.expect_all_vote();
        self.command_all();
        self.wait(20 * SECOND + 4 * lease);
        let before = self.expect_all_held();
        let (commits, frames, since) = (self.commits, self.frames, self.time);
        self.wait(3 * lease);
        self.expect_quiet(commits, frames, since);
        let after = self.expect_all_held();
        if before != after {
            self.checks.violate(
                "L2",
                self.time,
                format!("tenures changed in the calm: {before:?} to {after:?}"),
            );
        }
        self.revoke_all();
        self.wait(20 * SECOND + 2 * lease);
        self.expect_all_free();
    }

    /// In the calm, heartbeats go on and little else: no round, no commit is repeated without end.
    fn expect_quiet(&mut self, commits: u64, frames: u64, since: Time) {
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

    fn wait(&mut self, span: Time) {
        let until = self.time + span;
        self.run_until(until);
    }

    fn longest_lease(&self) -> Time {
        let tickets = self.plan.editions.iter().flat_map(|edition| edition.values());
        let leases = tickets.map(|t| t.expire.plus(t.acquire_after).as_nanos());
        leases.max().unwrap_or(0) * 5 / 4
    }

    /// Whoever lost its disk is readmitted by another member.
    fn readmit_all(&mut self) {
        use sitegate_protocol::StandingView;
        for i in 0..self.nodes.len() {
            let Some(process) = &self.nodes[i].process else { continue };
            let standing = process.member.view(self.nodes[i].now(self.time)).standing;
            if standing == StandingView::Quarantined {
                let member = self.nodes[i].id;
                let via = (i + 1) % self.nodes.len();
                self.command(via, Command::Readmit(member));
            }
        }
    }

    fn expect_all_vote(&mut self) {
        for i in 0..self.nodes.len() {
            if !self.nodes[i].votes(self.time) {
                let now = self.nodes[i].now(self.time);
                let standing = self.nodes[i].process.as_ref().map(|p| p.member.view(now).standing);
                let what = format!("{:?} does not vote: {standing:?}", self.nodes[i].id);
                self.checks.violate("L1", self.time, what);
            } else {
                self.nodes[i].disk.suspect = false;
            }
        }
    }

    fn command_all(&mut self) {
        let sites: Vec<_> = self.plan.settings.sites().collect();
        for (k, site) in sites.iter().enumerate() {
            self.command(k, Command::Standby(*site, StandbyMode::Online));
        }
        self.wait(5 * SECOND);
        for (k, ticket) in self.plan.tickets.clone().into_iter().enumerate() {
            self.command(k % self.nodes.len(), Command::Resume(ticket.clone()));
            self.wait(5 * SECOND);
            let managed = self.sees(0, &ticket).is_some_and(|t| matches!(t.0, Some(Wanted::Managed { .. })));
            if !managed {
                self.command((k + 1) % self.nodes.len(), Command::Grant(ticket, sites[k % sites.len()]));
            }
        }
    }

    fn sees(&self, i: usize, ticket: &TicketName) -> Option<(Option<Wanted>, Ownership)> {
        let node = &self.nodes[i];
        let view = node.process.as_ref()?.member.ticket_view(node.now(self.time), ticket);
        Some((view.intent.map(|intent| intent.wanted), view.ownership))
    }

    /// L1: everything that is wanted is held, and runs.
    fn expect_all_held(&mut self) -> Vec<(TicketName, Option<Token>)> {
        let mut tokens = Vec::new();
        for ticket in self.plan.tickets.clone() {
            let fails_back = self.plan.settings.tickets.get(&ticket).is_some_and(|t| t.failback);
            let holders: Vec<Token> = self
                .nodes
                .iter()
                .filter_map(|node| node.process.as_ref()?.member.holds(&ticket))
                .map(|(token, _)| token)
                .collect();
            if holders.len() != 1 && !self.is_stuck_for_good(&ticket) {
                let states: Vec<_> = (0..self.nodes.len()).map(|i| self.describe(i, &ticket)).collect();
                let what =
                    format!("{ticket} has {} holders in the calm: {}", holders.len(), states.join("; "));
                self.checks.violate("L1", self.time, what);
            }
            // A failback is a change that somebody wanted.
            tokens.push((ticket, holders.first().copied().filter(|_| !fails_back)));
        }
        tokens
    }

    /// A tenure that waits for a receipt of a site whose fence daemon knows nothing of it any more.
    fn is_stuck_for_good(&self, ticket: &TicketName) -> bool {
        let confirmed =
            self.plan.settings.tickets.get(ticket).is_some_and(|t| t.takeover == Takeover::Confirmed);
        confirmed && self.nodes.iter().any(|n| n.disk.suspect)
    }

    fn describe(&self, i: usize, ticket: &TicketName) -> String {
        let node = &self.nodes[i];
        let Some(process) = &node.process else { return format!("{:?} is down", node.id) };
        format!("{:?}: {:?}", node.id, process.member.ticket_view(node.now(self.time), ticket))
    }

    fn revoke_all(&mut self) {
        for (k, ticket) in self.plan.tickets.clone().into_iter().enumerate() {
            self.command(k % self.nodes.len(), Command::Revoke(ticket));
        }
    }

    /// L3: a revoke ends.
    fn expect_all_free(&mut self) {
        for ticket in self.plan.tickets.clone() {
            let unanswered = self.workload.open.values().any(|(c, _, at)| {
                matches!(c, Command::Revoke(t) if *t == ticket) && *at + 60 * SECOND > self.time
            });
            let held = (0..self.nodes.len())
                .any(|i| self.nodes[i].process.as_ref().is_some_and(|p| p.member.holds(&ticket).is_some()));
            if (unanswered || held) && !self.is_stuck_for_good(&ticket) {
                let states: Vec<_> = (0..self.nodes.len()).map(|i| self.describe(i, &ticket)).collect();
                let what = format!("the revoke of {ticket} does not end: {}", states.join("; "));
                self.checks.violate("L3", self.time, what);
            }
        }
    }
}
