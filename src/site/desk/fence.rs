//! The desk and the fence daemon: what it says of itself, and of what happens.

use std::collections::BTreeSet;

use serde_json::json;
use sitegate_fence_client::status::{ResourceStatus, Status};
use sitegate_fence_client::wire::{Notice, Receipt};
use sitegate_member::site::SiteFacts;
use sitegate_protocol::{Event, FenceEvent, TicketName, Token};
use tracing::warn;

use super::super::budget::late_plans;
use super::super::convert::{reports, ticket};
use super::super::link::{Linked, connect};
use super::{Desk, Link};

impl Desk {
    pub(super) fn connect(&self) {
        let local = &self.port.shared.configuration.get().local;
        let (path, site, linked) =
            (local.fence_socket.clone(), local.name.to_string(), self.linked.0.clone());
        // If the desk is gone, so is the process.
        tokio::spawn(async move { linked.send(connect(&path, &site).await).await });
    }

    pub(super) async fn linked(&mut self, linked: Linked) -> bool {
        let Linked { client, events, status } = linked;
        self.links += 1;
        self.extending.forget();
        self.learn(&status);
        for report in reports(&status) {
            if let Some(receipt) = report.receipt {
                self.receipts.insert(report.ticket, receipt);
            }
        }
        self.way.set(Some(client.clone()));
        self.link = Some(Link { client, events, status: Box::new(status.clone()) });
        self.note(
            "fence-up",
            None,
            format!("the fence daemon answers (version {})", status.version),
            json!({}),
        );
        // What this site can run has to be known before the protocol acts on the rest.
        self.renew_settings().await && self.tell(Event::Fence(FenceEvent::Up(reports(&status)))).await
    }

    /// The fence daemon works with another fenced.toml: this site may be able to run more, or less.
    pub(super) async fn fenced_reloaded(&mut self, status: Box<Status>) -> bool {
        self.learn(&status);
        if let Some(link) = &mut self.link {
            link.status = status;
        }
        self.note(
            "fence-reloaded",
            None,
            "the fence daemon works with another fenced.toml".into(),
            json!({}),
        );
        self.renew_settings().await
    }

    /// Tells the protocol what this site can run, if that has changed.
    async fn renew_settings(&self) -> bool {
        if !self.port.shared.renew_settings() {
            return true;
        }
        let settings = (*self.port.shared.settings.get()).clone();
        self.tell(Event::Reload(settings)).await
    }

    /// What the fence daemon's status says about this site.
    pub(super) fn learn(&mut self, status: &Status) {
        let configuration = self.port.shared.configuration.get();
        self.late = late_plans(&configuration.formation, status);
        let known = |resource: &&ResourceStatus| {
            // What is only there until it is fenced for the last time is nothing to acquire.
            resource.plan.levels.iter().all(|level| level != "removed")
        };
        let resources: Vec<_> = status.resources.iter().filter(known).collect();
        let runnable: BTreeSet<TicketName> = resources.iter().filter_map(|r| ticket(&r.name)).collect();
        let unfenced = resources.iter().filter(|r| r.plan.levels.is_empty()).filter_map(|r| ticket(&r.name));
        let unknown = configuration
            .formation
            .tickets
            .keys()
            .filter(|name| TicketName::new(name.as_str()).is_ok_and(|name| !runnable.contains(&name)));
        let mut warnings: Vec<String> = unknown
            .map(|name| format!("sitegate-fenced has no [resource.{name}]: this site never acquires {name}"))
            .collect();
        warnings.extend(self.late.values().cloned());
        if let Some(why) = &status.store_failed {
            warnings
                .push(format!("sitegate-fenced cannot write its state, so nothing is acquired here: {why}"));
        }
        self.port.shared.set_site(SiteFacts {
            unfenced: unfenced.collect(),
            runnable: Some(runnable),
            warnings,
        });
    }

    pub(super) async fn unlinked(&mut self) -> bool {
        self.link = None;
        self.links += 1;
        self.way.set(None);
        self.extending.forget();
        self.note("fence-down", None, "the fence daemon does not answer".into(), json!({}));
        warn!("the connection to the fence daemon is lost");
        self.connect();
        self.tell(Event::Fence(FenceEvent::Down)).await
    }

    /// The same receipt may come as an answer and as a notice: the protocol is told once.
    pub(super) async fn receipt(&mut self, ticket: TicketName, token: Token) -> bool {
        self.checking.remove(&ticket);
        let newest = self.receipts.entry(ticket.clone()).or_default();
        if token <= *newest {
            return true;
        }
        *newest = token;
        self.tell(Event::Fence(FenceEvent::Receipt(ticket, token))).await
    }

    pub(super) async fn notice(&mut self, notice: Notice) -> bool {
        let Some(name) = ticket(notice.resource()) else { return true };
        match notice {
            Notice::Receipt(receipt) => {
                let text = format!(
                    "{name} is fenced (token {}, because of {}): {}",
                    receipt.token,
                    receipt.reason.as_str(),
                    receipt.proof.what
                );
                let Receipt { token, level, began, ended, .. } = &receipt;
                let detail = json!({ "token": token, "level": level, "began": began, "ended": ended });
                self.note("receipt", Some(&name), text, detail);
                self.receipt(name, Token(receipt.token)).await
            }
            Notice::Fencing { token, reason, .. } => {
                self.checking.remove(&name);
                self.note(
                    "fencing",
                    Some(&name),
                    format!("fences {name} (token {token}): {}", reason.as_str()),
                    json!({ "token": token }),
                );
                true
            }
            Notice::LevelFailed { token, level, why, .. } => {
                let text = format!("level {level} of the fence plan of {name} (token {token}) failed: {why}");
                warn!("{text}");
                self.note("fence-level-failed", Some(&name), text, json!({ "token": token, "level": level }));
                true
            }
            // A plan that fails for hours is said ever less often.
            Notice::FenceFailed { token, rounds, .. } if rounds.is_power_of_two() => {
                self.tell(Event::Fence(FenceEvent::Failing(name, Token(token)))).await
            }
            Notice::FenceFailed { .. }
            | Notice::Armed { .. }
            | Notice::Extended { .. }
            | Notice::Started { .. }
            | Notice::Stopped { .. } => true,
        }
    }
}
