//! The judge of a world of the deadman. It sees what is told, what is on the disk and what runs, and knows the promises of
//! docs/fencing.md, "What it promises", by their numbers.

use std::collections::BTreeMap;

use sitegate_fence::deadman::{Save, State};
use sitegate_fence_client::wire::{Deadline, Name, Notice, Token};

use super::scene::{Request, Scene};
use super::world::{AHEAD, DeadmanWorld, now};

/// What the judge remembers. It is a part of the state: two states that differ in it are two.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Judge {
    ledgers: BTreeMap<Name, Ledger>,
    /// The newest token under which something began to run.
    pub(super) newest: Option<Token>,
}

/// What it remembers of a resource.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Ledger {
    /// What was last armed or extended without a refusal, and the tick of its deadline.
    accepted: Option<(Token, u16)>,
    /// What is being fenced, from when that is told to when the receipt is.
    fencing: Option<Token>,
    /// By which tick what has to be fenced, so that its receipt is on its way to the disk.
    owed: Option<(Token, u16)>,
}

impl Judge {
    fn of(&mut self, name: &Name) -> &mut Ledger {
        self.ledgers.entry(name.clone()).or_default()
    }

    /// A plan fails: what it owes is owed later.
    pub(super) fn prolong(&mut self, name: &Name, by: u16) {
        if let Some((_, owed)) = &mut self.of(name).owed {
            *owed = by.max(*owed);
        }
    }

    /// The daemon is dead.
    pub(super) fn died(&mut self) {
        self.ledgers.values_mut().for_each(|ledger| ledger.fencing = None);
    }

    pub(super) fn powered_off(&mut self) {
        self.ledgers.values_mut().for_each(|ledger| ledger.accepted = None);
    }

    /// Promise 6: the daemon starts, and takes up what is open on the disk.
    pub(super) fn started(scene: &mut Scene, world: &DeadmanWorld) {
        world.names().for_each(|name| Self::owe(scene, world, &name));
    }

    /// What is open on the disk has to be fenced after its deadline; at once, if it has none.
    fn owe(scene: &mut Scene, world: &DeadmanWorld, name: &Name) {
        let (open, tick) = (scene.open(name), scene.tick);
        let ledger = scene.judge.of(name);
        let ends =
            |token| ledger.accepted.filter(|(armed, _)| *armed == token).map_or(tick, |(_, ends)| ends);
        ledger.owed = open.map(|token| (token, ends(token).max(tick) + world.plan()));
    }

    /// A request was not refused.
    pub(super) fn accepted(scene: &mut Scene, world: &DeadmanWorld, name: &Name, request: Request) {
        let (open, receipted, tick) = (scene.open(name), scene.receipted(name), scene.tick);
        let ledger = scene.judge.of(name);
        let (token, ahead) = match request {
            Request::Arm(token, ahead, _) => (token, Some(ahead)),
            Request::Extend(token, ahead, _) => (token, Some(ahead)),
            Request::Start(token) | Request::Stop(token) => (token, None),
            Request::Fence(_) => return,
        };
        let armed = ledger.accepted.filter(|(armed, ends)| *armed == token && *ends > tick);
        let arms = matches!(request, Request::Arm(..));
        let wrong = ledger.fencing.is_some()
            || token <= receipted
            || open.is_some_and(|open| open != token)
            || (!arms && (armed.is_none() || open.is_none()));
        let ledger = ledger.clone();
        if wrong {
            let what =
                format!("{request:?} is accepted; {open:?} is open, {receipted} receipted, {ledger:?}");
            return violate(scene, "promise 4", what);
        }
        if let Some(ahead) = ahead {
            let [boot, raw] = AHEAD[ahead];
            scene.judge.of(name).accepted = Some((token, tick + boot.min(raw)));
            if open.is_some() {
                Self::owe(scene, world, name);
            }
        }
    }

    /// Promise 1: the daemon has just been told the time, with what it says of the resource.
    pub(super) fn look(scene: &mut Scene, name: &Name) {
        let view = scene.deadman.as_ref().and_then(|deadman| deadman.view(name));
        if let Some(State::Armed { token, deadline, .. }) = view.map(|view| view.state)
            && deadline.passed(now(scene.tick))
        {
            violate(scene, "promise 1", format!("{token} counts as armed after its deadline"));
        }
    }

    /// A record is on its way to the disk.
    pub(super) fn saving(scene: &mut Scene, save: &Save) {
        let Some(receipt) = &save.record().receipt else { return };
        let ledger = scene.judge.of(save.resource());
        ledger.owed = ledger.owed.filter(|(token, _)| *token > receipt.token);
    }

    /// Promise 3: a record is on the disk.
    pub(super) fn wrote(scene: &mut Scene, world: &DeadmanWorld, name: &Name) {
        let receipted = scene.receipted(name);
        if let Some(running) = scene.running.get(name).filter(|running| running.token <= receipted) {
            let what = format!("a receipt for {receipted} while {} runs", running.token);
            return violate(scene, "promise 3", what);
        }
        let open = scene.open(name);
        let ledger = scene.judge.of(name);
        if ledger.fencing.is_none() && ledger.accepted.is_some_and(|(token, _)| Some(token) == open) {
            Self::owe(scene, world, name);
        }
    }

    /// Something is told to clients.
    pub(super) fn told(scene: &mut Scene, world: &DeadmanWorld, notice: &Notice) {
        match notice {
            Notice::Armed { resource, token, deadline } => {
                if scene.open(resource) != Some(*token) {
                    violate(scene, "promise 6", format!("{token} is told to be armed, not durably"));
                }
                Self::told_lease(scene, resource, *token, *deadline);
            }
            Notice::Extended { resource, token, deadline } => {
                Self::told_lease(scene, resource, *token, *deadline);
            }
            Notice::Fencing { resource, token, .. } => {
                let mut by = scene.tick + world.plan();
                let ledger = scene.judge.of(resource);
                if ledger.fencing.is_none() {
                    if let Some((_, owed)) = ledger.owed.filter(|(owed, _)| owed == token) {
                        by = by.min(owed);
                    }
                    *ledger = Ledger { accepted: None, fencing: Some(*token), owed: Some((*token, by)) };
                }
            }
            Notice::Receipt(receipt) => {
                if scene.receipted(&receipt.resource) < receipt.token {
                    violate(scene, "promise 3", format!("the receipt for {} is not durable", receipt.token));
                }
                let ledger = scene.judge.of(&receipt.resource);
                ledger.fencing = ledger.fencing.filter(|token| *token > receipt.token);
            }
            _ => {}
        }
    }

    /// Promise 1: a deadline that is told to be in force is the one that programs and the next start go by.
    fn told_lease(scene: &mut Scene, name: &Name, token: Token, deadline: Deadline) {
        let published = scene.leases.get(name).map(|lease| (lease.token, lease.deadline));
        if published != Some((token, deadline)) || scene.judge.of(name).fencing.is_some() {
            let what = format!("{token} is told to be armed until {deadline:?}; published is {published:?}");
            violate(scene, "promise 1", what);
        }
    }

    /// Promise 2: something begins to run.
    pub(super) fn began(scene: &mut Scene, name: &Name, token: Token) {
        let (open, receipted, tick) = (scene.open(name), scene.receipted(name), scene.tick);
        scene.judge.newest = scene.judge.newest.max(Some(token));
        let ledger = scene.judge.of(name).clone();
        let armed = ledger.accepted.is_some_and(|(armed, ends)| armed == token && ends > tick);
        if !armed || ledger.fencing.is_some() || open != Some(token) || receipted >= token {
            let what = format!("{token} begins to run; {open:?} is open, {receipted} receipted, {ledger:?}");
            violate(scene, "promise 2", what);
        }
    }

    /// Promise 1: a tick is over, in which the daemon may have had to be done.
    pub(super) fn passing(scene: &mut Scene) {
        let tick = scene.tick;
        let late = |ledger: &&Ledger| ledger.owed.is_some_and(|(_, by)| by <= tick);
        let late = scene.judge.ledgers.values().find(late).cloned();
        if let Some(ledger) = late.filter(|_| scene.deadman.is_some()) {
            violate(scene, "promise 1", format!("no receipt is on its way in time: {ledger:?}"));
        }
    }
}

fn violate(scene: &mut Scene, promise: &'static str, what: String) {
    scene.broken.get_or_insert((promise, what));
}
