//! One run: a stormy phase, in which safety must hold, and a calm one, in which progress must follow.

use std::panic::{AssertUnwindSafe, catch_unwind};

use sitegate_protocol::{Command, MemberId, StandbyMode, Takeover, TicketName, Token, Wanted};

use crate::clock::{SECOND, Time};
use crate::coverage::Coverage;
use crate::node::Process;
use crate::plan::{Options, Plan};
use crate::world::{Happening, World};

/// Commands that are given at once, to all members together: each takes 64 at a time.
const COMMANDS_AT_ONCE: usize = 32;
/// As many tickets as a seed draws at most.
const TICKETS_FEW: usize = 4;

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
    /// What it met.
    pub coverage: Coverage,
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
    // What asserts an invariant itself, in the protocol or the deadman, is told with its seed like any other violation.
    if catch_unwind(AssertUnwindSafe(|| world.play(storm, faults))).is_err() {
        world.checks.violate("assertion", world.time, "the panic above".into());
    }
    Report {
        events: world.events,
        frames: world.frames,
        commits: world.commits,
        simulated_ns: world.time,
        tenures: world.checks.tenures,
        losses: world.checks.losses,
        commands_done: world.workload.done,
        coverage: world.coverage.over(),
        violation: world.checks.take_violation(),
        replay,
    }
}

impl World {
    fn play(&mut self, storm: Time, faults: bool) {
        if faults {
            self.schedule_fault();
        }
        self.schedule_command();
        self.run_until(storm);
        if !self.checks.is_violated() {
            self.limp();
        }
        if !self.checks.is_violated() {
            self.calm_down();
        }
    }

    /// One member stays dead, deaf or mute; all others are well, and make a majority: what is wanted is held by them.
    fn limp(&mut self) {
        let n = self.nodes.len();
        if n < 3 || self.plan.faults.disks || !self.plan.options.faults || self.rng.percent(50) {
            return;
        }
        self.calm = true;
        self.heal();
        let lame = self.rng.index(n);
        self.lame(lame);
        self.start_all();
        let lease = self.longest_lease();
        self.wait(30 * SECOND + 4 * lease);
        let well: Vec<usize> = (0..n).filter(|&i| i != lame).collect();
        let sites: Vec<usize> = well.iter().copied().filter(|&i| self.nodes[i].is_site()).collect();
        self.command_through(&well, &sites);
        self.expect_held_by(&sites, lame);
    }

    /// From now on `i` is dead, deaf or mute; whether what it says still arrives.
    fn lame(&mut self, i: usize) -> bool {
        let others: Vec<usize> = (0..self.nodes.len()).filter(|&j| j != i).collect();
        let how = self.rng.range(0, 3);
        match how {
            0 => {
                self.power_off(i);
                self.dead = Some(i);
            }
            1 => others.iter().for_each(|&j| self.network.cut(j, i, Time::MAX)),
            _ => others.iter().for_each(|&j| self.network.cut(i, j, Time::MAX)),
        }
        self.trace(i, || format!("stays {}", ["dead", "deaf", "mute"][usize::try_from(how).unwrap_or(0)]));
        how == 1
    }

    /// Whatever is down comes back, but for who is dead for good.
    fn start_all(&mut self) {
        let dead = self.dead;
        for i in (0..self.nodes.len()).filter(|&i| dead != Some(i)) {
            self.schedule(self.time, Happening::Boot { node: i });
            self.schedule(self.time + SECOND, Happening::StartFenced { node: i });
            self.schedule(self.time + SECOND, Happening::StartMember { node: i });
        }
    }

    fn command_through(&mut self, via: &[usize], sites: &[usize]) {
        for &i in sites {
            self.command(via[0], Command::Standby(self.nodes[i].id, StandbyMode::Online));
        }
        self.wait(5 * SECOND);
        for tickets in self.plan.tickets.clone().chunks(self.at_once()) {
            for ticket in tickets {
                self.command(via[0], Command::Resume(ticket.clone()));
            }
            self.wait_for_answers();
            for ticket in tickets {
                self.command(via[0], Command::Grant(ticket.clone(), self.nodes[sites[0]].id));
            }
        }
    }

    /// Faults stop; whatever is down comes back; then everything must come right.
    pub(crate) fn calm_down(&mut self) {
        self.calm = true;
        self.dead = None;
        self.heal();
        self.start_all();
        let lease = self.longest_lease();
        self.wait(30 * SECOND + 2 * lease);
        self.readmit_all();
        self.expect_all_vote(20 * SECOND + 4 * lease);
        self.command_all();
        self.expect_all_held(self.aftermath_within());
        self.wait(10 * SECOND);
        let before = self.expect_all_held(0);
        let (commits, frames, since) = (self.commits, self.frames, self.time);
        self.wait(3 * lease);
        self.expect_quiet(commits, frames, since);
        self.expect_unchanged(&before, "in the calm");
        self.lose_holder();
        self.revoke_all();
    }

    /// A holder is lost for good, and comes back: its tickets fail over in time, and nobody loses one when it is back.
    fn lose_holder(&mut self) {
        let majority_is_left = self.nodes.len() > 2 && self.rng.percent(50);
        let tenures: Vec<(TicketName, usize)> = self
            .plan
            .tickets
            .iter()
            .filter_map(|ticket| self.holder(ticket).map(|(site, _)| (ticket.clone(), site)))
            .collect();
        if !majority_is_left || tenures.is_empty() || self.checks.is_violated() {
            return;
        }
        let lost = self.rng.pick(&tenures).1;
        let (mut timed, member) = (Vec::new(), self.nodes[lost].process.as_ref().map(Process::member));
        for (ticket, _) in tenures.iter().filter(|(ticket, site)| *site == lost && !self.fails_back(ticket)) {
            let tenancy = member.and_then(|member| member.tenancy(ticket)).cloned();
            timed.extend(tenancy.filter(|t| t.takeover == Takeover::Timed).map(|t| (ticket.clone(), t)));
        }
        let sends = self.lame(lost);
        self.expect_failover(lost, &timed, sends);
        self.wait(2 * SECOND);
        let before = self.tenures_elsewhere(lost);
        self.dead = None;
        self.network.heal();
        self.start_all();
        self.wait(10 * SECOND + 2 * self.longest_lease());
        let after = self.tenures_elsewhere(lost);
        self.expect_kept(&before, &after, &format!("when {:?} came back", self.nodes[lost].id));
        self.expect_all_held(self.aftermath_within());
    }

    /// Who holds what, but for `lost` and what goes back to another site by itself.
    fn tenures_elsewhere(&self, lost: usize) -> Vec<(TicketName, usize, Token)> {
        let tickets = self.plan.tickets.iter().filter(|ticket| !self.fails_back(ticket));
        let held = tickets
            .filter_map(|ticket| self.holder(ticket).map(|(site, token)| (ticket.clone(), site, token)));
        held.filter(|(_, site, _)| *site != lost).collect()
    }

    /// Links and runtime directories are well again.
    fn heal(&mut self) {
        self.network.heal();
        self.nodes.iter_mut().for_each(|node| node.fence.unpublished_until = 0);
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
            let standing = process.member().view(self.nodes[i].now(self.time)).standing;
            if standing == StandingView::Quarantined {
                let member = self.nodes[i].id;
                let via = (i + 1) % self.nodes.len();
                self.command(via, Command::Readmit(member));
            }
        }
    }

    fn command_all(&mut self) {
        let sites: Vec<_> = self.plan.settings.sites().collect();
        for (k, site) in sites.iter().enumerate() {
            self.command(k, Command::Standby(*site, StandbyMode::Online));
        }
        self.wait(5 * SECOND);
        let numbered: Vec<_> = self.plan.tickets.clone().into_iter().enumerate().collect();
        for tickets in numbered.chunks(self.at_once()) {
            for (k, ticket) in tickets {
                self.command(k % self.nodes.len(), Command::Resume(ticket.clone()));
            }
            self.wait_for_answers();
            tickets.iter().for_each(|(k, ticket)| self.grant_unless_wanted(*k, ticket, &sites));
        }
    }

    fn grant_unless_wanted(&mut self, k: usize, ticket: &TicketName, sites: &[MemberId]) {
        let managed = self.sees(0, ticket).is_some_and(|t| matches!(t.0, Some(Wanted::Managed { .. })));
        if !managed {
            let site = sites[k % sites.len()];
            self.command((k + 1) % self.nodes.len(), Command::Grant(ticket.clone(), site));
        }
    }

    fn revoke_all(&mut self) {
        for tickets in self.plan.tickets.clone().chunks(COMMANDS_AT_ONCE) {
            for (k, ticket) in tickets.iter().enumerate() {
                self.command(k % self.nodes.len(), Command::Revoke(ticket.clone()));
            }
            self.expect_free(tickets);
        }
    }

    /// Gives the commands of one group their time; with many groups no more of it than they take.
    fn wait_for_answers(&mut self) {
        let few = self.plan.tickets.len() <= TICKETS_FEW;
        self.until(5 * SECOND, |world| !few && world.workload.open.is_empty());
    }

    /// How many tickets get their commands together: with few, each has its own turn.
    fn at_once(&self) -> usize {
        if self.plan.tickets.len() <= TICKETS_FEW { 1 } else { COMMANDS_AT_ONCE }
    }
}
