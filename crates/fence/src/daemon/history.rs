//! What happened lately: for `history`, for watching clients, and for the log.

use std::collections::VecDeque;

use sitegate_fence_client::status::HistoryEntry;
use sitegate_fence_client::wire::{Name, Notice, Receipt};
use sitegate_host::clock::unix_ms;
use tracing::{error, info, warn};

/// How many events are remembered. Receipts survive a restart, the rest is in the log.
const EVENTS_MAX: usize = 1000;

#[derive(Debug)]
pub(super) struct History {
    entries: VecDeque<HistoryEntry>,
}

impl History {
    pub(super) fn new(receipts: impl IntoIterator<Item = Receipt>) -> Self {
        let entry = |receipt: Receipt| HistoryEntry {
            unix_ms: receipt.proof.unix_ms,
            event: Notice::Receipt(receipt),
        };
        Self { entries: receipts.into_iter().map(entry).collect() }
    }

    /// Notes an event and writes it to the log.
    pub(super) fn note(&mut self, notice: &Notice) {
        log(notice);
        self.entries.push_back(HistoryEntry { unix_ms: unix_ms(), event: notice.clone() });
        if self.entries.len() > EVENTS_MAX {
            self.entries.pop_front();
        }
    }

    /// The newest `limit` of a resource, or of all, oldest first.
    pub(super) fn of(&self, resource: Option<&Name>, limit: Option<usize>) -> Vec<HistoryEntry> {
        let wanted = |entry: &&HistoryEntry| resource.is_none_or(|name| entry.event.resource() == name);
        let mut newest: Vec<HistoryEntry> =
            self.entries.iter().rev().filter(wanted).take(limit.unwrap_or(EVENTS_MAX)).cloned().collect();
        newest.reverse();
        newest
    }
}

/// Renewals happen all the time and are no news.
pub(super) fn is_news(notice: &Notice) -> bool {
    !matches!(notice, Notice::Extended { .. })
}

fn log(notice: &Notice) {
    let ticket = notice.resource();
    match notice {
        Notice::Extended { .. } => {}
        Notice::Armed { token, .. } => info!(%ticket, token, "armed"),
        Notice::Started { token, failed: None, .. } => info!(%ticket, token, "started"),
        Notice::Started { token, failed: Some(why), .. } => error!(%ticket, token, "start failed: {why}"),
        Notice::Stopped { token, failed: None, .. } => info!(%ticket, token, "stopped"),
        Notice::Stopped { token, failed: Some(why), .. } => warn!(%ticket, token, "stop failed: {why}"),
        Notice::Fencing { token, reason, .. } => warn!(%ticket, token, %reason, "fencing"),
        Notice::LevelFailed { token, level, why, .. } => {
            error!(%ticket, token, level, "a level of the fence plan failed: {why}");
        }
        Notice::FenceFailed { token, rounds, why, .. } => error!(
            %ticket, token, rounds,
            "FENCE FAILED: no level of the plan succeeded, the resource may still run; starting over. The last one: {why}"
        ),
        Notice::Receipt(receipt) => {
            let (token, reason, level, proof) =
                (receipt.token, &receipt.reason, receipt.level, &receipt.proof.what);
            info!(%ticket, token, %reason, level, proof, "fenced: nothing of it runs here any more");
        }
    }
}
