//! Those who are connected: what they say, and what they are told.

use std::collections::BTreeSet;

use sitegate_fence_client::request::{Reply, event_line, reply_line};
use sitegate_fence_client::wire::{Name, Notice, Refusal};
use tokio::sync::oneshot;
use tracing::warn;

use super::access::Peer;
use super::core::Core;
use super::pending::Asker;
use super::session::{ClientId, FromClient, Outbox};

#[derive(Debug)]
pub(super) struct Connected {
    pub(super) peer: Peer,
    outbox: Outbox,
    cut: oneshot::Sender<()>,
    pub(super) watches: bool,
    /// What it is told each new deadline of, too.
    watched: BTreeSet<Name>,
    /// Whether its process is on its way into a resource.
    pub(super) joining: bool,
    /// Whether the test that it has asked for is under way.
    pub(super) testing: bool,
    finished: bool,
}

impl Core {
    pub(super) fn client(&mut self, message: FromClient) {
        match message {
            FromClient::Connected { client, peer, outbox, cut } => {
                let watched = BTreeSet::new();
                let (watches, joining, testing, finished) = (false, false, false, false);
                let connected = Connected { peer, outbox, cut, watches, watched, joining, testing, finished };
                self.clients.insert(client, connected);
            }
            FromClient::Request { client, id, request, room } => {
                let asker = Asker { client, id };
                match self.clients.get(&client).map(|connected| connected.peer) {
                    Some(Peer { rights, uid, .. }) if !rights.permit(&request) => {
                        self.reply(asker, &Reply::refused(Refusal::NotAllowed { uid }));
                    }
                    _ => self.request(asker, request),
                }
                drop(room);
            }
            FromClient::Finished { client } => {
                if let Some(connected) = self.clients.get_mut(&client) {
                    connected.finished = true;
                }
                self.let_go(client);
            }
            FromClient::Gone { client } => {
                self.clients.remove(&client);
                self.pending.forget(client);
            }
        }
    }

    pub(super) fn tell_watchers(&mut self, line: &str) {
        let watching: Vec<ClientId> =
            self.clients.iter().filter(|(_, c)| c.watches).map(|(client, _)| *client).collect();
        watching.into_iter().for_each(|client| self.send(client, line.to_owned()));
    }

    /// From now on `asker` is told all of one resource.
    pub(super) fn watch(&mut self, asker: Asker, resource: Name) {
        let Some(watched) = self.watched(&resource) else {
            return self.reply(asker, &Reply::refused(Refusal::UnknownResource));
        };
        if let Some(connected) = self.clients.get_mut(&asker.client) {
            connected.watched.insert(resource);
        }
        self.reply(asker, &Reply::Watched(Box::new(watched)));
    }

    /// Tells what happened to a resource to those who want to know; `news` to those who watch all.
    pub(super) fn tell(&mut self, notice: &Notice, news: bool) {
        let resource = notice.resource();
        let wants =
            |connected: &Connected| (news && connected.watches) || connected.watched.contains(resource);
        let told: Vec<ClientId> = self
            .clients
            .iter()
            .filter(|(_, connected)| wants(connected))
            .map(|(client, _)| *client)
            .collect();
        if told.is_empty() {
            return;
        }
        if let Ok(line) = event_line(notice) {
            told.into_iter().for_each(|client| self.send(client, line.clone()));
        }
    }

    pub(super) fn reply(&mut self, asker: Asker, reply: &Reply) {
        if let Ok(line) = reply_line(asker.id, reply) {
            self.send(asker.client, line);
        }
        self.let_go(asker.client);
    }

    fn send(&mut self, client: ClientId, line: String) {
        let Some(connected) = self.clients.get(&client) else { return };
        if !connected.outbox.push(line) {
            warn!(?client, "disconnected: it does not read what it is told");
            // Its session may have ended already.
            let _ = self.clients.remove(&client).map(|connected| connected.cut.send(()));
            self.pending.forget(client);
        }
    }

    /// A client that asks no more is let go once nothing is left to tell it.
    fn let_go(&mut self, client: ClientId) {
        let finished = self.clients.get(&client).is_some_and(|c| c.finished && !c.joining && !c.testing);
        let unsaid = self.unsaid.iter().any(|(asker, _)| asker.client == client);
        if finished && !unsaid && !self.pending.waits(client) {
            self.clients.remove(&client);
        }
    }
}
