//! What this member decided, and why: every tenure, vote, fault and command, with both clocks and the time of day.
//!
//! The journal is a directory of files with one JSON object a line. Each line ends with a SHA-256 over the line before it
//! and all of its own bytes up to there, so nothing can be changed or left out in the middle without everything after it
//! showing it. It is bounded: the oldest file goes when there are too many. Entries are not synced one by one:
//! a power failure may take the last of them, and nothing but this record is lost with them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sitegate_host::clock::unix_ms;
use sitegate_host::durable::DurableError;
use sitegate_protocol::Now;
use tracing::error;

mod chain;
mod commands;
mod files;
mod notes;
mod votes;

pub use chain::{Broken, Chain, ChainHash, verify};
pub use commands::describe_command;
pub use files::{FILE_BYTES_MAX, FILES_MAX, read_all, read_newest};
pub(crate) use notes::barred;
pub use notes::describe;
pub use votes::describe_vote;

use files::Files;

/// Drafts that wait to be written. A disk that hangs must not stop the member; what does not fit is counted as lost.
const WAITING_MAX: usize = 4096;

/// Something worth writing down, before it is written.
#[derive(Clone, Debug, PartialEq)]
pub struct Draft {
    /// One word for what it is, for filters.
    pub kind: &'static str,
    /// The ticket it is about.
    pub ticket: Option<String>,
    /// The member it is about, if not this one.
    pub member: Option<String>,
    /// One sentence.
    pub text: String,
    /// The same for programs.
    pub detail: Value,
}

/// A line of the journal, as `history` gives it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Counts all entries of this member from 1.
    pub seq: u64,
    /// The time of day, RFC 3339.
    pub at: String,
    /// `CLOCK_BOOTTIME`, ns.
    pub boot_ns: u64,
    /// `CLOCK_MONOTONIC_RAW`, ns.
    pub raw_ns: u64,
    /// One word for what it is.
    pub kind: String,
    /// The ticket it is about.
    pub ticket: Option<String>,
    /// The member it is about, if not the one whose journal it is.
    pub member: Option<String>,
    /// One sentence.
    pub text: String,
    /// The same for programs.
    pub detail: Value,
    /// SHA-256 over the hash before and this line up to here; 64 hexadecimal digits.
    #[serde(default)]
    pub hash: String,
}

/// The way to the journal. Clones share it.
#[derive(Clone, Debug)]
pub struct Journal {
    directory: Arc<Path>,
    work: SyncSender<Work>,
    /// Entries that found no place, and are not told of yet.
    lost: Arc<AtomicU64>,
}

enum Work {
    Write(Vec<(Draft, Moment)>),
    Sync(SyncSender<()>),
}

/// When something happened.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    now: Now,
    wall: jiff::Timestamp,
}

impl Moment {
    /// `now`, and the time of day.
    #[must_use]
    pub fn new(now: Now) -> Self {
        let ms = i64::try_from(unix_ms()).unwrap_or(i64::MAX);
        Self { now, wall: jiff::Timestamp::from_millisecond(ms).unwrap_or(jiff::Timestamp::MAX) }
    }
}

impl Journal {
    /// Opens the journal in `directory`, which is made if need be, and goes on where it ended. It is written by a thread
    /// that ends when the last clone of this is gone.
    ///
    /// # Errors
    /// If the directory or its newest file cannot be used.
    pub fn open(directory: &Path) -> Result<Self, DurableError> {
        let files = Files::open(directory)?;
        let (work, queue) = sync_channel(WAITING_MAX);
        let thread =
            std::thread::Builder::new().name("journal".into()).spawn(move || write_all(files, &queue));
        thread.map_err(DurableError::on("start the journal in", directory))?;
        Ok(Self { directory: directory.into(), work, lost: Arc::default() })
    }

    /// Writes down what happened at `moment`, soon. Returns how much was lost because the disk does not keep up.
    #[must_use]
    pub fn write(&self, drafts: Vec<Draft>, moment: Moment) -> u64 {
        let count = drafts.len() as u64;
        if count == 0 {
            return 0;
        }
        let lost = self.lost.swap(0, Ordering::Relaxed);
        let gap = (lost > 0).then(|| entries_lost(lost));
        let work = Work::Write(gap.into_iter().chain(drafts).map(|draft| (draft, moment)).collect());
        match self.work.try_send(work) {
            Ok(()) => 0,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.lost.fetch_add(lost + count, Ordering::Relaxed);
                count
            }
        }
    }

    /// Waits until everything is written and on the disk, for at most `within`. For the end of a daemon.
    pub fn sync(&self, within: std::time::Duration) {
        let (done, wait) = sync_channel(1);
        if self.work.try_send(Work::Sync(done)).is_ok() {
            // Late or never: the daemon ends all the same.
            let _ = wait.recv_timeout(within);
        }
    }

    /// Where it lies, for reading.
    #[must_use]
    pub fn directory(&self) -> PathBuf {
        self.directory.to_path_buf()
    }
}

/// Says that something is missing here, which the chain alone does not show.
fn entries_lost(count: u64) -> Draft {
    let text = format!("{count} entries before this one were lost: the disk did not keep up");
    let detail = serde_json::json!({ "count": count });
    Draft { kind: "entries-lost", ticket: None, member: None, text, detail }
}

fn write_all(mut files: Files, queue: &Receiver<Work>) {
    while let Ok(work) = queue.recv() {
        match work {
            Work::Write(drafts) => {
                for (draft, moment) in drafts {
                    if let Err(error) = files.append(draft, moment) {
                        error!(%error, source = %error.source, "the journal cannot be written");
                    }
                }
            }
            Work::Sync(done) => {
                if let Err(error) = files.sync() {
                    error!(%error, source = %error.source, "the journal cannot be synced");
                }
                // Whoever waited may have given up.
                let _ = done.send(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_told_of_once_there_is_room() {
        let (work, queue) = sync_channel(1);
        let journal = Journal { directory: Path::new("/nowhere").into(), work, lost: Arc::default() };
        let write = |count: usize| {
            let draft =
                Draft { kind: "test", ticket: None, member: None, text: String::new(), detail: Value::Null };
            journal.write(vec![draft; count], Moment::new(Now::default()))
        };
        let kinds = || match queue.recv() {
            Ok(Work::Write(drafts)) => drafts.iter().map(|(draft, _)| draft.kind).collect::<Vec<_>>(),
            _ => Vec::new(),
        };
        assert_eq!((write(1), write(2), write(1)), (0, 2, 1));
        assert_eq!(kinds(), ["test"]);
        assert_eq!(write(1), 0);
        assert_eq!(kinds(), ["entries-lost", "test"]);
        assert_eq!(write(1), 0);
        assert_eq!(kinds(), ["test"]);
    }
}
