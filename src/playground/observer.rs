//! Watches the shared file all the time, and the process table whenever a tenure begins to write.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use sitegate_host::clock::boot_ns;

use super::processes::{start_hooks, writers};
use super::timeline::Timeline;
use super::writer::WRITES_FILE;
use super::writes::Writes;

/// Between two looks at the file: a tenth of the time between two writes.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// How long after its last write a writer counts as ended, in ns: ten periods.
const SILENT_AFTER_NS: u64 = 500_000_000;

/// A thread that watches. It ends with this.
#[derive(Debug)]
pub(super) struct Observer {
    seen: Arc<Mutex<Seen>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// What it has seen.
#[derive(Debug)]
pub(super) struct Seen {
    /// The file.
    pub(super) writes: Writes,
    /// What ran at another site, or under another token, when a tenure had begun to write.
    pub(super) beside: Vec<String>,
    /// Why it cannot see.
    pub(super) blind: Option<String>,
    tenures: usize,
    /// Whether it was noted that nobody writes any more.
    silent: bool,
}

impl Observer {
    /// Begins to watch.
    pub(super) fn start(ground: &Path, timeline: Timeline) -> io::Result<Self> {
        let writes = Writes::of(ground.join(WRITES_FILE));
        let seen =
            Arc::new(Mutex::new(Seen { writes, beside: Vec::new(), blind: None, tenures: 0, silent: false }));
        let stop = Arc::new(AtomicBool::new(false));
        let (shared, stopped, ground) = (Arc::clone(&seen), Arc::clone(&stop), ground.to_owned());
        let thread = std::thread::Builder::new().name("observer".to_owned()).spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                lock(&shared).look(&ground, &timeline);
                std::thread::sleep(LOOK_AGAIN);
            }
        })?;
        Ok(Self { seen, stop, thread: Some(thread) })
    }

    /// What it has seen so far.
    pub(super) fn seen(&self) -> MutexGuard<'_, Seen> {
        lock(&self.seen)
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // If it has panicked, what it saw still counts; nothing more can be done here.
            let _ = thread.join();
        }
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Seen {
    fn look(&mut self, ground: &Path, timeline: &Timeline) {
        match self.writes.read_on() {
            Ok(0) => return self.look_for_an_end(timeline),
            Ok(_) => self.silent = false,
            Err(error) => {
                self.blind = Some(error.to_string());
                return;
            }
        }
        let tenures = self.writes.tenures();
        let new = tenures.get(self.tenures..).unwrap_or_default();
        self.tenures = tenures.len();
        let Some(newest) = new.last() else { return };
        // At once, while what should be gone could still be there.
        let beside = writers(ground).into_iter().map(|writer| (writer, "writes"));
        let beside = beside.chain(start_hooks(ground).into_iter().map(|hook| (hook, "starts")));
        for (other, does) in beside {
            if other.site != newest.site {
                self.beside.push(format!(
                    "{} {does} (process {}) when {} has begun to",
                    other.site, other.process.pid, newest.site
                ));
            }
        }
        for tenure in new {
            timeline.note_at(tenure.first_ns, &format!("{} writes, token {}", tenure.site, tenure.token));
        }
    }

    fn look_for_an_end(&mut self, timeline: &Timeline) {
        let Some(last) = self.writes.lines().last() else { return };
        if !self.silent && boot_ns().saturating_sub(last.boot_ns) > SILENT_AFTER_NS {
            self.silent = true;
            timeline
                .note_at(last.boot_ns, &format!("{} has written its last, token {}", last.site, last.token));
        }
    }
}
