//! What waits to be sent to one member on one lane.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

use crate::wire::{Lane, PACKET_BYTES_MAX};

/// Messages that wait on the pulse lane: heartbeats older than these renew next to nothing.
const PULSE_MESSAGES_MAX: usize = 8;
/// Messages that wait on the bulk lane; the protocol says again what was dropped.
const BULK_MESSAGES_MAX: usize = 64;
/// Bytes that wait on one lane: what one failover of ten thousand tickets sends to one member, and some more.
const BYTES_MAX: usize = 8 * PACKET_BYTES_MAX;
/// Bytes that are handed to the connection at a time.
const BATCH_BYTES: usize = 64 * 1024;

/// A bounded queue that drops its oldest.
#[derive(Debug)]
pub(super) struct Outbox {
    messages_max: usize,
    waiting: Mutex<Waiting>,
    filled: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    messages: VecDeque<Vec<u8>>,
    bytes: usize,
}

impl Outbox {
    pub(super) fn new(lane: Lane) -> Self {
        let messages_max = match lane {
            Lane::Pulse => PULSE_MESSAGES_MAX,
            Lane::Bulk => BULK_MESSAGES_MAX,
        };
        Self { messages_max, waiting: Mutex::default(), filled: Notify::new() }
    }

    /// Adds messages; returns how many older ones were dropped for them.
    pub(super) fn put(&self, messages: Vec<Vec<u8>>) -> u64 {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let mut dropped = 0;
        for message in messages {
            waiting.bytes += message.len();
            waiting.messages.push_back(message);
            while waiting.messages.len() > self.messages_max || waiting.bytes > BYTES_MAX {
                let oldest = waiting.messages.pop_front().map_or(0, |message| message.len());
                waiting.bytes -= oldest;
                dropped += 1;
            }
        }
        drop(waiting);
        self.filled.notify_one();
        dropped
    }

    /// Waits for messages and takes some, in order. Safe to cancel.
    pub(super) async fn take(&self) -> Vec<u8> {
        loop {
            let batch = self.take_now();
            if !batch.is_empty() {
                return batch;
            }
            self.filled.notified().await;
        }
    }

    fn take_now(&self) -> Vec<u8> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let mut batch = Vec::new();
        while batch.len() < BATCH_BYTES {
            let Some(message) = waiting.messages.pop_front() else { break };
            waiting.bytes -= message.len();
            if batch.is_empty() {
                batch = message;
            } else {
                batch.extend(message);
            }
        }
        batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn drops_the_oldest() {
        let outbox = Outbox::new(Lane::Pulse);
        let messages = |range: std::ops::Range<u8>| range.map(|i| vec![i; 10]).collect::<Vec<_>>();
        assert_eq!(outbox.put(messages(0..8)), 0);
        assert_eq!(outbox.put(messages(8..11)), 3);
        assert_eq!(outbox.take().await, messages(3..11).concat());
        assert!(outbox.take_now().is_empty());
    }

    #[tokio::test]
    async fn is_bounded_in_bytes_and_hands_out_batches() {
        let outbox = Outbox::new(Lane::Bulk);
        let dropped = outbox.put(vec![vec![0; PACKET_BYTES_MAX]; 10]);
        assert_eq!(dropped, 2);
        for _ in 0..8 {
            assert_eq!(outbox.take().await.len(), PACKET_BYTES_MAX);
        }
        assert!(outbox.take_now().is_empty());
    }
}
