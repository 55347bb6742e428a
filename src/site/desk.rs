//! The task that everything of a site passes through.

use std::collections::BTreeMap;

use sitegate_fence_client::status::Status;
use sitegate_fence_client::{Client, Event as FencedEvent, Events};
use sitegate_host::program::Runner;
use sitegate_member::driver::now;
use sitegate_member::journal::{Draft, Moment};
use sitegate_member::site::{SitePort, Work};
use sitegate_protocol::{Event, FenceEvent, Order, TicketName, Token};
use tokio::sync::mpsc;
use tracing::warn;

use super::checks::{Checking, Ill};
use super::extend::Extending;
use super::link::Linked;
use super::requests::{Answer, Request};
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
    port: SitePort,
    runner: Runner,
    way: Way,
    link: Option<Link>,
    extending: Extending,
    checking: BTreeMap<TicketName, Checking>,
    /// Tickets that the fence daemon's plans leave no time for, with why.
    late: BTreeMap<TicketName, String>,
    /// The newest receipt that the protocol was told of: the fence daemon may tell of one twice.
    receipts: BTreeMap<TicketName, Token>,
    answers: Both<(u64, Asked, Answer)>,
    ill: Both<Ill>,
    linked: Both<Linked>,
    /// Numbers connections: what an older one still has to say does not count.
    links: u64,
}

#[derive(Debug)]
struct Link {
    client: Client,
    events: Events,
    /// What it said when it was connected to, or when it was reloaded.
    status: Box<Status>,
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
            late: BTreeMap::new(),
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
            event = next_event(&mut self.link) => match event {
                Some(FencedEvent::Resource(notice)) => self.notice(notice).await,
                Some(FencedEvent::Reloaded(status)) => self.fenced_reloaded(status).await,
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

    fn note(&self, kind: &'static str, ticket: Option<&TicketName>, text: String, detail: serde_json::Value) {
        let ticket = ticket.map(ToString::to_string);
        let draft = Draft { kind, ticket, member: None, text, detail };
        let lost = self.port.journal.write(vec![draft], Moment::new(now()));
        self.port.shared.metrics.journal_lost.add(lost);
    }
}

async fn next_event(link: &mut Option<Link>) -> Option<FencedEvent> {
    match link {
        Some(link) => link.events.next().await,
        // Somebody else will say when there is one.
        None => std::future::pending().await,
    }
}
