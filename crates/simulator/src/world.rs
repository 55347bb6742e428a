//! The world of a run: true time, the machines, and what happens next.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use sitegate_protocol::{Event, Frame, Identity, Note};
use sitegate_shell::site::Line;

use crate::checks::Checks;
use crate::clock::Time;
use crate::coverage::Coverage;
use crate::fault::Fault;
use crate::fenced::Fencing;
use crate::ghost::Ghost;
use crate::line::Message;
use crate::network::Network;
use crate::node::{Disk, Node, Slow};
use crate::plan::Plan;
use crate::rng::Rng;
use crate::story::Story;
use crate::workload::Workload;

/// Something that happens at a point in true time.
#[derive(Debug)]
pub(crate) enum Happening {
    Frame {
        to: usize,
        from: usize,
        frame: Frame,
    },
    Member {
        node: usize,
        generation: u64,
        event: Event,
    },
    /// A desk calls the fence daemon.
    Connect {
        node: usize,
        generation: u64,
        line: Line,
    },
    /// A desk hears something.
    Line {
        node: usize,
        generation: u64,
        line: Line,
        message: Message,
    },
    Wake {
        node: usize,
        generation: u64,
        at: Time,
    },
    Committed {
        node: usize,
        generation: u64,
    },
    Thaw {
        node: usize,
        generation: u64,
    },
    StartMember {
        node: usize,
    },
    StartFenced {
        node: usize,
    },
    Boot {
        node: usize,
    },
    Resume {
        node: usize,
        at: Time,
    },
    /// Whoever cloned a machine switches the old one off.
    Exorcise,
    Fenced {
        node: usize,
        generation: u64,
        fencing: Fencing,
    },
    FenceDisk {
        node: usize,
        generation: u64,
    },
    Fault(Fault),
    Command,
    /// An operator has seen that a site has no power, and vouches for it.
    Attest {
        node: usize,
    },
}

impl Happening {
    /// The machine that has to be awake for it, and the process it is meant for, if it is one.
    const fn place(&self) -> Option<(usize, Option<u64>)> {
        match self {
            Self::Frame { to: node, .. }
            | Self::StartMember { node }
            | Self::StartFenced { node }
            | Self::Fenced { node, .. }
            | Self::FenceDisk { node, .. } => Some((*node, None)),
            Self::Member { node, generation, .. }
            | Self::Connect { node, generation, .. }
            | Self::Line { node, generation, .. }
            | Self::Wake { node, generation, .. }
            | Self::Committed { node, generation }
            | Self::Thaw { node, generation } => Some((*node, Some(*generation))),
            Self::Boot { .. }
            | Self::Resume { .. }
            | Self::Exorcise
            | Self::Fault(_)
            | Self::Command
            | Self::Attest { .. } => None,
        }
    }
}

/// More events than this at one moment are a loop that does not let time go on. A member that has stood still for long works
/// off some thousand.
const AT_ONCE_MAX: u64 = 100_000;

/// Whether a frame is lost, by its sender, its receiver and what it says.
pub(crate) type Loss = Box<dyn Fn(usize, usize, &Frame) -> bool>;

/// A run in progress.
pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) time: Time,
    pub(crate) nodes: Vec<Node>,
    pub(crate) network: Network,
    pub(crate) rng: Rng,
    /// What processes make up at their start: other draws do not move how their retries are spread.
    pub(crate) births: Rng,
    pub(crate) checks: Checks,
    pub(crate) workload: Workload,
    pub(crate) events: u64,
    /// A run that handles more goes on without an end.
    pub(crate) events_max: u64,
    /// Events since time last went on.
    at_once: u64,
    pub(crate) frames: u64,
    pub(crate) commits: u64,
    pub(crate) coverage: Coverage,
    pub(crate) calm: bool,
    /// A machine without power that nobody switches on again.
    pub(crate) dead: Option<usize>,
    /// An old machine whose disk was cloned, and that goes on under the same name.
    pub(crate) ghost: Option<Ghost>,
    pub(crate) print: bool,
    pub(crate) story: Option<Story>,
    /// Every note with its time and node, if somebody counts.
    pub(crate) noted: Option<Vec<(Time, usize, Note)>>,
    /// What commands were answered with, in a scene.
    pub(crate) answers: Vec<(sitegate_protocol::CommandId, sitegate_protocol::Reply)>,
    /// Which frames are lost, in a scene.
    pub(crate) lost: Option<Loss>,
    /// Processes so far, of all members.
    pub(crate) generations: u64,
    /// When what happens, in the order in which it was put there, and its place in `happenings`.
    queue: BinaryHeap<Reverse<(Time, u64, usize)>>,
    happenings: Vec<Option<Happening>>,
    vacant: Vec<usize>,
    sequence: u64,
}

impl World {
    pub(crate) fn new(plan: Plan, print: bool) -> Self {
        #[cfg(sitegate_mutants)]
        crate::mutants::plant_from_environment();
        let mut rng = Rng::new(plan.options.seed.wrapping_mul(3).wrapping_add(1));
        let nodes: Vec<Node> = plan
            .members
            .iter()
            .map(|m| Node {
                id: m.id,
                role: m.role,
                clocks: m.clocks,
                disk: Disk::new(Identity(u128::from(rng.next()))),
                settings: plan.settings_of(m.id, 0),
                boot: 1,
                up: true,
                proof: None,
                process: None,
                generation: 0,
                fence: crate::fenced::FenceHost::default(),
                asleep_until: 0,
                slow_disk: Slow::default(),
                ill_until: 0,
            })
            .collect();
        let network = Network::new(plan.network.clone(), nodes.len());
        let mut world = Self {
            checks: Checks::new(&plan),
            workload: Workload::default(),
            time: 0,
            network,
            births: Rng::new(plan.options.seed.wrapping_mul(5).wrapping_add(2)),
            rng,
            events: 0,
            events_max: u64::MAX,
            at_once: 0,
            frames: 0,
            commits: 0,
            coverage: Coverage::default(),
            calm: false,
            dead: None,
            ghost: None,
            print,
            story: None,
            noted: None,
            answers: Vec::new(),
            lost: None,
            generations: 0,
            queue: BinaryHeap::new(),
            happenings: Vec::new(),
            vacant: Vec::new(),
            sequence: 0,
            nodes,
            plan,
        };
        for node in 0..world.nodes.len() {
            let at = world.rng.range(0, world.plan.faults.start_max);
            world.schedule(at, Happening::StartFenced { node });
            let at = world.rng.range(0, world.plan.faults.start_max);
            world.schedule(at, Happening::StartMember { node });
        }
        world
    }

    pub(crate) fn schedule(&mut self, at: Time, happening: Happening) {
        self.sequence += 1;
        let place = self.vacant.pop().unwrap_or_else(|| {
            self.happenings.push(None);
            self.happenings.len() - 1
        });
        self.happenings[place] = Some(happening);
        self.queue.push(Reverse((at.max(self.time), self.sequence, place)));
    }

    /// Lets everything happen up to `until`, or until something is violated.
    pub(crate) fn run_until(&mut self, until: Time) {
        while !self.checks.is_violated() && self.events < self.events_max {
            let Some(Reverse((at, _, place))) = self.queue.peek().copied() else { break };
            if at > until {
                break;
            }
            self.queue.pop();
            self.at_once = if at > self.time { 0 } else { self.at_once + 1 };
            if self.at_once > AT_ONCE_MAX {
                let what = format!("{AT_ONCE_MAX} things happen at one moment, and no end");
                self.checks.violate("standstill", at, what);
            }
            self.time = at;
            self.events += 1;
            self.vacant.push(place);
            if let Some(happening) = self.happenings[place].take() {
                self.happen(happening);
            }
        }
        self.time = self.time.max(until);
    }

    fn happen(&mut self, happening: Happening) {
        let Some((node, generation)) = happening.place() else { return self.happen_here(happening) };
        let until = self.nodes[node].asleep_until;
        if until > self.time {
            return self.schedule(until, happening);
        }
        if generation.is_some_and(|generation| self.is_ghost(node, generation)) {
            return self.haunt(happening);
        }
        self.happen_here(happening);
    }

    pub(crate) fn happen_here(&mut self, happening: Happening) {
        match happening {
            Happening::Frame { to, from, frame } => {
                self.haunt_with(to, from, &frame);
                self.arrive(to, from, frame);
            }
            Happening::Member { node, generation, event } => {
                if self.nodes[node].generation == generation {
                    self.deliver(node, event);
                }
            }
            Happening::Connect { node, generation, line } => self.connect(node, generation, line),
            Happening::Line { node, generation, line, message } => self.hear(node, generation, line, message),
            Happening::Wake { node, generation, at } => self.wake(node, generation, at),
            Happening::Committed { node, generation } => self.committed(node, generation),
            Happening::Thaw { node, generation } => {
                if self.nodes[node].generation == generation {
                    self.work(node);
                }
            }
            Happening::StartMember { node } => self.start_member(node),
            Happening::StartFenced { node } => self.start_fenced(node),
            Happening::Boot { node } => self.boot(node),
            Happening::Resume { node, at } => self.resume(node, at),
            Happening::Exorcise => self.ghost = None,
            Happening::Fenced { node, generation, fencing } => self.on_fencing(node, generation, fencing),
            Happening::FenceDisk { node, generation } => self.fence_written(node, generation),
            Happening::Fault(fault) => self.strike(fault),
            Happening::Command => self.give_command(),
            Happening::Attest { node } => self.attest(node),
        }
    }

    pub(crate) fn rng_percent(&mut self, percent: u64) -> bool {
        self.rng.percent(percent)
    }

    pub(crate) fn rng_range(&mut self, low: u64, high: u64) -> u64 {
        self.rng.range(low, high)
    }

    pub(crate) fn trace(&self, i: usize, text: impl FnOnce() -> String) {
        if self.print {
            println!("{:>12.6} {:?} {}", trace_seconds(self.time), self.nodes[i].id, text());
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
pub(crate) fn trace_seconds(time: Time) -> f64 {
    time as f64 / 1e9
}
