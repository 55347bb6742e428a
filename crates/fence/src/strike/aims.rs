//! What is to be struck, and by when.
//!
//! The thread that strikes reads the table, and nothing else: whatever takes memory, or gives it back, is done before or after its
//! lock is held.

use std::collections::HashMap;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sitegate_fence_client::wire::{Deadline, Instant, Name};
use sitegate_host::cgroup::Killer;

/// It is in the middle of a strike, which could still hit what is started from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Striking;

/// The first nanosecond of the boot is long past.
pub(super) const AT_ONCE: Deadline = Deadline { boot_ns: 1, raw_ns: 1 };

#[derive(Debug, Default)]
pub(super) struct Aims {
    /// Locked before the table, and never by the thread that strikes.
    index: Mutex<Index>,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Index {
    of: HashMap<Name, usize>,
    free: Vec<usize>,
    held: Vec<usize>,
}

#[derive(Debug, Default)]
pub(super) struct Table {
    slots: Vec<Slot>,
    /// When the alarm rings, if it is set.
    rings: Option<Deadline>,
}

#[derive(Debug)]
struct Slot {
    state: State,
    deadline: Deadline,
    /// When the strike began, if it has: so long after the deadline.
    late_ns: u64,
    killers: Option<Arc<[Killer]>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Free,
    Aimed,
    /// The deadline is about to be changed.
    Held,
    /// To be struck whatever the deadline.
    Due,
    Striking,
    Struck,
}

impl Aims {
    /// The table, in which the resource is aimed at.
    pub(super) fn aim(
        &self,
        resource: &Name,
        deadline: Deadline,
        killers: impl FnOnce() -> Arc<[Killer]>,
    ) -> MutexGuard<'_, Table> {
        let mut index = self.index();
        if let Some(known) = index.of.get(resource) {
            let mut table = self.table();
            let slot = &mut table.slots[*known];
            // Told once more of a deadline that it has struck at, it need not do so again.
            if slot.deadline != deadline || slot.state == State::Held {
                (slot.deadline, slot.state) = (deadline, State::Aimed);
            }
            return table;
        }
        let new = Slot { state: State::Aimed, deadline, late_ns: 0, killers: Some(killers()) };
        let free = self.free_slot(&mut index);
        index.of.insert(resource.clone(), free);
        let mut table = self.table();
        table.slots[free] = new;
        table
    }

    pub(super) fn hold(&self, resource: &Name) {
        let mut index = self.index();
        let Some(&known) = index.of.get(resource) else { return };
        let mut table = self.table();
        let slot = &mut table.slots[known];
        if slot.state == State::Aimed {
            slot.state = State::Held;
            drop(table);
            index.held.push(known);
        }
    }

    /// The table, in which nothing is held any more, and the earliest deadline of what was.
    pub(super) fn release(&self) -> Option<(MutexGuard<'_, Table>, Deadline)> {
        let mut index = self.index();
        if index.held.is_empty() {
            return None;
        }
        let mut table = self.table();
        let mut earliest: Option<Deadline> = None;
        for held in index.held.drain(..) {
            let slot = &mut table.slots[held];
            if slot.state == State::Held {
                slot.state = State::Aimed;
                earliest = Some(earliest.map_or(slot.deadline, |earliest| earliest.earliest(slot.deadline)));
            }
        }
        earliest.map(|earliest| (table, earliest))
    }

    /// The table, if the resource has become due in it.
    pub(super) fn strike(&self, resource: &Name) -> Option<MutexGuard<'_, Table>> {
        let index = self.index();
        let known = *index.of.get(resource)?;
        let mut table = self.table();
        let slot = &mut table.slots[known];
        if !matches!(slot.state, State::Aimed | State::Held) {
            return None;
        }
        slot.state = State::Due;
        Some(table)
    }

    /// [`super::Striker::settle`].
    pub(super) fn settle(&self, resource: &Name) -> Result<Option<u64>, Striking> {
        let mut index = self.index();
        let Some(&known) = index.of.get(resource) else { return Ok(None) };
        let mut table = self.table();
        let slot = &mut table.slots[known];
        let struck = match slot.state {
            State::Free | State::Aimed | State::Held => return Ok(None),
            State::Striking => return Err(Striking),
            State::Due => None,
            State::Struck => Some(slot.late_ns),
        };
        slot.state = State::Free;
        let killers = slot.killers.take();
        drop(table);
        drop(killers);
        index.of.remove(resource);
        index.free.push(known);
        Ok(struck)
    }

    pub(super) fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes room outside of the table's lock, if there is none.
    fn free_slot(&self, index: &mut Index) -> usize {
        if let Some(free) = index.free.pop() {
            return free;
        }
        let used = index.of.len();
        let mut larger: Vec<Slot> = (0..(2 * used).max(64)).map(|_| Slot::free()).collect();
        index.free.extend((used + 1..larger.len()).rev());
        let mut table = self.table();
        for (slot, larger) in table.slots.iter_mut().zip(&mut larger) {
            mem::swap(slot, larger);
        }
        mem::swap(&mut table.slots, &mut larger);
        drop(table);
        used
    }
}

impl Table {
    pub(super) fn rings(&self) -> Option<Deadline> {
        self.rings
    }

    /// The first that is due from slot `from` on. Now it is being struck.
    pub(super) fn take_due(&mut self, from: usize, now: Instant) -> Option<(usize, Arc<[Killer]>)> {
        let mut rest = self.slots.iter_mut().enumerate().skip(from);
        let (number, slot) = rest.find(|(_, slot)| slot.is_due(now))?;
        let killers = slot.killers.clone()?;
        (slot.state, slot.late_ns) = (State::Striking, slot.deadline.passed_ns(now));
        Some((number, killers))
    }

    pub(super) fn over(&mut self, number: usize) {
        let slot = &mut self.slots[number];
        if slot.state == State::Striking {
            slot.state = State::Struck;
        }
    }

    /// Finds out when the alarm has to ring next.
    pub(super) fn look_ahead(&mut self) {
        self.rings = self.slots.iter().filter_map(Slot::rings).reduce(Deadline::earliest);
    }

    /// Sees to it that the alarm rings no later than at `deadline`, which does no harm too early; tells whether it has to be set for
    /// that.
    pub(super) fn ring_by(&mut self, deadline: Deadline) -> bool {
        let before = self.rings;
        self.rings = Some(before.map_or(deadline, |rings| rings.earliest(deadline)));
        self.rings != before
    }
}

impl Slot {
    fn free() -> Self {
        Self { state: State::Free, deadline: AT_ONCE, late_ns: 0, killers: None }
    }

    fn rings(&self) -> Option<Deadline> {
        match self.state {
            State::Aimed => Some(self.deadline),
            State::Due => Some(AT_ONCE),
            State::Free | State::Held | State::Striking | State::Struck => None,
        }
    }

    fn is_due(&self, now: Instant) -> bool {
        match self.state {
            State::Aimed => self.deadline.passed(now),
            State::Due => true,
            State::Free | State::Held | State::Striking | State::Struck => false,
        }
    }
}
