//! What clients ask for, and the answers that can be given at once.

use std::sync::Arc;

use sitegate_fence_client::request::{Extension, NotExtended, Reply, Request};
use sitegate_fence_client::wire::{Incarnation, Name, Reason, Refusal, Token};
use sitegate_host::durable;
use tracing::{info, warn};

use super::core::{Core, no_receipt};
use super::pending::{Asker, Awaited, WAITING_MAX};
use super::setup::SITE_FILE;
use crate::aside::aside;
use crate::leases;
use crate::store::with_causes;

impl Core {
    pub(super) fn request(&mut self, asker: Asker, request: Request) {
        let waits = matches!(
            request,
            Request::Arm { .. } | Request::Start { .. } | Request::Stop { .. } | Request::Fence { .. }
        );
        if waits && !self.pending.has_room(asker.client) {
            let why =
                format!("{WAITING_MAX} requests of this client are waiting for an answer: read the answers");
            return self.reply(asker, &Reply::Error { why });
        }
        if let Request::Arm { resource, .. } | Request::Fence { resource, .. } = &request {
            self.look_no_more(resource);
        }
        if let Request::Arm { resource, .. } = &request {
            self.programs.containment.striker().hold(resource);
        }
        let now = leases::now();
        match request {
            Request::Hello { site, watch } => self.hello(asker, site, watch),
            Request::Status {} => {
                let status = Reply::Status(self.status());
                self.reply(asker, &status);
            }
            Request::Watch { resource } => self.watch(asker, resource),
            Request::Join { resource } => self.join(asker, resource),
            Request::Test { resource } => self.test(asker, resource.as_ref()),
            Request::History { resource, limit } => {
                let entries = self.history.of(resource.as_ref(), limit);
                self.reply(asker, &Reply::History { entries });
            }
            Request::Arm { resource, token, deadline, incarnation } => {
                if let Err(why) = self.watchdog.count() {
                    let why = format!("nothing can be armed without the watchdog: {why}");
                    return self.reply(asker, &Reply::Error { why });
                }
                let result = match &self.store_failed {
                    Some(why) => Err(Refusal::StoreFailed { cause: why.clone() }),
                    None => self.deadman.arm(now, &resource, token, deadline, incarnation),
                };
                self.wait(asker, resource, Awaited::Arm, token, result);
            }
            Request::Extend { incarnation, set } => self.extend(asker, incarnation, set),
            Request::Start { resource, token } => {
                let result = self.deadman.start(now, &resource, token);
                self.wait(asker, resource, Awaited::Start, token, result);
            }
            Request::Stop { resource, token } => {
                let result = self.deadman.stop(now, &resource, token);
                self.wait(asker, resource, Awaited::Stop, token, result);
            }
            Request::Fence { resource, token, reason } => self.fence(asker, resource, token, reason),
        }
    }

    fn hello(&mut self, asker: Asker, site: Option<Name>, watch: bool) {
        if let Some(connected) = self.clients.get_mut(&asker.client) {
            connected.watches = watch;
        }
        if let Some(site) = site.filter(|site| self.config.site.is_none() && self.site.as_ref() != Some(site))
        {
            info!(%site, "the site's name, as a client says");
            self.remember(&site);
            self.site = Some(site);
        }
        let status = Reply::Status(self.status());
        self.reply(asker, &status);
    }

    /// Writes down the site's name. Not waited for: only what is fenced after a restart and before the next hello would miss
    /// it. Nor done while an earlier write hangs.
    fn remember(&self, site: &Name) {
        let Ok(place) = Arc::clone(&self.remembering).try_acquire_owned() else { return };
        let file = self.config.state_dir.join(SITE_FILE);
        let text = format!("{site}\n");
        let begun = aside("site", move || {
            if let Err(error) = durable::write(&file, text.as_bytes()) {
                warn!("cannot remember the site's name: {}", with_causes(&error));
            }
            drop(place);
        });
        if let Err(error) = begun {
            warn!("cannot remember the site's name: cannot start a thread: {error}");
        }
    }

    fn extend(&mut self, asker: Asker, incarnation: Incarnation, set: Vec<Extension>) {
        for (resource, _) in set.iter().flat_map(|extension| &extension.resources) {
            self.programs.containment.striker().hold(resource);
        }
        let now = leases::now();
        let mut refused = Vec::new();
        for Extension { deadline, resources } in set {
            for (resource, token) in resources {
                if let Err(refusal) = self.deadman.extend(now, &resource, token, deadline, incarnation) {
                    let why = refusal.to_string();
                    refused.push(NotExtended { resource, token, refusal, why });
                }
            }
        }
        self.unsaid.push((asker, Reply::Extended { refused }));
    }

    fn fence(&mut self, asker: Asker, resource: Name, token: Token, reason: Reason) {
        let result = self.deadman.fence(leases::now(), &resource, token, reason);
        let receipt = self.deadman.view(&resource).and_then(|view| view.receipt);
        let receipted = receipt.is_some_and(|receipt| token <= receipt.token);
        match (&self.store_failed, result) {
            (Some(why), Ok(())) if !receipted => {
                let reply = no_receipt(why);
                self.reply(asker, &reply);
            }
            (_, result) => self.wait(asker, resource, Awaited::Fence, token, result),
        }
    }

    /// Lets a request wait for its notice, unless it was refused.
    fn wait(
        &mut self,
        asker: Asker,
        resource: Name,
        awaited: Awaited,
        token: Token,
        result: Result<(), Refusal>,
    ) {
        match result {
            Ok(()) => self.pending.add(asker, resource, awaited, token),
            Err(refusal) => self.reply(asker, &Reply::refused(refusal)),
        }
    }
}
