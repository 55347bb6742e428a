//! The thread that writes, and the way to it. It waits for the disk, so that nobody else has to.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use sitegate_host::durable::DurableError;
use tracing::error;

use crate::content::{Content, Count};
use crate::entry::{Draft, Moment};
use crate::files::Files;

/// Drafts that wait to be written. A disk that hangs must not stop the member; what does not fit is counted as lost.
const WAITING_MAX: usize = 4096;

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
    Draft::new(text, Content::EntriesLost(Count { count }))
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
    use sitegate_protocol::Now;

    use super::*;
    use crate::content::Nothing;

    #[test]
    fn a_gap_is_told_of_once_there_is_room() {
        let (work, queue) = sync_channel(1);
        let journal = Journal { directory: Path::new("/nowhere").into(), work, lost: Arc::default() };
        let write = |count: usize| {
            let draft = Draft::new(String::new(), Content::Voting(Nothing {}));
            journal.write(vec![draft; count], Moment::new(Now::default()))
        };
        let kinds = || match queue.recv() {
            Ok(Work::Write(drafts)) => {
                drafts.iter().map(|(draft, _)| draft.content.kind()).collect::<Vec<_>>()
            }
            _ => Vec::new(),
        };
        assert_eq!((write(1), write(2), write(1)), (0, 2, 1));
        assert_eq!(kinds(), ["voting"]);
        assert_eq!(write(1), 0);
        assert_eq!(kinds(), ["entries-lost", "voting"]);
        assert_eq!(write(1), 0);
        assert_eq!(kinds(), ["voting"]);
    }
}
