//! The task that everything of a site passes through.

use std::collections::{BTreeMap, BTreeSet};

use sitegate_fence_client::status::Status;
use sitegate_fence_client::wire::Notice;
use sitegate_fence_client::{Client, Events};
use sitegate_host::program::Runner;
use sitegate_member::config::LocalTicket;
use sitegate_member::driver::now;
use sitegate_member::journal::{Draft, Moment};
use sitegate_member::site::{SiteFacts, SitePort, Work};
use sitegate_protocol::{CheckId, CheckResult, Event, FenceEvent, Order, TicketName, Token};
use tokio::sync::mpsc;
use tracing::{info, warn};

use super::checks::{Checking, Ill};
use super::convert::{reports, ticket};
use super::extend::Extending;
use super::hooks::{Run, complaint};
use super::link::{Linked, connect};
use super::requests::{Answer, Request};
use super::routes::Way;

/// Answers and findings that wait for the desk.
const WAITING_MAX: usize = 64;

/// The task's state.
#[derive(Debug)]
pub(super) struct Desk {
    port: SitePort,
    runner: Runner,
    way: Way,
    link: Option<Link>,
    extending: Extending,
    checking: BTreeMap<TicketName, Checking>,
    /// The newest receipt that the protocol was told of: the fence daemon may tell of one twice.
    receipts: BTreeMap<TicketName, Token>,
    answers: (mpsc::Sender<(u64, Asked, Answer)>, mpsc::Receiver<(u64, Asked, Answer)>),
    ill: (mpsc::Sender<Ill>, mpsc::Receiver<Ill>),
    linked: (mpsc::Sender<Linked>, mpsc::Receiver<Linked>),
    /// Numbers connections: what an older one still has to say does not count.
    links: u64,
}

#[derive(Debug)]
struct Link {
    client: Client,
    events: Events,
}

/// Which kind of request an answer belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Deadlines,
    Other,
}

impl Desk {
    pub(super) fn new(port: SitePort, runner: Runner, way: Way) -> Self {
        Self {
            port,
            runner,
            way,
            link: None,
            extending: Extending::default(),
            checking: BTreeMap::new(),
            receipts: BTreeMap::new(),
            answers: mpsc::channel(WAITING_MAX),
            ill: mpsc::channel(WAITING_MAX),
            linked: mpsc::channel(1),
            links: 0,
        }
    }

    /// Works until the loop has ended.
    pub(super) async fn serve(mut self) {
        if let Err(left) = self.runner.kill_left_over().await {
            warn!(%left, "hooks of an earlier daemon still run");
        }
        self.connect();
        while self.once().await {}
    }

    /// Does one thing; false once there is nobody to do it for.
    async fn once(&mut self) -> bool {
        tokio::select! {
            work = self.port.work.recv() => match work {
                Some(Work::Order(order)) => { self.order(order); true }
                Some(Work::Check(ticket, check)) => { self.check(ticket, check); true }
                Some(Work::Reload) => { self.reload(); true }
                None => false,
            },
            notice = next_notice(&mut self.link) => match notice {
                Some(notice) => self.notice(notice).await,
                None => self.unlinked().await,
            },
            Some(linked) = self.linked.1.recv() => self.linked(linked).await,
            Some((link, asked, answer)) = self.answers.1.recv() => {
                link != self.links || self.answered(asked, answer).await
            }
            Some(ill) = self.ill.1.recv() => self.found_ill(ill).await,
        }
    }

    async fn tell(&self, event: Event) -> bool {
        self.port.events.send(event).await.is_ok()
    }

    // The connection.

    fn connect(&self) {
        let local = &self.port.shared.configuration.get().local;
        let (path, site, linked) =
            (local.fence_socket.clone(), local.name.to_string(), self.linked.0.clone());
        // If the desk is gone, so is the process.
        tokio::spawn(async move { linked.send(connect(&path, &site).await).await });
    }

    async fn linked(&mut self, linked: Linked) -> bool {
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
        self.link = Some(Link { client, events });
        self.note("fence-up", None, format!("the fence daemon answers (version {})", status.version));
        // What this site can run has to be known before the protocol acts on the rest.
        if self.port.shared.renew_settings() {
            let settings = (*self.port.shared.settings.get()).clone();
            if !self.tell(Event::Reload(settings)).await {
                return false;
            }
        }
        self.tell(Event::Fence(FenceEvent::Up(reports(&status)))).await
    }

    /// What the fence daemon's status says about this site.
    fn learn(&self, status: &Status) {
        let configuration = self.port.shared.configuration.get();
        let known = |resource: &&sitegate_fence_client::status::ResourceStatus| {
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

    async fn unlinked(&mut self) -> bool {
        self.link = None;
        self.links += 1;
        self.way.set(None);
        self.extending.forget();
        self.note("fence-down", None, "the fence daemon does not answer".into());
        warn!("the connection to the fence daemon is lost");
        self.connect();
        self.tell(Event::Fence(FenceEvent::Down)).await
    }

    // Orders and their answers.

    fn order(&mut self, order: Order) {
        match &order {
            Order::Stop(ticket, _) | Order::Fence(ticket, ..) => drop(self.checking.remove(ticket)),
            Order::Arm(..) | Order::Extend(_) | Order::Start(..) => {}
        }
        match order {
            Order::Extend(extensions) => {
                self.extending.order(extensions);
                self.extend();
            }
            order => self.ask(Asked::Other, order.into()),
        }
    }

    fn extend(&mut self) {
        if self.link.is_none() {
            self.extending.forget();
        } else if let Some(extensions) = self.extending.next() {
            self.ask(Asked::Deadlines, Request::Extend(extensions));
        }
    }

    /// Asks in the background. Without a connection nothing is asked: the protocol hears of the next one and orders again
    /// what still matters.
    fn ask(&self, asked: Asked, request: Request) {
        let Some(link) = &self.link else { return };
        let (client, incarnation) = (link.client.clone(), self.port.incarnation.0);
        let (answers, number) = (self.answers.0.clone(), self.links);
        tokio::spawn(async move {
            let answer = request.ask(client, incarnation).await;
            // If the desk is gone, so is the process.
            let _ = answers.send((number, asked, answer)).await;
        });
    }

    async fn answered(&mut self, asked: Asked, answer: Answer) -> bool {
        if asked == Asked::Deadlines {
            self.extending.answered();
            self.extend();
        }
        match answer {
            Answer::Gone | Answer::Nothing => true,
            Answer::Event(FenceEvent::Receipt(ticket, token)) => self.receipt(ticket, token).await,
            Answer::Event(event) => {
                if let FenceEvent::Started(ticket, token, true) = &event {
                    self.begin_checking(ticket, *token);
                }
                self.tell(Event::Fence(event)).await
            }
        }
    }

    /// The same receipt may come as an answer and as a notice: the protocol is told once.
    async fn receipt(&mut self, ticket: TicketName, token: Token) -> bool {
        self.checking.remove(&ticket);
        let newest = self.receipts.entry(ticket.clone()).or_default();
        if token <= *newest {
            return true;
        }
        *newest = token;
        self.tell(Event::Fence(FenceEvent::Receipt(ticket, token))).await
    }

    async fn notice(&mut self, notice: Notice) -> bool {
        let Some(name) = ticket(notice.resource()) else { return true };
        match notice {
            Notice::Receipt(receipt) => {
                let text = format!(
                    "{name} is fenced (token {}, because of {}): {}",
                    receipt.token,
                    receipt.reason.as_str(),
                    receipt.proof.what
                );
                self.note("receipt", Some(&name), text);
                self.receipt(name, Token(receipt.token)).await
            }
            Notice::Fencing { token, reason, .. } => {
                self.checking.remove(&name);
                self.note(
                    "fencing",
                    Some(&name),
                    format!("fences {name} (token {token}): {}", reason.as_str()),
                );
                true
            }
            Notice::LevelFailed { token, level, why, .. } => {
                let text = format!("level {level} of the fence plan of {name} (token {token}) failed: {why}");
                warn!("{text}");
                self.note("fence-level-failed", Some(&name), text);
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

    // Hooks.

    fn hooks(&self, ticket: &TicketName) -> Option<LocalTicket> {
        let configuration = self.port.shared.configuration.get();
        let name = ticket.as_str().parse().ok()?;
        configuration.local.tickets.get(&name).cloned()
    }

    fn run(
        &self,
        ticket: &TicketName,
        token: Option<Token>,
        reason: &'static str,
        hook: sitegate_member::config::Hook,
    ) -> Run {
        let site = self.port.shared.configuration.get().local.name.to_string();
        Run { ticket: ticket.clone(), token, site, reason, hook }
    }

    /// Runs the check before acquiring; a ticket without one passes.
    fn check(&self, ticket: TicketName, check: CheckId) {
        let hook = self.hooks(&ticket).and_then(|hooks| hooks.before_acquire);
        let run = hook.map(|hook| self.run(&ticket, None, "before-acquire", hook));
        let (runner, events) = (self.runner.clone(), self.port.events.clone());
        tokio::spawn(async move {
            let result = match run {
                None => CheckResult::Passed,
                Some(run) => {
                    let outcome = run.run(&runner).await;
                    if outcome.succeeded() {
                        CheckResult::Passed
                    } else {
                        warn!(%ticket, why = complaint(&outcome), "the check before acquiring failed");
                        CheckResult::Failed
                    }
                }
            };
            // If the loop is gone, so is the process.
            let _ = events.send(Event::Checked(ticket, check, result)).await;
        });
    }

    fn begin_checking(&mut self, ticket: &TicketName, token: Token) {
        let Some(check) = self.hooks(ticket).and_then(|hooks| hooks.check) else {
            self.checking.remove(ticket);
            return;
        };
        let run = self.run(ticket, Some(token), "check", check.hook);
        let (runner, ill) = (self.runner.clone(), self.ill.0.clone());
        let checking = Checking::begin(run, token, check.every, check.failures, runner, ill);
        self.checking.insert(ticket.clone(), checking);
    }

    async fn found_ill(&mut self, ill: Ill) -> bool {
        let Ill { ticket, token, why } = ill;
        if self.checking.get(&ticket).is_none_or(|checking| checking.token() != token) {
            return true;
        }
        self.checking.remove(&ticket);
        self.note(
            "check-failed-too-often",
            Some(&ticket),
            format!("the health check of {ticket} last said: {why}"),
        );
        self.tell(Event::Unhealthy(ticket, token)).await
    }

    /// Checks go on by the new configuration.
    fn reload(&mut self) {
        let running: Vec<(TicketName, Token)> =
            self.checking.iter().map(|(ticket, checking)| (ticket.clone(), checking.token())).collect();
        for (ticket, token) in running {
            self.begin_checking(&ticket, token);
        }
        info!("hooks are those of the new configuration");
    }

    fn note(&self, kind: &'static str, ticket: Option<&TicketName>, text: String) {
        let ticket = ticket.map(ToString::to_string);
        let draft = Draft { kind, ticket, member: None, text, detail: serde_json::json!({}) };
        let lost = self.port.journal.write(vec![draft], Moment::new(now()));
        self.port.shared.metrics.journal_lost.add(lost);
    }
}

async fn next_notice(link: &mut Option<Link>) -> Option<Notice> {
    match link {
        Some(link) => link.events.next().await,
        // Somebody else will say when there is one.
        None => std::future::pending().await,
    }
}
