//! What the fence daemon says, and what follows (docs/protocol.md, "A site's ticket").

use alloc::vec::Vec;

use sitegate_mutant::planted;

use super::Member;
use super::tenure::{Progress, Tenure};
use super::ticket::{Local, Stage, State};
use crate::event::{FenceEvent, FenceReason, FenceReport, GiveUp, Note, Order};
use crate::ids::{TicketName, Token};
use crate::time::Now;

/// The line to the fence daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum FenceLink {
    /// It does not answer: nothing is acquired or renewed.
    Down,
    /// It has said how everything stands. What it owes since is known of each tenure ([`Tenure::owed_since`]): deadlines are merged
    /// on their way to it, so its answers cannot be counted against orders.
    Up,
}

impl FenceLink {
    pub(super) const fn is_up(self) -> bool {
        matches!(self, Self::Up)
    }
}

impl Member {
    pub(super) fn on_fence(&mut self, now: Now, event: FenceEvent) {
        match event {
            FenceEvent::Up(reports) => self.fence_up(now, reports),
            FenceEvent::Down => self.fence = FenceLink::Down,
            FenceEvent::Armed(ticket, token, deadline) => self.on_armed(now, &ticket, token, deadline),
            FenceEvent::ArmRefused(ticket, token) => self.arm_refused(now, &ticket, token),
            FenceEvent::Extended { taken, refused } => self.on_extended(now, &taken, &refused),
            FenceEvent::Started(ticket, token, well) => self.on_started(now, &ticket, token, well),
            FenceEvent::Stopped(ticket, token, well) => self.on_stopped(now, &ticket, token, well),
            FenceEvent::Receipt(ticket, token) => self.on_receipt(now, &ticket, token),
            FenceEvent::Failing(ticket, token) => self.note(Note::FenceFailing(ticket, token)),
        }
        self.beat_again(now);
    }

    /// A connection to the fence daemon: what it knows against what this process believes.
    fn fence_up(&mut self, now: Now, reports: Vec<FenceReport>) {
        self.fence = FenceLink::Up;
        for report in reports {
            let local = self.locals.or_default(&report.ticket);
            local.report = Some(report);
        }
        let tickets: Vec<TicketName> = self.locals.iter().map(|(ticket, _)| ticket.clone()).collect();
        for ticket in tickets {
            let Some(mut local) = self.locals.remove(&ticket) else { continue };
            let report = local.report.take();
            local.receipt = local.receipt.max(report.as_ref().and_then(|r| r.receipt));
            let state = core::mem::take(&mut local.state);
            local.state = self.reconcile(&ticket, state, &local, report.as_ref());
            if local.state == State::Idle {
                local.report = report;
            }
            self.locals.insert(ticket, local);
        }
        self.drive_all_soon(now);
    }

    fn reconcile(
        &mut self,
        ticket: &TicketName,
        state: State,
        local: &Local,
        report: Option<&FenceReport>,
    ) -> State {
        let armed = report.and_then(|r| r.armed);
        let deadline_of = |token| armed.filter(|(t, _)| *t == token).map(|(_, deadline)| deadline);
        match state {
            State::Idle => State::Idle,
            State::Resuming { token, .. } => match deadline_of(token) {
                Some(deadline) => State::Resuming { token, deadline },
                None => self.fence_now(ticket, token, local, FenceReason::Unknown),
            },
            State::Arming(tenure) if armed.is_none() && local.receipt < Some(tenure.terms.token) => {
                let (token, deadline) = (tenure.terms.token, tenure.ordered());
                self.order(Order::Arm(ticket.clone(), token, deadline), Some(deadline));
                State::Arming(tenure)
            }
            State::Arming(tenure) | State::Held(tenure) => {
                let state = self.still_armed(ticket, tenure, local, &deadline_of, State::Held);
                if let State::Held(tenure) = &state {
                    self.run_again(ticket, tenure);
                }
                state
            }
            State::Leaving(tenure, why, _) if report.and_then(|r| r.fencing) >= Some(tenure.terms.token) => {
                // The plan that was ordered goes on; ordering it again joins it.
                self.order(Order::Fence(ticket.clone(), tenure.terms.token, FenceReason::Release), None);
                State::Leaving(tenure, why, Stage::Fencing)
            }
            State::Leaving(tenure, why, stage) => {
                let token = tenure.terms.token;
                let state =
                    self.still_armed(ticket, tenure, local, &deadline_of, |t| State::Leaving(t, why, stage));
                if matches!(state, State::Leaving(..)) {
                    let again = match stage {
                        Stage::Stopping => Order::Stop(ticket.clone(), token),
                        Stage::Fencing => Order::Fence(ticket.clone(), token, FenceReason::Release),
                    };
                    self.order(again, None);
                }
                state
            }
            State::Fencing { token, reason } => self.fence_now(ticket, token, local, reason),
            state @ State::Stopped { .. } => state,
        }
    }

    /// A tenure across a restart of the fence daemon: it goes on if that is still armed for it.
    fn still_armed(
        &mut self,
        ticket: &TicketName,
        mut tenure: Tenure,
        local: &Local,
        deadline_of: &dyn Fn(Token) -> Option<crate::time::Deadline>,
        state: impl Fn(Tenure) -> State,
    ) -> State {
        let token = tenure.terms.token;
        match deadline_of(token) {
            Some(deadline) => {
                tenure.armed_until(deadline);
                state(tenure)
            }
            None if local.receipt >= Some(token) => {
                self.end_own_round(ticket);
                self.note(Note::Lost(ticket.clone(), token));
                State::Stopped { token, lost: true }
            }
            None => self.lose(ticket, &tenure, FenceReason::Lost),
        }
    }

    /// Orders again the program whose end a break of the line may have swallowed.
    fn run_again(&mut self, ticket: &TicketName, tenure: &Tenure) {
        let token = tenure.terms.token;
        match tenure.progress {
            Progress::Starting => self.order(Order::Start(ticket.clone(), token), Some(tenure.deadline())),
            Progress::Restarting => self.order(Order::Stop(ticket.clone(), token), None),
            Progress::Running | Progress::Asking { .. } | Progress::GivingUp => {}
        }
    }

    fn fence_now(&mut self, ticket: &TicketName, token: Token, local: &Local, reason: FenceReason) -> State {
        self.end_own_round(ticket);
        if local.receipt >= Some(token) {
            return State::Stopped { token, lost: reason != FenceReason::Release };
        }
        self.order(Order::Fence(ticket.clone(), token, reason), None);
        State::Fencing { token, reason }
    }

    fn arm_refused(&mut self, now: Now, ticket: &TicketName, token: Token) {
        let Some(local) = self.locals.get_mut(ticket) else { return };
        if matches!(&local.state, State::Arming(tenure) if tenure.terms.token == token) {
            local.state = State::Fencing { token, reason: FenceReason::Unknown };
            self.order(Order::Fence(ticket.clone(), token, FenceReason::Unknown), None);
            self.drive_soon(now, ticket);
        }
    }

    fn on_receipt(&mut self, now: Now, ticket: &TicketName, token: Token) {
        let mut local = self.locals.remove(ticket).unwrap_or_default();
        local.receipt = local.receipt.max(Some(token));
        self.note(Note::Fenced(ticket.clone(), token));
        let state = core::mem::take(&mut local.state);
        local.state = match state {
            State::Fencing { token: t, reason } if t <= token => {
                State::Stopped { token: t, lost: reason != FenceReason::Release }
            }
            State::Leaving(tenure, why, _) if tenure.terms.token <= token => {
                self.end_own_round(ticket);
                State::Stopped { token: tenure.terms.token, lost: why == GiveUp::Unhealthy }
            }
            // The deadman was faster than this daemon, or somebody fenced by hand.
            State::Arming(tenure) | State::Held(tenure) if tenure.terms.token <= token => {
                self.end_own_round(ticket);
                self.note(Note::Lost(ticket.clone(), tenure.terms.token));
                State::Stopped { token: tenure.terms.token, lost: true }
            }
            State::Resuming { token: t, .. } if t <= token => {
                self.end_own_round(ticket);
                State::Stopped { token: t, lost: true }
            }
            other => other,
        };
        self.locals.insert(ticket.clone(), local);
        self.drive_soon(now, ticket);
    }

    /// What an idle site does about a resource that its fence daemon reported as armed: goes on with the tenure of an
    /// earlier life, or fences.
    pub(super) fn take_up_report(
        &mut self,
        now: Now,
        ticket: &TicketName,
        local: &mut Local,
    ) -> Option<State> {
        let report = local.report.take()?;
        if let Some((token, deadline)) = report.armed {
            let mine =
                self.ownership(ticket).held().is_some_and(|t| t.site == self.settings.me && t.token == token);
            let past = deadline.has_passed(now) && !planted!(ResumesLate);
            if mine && !past && local.receipt < Some(token) {
                return Some(State::Resuming { token, deadline });
            }
            return Some(self.fence_now(ticket, token, local, FenceReason::Unknown));
        }
        report.fencing.map(|token| self.fence_now(ticket, token, local, FenceReason::Lost))
    }
}
