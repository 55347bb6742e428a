//! Reload: all of the new configuration, or none of it.

use std::sync::Arc;

use tokio::sync::mpsc;
use tracing::{error, info};

use super::{Setup, load};
use crate::api::Reload;
use crate::config::{Configuration, Formation, FormationDigest};
use crate::driver::{self, Handle, Request};
use crate::journal::content::Changes;
use crate::journal::{Content, Draft, Journal, Moment};
use crate::peers::Peers;
use crate::service::Service;
use crate::shared::Shared;
use crate::site::SiteReload;
use crate::tls::MemberTls;
use sitegate_host::log::LogFilter;

/// What a reload changes.
#[derive(Debug)]
pub(super) struct Reloader {
    pub(super) setup: Setup,
    pub(super) shared: Arc<Shared>,
    pub(super) peers: Arc<Peers>,
    pub(super) handle: Handle,
    pub(super) filter: LogFilter,
    pub(super) site: Option<SiteReload>,
    pub(super) service: Service,
    pub(super) journal: Journal,
}

impl Reloader {
    /// Reloads whenever somebody asks, one after the other.
    pub(super) async fn serve(self, mut queue: mpsc::Receiver<Reload>) {
        while let Some(reply) = queue.recv().await {
            self.service.reloading();
            let done = self.reload().await;
            self.service.ready();
            match &done {
                Ok(changed) if changed.is_empty() => info!("reloaded; nothing has changed"),
                Ok(changed) => info!(changed = changed.join(", "), "reloaded"),
                Err(why) => error!("not reloaded, all stays as it was:\n{why}"),
            }
            // A signal waits for no reply.
            let _ = reply.send(done);
        }
    }

    async fn reload(&self) -> Result<Vec<String>, String> {
        let setup = self.setup.clone();
        let read = tokio::task::spawn_blocking(move || {
            let (configuration, warnings) =
                load(&setup.program, &setup.arguments).map_err(|failure| failure.text)?;
            let local = &configuration.local;
            let tls = MemberTls::load(&local.tls, &configuration.formation, &local.name);
            Ok::<_, String>((configuration, tls.map_err(|error| error.to_string())?, warnings))
        });
        let (new, tls, warnings) = read.await.map_err(|error| error.to_string())??;
        let old = self.shared.configuration.get();
        needs_restart(&old, &new)?;
        let changed = self.changes(&old, &new, &tls);
        warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        self.filter.change(&new.local.log);
        self.shared.configuration.swap(new);
        self.shared.tls.swap(tls);
        if self.shared.renew_settings() {
            self.handle.ask(Request::Reload).await.map_err(|gone| gone.to_string())?;
        }
        if let Some(site) = &self.site {
            site.tell();
        }
        if !changed.is_empty() {
            self.peers.renew();
            self.write_down(&changed);
        }
        Ok(changed)
    }

    fn changes(&self, old: &Configuration, new: &Configuration, tls: &MemberTls) -> Vec<String> {
        let mut changed = formation_changes(&old.formation, &new.formation);
        if old.local.tickets != new.local.tickets {
            changed.push("hooks".into());
        }
        if old.local.log != new.local.log {
            changed.push("log".into());
        }
        let fingerprints = |tls: &MemberTls| {
            tls.credentials.reports().iter().map(|report| report.fingerprint).collect::<Vec<_>>()
        };
        if fingerprints(&self.shared.tls.get()) != fingerprints(tls) || old.local.tls != new.local.tls {
            changed.push("certificates".into());
        }
        changed
    }

    fn write_down(&self, changed: &[String]) {
        let text = format!("the configuration has changed: {}", changed.join(", "));
        let draft = Draft::new(text, Content::Reloaded(Changes { changed: changed.to_vec() }));
        self.shared.metrics.journal_lost.add(self.journal.write(vec![draft], Moment::new(driver::now())));
    }
}

fn formation_changes(old: &Formation, new: &Formation) -> Vec<String> {
    let mut changed = Vec::new();
    for name in new.tickets.keys().filter(|name| !old.tickets.contains_key(*name)) {
        changed.push(format!("ticket {name} is new"));
    }
    for (name, terms) in &old.tickets {
        match new.tickets.get(name) {
            None => changed.push(format!("ticket {name} is gone")),
            Some(changed_terms) if changed_terms != terms => changed.push(format!("ticket {name}")),
            Some(_) => {}
        }
    }
    if changed.is_empty() && FormationDigest::of(old) != FormationDigest::of(new) {
        changed.push("formation".into());
    }
    changed
}

/// Refuses what a running daemon cannot change.
fn needs_restart(old: &Configuration, new: &Configuration) -> Result<(), String> {
    let (o, n) = (&old.local, &new.local);
    let differs = [
        ("name", o.name != n.name),
        ("state-dir", o.state_dir != n.state_dir),
        ("runtime-dir", o.runtime_dir != n.runtime_dir),
        ("socket", o.socket != n.socket),
        ("fence-socket", o.fence_socket != n.fence_socket),
        ("listen", o.listen != n.listen),
        ("log format", o.log.format != n.log.format),
        (
            "members, their numbers and roles",
            FormationDigest::of_id_map(&old.formation) != FormationDigest::of_id_map(&new.formation),
        ),
    ];
    let what: Vec<&str> = differs.iter().filter(|(_, differs)| *differs).map(|(what, _)| *what).collect();
    if what.is_empty() {
        return Ok(());
    }
    Err(format!(
        "error: a reload cannot change: {}\nhint: restart the daemon; what it holds stays held meanwhile",
        what.join(", ")
    ))
}
