//! The thread that writes the journal. Disks hang; fencing must not wait for them.

use std::error::Error;
use std::io;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tracing::warn;

use crate::deadman::{Save, Saved, Unsaved};
use crate::journal::Journal;

/// Takes saves in order and tells what became of them.
///
/// Neither queue has a number of places, since both are bounded by what is put in, however long the disk hangs: no resource
/// has more than three records on their way (an arming; the order to fence a larger token that overtakes it; the receipt),
/// because the next step of its fence or tenure waits for the last of them. That is a test of the deadman's
/// (`at_most_three_records_of_a_resource_wait_for_the_disk`). A batch holds at least one record, and has one outcome. Places
/// that could run out would have to be answered by losing a record, or by waiting for the disk.
#[derive(Debug)]
pub struct Store {
    saves: mpsc::Sender<Vec<Save>>,
    /// One message per batch written.
    pub outcomes: UnboundedReceiver<Outcome>,
    /// Closed when the thread has ended.
    ended: mpsc::Receiver<()>,
}

/// How long the last records may take at the end. As long as this daemon is there, no other can take its place, and nothing is
/// fenced.
const FINISH_WITHIN: Duration = Duration::from_millis(500);

/// What became of a batch.
#[derive(Debug)]
pub enum Outcome {
    /// It is durable.
    Saved(Vec<Saved>),
    /// It is not, and nothing will be from now on.
    Failed {
        /// Why, with the file's name.
        why: String,
        /// The batch.
        unsaved: Vec<Unsaved>,
    },
}

impl Store {
    /// Starts the thread, with the journal or with why there is none that can be written.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn start(journal: Result<Journal, String>) -> io::Result<Self> {
        let (saves, queue) = mpsc::channel();
        let (tell, outcomes) = unbounded_channel();
        let (ends, ended) = mpsc::channel();
        let writer = move || {
            serve(journal, &queue, &tell);
            drop(ends);
        };
        thread::Builder::new().name("journal".to_owned()).spawn(writer)?;
        Ok(Self { saves, outcomes, ended })
    }

    /// Hands over what is to be written.
    pub fn write(&self, saves: Vec<Save>) {
        if !saves.is_empty() {
            // The thread ends only when this end is dropped, or by a panic, which the closed outcomes tell.
            let _ = self.saves.send(saves);
        }
    }

    /// Writes what is still to be written, unless the disk hangs: then that is lost, as in a crash, and was told to nobody.
    pub fn finish(self) {
        drop(self.saves);
        if self.ended.recv_timeout(FINISH_WITHIN) == Err(RecvTimeoutError::Timeout) {
            warn!("the disk hangs: ending without what was on its way to it");
        }
    }
}

fn serve(
    mut journal: Result<Journal, String>,
    queue: &mpsc::Receiver<Vec<Save>>,
    tell: &UnboundedSender<Outcome>,
) {
    while let Ok(mut saves) = queue.recv() {
        // All that has come meanwhile costs one sync.
        saves.extend(queue.try_iter().flatten());
        let written = Save::write_all(saves, |saves| match &mut journal {
            Ok(journal) => journal.append(saves).map_err(|error| with_causes(&error)),
            Err(why) => Err(why.clone()),
        });
        let outcome = match written {
            Ok(saved) => Outcome::Saved(saved),
            Err((why, unsaved)) => {
                // After a failed sync nobody knows what is on the disk; trying again could only pretend.
                journal = Err(why.clone());
                Outcome::Failed { why, unsaved }
            }
        };
        if tell.send(outcome).is_err() {
            return;
        }
    }
}

/// An error and what led to it, in one line.
#[must_use]
pub fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use sitegate_fence_client::wire::Name;

    use super::*;
    use crate::deadman::Record;
    use crate::journal::{Loaded, load};

    fn save(open: u64) -> Vec<Save> {
        vec![Save::for_test(Name::new("db").unwrap(), Record { open: Some(open), receipt: None })]
    }

    #[tokio::test]
    async fn tells_of_what_is_durable() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::begin(dir.path(), &Loaded::empty(), "this boot").unwrap();
        let mut store = Store::start(Ok(journal)).unwrap();
        store.write(save(1));
        assert!(matches!(store.outcomes.recv().await, Some(Outcome::Saved(saved)) if saved.len() == 1));
        assert_eq!(load(dir.path()).unwrap().records[&Name::new("db").unwrap()].open, Some(1));
        store.write(save(2));
        store.finish();
        assert_eq!(load(dir.path()).unwrap().records[&Name::new("db").unwrap()].open, Some(2));
    }

    #[test]
    fn a_disk_that_hangs_does_not_keep_the_daemon_from_ending() {
        let dir = tempfile::tempdir().unwrap();
        let (journal, _disk) = Journal::on_hanging_disk(dir.path());
        let store = Store::start(Ok(journal)).unwrap();
        store.write(save(1));
        let (ended, ends) = mpsc::channel();
        thread::spawn(move || {
            store.finish();
            ended.send(()).unwrap();
        });
        ends.recv_timeout(Duration::from_secs(30)).unwrap();
    }

    #[tokio::test]
    async fn a_failure_is_final() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::start(Ok(Journal::on_full_disk(dir.path()))).unwrap();
        for _ in 0..2 {
            store.write(save(1));
            let Some(Outcome::Failed { why, unsaved }) = store.outcomes.recv().await else { panic!() };
            assert!(why.contains("cannot write") && why.contains("No space left"), "{why}");
            assert_eq!(unsaved.len(), 1);
        }
    }
}
