//! What the pump wants done, done: it says what and in which order, this has the clocks, the disk and the wires.

use std::time::Instant;

use sitegate_protocol::{Committing, Frame, MemberId, TicketName, Turn};
use sitegate_shell::member::{Deed, Next};

use super::{Driver, Ended, Running, now};
use crate::journal::describe_vote;
use crate::store::CommitError;

impl Driver {
    /// Works off what there is to do, with the clocks read anew at each step.
    pub(super) fn work(&mut self) -> Result<(), Ended> {
        loop {
            match self.pump.next(now()) {
                Next::Handled(handled) => {
                    self.shared.metrics.events.add(1);
                    self.pump.add(handled, now());
                }
                Next::Do(Deed::Commit(turn, proposals)) => {
                    self.commit(turn)?;
                    self.send(proposals);
                }
                Next::Do(Deed::Effects(effects)) => self.carry_out(*effects)?,
                Next::Wait => return Ok(()),
            }
        }
    }

    fn commit(&mut self, turn: Turn) -> Result<(), Ended> {
        let names = &self.shared.names;
        let renewed = |ticket: &TicketName| self.pump.member().last_renewal(ticket);
        let votes = turn.records().filter_map(|record| describe_vote(record, names, &renewed)).collect();
        self.committing = Some(Running { since: Instant::now(), votes });
        self.disk.commit(turn)
    }

    /// The running commit has ended.
    pub(super) fn committed(&mut self, done: Option<Result<Committing, CommitError>>) -> Result<(), Ended> {
        let committed = done.ok_or(Ended::DiskGone)??;
        if let Some(running) = self.committing.take() {
            self.shared.metrics.commits.took(running.since.elapsed());
            self.write_down(running.votes, now());
        }
        self.pump.committed(committed, now());
        Ok(())
    }

    pub(super) fn send(&self, frames: Vec<(MemberId, Frame)>) {
        let boot = now().boot;
        for (to, frame) in frames {
            self.peers.send(to, boot, frame);
        }
    }
}
