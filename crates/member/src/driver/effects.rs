//! What a committed turn led to, done: sent, ordered, replied, written down.

use std::sync::Arc;

use sitegate_host::clock::duration_ns;
use sitegate_protocol::{Caller, Command, CommandId, Effects, Event, Fatal, Note, Now, Reply};
use tracing::{debug, error, info, warn};

use super::{Driver, Ended, Observed, now};
use crate::journal::content::{Leap, Until};
use crate::journal::{Content, Draft, Moment, describe, describe_command};
use crate::site::Work;

impl Driver {
    pub(super) fn carry_out(&mut self, effects: Effects) -> Result<(), Ended> {
        let now = now();
        let Effects { frames, orders, checks, replies, notes, fatal } = effects;
        self.send(frames);
        if let Some(site) = &self.site {
            site.give(orders.into_iter().map(Work::Order));
            site.give(checks.into_iter().map(|(ticket, check)| Work::Check(ticket, check)));
        }
        for (id, reply) in replies {
            self.reply(id, reply);
        }
        self.write_notes(&notes, now);
        match fatal {
            Some(Fatal::StartAgain) => Err(Ended::StartAgain),
            None => Ok(()),
        }
    }

    fn reply(&mut self, id: CommandId, reply: Reply) {
        let last = !matches!(reply, Reply::Recorded);
        let Some(replies) = self.commands.get(&id) else { return };
        if replies.try_send(reply).is_err() {
            debug!(id = id.0, "nobody waits for a command's reply any more");
        }
        if last {
            self.commands.remove(&id);
        }
    }

    /// Answers those who want to know how it stands: only between commits, so that nothing is told that is not durable.
    pub(super) fn answer_looks(&mut self) {
        if self.looks.is_empty() {
            return;
        }
        let now = now();
        let view = self.pump.member().view(now);
        let observed = Arc::new(Observed { now, view, failing: self.failing.clone() });
        for reply in self.looks.drain(..) {
            // Whoever asked may have gone.
            let _ = reply.send(Arc::clone(&observed));
        }
    }

    /// Looks at what has no event of its own.
    pub(super) fn look_around(&mut self) {
        self.service.alive();
        self.shared.suspicion.look_at_wall();
        let Some(leap) = self.shared.suspicion.verdict() else { return };
        error!(?leap, "this machine was put back in time or stood still: all other clocks have moved on");
        let draft = Draft::new(
            format!("this machine stood still for {leap:?}, by at least two other clocks"),
            Content::ClockLeap(Leap { leap_ns: duration_ns(leap) }),
        );
        self.write_down(vec![draft], now());
        // If there is no room for it now, it is found again at the next look.
        let _ = self.pump.offer(Event::Suspect);
    }

    fn write_notes(&mut self, notes: &[Note], now: Now) {
        for note in notes {
            match note {
                Note::FenceFailing(ticket, _) => drop(self.failing.insert(ticket.clone())),
                Note::Fenced(ticket, _) => drop(self.failing.remove(ticket)),
                _ => {}
            }
        }
        let drafts: Vec<Draft> = notes.iter().map(|note| self.describe(note, now)).collect();
        for draft in &drafts {
            log_draft(draft);
        }
        self.write_down(drafts, now);
    }

    /// A note, with the deadline that was in force when a ticket is given up: until then it is held, whenever this is read.
    fn describe(&self, note: &Note, now: Now) -> Draft {
        let mut draft = describe(note, &self.shared.names, now);
        if let (Note::Relinquishing(ticket, ..), Content::Relinquishing(giving_up)) =
            (note, &mut draft.content)
        {
            let local = self.pump.member().ticket_view(now, ticket).local;
            giving_up.until = local.and_then(|local| local.deadline).map(Until::from);
        }
        draft
    }

    pub(super) fn write_down(&self, drafts: Vec<Draft>, now: Now) {
        self.shared.metrics.journal_lost.add(self.journal.write(drafts, Moment::new(now)));
    }

    /// Questions are not worth an entry.
    pub(super) fn note_command(&self, command: &Command, caller: &Caller) {
        if matches!(command, Command::Inspect(_)) {
            return;
        }
        let draft = describe_command(command, caller, &self.shared.names);
        info!(by = caller.who, "{}", draft.text);
        self.write_down(vec![draft], now());
    }
}

/// Loud things loudly.
fn log_draft(draft: &Draft) {
    let (ticket, kind) = (draft.ticket.as_deref(), draft.content.kind());
    match draft.content {
        Content::Quarantined(_)
        | Content::RolledBack(_)
        | Content::TrustsDisk(_)
        | Content::FenceFailing(_) => error!(ticket, kind, "{}", draft.text),
        Content::Lost(_)
        | Content::Stranger(_)
        | Content::PeerRolledBack(_)
        | Content::ClockOff(_)
        | Content::Flapping(_)
        | Content::Barred(_)
        | Content::StartFailed(_)
        | Content::Unhealthy(_)
        | Content::Recovering(_)
        | Content::CheckFailed(_) => warn!(ticket, kind, "{}", draft.text),
        Content::Candidate(_) | Content::Parked(_) | Content::PeerStarted(_) => {
            debug!(ticket, kind, "{}", draft.text);
        }
        _ => info!(ticket, kind, "{}", draft.text),
    }
}
