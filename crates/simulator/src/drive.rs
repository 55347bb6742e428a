//! Runs that bytes decide: which frames are held, in what order they are let through, what dies when, and what is asked
//! for. Fuzzing makes up the bytes (docs/testing.md, "Fuzzing"), the observer of every run looks on.

use std::cell::RefCell;
use std::rc::Rc;

use sitegate_protocol::{
    Command, Event, Frame, MemberId, Role, Settings, Span, StandbyMode, TicketName, TicketSettings,
};

use crate::clock::{Clock, MS, SECOND, Time};
use crate::fault::Fault;
use crate::plan::Plan;
use crate::run::Violation;
use crate::script::{db, plan};
use crate::world::{Happening, World};

/// Members of the formation.
const MEMBERS: usize = 3;
/// Bytes before the first step: the kind of formation, the seed of what little chance there is, and a rate of each clock.
const HEAD: usize = 2 + MEMBERS;
/// Steps beyond these are left out: what needs more is found by the simulator's own runs.
const STEPS_MAX: usize = 512;
/// Frames that are held at a time; the oldest of more are lost.
const HELD_MAX: usize = 64;
/// A run that handles more events goes on without an end.
const EVENTS_MAX: u64 = 200_000;
/// How long the formation is left alone at first: it meets.
const BIRTH: Time = 2 * SECOND;
/// How long it is left alone in the end: longer than a lease.
const REST: Time = 3 * SECOND;
/// Drift of the formation, and the rate of its fastest clocks.
const DRIFT_PPM: i64 = 1000;
/// Bits of the first byte.
const WITHOUT_ARBITRATOR: u8 = 0x01;
const WITH_LOST_DISKS: u8 = 0x02;
const WITH_CALM: u8 = 0x80;

/// What a step may break at one machine.
const FAULTS: [Fault; 19] = [
    Fault::Kill,
    Fault::Freeze,
    Fault::Suspend,
    Fault::Drift,
    Fault::Power,
    Fault::Blackout,
    Fault::CutOff,
    Fault::KillFenced,
    Fault::SlowLine,
    Fault::SlowDisk,
    Fault::Ill,
    Fault::Unhealthy,
    Fault::Stuck,
    Fault::Reload,
    Fault::Abandon,
    Fault::Suspect,
    Fault::Image,
    Fault::Disk,
    Fault::Clone,
];

/// What came of it.
#[derive(Debug)]
pub struct Driven {
    /// The first violation.
    pub violation: Option<Violation>,
    /// How much happened.
    pub events: u64,
    /// Tenures that began.
    pub tenures: u64,
}

/// Two members, and what one said to the other.
type Held = (usize, usize, Frame);

/// Drives three members as `bytes` say: `HEAD` bytes about the formation, then two for each step. Prints what happens if
/// `print`.
#[must_use]
pub fn drive(bytes: &[u8], print: bool) -> Driven {
    let (head, steps) = bytes.split_at(bytes.len().min(HEAD));
    let mut head_bytes = [0; HEAD];
    head_bytes[..head.len()].copy_from_slice(head);
    let mut driver = Driver::new(head_bytes, print);
    driver.pass(BIRTH);
    for step in steps.chunks_exact(2).take(STEPS_MAX) {
        if driver.world.checks.is_violated() {
            break;
        }
        driver.step(step[0], step[1]);
    }
    driver.release();
    driver.pass(REST);
    if head_bytes[0] & WITH_CALM != 0 && !driver.world.checks.is_violated() {
        driver.world.calm_down();
    }
    let mut world = driver.world;
    Driven { violation: world.checks.take_violation(), events: world.events, tenures: world.checks.tenures }
}

struct Driver {
    world: World,
    /// Frames that are under way for as long as the bytes want, oldest first.
    held: Rc<RefCell<Vec<Held>>>,
    /// A bit for each direction whose frames are held.
    holding: Rc<RefCell<u8>>,
}

impl Driver {
    fn new(head: [u8; HEAD], print: bool) -> Self {
        let mut world = World::new(formation(head), print);
        world.events_max = EVENTS_MAX;
        let (held, holding) = (Rc::new(RefCell::new(Vec::new())), Rc::new(RefCell::new(0)));
        let (keep, over) = (Rc::clone(&held), Rc::clone(&holding));
        world.lost = Some(Box::new(move |from, to, frame| {
            let is_held = *over.borrow() >> direction(from, to) & 1 == 1;
            if is_held {
                let mut held: std::cell::RefMut<'_, Vec<Held>> = keep.borrow_mut();
                if held.len() >= HELD_MAX {
                    held.remove(0);
                }
                held.push((from, to, frame.clone()));
            }
            is_held
        }));
        Self { world, held, holding }
    }

    fn pass(&mut self, span: Time) {
        let until = self.world.time + span;
        self.world.run_until(until);
    }

    fn step(&mut self, what: u8, how: u8) {
        let (i, rest) = (usize::from(how) % MEMBERS, usize::from(how) / MEMBERS);
        match what % 16 {
            0 => self.pass(Time::from(how) * MS / 4),
            1 => self.pass(Time::from(how) * 10 * MS),
            2 => *self.holding.borrow_mut() = how & 0x3f,
            3 => self.let_through(how, true),
            4 => self.let_through(how, false),
            5 => drop(self.pick(how, true)),
            6 => self.release(),
            7 | 8 => self.ask(i, rest),
            9 => self.world.kill_member(i),
            10 => self.world.start_member(i),
            11 => {
                if self.world.may_lose_power(i) {
                    self.world.power_off(i);
                }
            }
            12 => self.world.boot(i),
            13 => self.world.deliver(i, Event::Tick),
            _ => self.world.strike_at(i, FAULTS[rest % FAULTS.len()]),
        }
    }

    fn ask(&mut self, via: usize, rest: usize) {
        let (kind, whom) = (rest % 10, member(rest / 10));
        let command = match kind {
            0 | 1 => Command::Grant(db(), whom),
            2 => Command::Revoke(db()),
            3 => Command::Move(db(), whom),
            4 => Command::Pause(db()),
            5 => Command::Resume(db()),
            6 => Command::Standby(whom, StandbyMode::Vacate),
            7 => Command::Standby(whom, StandbyMode::Online),
            8 => Command::AttestDead(whom, Some(db())),
            _ => Command::Readmit(whom),
        };
        self.world.command(via, command);
    }

    /// One of the held frames, gone from there if `taken`.
    fn pick(&mut self, which: u8, taken: bool) -> Option<Held> {
        let mut held = self.held.borrow_mut();
        let at = usize::from(which).checked_rem(held.len())?;
        Some(if taken { held.remove(at) } else { held[at].clone() })
    }

    fn let_through(&mut self, which: u8, once: bool) {
        if let Some((from, to, frame)) = self.pick(which, once) {
            let at = self.world.time;
            self.world.schedule(at, Happening::Frame { to, from, frame });
            self.pass(1);
        }
    }

    /// Lets everything through, and holds nothing any more.
    fn release(&mut self) {
        *self.holding.borrow_mut() = 0;
        while !self.held.borrow().is_empty() {
            self.let_through(0, true);
        }
    }
}

/// The number of a direction between two of three members.
const fn direction(from: usize, to: usize) -> usize {
    from * 2 + if to > from { to - 1 } else { to }
}

fn member(i: usize) -> MemberId {
    let number = u8::try_from(i % MEMBERS + 1).unwrap_or(1);
    MemberId::new(number).unwrap_or_else(|| unreachable!("numbers begin at 1"))
}

/// Times as short as the inequalities allow, so that little simulated time holds much.
fn formation(head: [u8; HEAD]) -> Plan {
    let [kind, seed, rates @ ..] = head;
    let mut plan = plan(vec![db()], 5 * MS, MS);
    plan.options.seed = u64::from(seed);
    plan.fence.restart = 100 * MS;
    if kind & WITHOUT_ARBITRATOR != 0 {
        plan.members[2].role = Role::Site;
        plan.settings.members.insert(plan.members[2].id, Role::Site);
    }
    let disks = kind & WITH_LOST_DISKS != 0;
    plan.faults.disks = disks;
    for (member, rate) in plan.members.iter_mut().zip(rates) {
        let rate_of = |bits: u8| [0, DRIFT_PPM, -DRIFT_PPM, DRIFT_PPM / 2][usize::from(bits & 3)];
        member.clocks.boot = Clock::new(SECOND, rate_of(rate));
        member.clocks.raw = Clock::new(SECOND, rate_of(rate >> 2));
    }
    let fenced_within = Span::from_nanos(plan.fence.within(DRIFT_PPM) + 100);
    let timing = plan.settings.timing;
    let heartbeat = Span::from_millis(300);
    let heartbeats = heartbeat.times(4).plus(timing.rtt_max.times(2)).plus(Span::from_millis(60));
    let sites: Vec<MemberId> = plan.settings.sites().collect();
    let edition = |more: u64| {
        let change = |(name, ticket): (&TicketName, &TicketSettings)| {
            let expire = heartbeats.plus(Span::from_millis(more));
            let acquire_after = fenced_within.plus(Span::from_millis(more / 2));
            (name.clone(), TicketSettings { expire, acquire_after, order: sites.clone(), ..ticket.clone() })
        };
        plan.settings.tickets.iter().map(change).collect()
    };
    plan.editions = vec![edition(0), edition(2000)];
    plan.settings = Settings {
        tickets: plan.editions[0].clone(),
        timing: sitegate_protocol::Timing { heartbeat, ..timing },
        trust_disk: !disks,
        ..plan.settings
    };
    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of a seed by which no start hook hangs.
    const PLAIN: [u8; HEAD] = {
        let mut head = [0; HEAD];
        head[1] = 1;
        head
    };

    fn driven(head: [u8; HEAD], steps: &[[u8; 2]]) -> Driven {
        let driven = drive(&[&head[..], &steps.concat()].concat(), false);
        assert!(driven.violation.is_none(), "{:?}", driven.violation);
        driven
    }

    #[test]
    fn bytes_lead_to_tenures() {
        assert_eq!(driven(PLAIN, &[]).tenures, 0);
        assert!(driven(PLAIN, &[[7, 0], [1, 200]]).tenures > 0, "a grant");
        assert_eq!(driven(PLAIN, &[[2, 0x3f], [7, 0], [1, 100]]).tenures, 1, "held frames arrive in the end");
        // Whichever site has it.
        let (off, on, wait) = (|i| [11, i], |i| [12, i], [1, 255]);
        let steps = [[7, 0], wait, off(0), wait, wait, on(0), wait, off(1), wait, wait];
        assert!(driven(PLAIN, &steps).tenures > 1, "a failover");
    }

    #[test]
    fn whatever_happened_comes_right_in_the_calm() {
        for kind in [0, WITHOUT_ARBITRATOR, WITH_LOST_DISKS] {
            let mut head = PLAIN;
            head[0] = kind | WITH_CALM;
            let steps = [[7, 0], [1, 100], [14, 0], [2, 0x15], [1, 90], [4, 3], [4, 3], [14, 13], [1, 255]];
            assert!(driven(head, &steps).tenures > 1);
        }
    }

    #[test]
    fn directions_are_numbered() {
        let pairs = (0..3).flat_map(|from| (0..3).map(move |to| (from, to))).filter(|(from, to)| from != to);
        let mut numbers: Vec<usize> = pairs.map(|(from, to)| direction(from, to)).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, [0, 1, 2, 3, 4, 5]);
    }
}
