//! One turn: events become steps, steps one commit.

use std::convert::Infallible;
use std::time::Instant;

use sitegate_protocol::{Committing, Event, Lsn, Record, Store, TicketName, Turn};

use super::{Driver, Ended, Running, now};
use crate::journal::describe_vote;
use crate::store::CommitError;

impl Driver {
    /// Handles one event. What it leads to waits for this turn's commit, or for the next one if one runs already; not so
    /// the answers to heartbeats, which rest on no commit: a slow disk must not make others believe that we are gone.
    pub(super) fn handle(&mut self, event: Event) -> Result<(), Ended> {
        self.shared.metrics.events.add(1);
        let now = now();
        let may_pass = event.is_prompt(); // such an event runs no timers: what those lead to may rest on what is not durable
        let mut turn = Turn::new();
        turn.add(self.member.handle(now, event));
        if may_pass && !turn.is_dirty() {
            return self.carry_out(without_commit(turn));
        }
        self.turn.append(turn);
        Ok(())
    }

    /// Commits the turn if none is being committed, and does its effects at once where there was nothing to write.
    pub(super) fn finish_turn(&mut self) -> Result<(), Ended> {
        if self.committing.is_some() {
            return Ok(());
        }
        let now = now();
        if self.member.next_timeout().due(now) {
            let step = self.member.handle(now, Event::Tick);
            self.turn.add(step);
        }
        let mut turn = std::mem::take(&mut self.turn);
        if turn.is_dirty() {
            for (to, frame) in turn.proposals(&self.member) {
                self.peers.send(to, now.boot, frame);
            }
            let names = &self.shared.names;
            let renewed = |ticket: &TicketName| self.member.last_renewal(ticket);
            let votes = turn.records().filter_map(|record| describe_vote(record, names, &renewed)).collect();
            self.committing = Some(Running { since: Instant::now(), votes });
            return self.disk.commit(turn);
        }
        self.carry_out(without_commit(turn))?;
        self.answer_looks();
        Ok(())
    }

    /// The running commit has ended.
    pub(super) fn committed(&mut self, done: Option<Result<Committing, CommitError>>) -> Result<(), Ended> {
        let committed = done.ok_or(Ended::DiskGone)??;
        if let Some(running) = self.committing.take() {
            self.shared.metrics.commits.took(running.since.elapsed());
            self.write_down(running.votes, now());
        }
        self.carry_out(committed)?;
        self.answer_looks();
        Ok(())
    }
}

/// Commits a turn that has nothing to commit.
fn without_commit(turn: Turn) -> Committing {
    turn.commit(&mut Nowhere).unwrap_or_else(|never| match never {})
}

/// Takes no records, as there are none.
struct Nowhere;

impl Store for Nowhere {
    type Error = Infallible;

    fn commit<'r>(&mut self, _: impl Iterator<Item = &'r Record>) -> Result<Lsn, Infallible> {
        unreachable!("only turns without records come here")
    }
}
