//! The deadman against a shell of a few lines: a disk that can be told to wait or to fail, and a list of orders.

mod arming;
mod bounds;
mod change;
mod fencing;
mod programs;
mod restart;

use std::collections::BTreeMap;

use sitegate_fence_client::wire::{
    Activity, Deadline, Instant, Name, Notice, Proof, Reason, Receipt, Refusal, Token,
};

use super::*;

const SECOND: u64 = 1_000_000_000;
const KILL: u64 = SECOND / 2;
const LEVEL: u64 = 8 * SECOND;

struct Shell {
    deadman: Deadman,
    now: Instant,
    disk: BTreeMap<Name, Record>,
    leases: Leases,
    /// Saves that the disk has not done yet.
    waiting: Vec<Save>,
    disk_works: bool,
    orders: Vec<Order>,
    notices: Vec<Notice>,
}

fn db() -> Name {
    Name::new("db").unwrap()
}

fn named(name: &str) -> Name {
    Name::new(name).unwrap()
}

fn revoked() -> Reason {
    Reason::new("revoked").unwrap()
}

fn proof(what: &str) -> Proof {
    Proof { what: what.to_owned(), unix_ms: 0 }
}

fn schedules(names: &[&str], levels: usize) -> BTreeMap<Name, Schedule> {
    let schedule = Schedule { kill_within_ns: KILL, level_within_ns: vec![LEVEL; levels] };
    names.iter().map(|n| (named(n), schedule.clone())).collect()
}

impl Shell {
    /// Resource `db` with two levels.
    fn new() -> Self {
        Self::with(&["db"], 2, 8)
    }

    fn with(names: &[&str], levels: usize, at_once: usize) -> Self {
        let now = Instant { boot_ns: 1000 * SECOND, raw_ns: 900 * SECOND };
        let deadman =
            Deadman::recover(now, at_once, schedules(names, levels), BTreeMap::new(), &Leases::new());
        let mut shell = Self {
            deadman,
            now,
            disk: BTreeMap::new(),
            leases: Leases::new(),
            waiting: Vec::new(),
            disk_works: true,
            orders: Vec::new(),
            notices: Vec::new(),
        };
        shell.turn();
        shell
    }

    /// Carries out what the deadman asks for, until it asks for nothing more.
    fn turn(&mut self) {
        loop {
            let step = self.deadman.take();
            if step.is_empty() {
                return;
            }
            let (acts, _) = step.publish(|leases| {
                leases.apply(&mut self.leases);
                Ok::<(), ()>(())
            });
            self.orders.extend(acts.orders);
            self.notices.extend(acts.notices);
            self.waiting.extend(acts.saves);
            if self.disk_works {
                self.write();
            }
        }
    }

    fn write(&mut self) {
        let saved = Save::write_all(std::mem::take(&mut self.waiting), |saves| {
            for save in saves {
                self.disk.insert(save.resource().clone(), save.record().clone());
            }
            Ok::<(), ()>(())
        });
        for saved in saved.unwrap() {
            self.deadman.saved(self.now, saved);
        }
    }

    fn deadline(&self, seconds: u64) -> Deadline {
        self.now.after(seconds * SECOND)
    }

    fn pass(&mut self, ns: u64) {
        self.now.boot_ns += ns;
        self.now.raw_ns += ns;
        self.deadman.tick(self.now);
        self.turn();
    }

    fn arm(&mut self, token: Token, seconds: u64) -> Result<(), Refusal> {
        let deadline = self.deadline(seconds);
        self.arm_as(token, deadline, 1)
    }

    fn arm_as(&mut self, token: Token, deadline: Deadline, incarnation: Incarnation) -> Result<(), Refusal> {
        let result = self.deadman.arm(self.now, &db(), token, deadline, incarnation);
        self.turn();
        result
    }

    fn extend(&mut self, token: Token, seconds: u64, incarnation: Incarnation) -> Result<(), Refusal> {
        let deadline = self.deadline(seconds);
        let result = self.deadman.extend(self.now, &db(), token, deadline, incarnation);
        self.turn();
        result
    }

    fn fence(&mut self, token: Token) -> Result<(), Refusal> {
        let result = self.deadman.fence(self.now, &db(), token, revoked());
        self.turn();
        result
    }

    fn start(&mut self, token: Token) -> Result<(), Refusal> {
        let result = self.deadman.start(self.now, &db(), token);
        self.turn();
        result
    }

    fn stop(&mut self, token: Token) -> Result<(), Refusal> {
        let result = self.deadman.stop(self.now, &db(), token);
        self.turn();
        result
    }

    /// The only order given since the last look.
    fn order(&mut self) -> Order {
        assert_eq!(self.orders.len(), 1, "{:?}", self.orders);
        self.orders.remove(0)
    }

    fn notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    fn kill_done(&mut self, result: Result<Proof, String>) {
        let order = self.order();
        let Order::Kill { run, resource, .. } = order else { panic!("{order:?}") };
        self.deadman.kill_done(self.now, &resource, run, result);
        self.turn();
    }

    fn level_done(&mut self, level: usize, result: Result<Proof, String>) {
        let order = self.order();
        let Order::Level { run, resource, level: ordered, .. } = order else { panic!("{order:?}") };
        assert_eq!(ordered, level);
        self.deadman.level_done(self.now, &resource, run, result);
        self.turn();
    }

    /// From the kill that begins the plan to the receipt.
    fn fence_succeeds(&mut self) {
        self.kill_done(Ok(proof("killed")));
        self.level_done(0, Ok(proof("level 1")));
        self.kill_done(Ok(proof("killed")));
    }

    fn receipts(&mut self) -> Vec<Receipt> {
        let receipt = |n| if let Notice::Receipt(r) = n { Some(r) } else { None };
        self.notices().into_iter().filter_map(receipt).collect()
    }

    fn may_exec(&self, token: Token) -> bool {
        may_exec(&self.leases, &db(), token, self.now).is_ok()
    }

    fn is_armed(&self) -> bool {
        matches!(self.deadman.view(&db()).unwrap().state, State::Armed { .. })
    }

    fn fencing(&self) -> Option<Phase> {
        match self.deadman.view(&db()).unwrap().state {
            State::Fencing { phase, .. } => Some(phase),
            _ => None,
        }
    }

    /// Loses the daemon; `same_boot` keeps the leases.
    fn restart(&mut self, same_boot: bool) {
        if !same_boot {
            self.leases.clear();
        }
        self.orders.clear();
        self.notices.clear();
        self.waiting.clear();
        self.deadman =
            Deadman::recover(self.now, 8, schedules(&["db"], 2), self.disk.clone(), &self.leases.clone());
        self.turn();
    }
}
