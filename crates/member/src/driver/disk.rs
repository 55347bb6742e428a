//! The thread that commits: one turn at a time, while the loop goes on answering heartbeats.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use sitegate_protocol::{Committing, Lsn, Record, Turn};
use tokio::sync::mpsc;
use tracing::error;

use super::Ended;
use crate::store::{CommitError, Proof, Store};

/// The way to the thread.
#[derive(Debug)]
pub(super) struct Disk {
    turns: SyncSender<Turn>,
    done: mpsc::Receiver<Result<Committing, CommitError>>,
    proof: Arc<Proof>,
}

/// A store whose every commit is proven before anything rests on it.
struct Proven {
    store: Store,
    proof: Arc<Proof>,
}

impl sitegate_protocol::Store for Proven {
    type Error = CommitError;

    fn commit<'r>(&mut self, records: impl Iterator<Item = &'r Record>) -> Result<Lsn, CommitError> {
        let lsn = self.store.commit(records)?;
        self.proof.write(lsn)?;
        Ok(lsn)
    }
}

impl Disk {
    pub(super) fn start(store: Store, proof: Proof) -> std::io::Result<Self> {
        let proof = Arc::new(proof);
        let (turns, queue) = sync_channel(1);
        let (results, done) = mpsc::channel(1);
        let proven = Proven { store, proof: Arc::clone(&proof) };
        std::thread::Builder::new()
            .name("commit".into())
            .spawn(move || commit_all(proven, &queue, &results))?;
        Ok(Self { turns, done, proof })
    }

    /// Begins to commit. No other commit may be running.
    pub(super) fn commit(&self, turn: Turn) -> Result<(), Ended> {
        self.turns.try_send(turn).map_err(|_| Ended::DiskGone)
    }

    /// The end of the running commit. Safe to cancel.
    pub(super) async fn done(&mut self) -> Option<Result<Committing, CommitError>> {
        self.done.recv().await
    }

    /// Lets the next start look for witnesses.
    pub(super) fn withdraw_proof(&self) {
        withdraw(&self.proof);
    }
}

fn commit_all(
    mut store: Proven,
    queue: &Receiver<Turn>,
    results: &mpsc::Sender<Result<Committing, CommitError>>,
) {
    while let Ok(turn) = queue.recv() {
        let result = turn.commit(&mut store);
        let failed = result.is_err();
        if failed {
            // The page cache may hold what the disk does not: nothing is proven from here on.
            withdraw(&store.proof);
        }
        if results.blocking_send(result).is_err() || failed {
            return;
        }
    }
}

fn withdraw(proof: &Proof) {
    if let Err(error) = proof.withdraw() {
        error!(%error, "the next start may take this disk for proven: remove the file");
    }
}
