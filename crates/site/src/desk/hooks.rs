//! The desk and the hooks of this host.

use sitegate_member::config::{Hook, LocalTicket};
use sitegate_member::journal::Content;
use sitegate_member::journal::content::Nothing;
use sitegate_protocol::{CheckId, CheckResult, TicketName, Token};
use tracing::{info, warn};

use super::super::checks::{Checking, Ill};
use super::super::hooks::{Run, complaint};
use super::Desk;

impl Desk {
    pub(super) fn hooks(&self, ticket: &TicketName) -> Option<LocalTicket> {
        let configuration = self.port.shared.configuration.get();
        let name = ticket.as_str().parse().ok()?;
        configuration.local.tickets.get(&name).cloned()
    }

    pub(super) fn run(
        &self,
        ticket: &TicketName,
        token: Option<Token>,
        reason: &'static str,
        hook: Hook,
    ) -> Run {
        let site = self.port.shared.configuration.get().local.name.to_string();
        Run { ticket: ticket.clone(), token, site, reason, hook }
    }

    /// Runs the check before acquiring; a ticket without one passes. One that could not be fenced in time does not.
    pub(super) fn check(&self, ticket: TicketName, check: CheckId) {
        let late = self.late.get(&ticket).cloned();
        let hook = self.hooks(&ticket).and_then(|hooks| hooks.before_acquire);
        let run = hook.map(|hook| self.run(&ticket, None, "before-acquire", hook));
        let (runner, checked) = (self.runner.clone(), self.checked.0.clone());
        tokio::spawn(async move {
            let result = match (late, run) {
                (Some(why), _) => {
                    warn!("{why}");
                    CheckResult::Failed
                }
                (None, None) => CheckResult::Passed,
                (None, Some(run)) => {
                    let outcome = run.run(&runner).await;
                    if outcome.succeeded() {
                        CheckResult::Passed
                    } else {
                        warn!(%ticket, why = complaint(&outcome), "the check before acquiring failed");
                        CheckResult::Failed
                    }
                }
            };
            // If the desk is gone, so is the process.
            let _ = checked.send((ticket, check, result)).await;
        });
    }

    pub(super) fn begin_checking(&mut self, ticket: &TicketName, token: Token) {
        let Some(check) = self.hooks(ticket).and_then(|hooks| hooks.check) else {
            self.checking.remove(ticket);
            return;
        };
        let run = self.run(ticket, Some(token), "check", check.hook);
        let (runner, ill) = (self.runner.clone(), self.ill.0.clone());
        let checking = Checking::begin(run, token, check.every, check.failures, runner, ill);
        self.checking.insert(ticket.clone(), checking);
    }

    pub(super) fn found_ill(&mut self, ill: &Ill) {
        let Ill { ticket, token, why } = ill;
        if !self.pump.ill(ticket, *token) {
            return;
        }
        self.checking.remove(ticket);
        let text = format!("the health check of {ticket} last said: {why}");
        self.note(Some(ticket), text, Content::CheckFailedTooOften(Nothing {}));
    }

    /// Checks go on by the new configuration, which may also fit the fence daemon better, or worse.
    pub(super) fn reload(&mut self) {
        if let Some(status) = self.link.as_ref().map(|link| link.status.clone()) {
            self.learn(&status);
        }
        self.pump.watch_anew();
        info!("hooks are those of the new configuration");
    }
}
