//! What is counted. How it is shown stands in `api/metrics.rs`.

use std::ops::Index;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::wire::Lane;

/// A number that grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `count`.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// What it has come to.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Everything that is counted by one process.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Traffic with the other members.
    pub lanes: Lanes,
    /// Commits to the store.
    pub commits: Times,
    /// Events that the protocol has handled.
    pub events: Counter,
    /// Connections from outside that were turned away.
    pub turned_away: Counter,
    /// Requests to the API.
    pub requests: Counter,
    /// Commands given here.
    pub commands: Counter,
    /// Entries that the journal could not take.
    pub journal_lost: Counter,
}

/// Traffic by lane.
#[derive(Debug, Default)]
pub struct Lanes {
    pulse: Traffic,
    bulk: Traffic,
}

impl Index<Lane> for Lanes {
    type Output = Traffic;

    fn index(&self, lane: Lane) -> &Traffic {
        match lane {
            Lane::Pulse => &self.pulse,
            Lane::Bulk => &self.bulk,
        }
    }
}

/// Traffic on one lane with all members.
#[derive(Debug, Default)]
pub struct Traffic {
    /// Messages put in the queue.
    pub messages_sent: Counter,
    /// Their bytes.
    pub bytes_sent: Counter,
    /// Messages that were dropped from a full queue.
    pub dropped: Counter,
    /// Messages read.
    pub messages_received: Counter,
    /// Their bytes.
    pub bytes_received: Counter,
    /// Frames that broke the protocol.
    pub refused: Counter,
}

impl Traffic {
    /// Counts messages of these lengths as sent.
    pub fn sent(&self, lengths: impl Iterator<Item = usize>) {
        for length in lengths {
            self.messages_sent.add(1);
            self.bytes_sent.add(length as u64);
        }
    }

    /// Counts a message of this length as received.
    pub fn received(&self, length: usize) {
        self.messages_received.add(1);
        self.bytes_received.add(length as u64);
    }
}

/// The upper bounds of the buckets for times, in microseconds.
pub const BUCKETS_US: [u64; 9] = [250, 500, 1_000, 2_500, 5_000, 10_000, 50_000, 250_000, 1_000_000];

/// How long something took, each time.
#[derive(Debug, Default)]
pub struct Times {
    /// How often it took at most as long as the bound in [`BUCKETS_US`], and longer than the one before.
    pub buckets: [Counter; BUCKETS_US.len()],
    /// How often in all.
    pub count: Counter,
    /// How long in all, in microseconds.
    pub sum_us: Counter,
}

impl Times {
    /// Counts one more time.
    pub fn took(&self, time: Duration) {
        let us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        if let Some(bucket) = BUCKETS_US.iter().position(|most| us <= *most) {
            self.buckets[bucket].add(1);
        }
        self.count.add(1);
        self.sum_us.add(us);
    }
}
