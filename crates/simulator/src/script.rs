//! Scenes: runs without chance, told as text. Each shows one exchange of the protocol (docs/protocol.md).

use sitegate_protocol::{
    Command, Drift, Identity, LocalTicket, MemberId, Role, Settings, Span, Takeover, TicketName,
    TicketSettings, Timing,
};

use crate::clock::{Clock, Clocks, MS, SECOND, Time};
use crate::node::Disk;
use crate::plan::{FaultPlan, FencePlan, MemberPlan, NetworkPlan, Options, Plan, Theme};
use crate::story::Story;
use crate::world::World;

/// The scenes, by name.
pub const SCENES: [&str; 10] =
    ["birth", "grant", "renew", "failover", "revoke", "move", "duel", "restart", "recovery", "readmit"];

/// What happened in a scene, as text.
///
/// # Panics
/// If there is no scene of that name.
#[must_use]
pub fn play(scene: &str) -> String {
    let mut stage = Stage::new();
    match scene {
        "birth" => stage.world.story = Some(Story::default()),
        _ => stage.run(2 * SECOND),
    }
    match scene {
        "birth" => stage.run(2 * SECOND),
        "grant" => stage.tell(Stage::grant),
        "renew" => stage.renew(),
        "failover" => stage.failover(),
        "revoke" => stage.revoke(),
        "move" => stage.change_site(),
        "duel" => stage.duel(),
        "restart" => stage.restart(),
        "recovery" => stage.recovery(),
        "readmit" => stage.readmit(),
        other => panic!("no scene {other}"),
    }
    stage.text()
}

pub(crate) const PARIS: usize = 0;
pub(crate) const LYON: usize = 1;
pub(crate) const TIEBREAK: usize = 2;

/// A world without chance.
pub(crate) struct Stage {
    pub(crate) world: World,
}

impl Stage {
    pub(crate) fn new() -> Self {
        Self::of(plan(vec![db()], 5 * MS, MS))
    }

    pub(crate) fn of(plan: Plan) -> Self {
        let mut world = World::new(plan, false);
        world.calm = true;
        Self { world }
    }

    pub(crate) fn run(&mut self, span: Time) {
        let until = self.world.time + span;
        self.world.run_until(until);
        let violation = self.world.checks.take_violation();
        assert!(violation.is_none(), "a scene breaks no invariant: {violation:?}");
    }

    /// When the guard of `ticket` at `node` ends unless it is renewed, in true time.
    pub(crate) fn guard_over(&self, node: usize, ticket: &TicketName) -> Time {
        let node = &self.world.nodes[node];
        let now = node.clocks.now(self.world.time);
        let view = node.process.as_ref().map(|process| process.member().ticket_view(now, ticket));
        let guard = view.and_then(|view| view.guard);
        self.world.time + guard.map_or(0, |guard| guard.remaining.as_nanos())
    }

    fn text(self) -> String {
        let mut text = self.world.story.unwrap_or_default().lines.join("\n");
        text.push('\n');
        text
    }

    /// Only what happens from here on is told.
    fn tell(&mut self, scene: impl FnOnce(&mut Self)) {
        self.world.story = Some(Story::default());
        scene(self);
    }

    fn say(&mut self, text: &str) {
        let time = self.world.time;
        if let Some(story) = &mut self.world.story {
            story.say(time, text);
        }
    }

    pub(crate) fn command(&mut self, via: usize, command: Command) {
        self.say(&format!("# {command:?} at {}", crate::story::name(self.world.nodes[via].id)));
        self.world.command(via, command);
    }

    pub(crate) fn grant(&mut self) {
        self.command(PARIS, Command::Grant(db(), member(1)));
        self.run(SECOND);
    }

    fn renew(&mut self) {
        self.grant();
        self.tell(|s| {
            if let Some(story) = &mut s.world.story {
                story.pulse = true;
            }
            s.run(1100 * MS);
        });
    }

    fn failover(&mut self) {
        self.grant();
        self.tell(|s| {
            s.say("# the power goes at paris");
            s.world.power_off(PARIS);
            s.run(8 * SECOND);
        });
    }

    fn revoke(&mut self) {
        self.grant();
        self.tell(|s| {
            s.command(TIEBREAK, Command::Revoke(db()));
            s.run(2 * SECOND);
        });
    }

    fn change_site(&mut self) {
        self.grant();
        self.tell(|s| {
            s.command(TIEBREAK, Command::Move(db(), member(2)));
            s.run(2 * SECOND);
        });
    }

    /// Both sites try at once: ranks keep them apart only as long as the network is in time; ballots decide.
    fn duel(&mut self) {
        self.grant();
        self.command(PARIS, Command::Revoke(db()));
        self.run(2 * SECOND);
        self.tell(|s| {
            s.command(TIEBREAK, Command::Grant(db(), member(1)));
            s.run(24 * MS);
            s.say("# what paris says is lost for 200 ms: lyon takes its turn, and then both try");
            let until = s.world.time + 200 * MS;
            s.world.network.cut(PARIS, LYON, until);
            s.world.network.cut(PARIS, TIEBREAK, until);
            s.run(2 * SECOND);
        });
    }

    fn restart(&mut self) {
        self.grant();
        self.tell(|s| {
            s.say("# sitegated is killed at paris and started again");
            s.world.kill_member(PARIS);
            s.run(200 * MS);
            s.world.start_member(PARIS);
            s.run(SECOND);
        });
    }

    fn recovery(&mut self) {
        self.grant();
        self.tell(|s| {
            s.say("# tiebreak reboots");
            s.world.power_off(TIEBREAK);
            s.run(500 * MS);
            s.world.boot(TIEBREAK);
            s.run(3 * SECOND);
        });
    }

    fn readmit(&mut self) {
        self.grant();
        self.tell(|s| {
            s.say("# tiebreak loses its disk");
            s.world.power_off(TIEBREAK);
            s.world.nodes[TIEBREAK].disk = Disk::new(Identity(99));
            s.run(500 * MS);
            s.world.boot(TIEBREAK);
            s.run(3 * SECOND);
            s.command(PARIS, Command::Readmit(member(3)));
            s.run(9 * SECOND);
        });
    }
}

pub(crate) fn db() -> TicketName {
    TicketName::new("db").unwrap_or_else(|_| unreachable!("a ticket name"))
}

pub(crate) fn member(id: u8) -> MemberId {
    MemberId::new(id).unwrap_or_else(|| unreachable!("not 0"))
}

/// Two sites and an arbitrator with true clocks; messages and commits always take the same time.
pub(crate) fn plan(tickets: Vec<TicketName>, one_way: Time, commit: Time) -> Plan {
    let true_clock = Clock::new(SECOND, 0);
    let clocks = Clocks { boot: true_clock, raw: true_clock };
    let roles = [Role::Site, Role::Site, Role::Arbitrator];
    let members: Vec<MemberPlan> =
        (1..).zip(roles).map(|(id, role)| MemberPlan { id: member(id), role, clocks }).collect();
    let timing = Timing {
        heartbeat: Span::from_millis(1000),
        drift: Drift::from_ppm(1000).unwrap_or_else(|| unreachable!("below half")),
        rtt_max: Span::from_millis(50),
        commit_max: Span::from_millis(10),
        recovery_wait: Span::from_secs(10),
    };
    let ticket = TicketSettings {
        expire: Span::from_secs(5),
        acquire_after: Span::from_secs(2),
        takeover: Takeover::Timed,
        order: vec![member(1), member(2)],
        failback: false,
        takeover_limit: 3,
    };
    let local = LocalTicket { check_within: Span::from_millis(100), check_hold: Span::from_secs(8) };
    let settings = Settings {
        me: member(1),
        members: members.iter().map(|m| (m.id, m.role)).collect(),
        timing,
        trust_disk: true,
        tickets: tickets.iter().map(|name| (name.clone(), ticket.clone())).collect(),
        local: tickets.iter().map(|name| (name.clone(), local.clone())).collect(),
    };
    let editions = vec![settings.tickets.clone()];
    Plan {
        editions,
        options: Options { faults: false, ..Options::of(1) },
        members,
        tickets,
        settings,
        network: NetworkPlan {
            delay_min: one_way,
            delay_max: one_way,
            loss_percent: 0,
            duplicate_percent: 0,
            straggler_max: 0,
            straggler_percent: 0,
        },
        fence: FencePlan {
            kill_within: 100 * MS,
            levels: vec![200 * MS],
            worst_percent: 100,
            ipc_max: MS / 33,
            restart: 2 * SECOND,
            twice: false,
        },
        faults: FaultPlan {
            every: SECOND,
            commands_every: SECOND,
            crash_at_commit: 0,
            commit_min: commit,
            check_max: 5 * MS,
            stop_max: 50 * MS,
            start_max: MS,
            commit_max: commit + 1,
            disks: false,
            theme: Theme::Mixed,
        },
    }
}
