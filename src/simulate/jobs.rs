//! The simulations: each by itself, several at a time, their results in the order of the jobs whoever ran them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use sitegate_protocol::TicketName;
use sitegate_simulator::forecast::{Failover, Failure, Outcome, Ran, Setup, endure, failover, outage};

use crate::terminal::progress::Waiting;

/// How often progress is shown.
const TICK: Duration = Duration::from_millis(500);

/// One simulation.
#[derive(Clone, Debug)]
pub(super) enum Job {
    Failover(Setup),
    /// With so many seconds.
    Endure(Setup, u64),
    Outage(Setup, Failure),
}

/// What it came to.
#[derive(Clone, Debug)]
pub(super) enum Came {
    Failover(Vec<Failover>),
    Endure(BTreeMap<TicketName, u64>, u64),
    Outage(Failure, BTreeMap<TicketName, Outcome>),
}

impl Job {
    fn run(&self) -> (Came, Ran) {
        match self {
            Self::Failover(setup) => {
                let (failovers, ran) = failover(setup);
                (Came::Failover(failovers), ran)
            }
            Self::Endure(setup, seconds) => {
                let (lost, ran) = endure(setup, *seconds);
                (Came::Endure(lost, *seconds), ran)
            }
            Self::Outage(setup, failure) => {
                let (outcomes, ran) = outage(setup, *failure);
                (Came::Outage(*failure, outcomes), ran)
            }
        }
    }
}

/// Runs all of them, and shows how far it is.
pub(super) fn run_all(jobs: &[Job], threads: usize) -> Vec<(Came, Ran)> {
    let next = AtomicUsize::new(0);
    let (done, results) = mpsc::channel();
    let mut came: Vec<Option<(Came, Ran)>> = jobs.iter().map(|_| None).collect();
    std::thread::scope(|scope| {
        for _ in 0..threads.min(jobs.len()) {
            let (done, next) = (done.clone(), &next);
            scope.spawn(move || {
                while let Some((index, job)) = take(jobs, next) {
                    // The other end lives until all have ended.
                    let _ = done.send((index, job.run()));
                }
            });
        }
        drop(done);
        let mut shown = Waiting::new();
        let mut count = 0;
        loop {
            match results.recv_timeout(TICK) {
                Ok((index, result)) => {
                    came[index] = Some(result);
                    count += 1;
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    shown.waits_for(&format!("{count} of {} simulations are done", jobs.len()));
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
            }
        }
        shown.clear();
    });
    came.into_iter().flatten().collect()
}

fn take<'j>(jobs: &'j [Job], next: &AtomicUsize) -> Option<(usize, &'j Job)> {
    let index = next.fetch_add(1, Ordering::Relaxed);
    jobs.get(index).map(|job| (index, job))
}
