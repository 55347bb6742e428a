//! The deadman's start: from what the disk and the runtime directory tell.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use sitegate_fence_client::wire::{Activity, Instant, Name, Reason};
use sitegate_mutant::planted;

use super::{Acts, Armed, Deadman, Lease, Leases, Plans, Record, Resource, Schedule, Tenure};

impl Deadman {
    /// The deadman as it was left: with all resources that have a schedule, their durable `records`, and the `leases`
    /// that were published **during this same boot** (none after a reboot). What was armed or being fenced without a
    /// receipt is fenced, unless its lease still lies ahead; [`take`](Self::take) gives the orders. At most `at_once`
    /// plans (at least one) run their levels at a time.
    ///
    /// # Panics
    /// If a record is of a resource that has no schedule: nobody would fence it.
    #[must_use]
    pub fn recover(
        now: Instant,
        at_once: usize,
        schedules: BTreeMap<Name, Schedule>,
        mut records: BTreeMap<Name, Record>,
        leases: &Leases,
    ) -> Self {
        let mut open = Vec::new();
        let mut resources = BTreeMap::new();
        for (name, schedule) in schedules {
            let record = records.remove(&name).unwrap_or_default();
            if let Some(token) = record.open {
                open.push((name.clone(), token));
            }
            resources.insert(name, Resource { schedule, tenure: Tenure::Unarmed, receipt: record.receipt });
        }
        assert!(records.is_empty(), "records of resources without a schedule: {:?}", records.keys());
        let plans = Plans { at_once: at_once.max(1), running: BTreeSet::new(), waiting: VecDeque::new() };
        let acts = Acts::default();
        let changed = resources.keys().cloned().collect();
        let mut deadman = Self { resources, plans, next_run: 0, next_save: 0, changed, acts };
        for (name, token) in open {
            if planted!(DeadmanForgets) {
                continue;
            }
            if let Some(lease) = leases.get(&name).filter(|_| planted!(LeaseCarriedOnLate)) {
                deadman.carry_on(&name, lease);
                continue;
            }
            match leases.get(&name).filter(|l| l.token == token && !l.deadline.passed(now)) {
                Some(lease) => deadman.carry_on(&name, lease),
                None => deadman.begin_fence(now, &name, token, Reason::not_receipted()),
            }
        }
        deadman
    }

    fn carry_on(&mut self, name: &Name, lease: &Lease) {
        let Some(resource) = self.resources.get_mut(name) else { return };
        let activity = match &lease.activity {
            Activity::Starting | Activity::Stopping => Activity::Interrupted,
            known => known.clone(),
        };
        let Lease { token, incarnation, deadline, .. } = *lease;
        resource.tenure = Tenure::Armed(Armed { token, incarnation, deadline, run: None, activity });
    }
}
