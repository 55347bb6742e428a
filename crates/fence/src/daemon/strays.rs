//! What runs although nothing is armed: enabled at boot, or started by hand (docs/fencing.md, "What runs without its ticket").

use std::sync::Arc;

use sitegate_fence_client::wire::{Name, Reason};
use sitegate_host::clock::boot_ns;
use tokio::sync::{Semaphore, oneshot};
use tracing::{error, warn};

use super::core::{Core, Done, Ended};
use super::orders::tell;
use crate::config::Hook;
use crate::deadman::{RunId, State};
use crate::leases;
use crate::programs::{Input, Role, Run, Told, limit_from};
use crate::systemd::Verb;

/// How many resources are looked at at once.
const AT_ONCE: usize = 8;
/// What a `status` exits with if nothing runs, as init scripts do (LSB, "Init Script Actions").
const NOT_RUNNING: i32 = 3;

/// Which looks are under way.
#[derive(Debug)]
pub(super) struct Looks {
    room: Arc<Semaphore>,
    /// By resource. A look is worth nothing once somebody has asked for anything to be done with the resource.
    under_way: std::collections::BTreeMap<Name, RunId>,
}

impl Default for Looks {
    fn default() -> Self {
        Self { room: Arc::new(Semaphore::new(AT_ONCE)), under_way: std::collections::BTreeMap::new() }
    }
}

impl Core {
    /// Looks whether anything runs that is not armed, where there is something to look with.
    pub(super) fn look_for_strays(&mut self) {
        let resources = self.config.resources.iter();
        let looked_at: Vec<(Name, Hook)> = resources
            .filter_map(|(name, resource)| Some((name.clone(), resource.status.clone()?)))
            .filter(|(name, _)| !self.looks.under_way.contains_key(name))
            .filter(|(name, _)| self.deadman.view(name).is_some_and(|view| view.state == State::Unarmed))
            .collect();
        for (resource, hook) in looked_at {
            self.look(resource, &hook);
        }
    }

    fn look(&mut self, resource: Name, hook: &Hook) {
        // Far from those that the deadman counts.
        let run = RunId(boot_ns());
        self.looks.under_way.insert(resource.clone(), run);
        let reason = Reason::new("status").expect("a word is a reason");
        let (within, (command, shown)) = (hook.within, hook.command(&resource, Verb::Status));
        let told = Told { site: self.site.clone(), reason, deadline: limit_from(leases::now(), within) };
        let (input, role) = (Input::default(), Role::trial(run.0, 0));
        let program = Run { resource, token: 0, role, command, input, shown, within, told };
        let (programs, room, done) = (self.programs.clone(), Arc::clone(&self.looks.room), self.done.clone());
        tokio::spawn(async move {
            // It is never closed. The other end of the channel is here: nobody gives it up.
            let place = room.acquire().await;
            let (_cancel, cancelled) = oneshot::channel();
            let found = programs.exit(&program, cancelled).await.map(|exited| exited.code);
            drop(place);
            tell(&done, Done::Run { resource: program.resource, run, what: Ended::Look(found) }).await;
        });
    }

    /// Somebody wants something done with the resource: what a look under way finds may be that.
    pub(super) fn look_no_more(&mut self, resource: &Name) {
        self.looks.under_way.remove(resource);
    }

    pub(super) fn looked(&mut self, resource: &Name, run: RunId, found: Result<i32, String>) {
        if self.looks.under_way.get(resource) != Some(&run) {
            return;
        }
        self.looks.under_way.remove(resource);
        match found {
            Ok(0) if self.deadman.stray(leases::now(), resource) => error!(
                ticket = %resource,
                "RUNS HERE WITHOUT ITS TICKET, and is fenced: is it enabled at boot, or was it started by hand?"
            ),
            Ok(0 | NOT_RUNNING) => {}
            Ok(code) => {
                warn!(ticket = %resource, "whether it runs without its ticket is not known: status exited with code {code}");
            }
            Err(why) => {
                warn!(ticket = %resource, "whether it runs without its ticket is not known: status {why}");
            }
        }
    }
}
