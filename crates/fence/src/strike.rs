//! The first strike: at its deadline, or as soon as it is to be fenced, a thread that does nothing else kills what is in the control
//! groups of a resource.
//!
//! It decides nothing, and nothing rests on it. The deadman fences, and kills until it is proven that nothing is left; but the loop
//! that carries that out allocates memory, writes the leases and answers clients. Between a deadline and the strike there is none
//! of that: a thread that sleeps, a lock under which numbers are compared and set, and three system calls. It strikes even while
//! the loop hangs.
//!
//! A deadline that is being changed is held meanwhile: what was extended in time is not struck, however close it was. A strike is
//! called off when all is dead before it has begun, and waited for when it has: none hits the next tenure.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, MutexGuard};
use std::thread;

use sitegate_fence_client::wire::{Deadline, Name};
use sitegate_host::cgroup::Killer;
use sitegate_host::clock::ThreadAlarm;
use tracing::error;

use crate::leases;

mod aims;

pub use aims::Striking;
use aims::{AT_ONCE, Aims, Table};

/// What to strike at which deadline. The thread ends with it.
#[derive(Debug)]
pub struct Striker {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    aims: Aims,
    alarm: ThreadAlarm,
    ended: AtomicBool,
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
        self.shared.aims.hold(resource);
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
        self.shared.aims.settle(resource)
    }
}

impl Drop for Striker {
    fn drop(&mut self) {
        // The thread sets its alarm under the same lock.
        let _table = self.shared.aims.table();
        self.shared.ended.store(true, Ordering::Relaxed);
        // An alarm that cannot be set leaves a thread asleep, no more.
        let _ = self.shared.alarm.set(Some((AT_ONCE.boot_ns, AT_ONCE.raw_ns)));
    }
}

impl Shared {
    fn new() -> io::Result<Self> {
        Ok(Self { aims: Aims::default(), alarm: ThreadAlarm::new()?, ended: AtomicBool::new(false) })
    }

    fn serve(&self) {
        // Most of the way, once, so that its pages are there, and locked, when it counts.
        let _ = Killer::of_nothing().kill();
        self.strike_all();
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

    /// Strikes whatever is due, and sets the alarm for the next.
    fn strike_all(&self) {
        let mut from = 0;
        loop {
            // A statement of its own: the lock is not held during the strike.
            let due = self.aims.table().take_due(from, leases::now());
            let Some((slot, killers)) = due else { break };
            for killer in &*killers {
                // The loop kills as well, and tells what hinders it.
                let _ = killer.kill();
            }
            // While it counts as being struck this is not the last of them, and nothing is given back here.
            drop(killers);
            self.aims.table().over(slot);
            from = slot + 1;
        }
        self.sleep_until_next();
    }

    /// Sets the alarm anew, whatever has become of it: what was made due meanwhile may stand before what was just struck.
    fn sleep_until_next(&self) {
        let mut table = self.aims.table();
        table.look_ahead();
        self.set_alarm(table);
    }

    fn aim(&self, resource: &Name, deadline: Deadline, killers: impl FnOnce() -> Arc<[Killer]>) {
        let mut table = self.aims.aim(resource, deadline, killers);
        if table.ring_by(deadline) {
            self.set_alarm(table);
        }
    }

    fn strike(&self, resource: &Name) {
        let Some(mut table) = self.aims.strike(resource) else { return };
        if table.ring_by(AT_ONCE) {
            self.set_alarm(table);
        }
    }

    fn release(&self) {
        let Some((mut table, deadline)) = self.aims.release() else { return };
        if table.ring_by(deadline) {
            self.set_alarm(table);
        }
    }

    fn set_alarm(&self, table: MutexGuard<'_, Table>) {
        if self.ended.load(Ordering::Relaxed) {
            return;
        }
        let set = self.alarm.set(table.rings().map(|deadline| (deadline.boot_ns, deadline.raw_ns)));
        drop(table);
        if let Err(error) = set {
            error!("no first strike, only the loop fences: cannot set a timer: {error}");
        }
    }
}

#[cfg(test)]
mod tests;
