//! What must hold: read from the shared file and the process table alone.

use std::time::Duration;

use sitegate_host::clock::{boot_ns, duration_ns};
use tokio::time::sleep;

use super::{Played, Stage, Unmet};
use crate::playground::processes::{Writer, writers};
use crate::playground::report::Report;
use crate::playground::writes::{Tenure, Write};

/// The longest silence of a writer that counts as going on: twenty of its periods, for a loaded machine.
const SILENCE_MAX: Duration = Duration::from_secs(1);

impl Stage {
    /// Waits for a write under a token above `above`; it must be of `site`.
    pub(in crate::playground) async fn first_write(
        &self,
        site: &str,
        above: u64,
        within: Duration,
    ) -> Result<Tenure, Unmet> {
        let tenure = self.any_first_write(above, within).await?;
        if tenure.site == site {
            return Ok(tenure);
        }
        Err(Unmet(format!("{} writes where {site} was expected", tenure.site)))
    }

    /// Waits for a write under a token above `above`.
    pub(in crate::playground) async fn any_first_write(
        &self,
        above: u64,
        within: Duration,
    ) -> Result<Tenure, Unmet> {
        let newest = || self.newest().filter(|tenure| tenure.token > above);
        self.until("a write under a new token", within, newest).await
    }

    /// For so long, one site must go on writing under one token, and nothing else may run.
    pub(in crate::playground) async fn steady(&self, site: &str, length: Duration) -> Played {
        let before = self.newest().ok_or_else(|| Unmet("nobody writes".to_owned()))?;
        if before.site != site {
            return Err(Unmet(format!("{} writes where {site} was expected", before.site)));
        }
        let from = boot_ns();
        sleep(length).await;
        let after = self.newest();
        if after.as_ref().map(|tenure| tenure.token) != Some(before.token) {
            let who =
                after.map_or_else(String::new, |tenure| format!("{}, token {}", tenure.site, tenure.token));
            return Err(Unmet(format!("{site} lost the ticket to {who}")));
        }
        self.went_on_since(from)?;
        self.only_writes(site)
    }

    /// There may have been no longer silence than a loaded machine makes.
    pub(in crate::playground) fn went_on_since(&self, from_ns: u64) -> Played {
        let silence = self.observer.seen().writes.longest_silence_ns(from_ns, boot_ns());
        if silence <= duration_ns(SILENCE_MAX) {
            return Ok(());
        }
        Err(Unmet(format!("nobody wrote for {} ms", silence / 1_000_000)))
    }

    /// The process table must have exactly one writer, of `site`.
    pub(in crate::playground) fn only_writes(&self, site: &str) -> Played {
        match &self.writers()[..] {
            [writer] if writer.site == site => Ok(()),
            others => Err(Unmet(format!("{} run where only that of {site} should", named(others)))),
        }
    }

    /// Nothing may run now, and nothing may be written for so long.
    pub(in crate::playground) async fn quiet(&self, length: Duration) -> Played {
        self.nothing_runs()?;
        let before = self.observer.seen().writes.lines().len();
        sleep(length).await;
        if self.observer.seen().writes.lines().len() > before {
            return Err(Unmet("something writes again".to_owned()));
        }
        self.nothing_runs()
    }

    /// The process table must have no writer.
    pub(in crate::playground) fn nothing_runs(&self) -> Played {
        match &self.writers()[..] {
            [] => Ok(()),
            others => Err(Unmet(format!("{} run where none should", named(others)))),
        }
    }

    /// The writers in the process table.
    pub(in crate::playground) fn writers(&self) -> Vec<Writer> {
        writers(self.ground.path())
    }

    /// The tenure that began to write last.
    pub(in crate::playground) fn newest(&self) -> Option<Tenure> {
        self.observer.seen().writes.tenures().pop()
    }

    /// Its token; 0 before the first.
    pub(in crate::playground) fn newest_token(&self) -> u64 {
        self.newest().map_or(0, |tenure| tenure.token)
    }

    /// All tenures so far.
    pub(in crate::playground) fn tenures(&self) -> Vec<Tenure> {
        self.observer.seen().writes.tenures()
    }

    /// The last write of a site.
    pub(in crate::playground) fn last_write(&self, site: &str) -> Option<Write> {
        self.observer.seen().writes.lines().iter().rev().find(|write| write.site == site).cloned()
    }

    /// The verdict: what was played, and what must hold in every scenario.
    pub(in crate::playground) fn judge(&self, scenario: &str, played: Played) -> Report {
        let seen = self.observer.seen();
        let tenures = seen.writes.tenures();
        let overlapping = seen.writes.overlapping();
        let mut why = Vec::new();
        why.extend(played.err().map(|unmet| unmet.0));
        why.extend(seen.blind.clone());
        why.extend(seen.beside.iter().cloned());
        if overlapping > 0 {
            why.push(format!("{overlapping} writes overlap"));
        }
        if let Some(pair) = tenures.windows(2).find(|pair| pair[1].token <= pair[0].token) {
            why.push(format!("token {} came after {}", pair[1].token, pair[0].token));
        }
        Report {
            scenario: scenario.to_owned(),
            ok: why.is_empty(),
            grant_ms: self.grant_ms,
            failover_ms: self.failover_ms,
            gap_ms: seen.writes.gap_ns().map(|gap| gap.div_euclid(1_000_000)),
            overlapping_writes: overlapping,
            tokens: tenures.iter().map(|tenure| tenure.token).collect(),
            journals: None,
            why: (!why.is_empty()).then(|| why.join("; ")),
        }
    }
}

fn named(writers: &[Writer]) -> String {
    if writers.is_empty() {
        return "no writers".to_owned();
    }
    let names = writers
        .iter()
        .map(|writer| format!("the writer of {} (process {})", writer.site, writer.process.pid));
    names.collect::<Vec<_>>().join(" and ")
}
