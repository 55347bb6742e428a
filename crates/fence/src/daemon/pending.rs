//! The requests that wait for something to happen. Each gets exactly one reply.

use std::collections::BTreeMap;

use sitegate_fence_client::request::Reply;
use sitegate_fence_client::wire::{Name, Notice, Refusal, Token};

use super::session::ClientId;

/// How many requests of one client may wait at once: two for each of ten thousand resources. A client that exceeds this asks
/// without ever listening. It is a bound for each client, so that none can keep another from its deadlines.
pub(super) const WAITING_MAX: usize = 20_000;

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
    /// How many of each client wait, where any do.
    counts: BTreeMap<ClientId, usize>,
}

impl Pending {
    /// Whether another request of this client may wait.
    pub(super) fn has_room(&self, client: ClientId) -> bool {
        self.counts.get(&client).is_none_or(|count| *count < WAITING_MAX)
    }

    pub(super) fn add(&mut self, asker: Asker, resource: Name, awaited: Awaited, token: Token) {
        self.waiting.entry((resource, awaited)).or_default().push((token, asker));
        *self.counts.entry(asker.client).or_default() += 1;
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
        self.counts.contains_key(&client)
    }

    /// Forgets a client that has gone.
    pub(super) fn forget(&mut self, client: ClientId) {
        self.waiting.retain(|_, askers| {
            askers.retain(|(_, asker)| asker.client != client);
            !askers.is_empty()
        });
        self.counts.remove(&client);
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
        for (_, asker) in &settled {
            self.uncount(asker.client);
        }
        settled.into_iter().map(|(_, asker)| (asker, reply.clone())).collect()
    }

    fn uncount(&mut self, client: ClientId) {
        if let Some(count) = self.counts.get_mut(&client) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asker(client: u64) -> Asker {
        Asker { client: ClientId(client), id: None }
    }

    #[test]
    fn a_client_that_asks_without_end_takes_no_room_from_others() {
        let db = Name::new("db").unwrap();
        let mut pending = Pending::default();
        for _ in 0..WAITING_MAX {
            assert!(pending.has_room(ClientId(1)));
            pending.add(asker(1), db.clone(), Awaited::Fence, 7);
        }
        assert!(!pending.has_room(ClientId(1)) && pending.has_room(ClientId(2)));
        pending.add(asker(2), db.clone(), Awaited::Arm, 8);
        pending.forget(ClientId(1));
        assert!(pending.has_room(ClientId(1)) && !pending.waits(ClientId(1)) && pending.waits(ClientId(2)));
        let said = Reply::Error { why: "x".to_owned() };
        assert_eq!(pending.fail_all(Awaited::Arm, &said), [(asker(2), said)]);
        assert!(!pending.waits(ClientId(2)));
    }
}
