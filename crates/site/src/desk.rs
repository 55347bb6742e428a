//! The task around the desk's state machine ([`SitePump`]): it carries what that says to the fence daemon, to hooks and to the
//! member's loop, and tells it what came of it. It waits for none of them.

use std::collections::{BTreeMap, VecDeque};

use sitegate_fence_client::status::Status;
use sitegate_fence_client::{Client, Event as FencedEvent, Events};
use sitegate_host::program::Runner;
use sitegate_member::driver::now;
use sitegate_member::journal::{Content, Draft, Moment};
use sitegate_member::site::{SitePort, Work};
use sitegate_protocol::{CheckId, CheckResult, Event, Order, TicketName};
use sitegate_shell::SitePump;
use sitegate_shell::site::{Answer, Deed, Line};
use tokio::sync::mpsc;
use tracing::warn;

use super::checks::{Checking, Ill};
use super::link::Linked;
use super::requests;
use super::routes::Way;

mod fence;
mod hooks;

/// Answers and findings that wait for the desk.
const WAITING_MAX: usize = 64;

/// Both ends of what tasks of the desk tell it.
type Both<T> = (mpsc::Sender<T>, mpsc::Receiver<T>);

/// The task's state.
#[derive(Debug)]
pub(super) struct Desk {
    pump: SitePump,
    port: SitePort,
    /// To the loop.
    events: mpsc::Sender<Event>,
    runner: Runner,
    way: Way,
    link: Option<Link>,
    /// What the loop is to be told, as soon as it takes it; [`SitePump`] says why there is never much of it.
    telling: VecDeque<Event>,
    checking: BTreeMap<TicketName, Checking>,
    /// Tickets that the fence daemon's plans leave no time for, with why.
    late: BTreeMap<TicketName, String>,
    linked: Both<(Line, Linked)>,
    answers: Both<(Line, Order, Answer)>,
    checked: Both<(TicketName, CheckId, CheckResult)>,
    ill: Both<Ill>,
}

#[derive(Debug)]
struct Link {
    line: Line,
    client: Client,
    events: Events,
    /// What it said when it was connected to, or when it was reloaded.
    status: Box<Status>,
}

impl Desk {
    pub(super) fn new(port: SitePort, runner: Runner, way: Way) -> Self {
        Self {
            pump: SitePump::new(),
            events: port.events.clone(),
            port,
            runner,
            way,
            link: None,
            telling: VecDeque::new(),
            checking: BTreeMap::new(),
            late: BTreeMap::new(),
            linked: mpsc::channel(1),
            answers: mpsc::channel(WAITING_MAX),
            checked: mpsc::channel(WAITING_MAX),
            ill: mpsc::channel(WAITING_MAX),
        }
    }

    /// Works until the loop has ended.
    pub(super) async fn serve(mut self) {
        if let Err(left) = self.runner.kill_left_over().await {
            warn!(%left, "hooks of an earlier daemon still run");
        }
        while self.once().await {}
    }

    /// Does one thing, and what it leads to; false once there is nobody to do it for.
    async fn once(&mut self) -> bool {
        while let Some(deed) = self.pump.next() {
            self.carry_out(deed);
        }
        tokio::select! {
            told = tell_next(&self.events, &mut self.telling), if !self.telling.is_empty() => return told,
            work = self.port.work.recv() => match work {
                Some(Work::Order(order)) => self.pump.order(order),
                Some(Work::Check(ticket, check)) => self.pump.check(ticket, check),
                Some(Work::Reload) => self.reload(),
                None => return false,
            },
            (line, event) = next_event(&mut self.link) => match event {
                Some(FencedEvent::Resource(notice)) => self.notice(line, &notice),
                Some(FencedEvent::Reloaded(status)) => self.fenced_reloaded(status),
                None => self.unlinked(line),
            },
            Some((line, linked)) = self.linked.1.recv() => self.linked(line, linked),
            Some((line, order, answer)) = self.answers.1.recv() => self.pump.answered(line, order, answer),
            Some((ticket, check, result)) = self.checked.1.recv() => self.pump.checked(ticket, check, result),
            Some(ill) = self.ill.1.recv() => self.found_ill(&ill),
        }
        true
    }

    fn carry_out(&mut self, deed: Deed) {
        match deed {
            Deed::Tell(event) => self.telling.push_back(event),
            Deed::Connect(line) => self.connect(line),
            Deed::Ask(line, order) => self.ask(line, order),
            Deed::Check(ticket, check) => self.check(ticket, check),
            Deed::Watch(ticket, token) => self.begin_checking(&ticket, token),
            Deed::Unwatch(ticket) => drop(self.checking.remove(&ticket)),
            Deed::Complain(order, why) => requests::complain(&order, &why),
        }
    }

    /// Asks in the background.
    fn ask(&self, line: Line, order: Order) {
        let Some(link) = self.link.as_ref().filter(|link| link.line == line) else { return };
        let (client, incarnation) = (link.client.clone(), self.port.incarnation.0);
        let answers = self.answers.0.clone();
        tokio::spawn(async move {
            // Without an answer the connection is gone: whoever holds it will notice, too.
            if let Some(answer) = requests::ask(&client, incarnation, &order).await {
                // If the desk is gone, so is the process.
                let _ = answers.send((line, order, answer)).await;
            }
        });
    }

    fn note(&self, ticket: Option<&TicketName>, text: String, content: Content) {
        let ticket = ticket.map(ToString::to_string);
        let draft = Draft { ticket, member: None, text, content };
        let lost = self.port.journal.write(vec![draft], Moment::new(now()));
        self.port.shared.metrics.journal_lost.add(lost);
    }
}

/// Tells the loop the first of what waits; false if there is no loop any more. Safe to cancel.
async fn tell_next(events: &mpsc::Sender<Event>, telling: &mut VecDeque<Event>) -> bool {
    let Ok(place) = events.reserve().await else { return false };
    if let Some(event) = telling.pop_front() {
        place.send(event);
    }
    true
}

async fn next_event(link: &mut Option<Link>) -> (Line, Option<FencedEvent>) {
    match link {
        Some(link) => (link.line, link.events.next().await),
        // Somebody else will say when there is one.
        None => std::future::pending().await,
    }
}
