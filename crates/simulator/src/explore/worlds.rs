//! The worlds that are explored, and how large each is.

use sitegate_protocol::{Command, Role, StandbyMode, Takeover};

use super::world::Begin::{self, Granted, Held};
use super::world::Fault::{self, Copy, Cut, Drop, Kill, KillFenced, Pause, Power, SlowCommit, Straggle};
use super::world::{Budget, Planted, World};
use crate::script::{db, member};
use Size::{Large, Small};
use Twist::{AsEver, Confirmed, Move, Rates, Revoke, Standby};

/// Where a world is explored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// In the tests: a few seconds.
    Small,
    /// Only by `sitegate-explorer`.
    Large,
}

/// A world and what is in it.
#[derive(Clone, Debug)]
pub struct Case<W> {
    /// The world.
    pub world: W,
    /// Where it is explored.
    pub size: Size,
    /// How many different states it has. Any change of what is explored may change it, and then has to say so here.
    pub states: u64,
    /// How many transitions lead from one to another.
    pub transitions: u64,
}

/// A line of the table: each fault may happen once.
struct Row {
    name: &'static str,
    about: &'static str,
    members: &'static [Role],
    begin: Begin,
    ticks: u16,
    faults: &'static [Fault],
    twist: Twist,
    size: Size,
    states: u64,
    transitions: u64,
}

/// In what a world is unlike most.
#[derive(Clone, Copy)]
enum Twist {
    AsEver,
    Rates([[u64; 2]; 3]),
    Confirmed,
    Revoke,
    Move,
    Standby,
}

/// Clocks at the edges of ±ρ, and a true one.
const SLOW: [u64; 2] = [8, 8];
const TRUE: [u64; 2] = [10, 10];
const FAST: [u64; 2] = [12, 12];
/// The worst there is: a holder that counts slowly, and acceptors that count fast.
const WORST: [[u64; 2]; 4] = [SLOW, FAST, FAST, TRUE];

const TWO_AND_ONE: &[Role] = &[Role::Site, Role::Site, Role::Arbitrator];
const THREE_SITES: &[Role] = &[Role::Site, Role::Site, Role::Site];
const TWO_AND_TWO: &[Role] = &[Role::Site, Role::Site, Role::Arbitrator, Role::Arbitrator];

/// The small ones first.
const TABLE: &[Row] = &[
    Row {
        name: "failover",
        about: "a member is cut off, in one direction or both",
        members: TWO_AND_ONE,
        begin: Held,
        ticks: 12,
        faults: &[Cut],
        twist: AsEver,
        size: Small,
        states: 3_955,
        transitions: 8_349,
    },
    Row {
        name: "failover-fast",
        about: "the same; the holder counts fast, all others slowly",
        members: TWO_AND_ONE,
        begin: Held,
        ticks: 12,
        faults: &[Cut],
        twist: Rates([FAST, SLOW, SLOW]),
        size: Small,
        states: 11_150,
        transitions: 23_091,
    },
    Row {
        name: "failover-clocks",
        about: "the same; the two clocks of each machine disagree",
        members: TWO_AND_ONE,
        begin: Held,
        ticks: 12,
        faults: &[Cut],
        twist: Rates([[8, 12], [12, 8], [12, 8]]),
        size: Small,
        states: 8_023,
        transitions: 17_637,
    },
    Row {
        name: "failover-confirmed",
        about: "the same; only a receipt allows a takeover",
        members: TWO_AND_ONE,
        begin: Held,
        ticks: 12,
        faults: &[Cut],
        twist: Confirmed,
        size: Small,
        states: 3_646,
        transitions: 7_192,
    },
    Row {
        name: "failover-sites",
        about: "the same among three sites",
        members: THREE_SITES,
        begin: Held,
        ticks: 12,
        faults: &[Cut],
        twist: AsEver,
        size: Small,
        states: 8_274,
        transitions: 17_086,
    },
    Row {
        name: "failover-four",
        about: "the same with two arbitrators",
        members: TWO_AND_TWO,
        begin: Held,
        ticks: 8,
        faults: &[Cut],
        twist: AsEver,
        size: Small,
        states: 71_680,
        transitions: 188_971,
    },
    Row {
        name: "grant-late",
        about: "a frame is late",
        members: TWO_AND_ONE,
        begin: Granted,
        ticks: 12,
        faults: &[Straggle],
        twist: AsEver,
        size: Small,
        states: 2_689,
        transitions: 5_152,
    },
    Row {
        name: "grant-slow",
        about: "a commit is slow, and a frame is lost",
        members: TWO_AND_ONE,
        begin: Granted,
        ticks: 9,
        faults: &[SlowCommit, Drop],
        twist: AsEver,
        size: Small,
        states: 22_462,
        transitions: 56_099,
    },
    Row {
        name: "grant-crash",
        about: "a daemon is killed at any boundary of a commit",
        members: TWO_AND_ONE,
        begin: Granted,
        ticks: 6,
        faults: &[Kill],
        twist: AsEver,
        size: Small,
        states: 11_068,
        transitions: 23_006,
    },
    Row {
        name: "reboot",
        about: "the power goes somewhere",
        members: TWO_AND_ONE,
        begin: Held,
        ticks: 12,
        faults: &[Power],
        twist: AsEver,
        size: Small,
        states: 14_861,
        transitions: 32_146,
    },
    Row {
        name: "fenced-crash",
        about: "a fence daemon is killed, a member stands still, and a frame is lost",
        members: TWO_AND_ONE,
        begin: Held,
        ticks: 9,
        faults: &[KillFenced, Pause, Drop],
        twist: AsEver,
        size: Small,
        states: 17_862,
        transitions: 35_484,
    },
    Row {
        name: "revoke",
        about: "a revoke at any time, and a frame is lost",
        members: TWO_AND_ONE,
        begin: Held,
        ticks: 8,
        faults: &[Drop],
        twist: Revoke,
        size: Small,
        states: 9_848,
        transitions: 20_681,
    },
    Row {
        name: "move",
        about: "a move at any time, and a frame is lost",
        members: TWO_AND_ONE,
        begin: Held,
        ticks: 7,
        faults: &[Drop],
        twist: Move,
        size: Large,
        states: 26_193,
        transitions: 56_686,
    },
    Row {
        name: "standby",
        about: "a standby at any time, and a frame is lost",
        members: TWO_AND_ONE,
        begin: Held,
        ticks: 7,
        faults: &[Drop],
        twist: Standby,
        size: Large,
        states: 26_708,
        transitions: 62_349,
    },
    Row {
        name: "revoke-cut",
        about: "a revoke at any time, and a member is cut off",
        members: TWO_AND_ONE,
        begin: Held,
        ticks: 11,
        faults: &[Cut],
        twist: Revoke,
        size: Large,
        states: 505_630,
        transitions: 1_142_212,
    },
    Row {
        name: "failover-late",
        about: "a member is cut off, and a frame is late",
        members: TWO_AND_ONE,
        begin: Held,
        ticks: 12,
        faults: &[Cut, Straggle],
        twist: AsEver,
        size: Large,
        states: 693_873,
        transitions: 1_479_715,
    },
    Row {
        name: "failover-copy",
        about: "a member is cut off, and a frame comes twice",
        members: TWO_AND_ONE,
        begin: Held,
        ticks: 11,
        faults: &[Cut, Copy],
        twist: AsEver,
        size: Large,
        states: 327_455,
        transitions: 697_107,
    },
    Row {
        name: "failover-pause",
        about: "a member is cut off, and one stands still",
        members: TWO_AND_ONE,
        begin: Held,
        ticks: 11,
        faults: &[Cut, Pause],
        twist: AsEver,
        size: Large,
        states: 1_699_892,
        transitions: 5_036_611,
    },
    Row {
        name: "grant-lost",
        about: "a frame is late, and one is lost",
        members: TWO_AND_ONE,
        begin: Granted,
        ticks: 10,
        faults: &[Straggle, Drop],
        twist: AsEver,
        size: Large,
        states: 65_581,
        transitions: 131_747,
    },
    Row {
        name: "grant-crash-lost",
        about: "a daemon is killed, and a frame is lost",
        members: TWO_AND_ONE,
        begin: Granted,
        ticks: 7,
        faults: &[Kill, Drop],
        twist: AsEver,
        size: Large,
        states: 610_978,
        transitions: 1_390_211,
    },
    Row {
        name: "held-crash-lost",
        about: "a daemon is killed, and a frame is lost",
        members: TWO_AND_ONE,
        begin: Held,
        ticks: 9,
        faults: &[Kill, Drop],
        twist: AsEver,
        size: Large,
        states: 417_135,
        transitions: 980_299,
    },
    Row {
        name: "reboot-late",
        about: "the power goes somewhere, and a frame is late",
        members: TWO_AND_ONE,
        begin: Held,
        ticks: 9,
        faults: &[Power, Straggle],
        twist: AsEver,
        size: Large,
        states: 985_189,
        transitions: 2_251_105,
    },
    Row {
        name: "sites-crash",
        about: "a daemon is killed, among three sites",
        members: THREE_SITES,
        begin: Granted,
        ticks: 9,
        faults: &[Kill],
        twist: AsEver,
        size: Large,
        states: 89_067,
        transitions: 197_375,
    },
    Row {
        name: "four-crash",
        about: "a daemon is killed, with two arbitrators",
        members: TWO_AND_TWO,
        begin: Granted,
        ticks: 7,
        faults: &[Kill],
        twist: AsEver,
        size: Large,
        states: 1_218_479,
        transitions: 3_286_943,
    },
];

/// All worlds, the small ones first.
#[must_use]
pub fn worlds() -> Vec<Case<World>> {
    TABLE.iter().map(Row::case).collect()
}

impl Row {
    fn case(&self) -> Case<World> {
        let world = World {
            name: self.name,
            about: self.about,
            ..of(self.members, self.begin, self.ticks, self.faults)
        };
        let commanded = |command| World { command: Some((2, command)), ..world.clone() };
        let world = match self.twist {
            AsEver => world,
            Rates(rates) => World { rates: rates.to_vec(), ..world },
            Confirmed => World { takeover: Takeover::Confirmed, ..world },
            Revoke => commanded(Command::Revoke(db())),
            Move => commanded(Command::Move(db(), member(2))),
            Standby => commanded(Command::Standby(member(1), StandbyMode::Vacate)),
        };
        Case { world, size: self.size, states: self.states, transitions: self.transitions }
    }
}

fn of(roles: &[Role], begin: Begin, ticks: u16, faults: &[Fault]) -> World {
    let once: Vec<(Fault, u8)> = faults.iter().map(|fault| (*fault, 1)).collect();
    World {
        name: "",
        about: "",
        roles: roles.to_vec(),
        rates: WORST[..roles.len()].to_vec(),
        begin,
        ticks,
        budget: Budget::of(&once),
        command: None,
        takeover: Takeover::Timed,
        planted: None,
    }
}

/// Worlds in which something that the protocol rests on is broken on purpose, each with the invariant that it must be seen to
/// break: what shows that the explorer sees.
#[must_use]
pub fn planted() -> Vec<(World, &'static str)> {
    let cut = of(TWO_AND_ONE, Held, 12, &[Cut]);
    let crash = of(TWO_AND_ONE, Granted, 10, &[Kill, Drop]);
    let plant = |name, about, planted, world: &World| World { name, about, planted, ..world.clone() };
    let mut lazy = plant("planted-slow-holder", "the holder's clock is slower than 1−ρ", None, &cut);
    lazy.rates[0] = [7, 7];
    let mut hasty = plant("planted-fast-acceptor", "the acceptors' clocks are faster than 1+ρ", None, &cut);
    hasty.rates[1..].fill([14, 14]);
    let late = plant("planted-late-fence", "fencing takes longer than A", Some(Planted::LateFence), &cut);
    let old =
        plant("planted-old-disk", "a restart finds an older disk, unnoticed", Some(Planted::OldDisk), &crash);
    let early =
        plant("planted-early-effects", "effects before their commit", Some(Planted::EffectsFirst), &crash);
    // Nothing is planted here but bad luck: what begins anew takes longer than A allows.
    let anew = World {
        name: "planted-fence-anew",
        about: "a fence daemon dies in the middle of a plan that takes all of A",
        ..of(TWO_AND_ONE, Held, 12, &[Cut, KillFenced])
    };
    vec![(lazy, "I2"), (hasty, "I2"), (late, "I2"), (anew, "I2"), (old, "I2"), (early, "I4")]
}
