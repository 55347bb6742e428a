//! The desk and the fence daemon: what it says of itself, and of what happens.

use std::collections::BTreeSet;

use sitegate_fence_client::status::{ResourceStatus, Status};
use sitegate_fence_client::time::Instant;
use sitegate_fence_client::wire::{Notice, Receipt};
use sitegate_member::journal::Content;
use sitegate_member::journal::content::{
    FenceLevel, Nothing, Reading, Receipt as ReceiptDetail, TokenDetail,
};
use sitegate_member::site::SiteFacts;
use sitegate_protocol::{TicketName, Token};
use sitegate_shell::site::{Line, Notice as Said};
use tracing::warn;

use super::super::budget::late_plans;
use super::super::convert::{reports, ticket};
use super::super::link::{Linked, connect};
use super::{Desk, Link};

impl Desk {
    pub(super) fn connect(&self, line: Line) {
        let local = &self.port.shared.configuration.get().local;
        let (path, site, linked) =
            (local.fence_socket.clone(), local.name.to_string(), self.linked.0.clone());
        // If the desk is gone, so is the process.
        tokio::spawn(async move { linked.send((line, connect(&path, &site).await)).await });
    }

    pub(super) fn linked(&mut self, line: Line, linked: Linked) {
        let Linked { client, events, status } = linked;
        self.learn(&status);
        self.way.set(Some(client.clone()));
        self.link = Some(Link { line, client, events, status: Box::new(status.clone()) });
        let text = format!("the fence daemon answers (version {})", status.version);
        self.note(None, text, Content::FenceUp(Nothing {}));
        // What this site can run has to be known before the protocol acts on the rest.
        self.renew_settings();
        self.pump.linked(line, reports(&status));
    }

    /// The fence daemon works with another fenced.toml: this site may be able to run more, or less.
    pub(super) fn fenced_reloaded(&mut self, status: Box<Status>) {
        self.learn(&status);
        if let Some(link) = &mut self.link {
            link.status = status;
        }
        let text = "the fence daemon works with another fenced.toml".into();
        self.note(None, text, Content::FenceReloaded(Nothing {}));
        self.renew_settings();
    }

    /// Tells the protocol what this site can run, if that has changed.
    fn renew_settings(&mut self) {
        if self.port.shared.renew_settings() {
            self.pump.reconfigured((*self.port.shared.settings.get()).clone());
        }
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

    pub(super) fn unlinked(&mut self, line: Line) {
        self.link = None;
        self.way.set(None);
        self.note(None, "the fence daemon does not answer".into(), Content::FenceDown(Nothing {}));
        warn!("the connection to the fence daemon is lost");
        self.pump.unlinked(line);
    }

    pub(super) fn notice(&mut self, line: Line, notice: &Notice) {
        let Some(name) = ticket(notice.resource()) else { return };
        self.write_down(&name, notice);
        let said = match notice {
            Notice::Receipt(receipt) => Said::Receipt(name, Token(receipt.token)),
            Notice::Fencing { .. } => Said::Fencing(name),
            Notice::FenceFailed { token, rounds, .. } => {
                Said::Failing(name, Token(*token), u64::from(*rounds))
            }
            Notice::LevelFailed { .. }
            | Notice::Armed { .. }
            | Notice::Extended { .. }
            | Notice::Started { .. }
            | Notice::Stopped { .. } => return,
        };
        self.pump.notice(line, said);
    }

    fn write_down(&self, name: &TicketName, notice: &Notice) {
        match notice {
            Notice::Receipt(receipt) => {
                let Receipt { token, level, reason, proof, began, ended, .. } = receipt;
                let text = format!(
                    "{name} is fenced (token {token}, because of {}): {}",
                    reason.as_str(),
                    proof.what
                );
                let receipt = ReceiptDetail {
                    token: Token(*token),
                    level: *level,
                    began: Some(reading(*began)),
                    ended: Some(reading(*ended)),
                };
                self.note(Some(name), text, Content::Receipt(receipt));
            }
            Notice::Fencing { token, reason, .. } => {
                let text = format!("fences {name} (token {token}): {}", reason.as_str());
                self.note(Some(name), text, Content::Fencing(TokenDetail { token: Token(*token) }));
            }
            Notice::LevelFailed { token, level, why, .. } => {
                let text = format!("level {level} of the fence plan of {name} (token {token}) failed: {why}");
                warn!("{text}");
                let detail = FenceLevel { token: Token(*token), level: *level };
                self.note(Some(name), text, Content::FenceLevelFailed(detail));
            }
            _ => {}
        }
    }
}

/// Both clocks, as the fence daemon read them.
const fn reading(at: Instant) -> Reading {
    Reading { boot_ns: at.boot_ns, raw_ns: at.raw_ns }
}
