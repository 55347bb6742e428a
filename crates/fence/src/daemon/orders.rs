//! Carrying out the deadman's orders: each in a task of its own, each answered by its end.

use std::sync::Arc;
use std::time::Duration;

use sitegate_fence_client::wire::{Deadline, Name, Proof, Reason, Token};
use sitegate_host::clock::unix_ms;
use sitegate_host::sweep::Swept;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tracing::error;

use super::core::{Core, Done, Ended};
use super::setup::for_sweeper;
use crate::config::Hook;
use crate::deadman::RunId;
use crate::leases;
use crate::plan::{Driver, Level};
use crate::programs::{Role, Run, Told, limit_from};

/// What a resource may have beside its plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Program {
    Start,
    Stop,
}

/// Which part of a `reboot` level's limit may be spent waiting for the disk to know of the fence. A machine that restarts before
/// that does not find, at its next start, that it has restarted for it, and does so again.
const RECORD_SHARE: u32 = 5;

impl Core {
    pub(super) fn order_kill(&mut self, run: RunId, resource: Name, within_ns: u64) {
        let withdrawn = self.withdrawn();
        let within = for_sweeper(Duration::from_nanos(within_ns));
        let (containment, done) = (self.programs.containment.clone(), self.done.clone());
        tokio::spawn(async move {
            let killed = containment.kill(&resource, None, within).await;
            let result = match (withdrawn, killed) {
                (Ok(()), Ok(swept)) => Ok(proof(killed_text(swept))),
                (Err(why), _) => Err(why),
                (Ok(()), Err(left)) => Err(left.to_string()),
            };
            tell(&done, Done { resource, run, what: Ended::Kill(result) }).await;
        });
    }

    pub(super) fn order_level(
        &mut self,
        run: RunId,
        resource: Name,
        token: Token,
        reason: Reason,
        level: usize,
    ) {
        let Level { driver, within } = self.config.resources[&resource].plan.levels[level].clone();
        let done = self.done.clone();
        match driver {
            Driver::Command(command) => {
                let deadline = limit_from(leases::now(), within);
                let told = Told { site: self.site.clone(), reason, deadline };
                let role = Role::Level(run.0);
                let what = command[0].clone();
                let program = Run { resource, token, role, command, within, told };
                let programs = self.programs.clone();
                let cancel = self.cancel(run);
                tokio::spawn(async move {
                    let result =
                        programs.run(&program, cancel).await.map(|()| proof(format!("{what} exited with 0")));
                    tell(&done, Done { resource: program.resource, run, what: Ended::Level(result) }).await;
                });
            }
            // Doing it once more would change nothing, and nothing would ever end it.
            Driver::Reboot(_) if self.restarted.get(&resource) == Some(&token) => {
                let what = Ended::Level(Ok(proof("the machine has restarted since it was armed".to_owned())));
                tokio::spawn(async move { tell(&done, Done { resource, run, what }).await });
            }
            Driver::Reboot(method) => {
                error!(ticket = %resource, token, %reason, "RESTARTING THE MACHINE, as the fence plan says");
                let recorded = self.recorded(&resource, within / RECORD_SHARE);
                let (restarter, cancel) = (self.restarter.clone(), self.cancel(run));
                tokio::spawn(async move {
                    let why = tokio::select! {
                        why = async {
                            recorded.await;
                            restarter.restart(method).await
                        } => why,
                        _ = cancel => "was given up".to_owned(),
                    };
                    tell(&done, Done { resource, run, what: Ended::Level(Err(why)) }).await;
                });
            }
            Driver::Removed => {
                let why = "it is no longer in fenced.toml: put it back and reload sitegate-fenced".to_owned();
                tokio::spawn(async move {
                    tell(&done, Done { resource, run, what: Ended::Level(Err(why)) }).await;
                });
            }
        }
    }

    pub(super) fn order_program(
        &mut self,
        which: Program,
        run: RunId,
        resource: Name,
        token: Token,
        deadline: Deadline,
    ) {
        let done = self.done.clone();
        let configured = &self.config.resources[&resource];
        let (hook, role, reason, end): (_, _, _, fn(_) -> _) = match which {
            Program::Start => (configured.start.clone(), Role::Start, "start", Ended::Start),
            Program::Stop => (configured.stop.clone(), Role::Stop, "stop", Ended::Stop),
        };
        let Some(Hook { command, within }) = hook else {
            tokio::spawn(async move { tell(&done, Done { resource, run, what: end(Ok(())) }).await });
            return;
        };
        let reason = Reason::new(reason).expect("a word is a reason");
        let told = Told { site: self.site.clone(), reason, deadline };
        let program = Run { resource, token, role, command, within, told };
        let (programs, room) = (self.programs.clone(), Arc::clone(&self.room));
        let mut cancel = self.cancel(run);
        tokio::spawn(async move {
            let result = tokio::select! {
                place = room.acquire_owned() => {
                    let result = programs.run(&program, cancel).await;
                    drop(place);
                    result
                }
                _ = &mut cancel => Err("was given up before its turn".to_owned()),
            };
            tell(&done, Done { resource: program.resource, run, what: end(result) }).await;
        });
    }

    /// Waits until what was handed to the store of `resource` has an outcome, with a bound: the disk may be what has failed.
    fn recorded(&self, resource: &Name, within: Duration) -> impl Future<Output = ()> + Send + use<> {
        let newest = self.handed_over.get(resource).copied().unwrap_or_default();
        let mut settled = self.settled.subscribe();
        async move {
            // The other end goes only when the daemon ends.
            if timeout(within, settled.wait_for(|settled| *settled >= newest)).await.is_err() {
                error!(
                    "the disk hangs: it may not know yet what is being fenced, and the machine may be restarted once more for it"
                );
            }
        }
    }

    fn cancel(&mut self, run: RunId) -> oneshot::Receiver<()> {
        let (cancel, cancelled) = oneshot::channel();
        self.cancels.insert(run, cancel);
        cancelled
    }
}

fn killed_text(Swept { processes }: Swept) -> String {
    match processes {
        0 => "no process is left of what was started".to_owned(),
        1 => "1 process was killed, and none is left".to_owned(),
        n => format!("{n} processes were killed, and none is left"),
    }
}

fn proof(what: String) -> Proof {
    Proof { what, unix_ms: unix_ms() }
}

/// Waits for a place, if all are taken, until the loop has looked: nothing that ended is forgotten.
async fn tell(done: &mpsc::Sender<Done>, end: Done) {
    // The other end goes only when the daemon ends.
    let _ = done.send(end).await;
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::sync::mpsc::channel;

    use super::super::fixture::core;
    use super::*;
    use crate::journal::Journal;
    use crate::reboot::Restarter;
    use crate::store::Store;

    /// How long a busy machine may take.
    const SOON: Duration = Duration::from_secs(30);
    /// How long what must not happen is given to happen.
    const A_WHILE: Duration = Duration::from_millis(100);

    const RESTARTS: &str = "[resource.db]\nfence = [{ driver = \"reboot\", within = \"1h\" }]\n";

    #[tokio::test]
    async fn the_machine_is_not_restarted_before_the_disk_knows_why() {
        let dir = tempfile::tempdir().unwrap();
        let (tried, tries) = channel();
        let restarter = Restarter::start(move |_| {
            tried.send(()).unwrap();
            "it failed".to_owned()
        });
        let (mut core, mut ends) = core(dir.path(), RESTARTS, restarter.unwrap());
        let (journal, mut disk) = Journal::on_hanging_disk(dir.path());
        let mut store = Store::start(Ok(journal)).unwrap();
        let db = Name::new("db").unwrap();
        core.deadman.fence(leases::now(), &db, 7, Reason::not_receipted()).unwrap();
        core.carry_out(&store);
        // The kill that every plan begins with; then comes the level.
        core.done(ends.recv().await.unwrap());
        core.carry_out(&store);
        tokio::task::yield_now().await;
        assert!(tries.recv_timeout(A_WHILE).is_err(), "the disk does not know yet");
        std::thread::spawn(move || disk.read_to_end(&mut Vec::new()));
        core.written(store.outcomes.recv().await.unwrap());
        assert!(matches!(ends.recv().await.unwrap().what, Ended::Level(Err(why)) if why == "it failed"));
        tries.recv_timeout(SOON).unwrap();
    }

    #[tokio::test]
    async fn a_disk_that_hangs_is_not_waited_for_without_end() {
        let dir = tempfile::tempdir().unwrap();
        let (mut core, _ends) =
            core(dir.path(), RESTARTS, Restarter::start(|_| "it failed".to_owned()).unwrap());
        let db = Name::new("db").unwrap();
        core.handed_over.insert(db.clone(), 1);
        core.recorded(&db, Duration::from_millis(1)).await;
        core.settled.send_replace(1);
        core.recorded(&db, Duration::MAX).await;
    }
}
