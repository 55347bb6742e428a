//! Health checks: while a tenure's resources run, a program says every so often whether they are well.

use std::num::NonZeroU32;
use std::time::Duration;

use sitegate_host::program::Runner;
use sitegate_protocol::{TicketName, Token};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tracing::{debug, warn};

use super::hooks::{Run, complaint};

/// What a check found, if that matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ill {
    pub(super) ticket: TicketName,
    pub(super) token: Token,
    /// What the last failure said.
    pub(super) why: String,
}

/// A check that runs again and again; it ends when this is dropped, and kills what runs.
#[derive(Debug)]
pub(super) struct Checking(AbortHandle);

impl Checking {
    /// Checks `run` every `every`; after `failures` in a row says so, once.
    pub(super) fn begin(
        run: Run,
        token: Token,
        every: Duration,
        failures: NonZeroU32,
        runner: Runner,
        ill: mpsc::Sender<Ill>,
    ) -> Self {
        let task = tokio::spawn(async move {
            // The resources have only just come up: they get a full period.
            let mut ticks = interval_at(Instant::now() + every, every);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut in_a_row = 0;
            loop {
                ticks.tick().await;
                let outcome = run.run(&runner).await;
                if outcome.succeeded() {
                    in_a_row = 0;
                    debug!(ticket = %run.ticket, "the health check is content");
                    continue;
                }
                in_a_row += 1;
                let why = complaint(&outcome);
                warn!(ticket = %run.ticket, in_a_row, of = failures, why, "the health check failed");
                if in_a_row == failures.get() {
                    // The end of the desk is the end of this process.
                    let _ = ill.send(Ill { ticket: run.ticket.clone(), token, why }).await;
                    return;
                }
            }
        });
        Self(task.abort_handle())
    }
}

impl Drop for Checking {
    fn drop(&mut self) {
        self.0.abort();
    }
}
