//! The driver `reboot`: the level that ends everything at this machine, this daemon included.

use std::fs;
use std::io;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;

use rustix::system::{RebootCommand, reboot};
use tokio::sync::oneshot;

use crate::plan::RebootMethod;

/// The thread that restarts the machine. It is there from the start on: where it is needed, there may be no room for another.
#[derive(Clone, Debug)]
pub struct Restarter {
    attempts: SyncSender<Attempt>,
}

#[derive(Debug)]
struct Attempt {
    method: RebootMethod,
    failed: oneshot::Sender<String>,
}

impl Restarter {
    /// Starts the thread. `restart` is [`restart_machine`], but in tests.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn start(restart: impl Fn(RebootMethod) -> String + Send + 'static) -> io::Result<Self> {
        // One is under way and one waits; where the kernel hangs in the first, more of them would change nothing.
        let (attempts, queue) = sync_channel(1);
        thread::Builder::new().name("restarter".to_owned()).spawn(move || serve(&queue, restart))?;
        Ok(Self { attempts })
    }

    /// Restarts the machine. Returns only if that failed, with why. Dropped before its turn, it is not tried any more.
    pub async fn restart(&self, method: RebootMethod) -> String {
        let (failed, why) = oneshot::channel();
        let gone = || "the thread that restarts the machine has ended".to_owned();
        match self.attempts.try_send(Attempt { method, failed }) {
            Ok(()) => why.await.unwrap_or_else(|_| gone()),
            Err(TrySendError::Full(_)) => "earlier attempts to restart the machine still hang".to_owned(),
            Err(TrySendError::Disconnected(_)) => gone(),
        }
    }
}

fn serve(queue: &Receiver<Attempt>, restart: impl Fn(RebootMethod) -> String) {
    for Attempt { method, failed } in queue {
        if !failed.is_closed() {
            // Whoever asked may have given up meanwhile.
            let _ = failed.send(restart(method));
        }
    }
}

/// Restarts the machine at once: no sync, no stopping of services, which could hang on the very fault that led here.
/// Returns only if it failed.
#[must_use]
pub fn restart_machine(method: RebootMethod) -> String {
    match method {
        RebootMethod::Syscall => match reboot(RebootCommand::Restart) {
            Ok(()) => "reboot(2) returned".to_owned(),
            Err(error) => format!("reboot(2) failed: {error}; sitegate-fenced needs CAP_SYS_BOOT"),
        },
        RebootMethod::Sysrq => match fs::write("/proc/sysrq-trigger", "b") {
            Ok(()) => "/proc/sysrq-trigger took the order, but the machine still runs".to_owned(),
            Err(error) => {
                format!("cannot write /proc/sysrq-trigger: {error}; sitegate-fenced needs to be root")
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::{Duration, Instant};

    use super::*;

    #[tokio::test]
    async fn an_attempt_that_hangs_collects_no_others() {
        let (begun, begins) = channel();
        let (let_go, held) = channel::<()>();
        let restarter = Restarter::start(move |_| {
            begun.send(()).unwrap();
            held.recv().unwrap();
            "it failed".to_owned()
        })
        .unwrap();
        let attempt = || {
            let restarter = restarter.clone();
            tokio::spawn(async move { restarter.restart(RebootMethod::Syscall).await })
        };
        let first = attempt();
        tokio::task::yield_now().await;
        begins.recv().unwrap();
        let second = attempt();
        tokio::task::yield_now().await;
        assert!(attempt().await.unwrap().contains("still hang"));
        second.abort();
        assert!(second.await.unwrap_err().is_cancelled());
        let_go.send(()).unwrap();
        assert_eq!(first.await.unwrap(), "it failed");
        let_go.send(()).unwrap();
        // There is room again as soon as the thread has looked at the one that was given up.
        let until = Instant::now() + Duration::from_secs(30);
        while attempt().await.unwrap() != "it failed" {
            assert!(Instant::now() < until, "there is still no room");
        }
        assert_eq!(begins.try_iter().count(), 1, "what was given up before its turn was not tried");
    }
}
