//! What a seed decides before a run begins: the formation, its times, and how much goes wrong.

use std::collections::BTreeMap;

use sitegate_protocol::{
    Drift, LocalTicket, MemberId, Role, Settings, Span, Takeover, TicketName, TicketSettings, Timing,
};

use crate::clock::{Clock, Clocks, MS, SECOND, Time};
use crate::rng::Rng;

/// What the caller decides.
#[derive(Clone, Debug)]
pub struct Options {
    /// The seed.
    pub seed: u64,
    /// Members, 2 to 15; drawn if not given.
    pub members: Option<usize>,
    /// Tickets; drawn if not given.
    pub tickets: Option<usize>,
    /// How long faults go on, in simulated seconds.
    pub seconds: u64,
    /// Whether there are faults at all.
    pub faults: bool,
}

impl Options {
    /// The options of a plain run of `seed`.
    #[must_use]
    pub const fn of(seed: u64) -> Self {
        Self { seed, members: None, tickets: None, seconds: 60, faults: true }
    }
}

/// Everything that a run is made of.
#[derive(Clone, Debug)]
pub struct Plan {
    pub(crate) options: Options,
    pub(crate) members: Vec<MemberPlan>,
    pub(crate) tickets: Vec<TicketName>,
    pub(crate) settings: Settings,
    /// The tickets as the configuration had and will have them: other E, A and takeover.
    pub(crate) editions: Vec<BTreeMap<TicketName, TicketSettings>>,
    pub(crate) network: NetworkPlan,
    pub(crate) fence: FencePlan,
    pub(crate) faults: FaultPlan,
}

#[derive(Clone, Debug)]
pub(crate) struct MemberPlan {
    pub(crate) id: MemberId,
    pub(crate) role: Role,
    pub(crate) clocks: Clocks,
}

/// How the network behaves when it is well.
#[derive(Clone, Debug)]
pub(crate) struct NetworkPlan {
    pub(crate) delay_min: Time,
    pub(crate) delay_max: Time,
    pub(crate) loss_percent: u64,
    pub(crate) duplicate_percent: u64,
    /// Rare delays up to this long: answers that nobody expects any more.
    pub(crate) straggler_max: Time,
    pub(crate) straggler_percent: u64,
}

/// How long fencing takes; all of it fits in A.
#[derive(Clone, Debug)]
pub(crate) struct FencePlan {
    pub(crate) kill_within: Time,
    pub(crate) levels: Vec<Time>,
    /// How often it takes all the time it may.
    pub(crate) worst_percent: u64,
    /// How long the site daemon and the fence daemon may take to hear each other.
    pub(crate) ipc_max: Time,
    /// How soon a dead fence daemon is started again.
    pub(crate) restart: Time,
    /// Whether A has room for a plan that starts over, once, since the fence daemon was killed in the middle of it.
    pub(crate) twice: bool,
}

/// How much goes wrong.
#[derive(Clone, Debug)]
pub(crate) struct FaultPlan {
    pub(crate) every: Time,
    pub(crate) commands_every: Time,
    /// Crashes between commit and effects, in a million commits.
    pub(crate) crash_at_commit: u64,
    pub(crate) commit_min: Time,
    /// The longest check before acquiring.
    pub(crate) check_max: Time,
    /// The longest stop hook.
    pub(crate) stop_max: Time,
    /// The longest until a daemon is started.
    pub(crate) start_max: Time,
    pub(crate) commit_max: Time,
    /// Rollbacks and wipes of disks happen too; then nobody trusts a disk.
    pub(crate) disks: bool,
    /// What goes wrong more often than other things.
    pub(crate) theme: Theme,
}

/// What the faults of a run are mostly about: bugs need several of a kind in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Theme {
    /// Everything, as it comes.
    Mixed,
    /// Disks and lives: what members forget.
    Memory,
    /// Fence daemons, their plans, hooks, and the lines to them.
    Fencing,
    /// Links, clocks and terms: what leases rest on.
    Leases,
    /// Commands, and whoever is about to carry them out.
    Wishes,
}

const NAMES_MAX: usize = 15;

impl Plan {
    /// Draws a run from its seed.
    #[must_use]
    pub fn draw(options: Options) -> Self {
        let mut rng = Rng::new(options.seed);
        let theme = *rng.pick(&[Theme::Mixed, Theme::Memory, Theme::Fencing, Theme::Leases, Theme::Wishes]);
        let n =
            options.members.unwrap_or_else(|| *rng.pick(&[2, 3, 3, 3, 3, 4, 4, 5, 5, 7])).clamp(2, NAMES_MAX);
        let sites = if n == 2 { 2 } else { usize::try_from(rng.range(2, n as u64)).unwrap_or(2) };
        let drift_ppm = *rng.pick(&[1_000, 50_000, 100_000]);
        let extreme = theme == Theme::Leases;
        let members: Vec<MemberPlan> =
            (0..n).map(|i| draw_member(&mut rng, i, sites, drift_ppm, extreme)).collect();
        let tickets = options.tickets.unwrap_or_else(|| *rng.pick(&[1, 1, 1, 2, 4]));
        let tickets: Vec<TicketName> =
            (0..tickets).filter_map(|i| TicketName::new(&format!("t{i}")).ok()).collect();
        let disks = rng.percent(if theme == Theme::Memory { 80 } else { 30 });
        let mut fence = draw_fence(&mut rng);
        if extreme {
            fence.worst_percent = 100;
        }
        let settings = draw_settings(&mut rng, &members, &tickets, drift_ppm, &fence, disks);
        let network = draw_network(&mut rng, options.faults);
        let commands = if theme == Theme::Wishes { 4 } else { 1 };
        let faults = FaultPlan {
            every: rng.range(300, 6000) * MS,
            commands_every: rng.range(500, 8000) * MS / commands,
            crash_at_commit: if options.faults { *rng.pick(&[0, 200, 5_000, 20_000]) } else { 0 },
            commit_min: MS / 20,
            check_max: 100 * MS,
            stop_max: 3 * SECOND,
            start_max: 3 * SECOND,
            commit_max: rng.range(1, 15) * MS,
            disks,
            theme,
        };
        let editions = draw_editions(&mut rng, &settings);
        Self { options, members, tickets, settings, editions, network, fence, faults }
    }

    /// The settings as `member` has them, after it has read edition `edition` of the configuration.
    pub(crate) fn settings_of(&self, member: MemberId, edition: usize) -> Settings {
        let site = self.settings.members.get(&member) == Some(&Role::Site);
        let local = if site { self.settings.local.clone() } else { BTreeMap::new() };
        let tickets = self.editions[edition % self.editions.len()].clone();
        Settings { me: member, local, tickets, ..self.settings.clone() }
    }

    /// The command that replays the run.
    #[must_use]
    pub fn replay(&self) -> String {
        let Options { seed, members, tickets, seconds, faults } = &self.options;
        let mut command = format!("cargo run -p sitegate-simulator -- --seed {seed} --seconds {seconds}");
        if let Some(members) = members {
            command += &format!(" --members {members}");
        }
        if let Some(tickets) = tickets {
            command += &format!(" --tickets {tickets}");
        }
        if !faults {
            command += " --no-faults";
        }
        command + " --trace"
    }
}

/// Rates are drawn from the edges of ±ρ more often than from between: that is where leases break.
pub(crate) fn draw_rate(rng: &mut Rng, drift_ppm: i64) -> i64 {
    match rng.range(0, 4) {
        0 => drift_ppm,
        1 => -drift_ppm,
        2 => 0,
        _ => i64::try_from(rng.range(0, u64::try_from(2 * drift_ppm).unwrap_or(0))).unwrap_or(0) - drift_ppm,
    }
}

fn draw_member(rng: &mut Rng, index: usize, sites: usize, drift_ppm: i64, extreme: bool) -> MemberPlan {
    // Both clocks of a machine at the same edge: then neither covers for the other.
    let edge = extreme.then(|| if rng.percent(50) { drift_ppm } else { -drift_ppm });
    let mut clock = || {
        let ppm = edge.unwrap_or_else(|| draw_rate(rng, drift_ppm));
        Clock::new(rng.range(1, 1000 * SECOND), ppm)
    };
    let clocks = Clocks { boot: clock(), raw: clock() };
    let role = if index < sites { Role::Site } else { Role::Arbitrator };
    let number = u8::try_from(index + 1).unwrap_or(u8::MAX);
    MemberPlan {
        id: MemberId::new(number).unwrap_or_else(|| unreachable!("numbers begin at 1")),
        role,
        clocks,
    }
}

fn draw_fence(rng: &mut Rng) -> FencePlan {
    let levels = (0..rng.range(1, 3)).map(|_| rng.range(50, 800) * MS).collect();
    FencePlan {
        kill_within: rng.range(50, 400) * MS,
        levels,
        worst_percent: *rng.pick(&[10, 50, 100]),
        ipc_max: *rng.pick(&[MS / 20, 5 * MS, 400 * MS]),
        restart: 100 * MS,
        twice: rng.percent(30),
    }
}

impl FencePlan {
    /// The longest from a deadline to a receipt, by a clock that is as slow as any may be.
    pub(crate) fn within(&self, drift_ppm: i64) -> Time {
        let levels: Time = self.levels.iter().map(|level| level + 2 * self.kill_within).sum();
        let once = self.kill_within + levels + self.restart + 20 * MS;
        let local = if self.twice { 2 * once } else { once };
        local * 1_000_000 / u64::try_from(1_000_000 - drift_ppm).unwrap_or(1)
    }
}

fn draw_settings(
    rng: &mut Rng,
    members: &[MemberPlan],
    tickets: &[TicketName],
    drift_ppm: i64,
    fence: &FencePlan,
    disks: bool,
) -> Settings {
    let drift =
        Drift::from_ppm(u32::try_from(drift_ppm).unwrap_or(0)).unwrap_or_else(|| unreachable!("below half"));
    let timing = Timing {
        heartbeat: Span::from_millis(*rng.pick(&[300, 1000])),
        drift,
        rtt_max: Span::from_millis(rng.range(20, 200)),
        commit_max: Span::from_millis(20),
        recovery_wait: Span::from_secs(10),
    };
    let sites: Vec<MemberId> = members.iter().filter(|m| m.role == Role::Site).map(|m| m.id).collect();
    // Three lost heartbeats are survived (docs/protocol.md, "Inequalities"), and hardly more.
    let heartbeats = timing.heartbeat.times(4).plus(timing.rtt_max.times(2)).plus(Span::from_millis(50));
    let least = heartbeats.as_millis() * 1_000_000 / u64::try_from(1_000_000 - drift_ppm).unwrap_or(1) + 1;
    let ticket = |rng: &mut Rng| TicketSettings {
        expire: Span::from_millis(rng.range(least, least + 5_000)),
        // No slack: what fencing may take at worst, and a nanosecond of rounding for each step.
        acquire_after: Span::from_nanos(fence.within(drift_ppm) + 100),
        takeover: if rng.percent(15) { Takeover::Confirmed } else { Takeover::Timed },
        order: if rng.percent(50) { sites.clone() } else { sites.iter().rev().copied().collect() },
        failback: rng.percent(20),
        takeover_limit: *rng.pick(&[2, 3, 100]),
    };
    let local = LocalTicket { check_within: Span::from_millis(100), check_hold: Span::from_secs(8) };
    Settings {
        me: members[0].id,
        members: members.iter().map(|m| (m.id, m.role)).collect(),
        timing,
        trust_disk: !disks,
        tickets: tickets.iter().map(|name| (name.clone(), ticket(rng))).collect(),
        local: tickets.iter().map(|name| (name.clone(), local.clone())).collect(),
    }
}

/// Administrators change their minds about times, now to more, now to less.
fn draw_editions(rng: &mut Rng, settings: &Settings) -> Vec<BTreeMap<TicketName, TicketSettings>> {
    let first = settings.tickets.clone();
    let mut edition = || {
        let change = |ticket: &TicketSettings, rng: &mut Rng| TicketSettings {
            expire: ticket.expire.plus(Span::from_millis(rng.range(0, 4000))),
            acquire_after: ticket.acquire_after.plus(Span::from_millis(rng.range(0, 2000))),
            ..ticket.clone()
        };
        first.iter().map(|(name, ticket)| (name.clone(), change(ticket, rng))).collect()
    };
    vec![first.clone(), edition(), edition()]
}

fn draw_network(rng: &mut Rng, faults: bool) -> NetworkPlan {
    let delay_min = rng.range(0, 10) * MS;
    NetworkPlan {
        delay_min,
        delay_max: delay_min + rng.range(1, 60) * MS,
        loss_percent: if faults { *rng.pick(&[0, 0, 1, 10, 30]) } else { 0 },
        duplicate_percent: if faults { *rng.pick(&[0, 1, 10]) } else { 0 },
        straggler_max: rng.range(1, 20) * SECOND,
        straggler_percent: if faults { *rng.pick(&[0, 1, 5]) } else { 0 },
    }
}
