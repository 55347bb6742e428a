//! The requests that wait for something to happen. Each gets exactly one reply.

use std::collections::BTreeMap;

use sitegate_fence_client::request::Reply;
use sitegate_fence_client::wire::{Name, Notice, Refusal, Token};

use super::session::ClientId;

/// How many requests may wait at once. A client that exceeds this asks without ever listening.
const WAITING_MAX: usize = 100_000;

/// Whom to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asker {
    pub(super) client: ClientId,
    pub(super) id: Option<u64>,
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Awaited {
    Arm,
    Start,
    Stop,
    Fence,
}

#[derive(Debug, Default)]
pub(super) struct Pending {
    waiting: BTreeMap<(Name, Awaited), Vec<(Token, Asker)>>,
    count: usize,
}

impl Pending {
    /// Whether another request may wait.
    pub(super) fn has_room(&self) -> bool {
        self.count < WAITING_MAX
    }

    pub(super) fn add(&mut self, asker: Asker, resource: Name, awaited: Awaited, token: Token) {
        self.waiting.entry((resource, awaited)).or_default().push((token, asker));
        self.count += 1;
    }

    /// The replies that a notice makes due.
    pub(super) fn settle(&mut self, notice: &Notice) -> Vec<(Asker, Reply)> {
        match notice {
            Notice::Armed { resource, token, deadline } => {
                let reply = Reply::Armed { deadline: *deadline };
                self.take(resource, Awaited::Arm, |t| t == *token, &reply)
            }
            Notice::Started { resource, token, failed } => {
                let reply = Reply::Started { failed: failed.clone() };
                self.take(resource, Awaited::Start, |t| t == *token, &reply)
            }
            Notice::Stopped { resource, token, failed } => {
                let reply = Reply::Stopped { failed: failed.clone() };
                self.take(resource, Awaited::Stop, |t| t == *token, &reply)
            }
            // An arming overtaken by its own deadline, or by an order to fence.
            Notice::Fencing { resource, token, .. } => {
                let reply = Reply::refused(Refusal::BeingFenced { fencing: *token });
                self.take(resource, Awaited::Arm, |_| true, &reply)
            }
            Notice::Receipt(receipt) => {
                let reply = Reply::Receipt(receipt.clone());
                self.take(&receipt.resource, Awaited::Fence, |t| t <= receipt.token, &reply)
            }
            Notice::Extended { .. } | Notice::LevelFailed { .. } | Notice::FenceFailed { .. } => Vec::new(),
        }
    }

    /// Ends the waiting for `awaited` of `resource` with this reply.
    pub(super) fn fail(&mut self, resource: &Name, awaited: Awaited, reply: &Reply) -> Vec<(Asker, Reply)> {
        self.take(resource, awaited, |_| true, reply)
    }

    /// Ends all waiting for `awaited` with this reply.
    pub(super) fn fail_all(&mut self, awaited: Awaited, reply: &Reply) -> Vec<(Asker, Reply)> {
        let resources: Vec<Name> =
            self.waiting.keys().filter(|(_, a)| *a == awaited).map(|(name, _)| name.clone()).collect();
        resources.iter().flat_map(|resource| self.fail(resource, awaited, reply)).collect()
    }

    /// Whether a client still waits for something.
    pub(super) fn waits(&self, client: ClientId) -> bool {
        self.waiting.values().flatten().any(|(_, asker)| asker.client == client)
    }

    /// Forgets a client that has gone.
    pub(super) fn forget(&mut self, client: ClientId) {
        self.waiting.retain(|_, askers| {
            askers.retain(|(_, asker)| asker.client != client);
            !askers.is_empty()
        });
        self.count = self.waiting.values().map(Vec::len).sum();
    }

    fn take(
        &mut self,
        resource: &Name,
        awaited: Awaited,
        due: impl Fn(Token) -> bool,
        reply: &Reply,
    ) -> Vec<(Asker, Reply)> {
        let key = (resource.clone(), awaited);
        let Some(askers) = self.waiting.remove(&key) else { return Vec::new() };
        let (settled, rest): (Vec<_>, Vec<_>) = askers.into_iter().partition(|(token, _)| due(*token));
        if !rest.is_empty() {
            self.waiting.insert(key, rest);
        }
        self.count -= settled.len();
        settled.into_iter().map(|(_, asker)| (asker, reply.clone())).collect()
    }
}
