//! `join`: a process that was not started here asks to be fenced with a resource (docs/fencing.md, "Joining").
//!
//! It is taken down, then moved, and then it is looked again whether the tenure still stands. A fence that began in between finds it
//! taken down, since the loop that begins fences is the one that takes down.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use sitegate_fence_client::request::Reply;
use sitegate_fence_client::status::{Joined, ResourceState};
use sitegate_fence_client::wire::{Activity, Deadline, Name, Reason, Refusal, Token};
use sitegate_host::process::{self, Process};
use tracing::{info, warn};

use super::access::Peer;
use super::core::{Core, Done};
use super::orders::tell;
use super::pending::Asker;
use crate::aside::aside;
use crate::leases;
use crate::programs::{Told, variables};
use crate::store::with_causes;

/// A process on its way in.
#[derive(Clone, Debug)]
pub(super) struct Joining {
    asker: Asker,
    resource: Name,
    process: Process,
    /// Whether it did not belong to it before.
    new: bool,
    token: Token,
}

impl Core {
    pub(super) fn join(&mut self, asker: Asker, resource: Name) {
        let joining = match self.take_down(asker, resource) {
            Ok(joining) => joining,
            Err(no) => return self.reply(asker, &no.into()),
        };
        if let Some(connected) = self.clients.get_mut(&asker.client) {
            connected.joining = true;
        }
        let (containment, done) = (self.programs.containment.clone(), self.done.clone());
        tokio::spawn(async move {
            let Joining { resource, process, .. } = joining.clone();
            let moved = match aside("join", move || containment.move_in(&resource, process)) {
                Ok(moved) => moved.await.map_or(Ok(()), |moved| moved.map_err(|error| with_causes(&error))),
                Err(error) => Err(format!("cannot start a thread: {error}")),
            };
            tell(&done, Done::Joined(joining, moved)).await;
        });
    }

    /// Makes sure that a fence that begins from now on kills whoever asks.
    fn take_down(&self, asker: Asker, resource: Name) -> Result<Joining, No> {
        // Gone: nobody hears the answer.
        let connected = self.clients.get(&asker.client).ok_or(Refusal::NotArmed)?;
        let Peer { uid, process, .. } = connected.peer;
        if connected.joining {
            // There is one process to a connection; a flood of these makes no flood of threads.
            return Err(No::Cannot("it is joining already".to_owned()));
        }
        let configured = self.config.resources.get(&resource).ok_or(Refusal::UnknownResource)?;
        if !configured.join.as_ref().is_some_and(|join| join.uid.contains(&uid)) {
            return Err(Refusal::NotAllowed { uid }.into());
        }
        let (token, _) = self.standing(&resource)?;
        let process = process.ok_or_else(|| No::Cannot("it cannot be seen from here".to_owned()))?;
        let process = see(process, uid).map_err(No::Cannot)?;
        let taken = self.programs.containment.take_down(&resource, process);
        let new = taken.map_err(|error| No::Cannot(with_causes(&error)))?;
        Ok(Joining { asker, resource, process, new, token })
    }

    pub(super) fn joined(&mut self, joining: Joining, moved: Result<(), String>) {
        let Joining { asker, resource, process, new, token } = joining;
        if let Some(connected) = self.clients.get_mut(&asker.client) {
            connected.joining = false;
        }
        if let Err(why) = moved {
            if new {
                self.programs.containment.strike_out(&resource, process);
            }
            return self.reply(asker, &No::Cannot(why).into());
        }
        let reply = match self.standing(&resource) {
            Ok((armed, deadline)) if armed == token => {
                info!(ticket = %resource, token, pid = process.pid, "a process has joined");
                Reply::Joined(self.terms(&resource, token, deadline))
            }
            // The fence that has ended the tenure it was taken down for kills it, or has.
            Ok((armed, _)) => Reply::refused(Refusal::ArmedOtherwise { armed }),
            Err(refusal) => Reply::refused(refusal),
        };
        self.reply(asker, &reply);
    }

    /// Token and deadline under which something may be started now.
    fn standing(&self, resource: &Name) -> Result<(Token, Deadline), Refusal> {
        let view = self.deadman.view(resource).ok_or(Refusal::UnknownResource)?;
        match view.state {
            ResourceState::Armed { activity: Activity::Stopping | Activity::Stopped, .. } => {
                Err(Refusal::Stopping)
            }
            // The loop has not got to it yet.
            ResourceState::Armed { token, deadline, .. } if deadline.passed(leases::now()) => {
                Err(Refusal::BeingFenced { fencing: token })
            }
            ResourceState::Armed { token, deadline, .. } => Ok((token, deadline)),
            ResourceState::Fencing { token, .. } => Err(Refusal::BeingFenced { fencing: token }),
            ResourceState::Unarmed | ResourceState::Arming { .. } => Err(Refusal::NotArmed),
        }
    }

    fn terms(&self, resource: &Name, token: Token, deadline: Deadline) -> Joined {
        let reason = Reason::new("join").expect("a word is a reason");
        let told = Told { site: self.site.clone(), reason, deadline };
        let mark = self.programs.containment.mark_of_joined(resource);
        let environment: BTreeMap<String, String> = variables(resource, token, &told)
            .into_iter()
            .chain([(sitegate_host::sweep::MARK_VARIABLE.to_owned(), mark)])
            .collect();
        Joined { token, deadline, environment }
    }

    /// What `stop` has to do beside its program: those that have joined, and how long they may take to end.
    pub(super) fn ending(&self, resource: &Name) -> Ending {
        let join = self.config.resources.get(resource).and_then(|configured| configured.join.as_ref());
        // Who may join may have been taken out of the file since.
        let within = join.map_or(Duration::ZERO, |join| join.within);
        Ending { processes: self.programs.containment.joined(resource), within }
    }
}

/// Why a process does not join.
#[derive(Debug)]
enum No {
    Refused(Refusal),
    /// For a reason that lies with the process or the machine.
    Cannot(String),
}

impl From<Refusal> for No {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<No> for Reply {
    fn from(no: No) -> Self {
        match no {
            No::Refused(refusal) => Self::refused(refusal),
            No::Cannot(why) => Self::Error { why: format!("the process cannot join: {why}") },
        }
    }
}

/// The process, if it is still the one that connected and can be killed from here.
fn see(process: Process, uid: u32) -> Result<Process, String> {
    // Held, so that nobody else can get its pid while it is looked at.
    let held = process::hold(process).map_err(|error| error.to_string())?;
    held.ok_or("it has ended; the process that connects is the one that joins")?;
    if process::user(process.pid) != Some(uid) {
        return Err("it does not run as the user that connected".to_owned());
    }
    if !process::may_signal(process.pid) {
        return Err("sitegate-fenced may not kill it: that takes root".to_owned());
    }
    if process::is_above_us(process.pid) {
        return Err("sitegate-fenced descends from it, and would be killed with it".to_owned());
    }
    Ok(process)
}

/// Asking what has joined to end.
#[derive(Debug)]
pub(super) struct Ending {
    processes: BTreeSet<Process>,
    within: Duration,
}

/// How often it is looked whether they have ended.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

impl Ending {
    /// Asks all, and waits until they have ended.
    ///
    /// # Errors
    /// Which have not in time, as a sentence.
    pub(super) async fn see_through(mut self) -> Result<(), String> {
        for process in &self.processes {
            if let Err(error) = process::ask_to_end(*process) {
                warn!(pid = process.pid, "cannot send SIGTERM to what has joined: {error}");
            }
        }
        let until = Instant::now() + self.within;
        loop {
            self.processes.retain(|process| {
                process::stat(process.pid).is_some_and(|stat| stat.process == *process && stat.alive())
            });
            let Some(first) = self.processes.first() else { return Ok(()) };
            if Instant::now() >= until {
                let (count, name) = (self.processes.len(), process::name(first.pid));
                let within = self.within.as_millis();
                return Err(format!(
                    "{count} that have joined did not end within {within} ms of SIGTERM, {} ({name}) first",
                    first.pid
                ));
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};
    use std::sync::Arc;

    use rustix::process::geteuid;
    use tokio::sync::{Semaphore, oneshot};

    use super::super::access::Rights;
    use super::super::core::Ended;
    use super::super::fixture;
    use super::super::session::{ClientId, FromClient, OUT_BYTES_MAX, Outbox};
    use super::*;
    use crate::deadman::{Deadman, Lease, Leases, Record};
    use crate::journal::Journal;
    use crate::reboot::Restarter;
    use crate::store::Store;

    fn db() -> Name {
        Name::new("db").unwrap()
    }

    /// A core in which `db` is armed with token 5.
    fn armed(dir: &std::path::Path) -> (Core, tokio::sync::mpsc::Receiver<Done>) {
        let uid = geteuid().as_raw();
        let text = format!(
            "kill-within = \"30s\"\n[resource.db]\nfence = []\nunfenced = true\njoin = {{ uid = [{uid}] }}\n"
        );
        let (mut core, ends) = fixture::core(dir, &text, Restarter::start(|_| String::new()).unwrap());
        let deadline = leases::now().after(3_600_000_000_000);
        let lease = Lease { token: 5, incarnation: 1, deadline, activity: Activity::Idle };
        let schedule = core.config.resources[&db()].plan.schedule(core.config.kill_within);
        let record = Record { open: Some(5), receipt: None };
        let (schedules, records) = ([(db(), schedule)].into(), [(db(), record)].into());
        let leases = Leases::from([(db(), lease)]);
        core.deadman = Deadman::recover(leases::now(), 1, schedules, records, &leases);
        (core, ends)
    }

    /// A process for which `client` asks.
    fn connected(core: &mut Core, client: ClientId) -> (Child, impl FnMut() -> String + use<>) {
        let child = Command::new("/bin/sleep").arg("600").env_clear().spawn().unwrap();
        let process = process::stat(i32::try_from(child.id()).unwrap()).map(|stat| stat.process);
        let peer = Peer { uid: geteuid().as_raw(), process, rights: Rights::Join };
        let (outbox, mut said) = Outbox::new(Arc::new(Semaphore::new(OUT_BYTES_MAX)));
        let (cut, _) = oneshot::channel();
        core.client(FromClient::Connected { client, peer, outbox, cut });
        (child, move || said.try_recv().map(|(line, _)| line).unwrap_or_default())
    }

    #[tokio::test]
    async fn what_was_on_its_way_in_when_a_fence_began_is_killed_by_it_and_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (mut core, mut ends) = armed(dir.path());
        let (journal, _disk) = Journal::on_hanging_disk(dir.path());
        let store = Store::start(Ok(journal)).unwrap();
        let client = ClientId(1);
        let (mut child, mut said) = connected(&mut core, client);
        core.join(Asker { client, id: None }, db());
        // The move is under way, and what comes of it is not heard before the fence has killed.
        core.deadman.fence(leases::now(), &db(), 5, Reason::not_receipted()).unwrap();
        core.carry_out(&store);
        let (mut killed, mut moved) = (None, None);
        while killed.is_none() || moved.is_none() {
            match ends.recv().await.unwrap() {
                Done::Run { what: Ended::Kill(result), .. } => killed = Some(result),
                Done::Joined(joining, result) => moved = Some((joining, result)),
                other => panic!("{other:?}"),
            }
        }
        let dead = child.try_wait().unwrap().is_some();
        let _ = child.kill();
        assert!(killed.unwrap().is_ok() && dead, "the fence has missed it");
        let (joining, result) = moved.unwrap();
        core.done(Done::Joined(joining, result));
        let said = said();
        assert!(said.contains("\"code\":\"being-fenced\""), "{said}");
    }

    #[tokio::test]
    async fn what_has_joined_once_is_not_struck_out_by_joining_again() {
        let dir = tempfile::tempdir().unwrap();
        let (mut core, mut ends) = armed(dir.path());
        let client = ClientId(1);
        let (mut child, mut said) = connected(&mut core, client);
        let asker = Asker { client, id: None };
        let full = "there is no room";
        for (outcome, answer) in [(Ok(()), "\"reply\":\"joined\""), (Err(full.to_owned()), full)] {
            core.join(asker, db());
            core.join(asker, db());
            assert!(said().contains("it is joining already"));
            let Some(Done::Joined(joining, _)) = ends.recv().await else { panic!("nothing else ends") };
            core.joined(joining, outcome);
            assert!(said().contains(answer));
        }
        assert_eq!(core.programs.containment.joined(&db()).len(), 1);
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
