//! Carrying out the deadman's orders: each in a task of its own, each answered by its end.

use std::sync::Arc;
use std::time::Duration;

use sitegate_fence_client::wire::{Deadline, Name, Proof, Reason, Token};
use sitegate_host::clock::unix_ms;
use sitegate_host::sweep::Swept;
use tokio::sync::{mpsc, oneshot};

use super::core::{Core, Done, Ended};
use super::join::Ending;
use super::setup::for_sweeper;
use crate::deadman::RunId;
use crate::programs::{Input, Role, Run, Told};
use crate::systemd::Verb;

/// What a resource may have beside its plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Program {
    Start,
    Stop,
}

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
            tell(&done, Done::Run { resource, run, what: Ended::Kill(result) }).await;
        });
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
        let (hook, role, verb, end): (_, _, _, fn(_) -> _) = match which {
            Program::Start => (configured.start.as_ref(), Role::Start, Verb::Start, Ended::Start),
            Program::Stop => (configured.stop.as_ref(), Role::Stop, Verb::Stop, Ended::Stop),
        };
        let ending = (which == Program::Stop).then(|| self.ending(&resource));
        let Some(hook) = hook else {
            tokio::spawn(async move {
                let result = and_end(Ok(()), ending).await;
                tell(&done, Done::Run { resource, run, what: end(result) }).await;
            });
            return;
        };
        let reason = Reason::new(verb.name()).expect("a word is a reason");
        let told = Told { site: self.site.clone(), reason, deadline };
        let (within, input, (command, shown)) =
            (hook.within, Input::default(), hook.command(&resource, verb));
        let program = Run { resource, token, role, command, input, shown, within, told };
        let (programs, room) = (self.programs.clone(), Arc::clone(&self.room));
        let mut cancel = self.cancel(run);
        tokio::spawn(async move {
            let result = tokio::select! {
                place = room.acquire_owned() => {
                    let result = programs.run(&program, cancel).await;
                    drop(place);
                    and_end(result, ending).await
                }
                _ = &mut cancel => Err("was given up before its turn".to_owned()),
            };
            tell(&done, Done::Run { resource: program.resource, run, what: end(result) }).await;
        });
    }

    pub(super) fn cancel(&mut self, run: RunId) -> oneshot::Receiver<()> {
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

pub(super) fn proof(what: String) -> Proof {
    Proof { what, unix_ms: unix_ms() }
}

/// After its program, what has joined has to end. Who gives that up fences, which ends it as well.
async fn and_end(result: Result<(), String>, ending: Option<Ending>) -> Result<(), String> {
    let Some(ending) = ending else { return result };
    let ended = ending.see_through().await;
    result.and(ended)
}

/// Waits for a place, if all are taken, until the loop has looked: nothing that ended is forgotten.
pub(super) async fn tell(done: &mpsc::Sender<Done>, end: Done) {
    // The other end goes only when the daemon ends.
    let _ = done.send(end).await;
}
