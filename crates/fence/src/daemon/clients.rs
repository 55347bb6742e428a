//! Those who are connected: what they say, and what they are told.

use sitegate_fence_client::request::{Reply, reply_line};
use tokio::sync::oneshot;
use tracing::warn;

use super::core::Core;
use super::pending::Asker;
use super::session::{ClientId, FromClient, Outbox};

#[derive(Debug)]
pub(super) struct Connected {
    outbox: Outbox,
    cut: oneshot::Sender<()>,
    pub(super) watches: bool,
    finished: bool,
}

impl Core {
    pub(super) fn client(&mut self, message: FromClient) {
        match message {
            FromClient::Connected { client, outbox, cut } => {
                self.clients.insert(client, Connected { outbox, cut, watches: false, finished: false });
            }
            FromClient::Request { client, id, request, room } => {
                self.request(Asker { client, id }, request);
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
        let finished = self.clients.get(&client).is_some_and(|c| c.finished);
        let unsaid = self.unsaid.iter().any(|(asker, _)| asker.client == client);
        if finished && !unsaid && !self.pending.waits(client) {
            self.clients.remove(&client);
        }
    }
}
