//! Running a level of a plan: what its driver does, and what it proves.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use sitegate_fence_client::wire::{Name, Proof, Reason, Token};
use tokio::time::timeout;
use tracing::error;

use super::core::{Core, Done, Ended};
use super::orders::{proof, tell};
use crate::agent::{Agent, off};
use crate::deadman::RunId;
use crate::leases;
use crate::plan::{Driver, Level, RebootMethod};
use crate::programs::{Input, Role, Run, Told, limit_from};
use crate::systemd::{Call, UnitName, Verb};

/// Which part of a `reboot` level's limit may be spent waiting for the disk to know of the fence. A machine that restarts before
/// that does not find, at its next start, that it has restarted for it, and does so again.
const RECORD_SHARE: u32 = 5;

/// A level on its way to its end.
type Attempt = Pin<Box<dyn Future<Output = Result<Proof, String>> + Send>>;

/// Which level of what is being fenced, and why.
#[derive(Clone, Debug)]
struct Case {
    run: RunId,
    resource: Name,
    token: Token,
    reason: Reason,
    within: Duration,
}

impl Core {
    pub(super) fn order_level(
        &mut self,
        run: RunId,
        resource: Name,
        token: Token,
        reason: Reason,
        level: usize,
    ) {
        let Level { driver, within } = self.config.resources[&resource].plan.levels[level].clone();
        let case = Case { run, resource: resource.clone(), token, reason, within };
        let attempt = match driver {
            Driver::Command(program) => self.run_command(case, program.command),
            Driver::Agent(agent) => self.run_agent(case, agent),
            Driver::Systemd(unit) => self.ask_systemd(case, unit),
            Driver::Reboot(method) => self.restart_machine(&case, method),
            Driver::Watchdog => self.leave_to_watchdog(&case),
            Driver::Removed => {
                let why = "it is no longer in fenced.toml: put it back and reload sitegate-fenced";
                Box::pin(async { Err(why.to_owned()) })
            }
        };
        let done = self.done.clone();
        tokio::spawn(async move {
            let what = Ended::Level(attempt.await);
            tell(&done, Done::Run { resource, run, what }).await;
        });
    }

    fn run_command(&mut self, case: Case, command: Vec<String>) -> Attempt {
        let Case { run, resource, token, reason, within } = case;
        let told = Told { site: self.site.clone(), reason, deadline: limit_from(leases::now(), within) };
        let what = format!("{} exited with 0", command[0]);
        let (input, shown, role) = (Input::default(), command[0].clone(), Role::Level(run.0));
        let program = Run { resource, token, role, command, input, shown, within, told };
        let (programs, cancel) = (self.programs.clone(), self.cancel(run));
        Box::pin(async move { programs.run(&program, cancel).await.map(|()| proof(what)) })
    }

    fn run_agent(&mut self, case: Case, agent: Arc<Agent>) -> Attempt {
        let Case { run, resource, token, reason, within } = case;
        let told = Told { site: self.site.clone(), reason, deadline: limit_from(leases::now(), within) };
        let case = off::Case { resource, token, run: run.0, told };
        let (programs, cancel) = (self.programs.clone(), self.cancel(run));
        Box::pin(async move { off::switch_off(agent, case, within, programs, cancel).await.map(proof) })
    }

    fn ask_systemd(&mut self, case: Case, unit: UnitName) -> Attempt {
        let Case { run, resource, token, reason, within } = case;
        let told = Told { site: self.site.clone(), reason, deadline: limit_from(leases::now(), within) };
        let call = Call { verb: Verb::Fence, resource: resource.clone(), unit, within };
        let (input, shown, command, role) =
            (Input::default(), call.shown(), call.command(), Role::Level(run.0));
        let program = Run { resource, token, role, command, input, shown, within, told };
        let (programs, cancel) = (self.programs.clone(), self.cancel(run));
        Box::pin(async move {
            let exited = programs.exit(&program, cancel).await?;
            if exited.code == 0 { Ok(proof(exited.said().to_owned())) } else { Err(exited.to_string()) }
        })
    }

    /// If the machine has restarted since it was armed, to have it restart once more would change nothing, and nothing would ever
    /// end it.
    fn has_restarted(&self, case: &Case) -> Option<Attempt> {
        let restarted = self.restarted.get(&case.resource) == Some(&case.token);
        let what = "the machine has restarted since it was armed".to_owned();
        restarted.then(|| -> Attempt { Box::pin(async move { Ok(proof(what)) }) })
    }

    /// From now on it is not petted until there is a receipt.
    fn leave_to_watchdog(&mut self, case: &Case) -> Attempt {
        if let Some(done) = self.has_restarted(case) {
            return done;
        }
        self.left_to_watchdog.insert(case.resource.clone());
        self.keep_watchdog();
        let cancel = self.cancel(case.run);
        Box::pin(async move {
            // The end of the level's time, unless the machine's comes first.
            let _ = cancel.await;
            Err("the watchdog has not reset the machine".to_owned())
        })
    }

    fn restart_machine(&mut self, case: &Case, method: RebootMethod) -> Attempt {
        if let Some(done) = self.has_restarted(case) {
            return done;
        }
        let Case { run, resource, token, reason, within } = case;
        error!(ticket = %resource, token, %reason, "RESTARTING THE MACHINE, as the fence plan says");
        let recorded = self.recorded(resource, *within / RECORD_SHARE);
        let (restarter, cancel) = (self.restarter.clone(), self.cancel(*run));
        Box::pin(async move {
            let restart = async {
                recorded.await;
                restarter.restart(method).await
            };
            tokio::select! {
                why = restart => Err(why),
                _ = cancel => Err("was given up".to_owned()),
            }
        })
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
        let end = ends.recv().await.unwrap();
        assert!(matches!(end, Done::Run { what: Ended::Level(Err(why)), .. } if why == "it failed"));
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
