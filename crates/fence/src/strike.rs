//! The first strike: at its deadline, or as soon as it is to be fenced, a thread that does nothing else kills what is in the control
//! groups of a resource.
//!
//! It decides nothing, and nothing rests on it. The deadman fences, and kills until it is proven that nothing is left; but the loop
//! that carries that out allocates memory, writes the leases and answers clients. Between a deadline and the strike there is none
//! of that: a thread that sleeps, a lock that nobody holds for longer than a look at all aims, and three system calls. It strikes
//! even while the loop hangs.
//!
//! A deadline that is being changed is held meanwhile: what was extended in time is not struck, however close it was. A strike is
//! called off when all is dead before it has begun, and waited for when it has: none hits the next tenure.

use std::collections::BTreeMap;
use std::io;
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use sitegate_fence_client::wire::{Deadline, Instant, Name};
use sitegate_host::cgroup::{Cgroup, Killer};
use sitegate_host::clock::ThreadAlarm;
use tracing::error;

use crate::leases;

/// What to strike at which deadline. The thread ends with it.
#[derive(Debug)]
pub struct Striker {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    aims: Mutex<Aims>,
    alarm: ThreadAlarm,
    ended: AtomicBool,
}

#[derive(Debug, Default)]
struct Aims {
    of: BTreeMap<Name, Aim>,
    held: Vec<Name>,
    /// When the alarm rings, if it is set.
    rings: Option<Deadline>,
}

#[derive(Debug)]
struct Aim {
    deadline: Deadline,
    state: State,
    /// When the strike began, if it has: so long after the deadline.
    late_ns: u64,
    killers: Arc<[Killer]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Aimed,
    /// The deadline is about to be changed.
    Held,
    /// To be struck whatever the deadline.
    Due,
    Striking,
    Struck,
}

impl Striker {
    /// Starts the thread.
    ///
    /// # Errors
    /// If there can be none, or no timer for it.
    pub fn start() -> io::Result<Self> {
        let shared = Arc::new(Shared::new()?);
        let strikes = Arc::clone(&shared);
        thread::Builder::new().name("striker".to_owned()).spawn(move || strikes.serve())?;
        Ok(Self { shared })
    }

    /// Strikes with `killers` at the deadline, in place of what was said before of this resource.
    pub fn aim(&self, resource: &Name, deadline: Deadline, killers: impl FnOnce() -> Arc<[Killer]>) {
        self.shared.aim(resource, deadline, killers);
    }

    /// Does not strike until [`aim`](Self::aim) or [`release`](Self::release), since the deadline is about to be changed. Whoever looks at
    /// the clock after this, and finds that the deadline has not passed, may change it.
    pub fn hold(&self, resource: &Name) {
        self.shared.hold(resource);
    }

    /// Whatever is still held strikes at the deadline that it had.
    pub fn release(&self) {
        self.shared.release();
    }

    /// Strikes now, unless it has already.
    pub fn strike(&self, resource: &Name) {
        self.shared.strike(resource);
    }

    /// Calls off a strike that has not begun, and forgets one that is over. If there was one, tells how long after the deadline it
    /// began, ns. An aim at a deadline ahead stays: it is another tenure's.
    ///
    /// # Errors
    /// [`Striking`].
    pub fn settle(&self, resource: &Name) -> Result<Option<u64>, Striking> {
        self.shared.settle(resource)
    }
}

/// It is in the middle of a strike, which could still hit what is started from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Striking;

/// The first nanosecond of the boot is long past.
const AT_ONCE: Deadline = Deadline { boot_ns: 1, raw_ns: 1 };

impl Aim {
    fn rings(&self) -> Option<Deadline> {
        match self.state {
            State::Aimed => Some(self.deadline),
            State::Due => Some(AT_ONCE),
            State::Held | State::Striking | State::Struck => None,
        }
    }

    fn is_due(&self, now: Instant) -> bool {
        match self.state {
            State::Aimed => self.deadline.passed(now),
            State::Due => true,
            State::Held | State::Striking | State::Struck => false,
        }
    }
}

impl Drop for Striker {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        // An alarm that cannot be set leaves a thread asleep, no more.
        let _ = self.shared.alarm.set(Some((AT_ONCE.boot_ns, AT_ONCE.raw_ns)));
    }
}

impl Shared {
    fn new() -> io::Result<Self> {
        Ok(Self { aims: Mutex::default(), alarm: ThreadAlarm::new()?, ended: AtomicBool::new(false) })
    }

    fn serve(&self) {
        self.rehearse();
        loop {
            if let Err(error) = self.alarm.ring() {
                return error!(
                    "no first strikes any more, only the loop fences: cannot wait for a timer: {error}"
                );
            }
            if self.ended.load(Ordering::Relaxed) {
                return;
            }
            self.strike_all();
        }
    }

    /// Goes the whole way once, so that the pages on it are there, and locked, when it counts.
    fn rehearse(&self) {
        let nobody = Cgroup::at("/proc/self/none").killer();
        let _ = nobody.and_then(|killer| killer.kill());
        self.strike_all();
    }

    /// Strikes whatever is due, and sets the alarm for the next.
    fn strike_all(&self) {
        let mut last = None;
        while let Some((resource, killers)) = self.take_due(last.as_ref()) {
            for killer in &*killers {
                // The loop kills as well, and tells what hinders it.
                let _ = killer.kill();
            }
            last = Some(resource);
        }
        self.sleep_until_next();
    }

    /// Sets the alarm anew, whatever has become of it: what was made due meanwhile may lie before what was just struck.
    fn sleep_until_next(&self) {
        let mut aims = self.lock();
        aims.rings = aims.of.values().filter_map(Aim::rings).reduce(Deadline::earliest);
        self.set_alarm(&aims);
    }

    /// The next that is due after `last`, whose strike is over.
    fn take_due(&self, last: Option<&Name>) -> Option<(Name, Arc<[Killer]>)> {
        let mut aims = self.lock();
        let over = last.and_then(|last| aims.of.get_mut(last)).filter(|aim| aim.state == State::Striking);
        over.into_iter().for_each(|aim| aim.state = State::Struck);
        let now = leases::now();
        let rest = (last.map_or(Unbounded, Excluded), Unbounded);
        let (resource, aim) = aims.of.range_mut::<Name, _>(rest).find(|(_, aim)| aim.is_due(now))?;
        (aim.state, aim.late_ns) = (State::Striking, aim.deadline.passed_ns(now));
        Some((resource.clone(), Arc::clone(&aim.killers)))
    }

    fn aim(&self, resource: &Name, deadline: Deadline, killers: impl FnOnce() -> Arc<[Killer]>) {
        let known = |aim: &mut Aim| {
            // Told once more of a deadline that it has struck at, it need not do so again.
            if aim.deadline != deadline || aim.state == State::Held {
                (aim.deadline, aim.state) = (deadline, State::Aimed);
            }
        };
        if self.lock().of.get_mut(resource).map(known).is_none() {
            let aim = Aim { deadline, state: State::Aimed, late_ns: 0, killers: killers() };
            self.lock().of.insert(resource.clone(), aim);
        }
        self.ring_by(&mut self.lock(), deadline);
    }

    fn hold(&self, resource: &Name) {
        let mut aims = self.lock();
        let Some(aim) = aims.of.get_mut(resource).filter(|aim| aim.state == State::Aimed) else { return };
        aim.state = State::Held;
        aims.held.push(resource.clone());
    }

    fn strike(&self, resource: &Name) {
        let mut aims = self.lock();
        if let Some(aim) = aims.of.get_mut(resource)
            && matches!(aim.state, State::Aimed | State::Held)
        {
            aim.state = State::Due;
            self.ring_by(&mut aims, AT_ONCE);
        }
    }

    fn settle(&self, resource: &Name) -> Result<Option<u64>, Striking> {
        let mut aims = self.lock();
        let Some(Aim { state, late_ns, .. }) = aims.of.get(resource) else { return Ok(None) };
        let struck = match state {
            State::Aimed | State::Held => return Ok(None),
            State::Striking => return Err(Striking),
            State::Due => None,
            State::Struck => Some(*late_ns),
        };
        aims.of.remove(resource);
        Ok(struck)
    }

    fn release(&self) {
        let mut aims = self.lock();
        while let Some(resource) = aims.held.pop() {
            let held = aims.of.get_mut(&resource).filter(|aim| aim.state == State::Held);
            if let Some(aim) = held {
                aim.state = State::Aimed;
                let deadline = aim.deadline;
                self.ring_by(&mut aims, deadline);
            }
        }
    }

    /// Sees to it that the alarm rings no later than at `deadline`. Too early does no harm.
    fn ring_by(&self, aims: &mut Aims, deadline: Deadline) {
        let rings = aims.rings.map_or(deadline, |rings| rings.earliest(deadline));
        if aims.rings != Some(rings) {
            aims.rings = Some(rings);
            self.set_alarm(aims);
        }
    }

    fn set_alarm(&self, aims: &Aims) {
        let when = aims.rings.map(|deadline| (deadline.boot_ns, deadline.raw_ns));
        if let Err(error) = self.alarm.set(when) {
            error!("no first strike, only the loop fences: cannot set a timer: {error}");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Aims> {
        self.aims.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
