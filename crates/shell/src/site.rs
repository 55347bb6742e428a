//! A site's desk: the protocol's orders on their way to the fence daemon, and what comes back.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;

use sitegate_mutant::planted;
use sitegate_protocol::{
    CheckId, CheckResult, Deadline, Event, FenceEvent, FenceReport, Order, Settings, TicketName, Token,
};

mod deadlines;

use deadlines::Deadlines;

/// Numbers the connections to the fence daemon: what an older one still has to say does not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Line(pub u64);

/// Something that the pump wants done, in this order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Deed {
    /// Tell the protocol.
    Tell(Event),
    /// Connect to the fence daemon, however long it takes. Answer: [`SitePump::linked`].
    Connect(Line),
    /// Ask the fence daemon on this connection. Answer: [`SitePump::answered`], with the same two; or the connection is lost, which
    /// answers everything that was asked on it.
    Ask(Line, Order),
    /// Run the check before acquiring. Answer: [`SitePump::checked`].
    Check(TicketName, CheckId),
    /// Have health checks watch over what runs, in place of any that do. They say [`SitePump::ill`].
    Watch(TicketName, Token),
    /// End the health checks of a ticket.
    Unwatch(TicketName),
    /// For the log: the fence daemon did not do what it was asked to, and why.
    Complain(Order, String),
}

/// What the fence daemon answered.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// To [`Order::Arm`]: it is armed until then.
    Armed(Deadline),
    /// To [`Order::Extend`]: all deadlines are in force but for these tickets, whose are what they were.
    Extended(BTreeSet<(TicketName, Token)>),
    /// To [`Order::Start`] and [`Order::Stop`]: the program has ended well.
    Ended,
    /// To [`Order::Fence`]: nothing runs under this token, or a smaller one.
    Receipt(Token),
    /// To all: it does not, or it failed.
    Failed(String),
}

/// What the fence daemon says without being asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Notice {
    /// Under this token, or a smaller one, nothing runs.
    Receipt(TicketName, Token),
    /// It fences.
    Fencing(TicketName),
    /// All levels of the plan have failed, so many times in a row.
    Failing(TicketName, Token, u64),
}

/// A site's desk.
///
/// # Contract
///
/// - What happened is told by the methods that take it, in the order in which it happened, as far as there is one.
/// - After each of them [`SitePump::next`] gives out what is to be done, until nothing is left.
/// - What is wanted may be done in any order and take any time, but for [`Deed::Tell`]: those are told in order.
///
/// Its queues hold an entry or two for each ticket at most, however long the fence daemon hangs: of deadlines the last, and one
/// order of each other kind, as the protocol gives no second before it has heard of the first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct SitePump {
    line: Line,
    linked: bool,
    deadlines: Deadlines,
    /// The newest receipt that the protocol was told of: the fence daemon may tell of one twice.
    receipts: BTreeMap<TicketName, Token>,
    watched: BTreeMap<TicketName, Token>,
    deeds: VecDeque<Deed>,
}

impl SitePump {
    /// A desk that wants to be connected.
    #[must_use]
    pub fn new() -> Self {
        let mut pump = Self::default();
        pump.connect();
        pump
    }

    /// What to do next.
    #[expect(clippy::should_implement_trait, reason = "it goes on after it has ended once")]
    pub fn next(&mut self) -> Option<Deed> {
        self.deeds.pop_front()
    }

    /// The connection that counts.
    #[must_use]
    pub const fn line(&self) -> Line {
        self.line
    }

    /// Whether that connection is up.
    #[must_use]
    pub const fn is_linked(&self) -> bool {
        self.linked
    }

    /// The protocol orders something. Without a connection nothing is asked: the protocol hears of the next one and orders again
    /// what still matters.
    pub fn order(&mut self, order: Order) {
        if let Order::Stop(ticket, _) | Order::Fence(ticket, ..) = &order {
            self.unwatch(&ticket.clone());
        }
        if !self.linked {
            return;
        }
        match order {
            Order::Extend(extensions) => {
                self.deadlines.order(extensions);
                self.extend();
            }
            order => self.deeds.push_back(Deed::Ask(self.line, order)),
        }
    }

    /// The protocol wants to know whether this site could run what the ticket gates.
    pub fn check(&mut self, ticket: TicketName, check: CheckId) {
        self.deeds.push_back(Deed::Check(ticket, check));
    }

    /// A check before acquiring has ended.
    pub fn checked(&mut self, ticket: TicketName, check: CheckId, result: CheckResult) {
        self.tell(Event::Checked(ticket, check, result));
    }

    /// A health check has failed too often; whether that still matters.
    pub fn ill(&mut self, ticket: &TicketName, token: Token) -> bool {
        let matters = self.watched.get(ticket) == Some(&token);
        if matters {
            self.watched.remove(ticket);
            self.tell(Event::Unhealthy(ticket.clone(), token));
        }
        matters
    }

    /// The health checks have changed: those that run are begun anew.
    pub fn watch_anew(&mut self) {
        let watched = self.watched.iter().map(|(ticket, token)| Deed::Watch(ticket.clone(), *token));
        self.deeds.extend(watched);
    }

    /// What this site can run has changed. To be told before whatever rests on it.
    pub fn reconfigured(&mut self, settings: Settings) {
        self.tell(Event::Reload(settings));
    }

    /// The fence daemon answers on `line`, and says how everything stands.
    pub fn linked(&mut self, line: Line, reports: Vec<FenceReport>) {
        if line != self.line || self.linked {
            return;
        }
        self.linked = true;
        for report in &reports {
            if let Some(receipt) = report.receipt {
                self.receipts.insert(report.ticket.clone(), receipt);
            }
        }
        self.tell(Event::Fence(FenceEvent::Up(reports)));
    }

    /// The connection is lost; whether it was the one that counts.
    pub fn unlinked(&mut self, line: Line) -> bool {
        if line != self.line || !self.linked {
            return false;
        }
        self.linked = false;
        if !planted!(LostRequestAwaited) {
            self.deadlines = Deadlines::default();
        }
        if !planted!(LineLossUntold) {
            self.tell(Event::Fence(FenceEvent::Down));
        }
        self.connect();
        true
    }

    /// The fence daemon has answered `order` on `line`.
    pub fn answered(&mut self, line: Line, order: Order, answer: Answer) {
        if line != self.line || !self.linked {
            return;
        }
        let failed = matches!(answer, Answer::Failed(_));
        if matches!(order, Order::Extend(_)) && !(failed && planted!(FailedRequestAwaited)) {
            self.deadlines.answered();
        }
        if let Answer::Failed(why) = &answer {
            self.deeds.push_back(Deed::Complain(order.clone(), why.clone()));
        }
        match (order, answer) {
            (Order::Extend(extensions), Answer::Extended(refused)) => {
                let taken = extensions.into_iter().map(|mut extension| {
                    extension
                        .tickets
                        .retain(|ticket| planted!(RefusedDeadlineTaken) || !refused.contains(ticket));
                    extension
                });
                let taken = taken.collect();
                let refused = refused.into_iter().collect();
                self.tell(Event::Fence(FenceEvent::Extended { taken, refused }));
            }
            // Nothing is known to be in force: the protocol goes on counting, and orders again.
            (Order::Extend(_), _) => {}
            (Order::Arm(ticket, token, _), Answer::Armed(deadline)) => {
                self.tell(Event::Fence(FenceEvent::Armed(ticket, token, deadline)));
            }
            (Order::Arm(..), _) if planted!(ArmRefusalUntold) => {}
            (Order::Arm(ticket, token, _), _) => {
                self.tell(Event::Fence(FenceEvent::ArmRefused(ticket, token)));
            }
            (Order::Start(ticket, token), answer) => {
                let well = answer == Answer::Ended;
                if well {
                    self.watched.insert(ticket.clone(), token);
                    self.deeds.push_back(Deed::Watch(ticket.clone(), token));
                }
                self.tell(Event::Fence(FenceEvent::Started(ticket, token, well)));
            }
            // The fence plan comes next in any case: it makes certain.
            (Order::Stop(ticket, token), answer) => {
                self.tell(Event::Fence(FenceEvent::Stopped(ticket, token, answer == Answer::Ended)));
            }
            (Order::Fence(ticket, ..), Answer::Receipt(token)) => self.receipt(ticket, token),
            (Order::Fence(ticket, token, _), _) => {
                self.tell(Event::Fence(FenceEvent::Failing(ticket, token)));
            }
        }
        self.extend();
    }

    /// The fence daemon says something on `line` without being asked.
    pub fn notice(&mut self, line: Line, notice: Notice) {
        if line != self.line || !self.linked {
            return;
        }
        match notice {
            Notice::Receipt(ticket, token) => self.receipt(ticket, token),
            Notice::Fencing(ticket) => self.unwatch(&ticket),
            // A plan that fails for hours is said ever less often.
            Notice::Failing(ticket, token, rounds) if rounds.is_power_of_two() => {
                self.tell(Event::Fence(FenceEvent::Failing(ticket, token)));
            }
            Notice::Failing(..) => {}
        }
    }

    fn connect(&mut self) {
        self.line.0 += 1;
        self.deeds.push_back(Deed::Connect(self.line));
    }

    fn tell(&mut self, event: Event) {
        self.deeds.push_back(Deed::Tell(event));
    }

    fn extend(&mut self) {
        if let Some(extensions) = self.deadlines.next() {
            self.deeds.push_back(Deed::Ask(self.line, Order::Extend(extensions)));
        }
    }

    /// The same receipt may come as an answer and as a notice: the protocol is told once.
    fn receipt(&mut self, ticket: TicketName, token: Token) {
        self.unwatch(&ticket);
        let newest = self.receipts.entry(ticket.clone()).or_default();
        if token > *newest && !(planted!(OneReceiptTold) && *newest != Token::default()) {
            *newest = token;
            self.tell(Event::Fence(FenceEvent::Receipt(ticket, token)));
        }
    }

    fn unwatch(&mut self, ticket: &TicketName) {
        if self.watched.remove(ticket).is_some() {
            self.deeds.push_back(Deed::Unwatch(ticket.clone()));
        }
    }
}
