//! The line between the two daemons of a site: a member's desk at one end, a fence daemon's clients at the other. Messages take
//! their time, connections break, and answers are lost with them.

use std::collections::BTreeSet;

use sitegate_fence::deadman::{Deadman, State};
use sitegate_fence_client::wire::{self, Name, Reason};
use sitegate_protocol::{CheckId, CheckResult, FenceReport, Order, TicketName, Token};
use sitegate_shell::site::{Answer, Deed, Line, Notice};

use crate::clock::{MS, Time, from_fence, to_fence};
use crate::fenced::{Fencing, name_of, reports, ticket_of};
use crate::world::{Happening, World};

/// How long a desk waits before it asks again how everything stands while an arming is being recorded.
const ARMING_PAUSE: Time = 10 * MS;

/// The fence daemon's end of its line to the member's desk.
#[derive(Default)]
pub(crate) struct FencedEnd {
    /// The member's process and its connection.
    connected: Option<(u64, Line)>,
    clients: Clients,
    /// When the last message of each direction arrives: none overtakes another.
    to_fenced: Time,
    from_fenced: Time,
}

/// What a fence daemon owes its clients.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Clients {
    /// Asked and not answered.
    pending: Vec<Order>,
    /// Answers that wait until this turn's leases are published.
    unsaid: Vec<(Order, Answer)>,
}

/// What a desk is told.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Message {
    Linked(Vec<FenceReport>),
    Unlinked,
    Answer(Order, Answer),
    Notice(Notice),
    Checked(TicketName, CheckId, CheckResult),
    Ill(TicketName, Token),
}

impl FencedEnd {
    /// The connection has ended: nobody is answered any more.
    pub(crate) fn hang_up(&mut self) -> Option<(u64, Line)> {
        self.clients = Clients::default();
        self.connected.take()
    }
}

impl Clients {
    /// Follows an order; what is answered at once.
    pub(crate) fn asked(
        &mut self,
        deadman: &mut Deadman,
        now: wire::Instant,
        order: Order,
        incarnation: u64,
    ) -> Option<Message> {
        let refused = match &order {
            Order::Arm(ticket, token, deadline) => {
                deadman.arm(now, &name_of(ticket), token.0, to_fence(*deadline), incarnation).err()
            }
            Order::Extend(extensions) => {
                let mut refused = BTreeSet::new();
                for extension in extensions {
                    let deadline = to_fence(extension.deadline);
                    let is_refused = |(ticket, token): &&(TicketName, Token)| {
                        deadman.extend(now, &name_of(ticket), token.0, deadline, incarnation).is_err()
                    };
                    refused.extend(extension.tickets.iter().filter(is_refused).cloned());
                }
                self.unsaid.push((order, Answer::Extended(refused)));
                return None;
            }
            Order::Start(ticket, token) => deadman.start(now, &name_of(ticket), token.0).err(),
            Order::Stop(ticket, token) => deadman.stop(now, &name_of(ticket), token.0).err(),
            Order::Fence(ticket, token, _) => {
                deadman.fence(now, &name_of(ticket), token.0, Reason::deadline()).err()
            }
        };
        match refused {
            Some(refusal) => Some(Message::Answer(order, Answer::Failed(refusal.to_string()))),
            None => {
                self.pending.push(order);
                None
            }
        }
    }

    /// What has come of a turn, for clients; `published` says whether its leases were.
    pub(crate) fn told(&mut self, notices: Vec<wire::Notice>, published: bool) -> Vec<Message> {
        let failed = || Answer::Failed("the leases cannot be published".into());
        let mut told = Vec::new();
        if !published {
            let (arms, rest) =
                std::mem::take(&mut self.pending).into_iter().partition(|o| matches!(o, Order::Arm(..)));
            self.pending = rest;
            told.extend(arms.into_iter().map(|order: Order| Message::Answer(order, failed())));
        }
        for notice in notices {
            let answers = self.settle(&notice).into_iter();
            told.extend(answers.map(|(order, answer)| Message::Answer(order, answer)));
            told.extend(notice_of(notice).map(Message::Notice));
        }
        for (order, answer) in std::mem::take(&mut self.unsaid) {
            told.push(Message::Answer(order, if published { answer } else { failed() }));
        }
        told
    }

    /// The answers that a notice makes due, as the fence daemon's clients get them.
    fn settle(&mut self, notice: &wire::Notice) -> Vec<(Order, Answer)> {
        let mut due = Vec::new();
        self.pending.retain(|order| {
            let answer = answer_of(order, notice);
            let open = answer.is_none();
            due.extend(answer.map(|answer| (order.clone(), answer)));
            open
        });
        due
    }
}

impl World {
    /// Does what the desk of `i` wants done.
    pub(crate) fn work_desk(&mut self, i: usize) {
        let generation = self.nodes[i].generation;
        while let Some(deed) = self.nodes[i].process.as_mut().and_then(|process| process.desk.next()) {
            match deed {
                // In a turn of its own.
                Deed::Tell(event) => {
                    self.schedule(self.time, Happening::Member { node: i, generation, event });
                }
                Deed::Connect(line) => {
                    let takes = self.ipc(i);
                    let hello = Happening::Connect { node: i, generation, line };
                    self.schedule(self.time + takes, hello);
                }
                Deed::Ask(line, order) => self.ask(i, line, order),
                Deed::Check(ticket, check) => self.run_check(i, ticket, check),
                Deed::Complain(order, why) => self.trace(i, || format!("{order:?}: {why}")),
                // Whoever finds something ill asks whether it is watched.
                Deed::Watch(..) | Deed::Unwatch(..) => {}
            }
        }
    }

    /// The desk of `i` calls its fence daemon: at once if that runs, else when it does.
    pub(crate) fn connect(&mut self, i: usize, generation: u64, line: Line) {
        let node = &mut self.nodes[i];
        if node.generation != generation || node.process.as_ref().is_none_or(|p| p.desk.line() != line) {
            return;
        }
        let frozen = node.fence.frozen_until;
        let at = match &node.fence.deadman {
            Some(_) if frozen > self.time => frozen,
            Some(deadman) if !is_arming(deadman) => {
                let reports = reports(deadman);
                node.fence.line.hang_up();
                node.fence.line.connected = Some((generation, line));
                return self.tell_desk(i, Message::Linked(reports));
            }
            Some(_) => self.time + ARMING_PAUSE,
            // Asked for again and again; only the time matters at which somebody answers.
            None => return,
        };
        self.schedule(at, Happening::Connect { node: i, generation, line });
    }

    /// A fence daemon or a member has come up: whoever waits for the other gets through.
    pub(crate) fn connect_fenced(&mut self, i: usize) {
        let (node, takes) = (&self.nodes[i], self.time);
        let Some(process) = &node.process else { return };
        let (generation, line) = (node.generation, process.desk.line());
        self.schedule(takes, Happening::Connect { node: i, generation, line });
    }

    /// The line is cut; whether there was one. What was under way may be lost on it.
    pub(crate) fn break_line(&mut self, i: usize) -> bool {
        let Some((generation, line)) = self.nodes[i].fence.line.hang_up() else { return false };
        // Who has not heard that it is connected does not hear that it is no more.
        let linked =
            self.nodes[i].process.as_ref().is_some_and(|p| p.desk.line() == line && p.desk.is_linked());
        let overtakes = linked && self.rng.percent(50);
        let at = if overtakes { self.time } else { self.nodes[i].fence.line.from_fenced };
        self.schedule(at, Happening::Line { node: i, generation, line, message: Message::Unlinked });
        true
    }

    fn tell_desk(&mut self, i: usize, message: Message) {
        let Some((generation, line)) = self.nodes[i].fence.line.connected else { return };
        let takes = self.ipc(i);
        let end = &mut self.nodes[i].fence.line;
        let mut at = (self.time + takes).max(end.from_fenced);
        end.from_fenced = at;
        if let Message::Answer(..) = message {
            at += self.rng.range(0, takes); // answers and notices take different ways through the desk's process
        }
        self.schedule(at, Happening::Line { node: i, generation, line, message });
    }

    /// The desk of `i` hears something.
    pub(crate) fn hear(&mut self, i: usize, generation: u64, line: Line, message: Message) {
        let node = &mut self.nodes[i];
        let Some(process) = node.process.as_mut().filter(|_| node.generation == generation) else { return };
        if process.frozen_until > self.time {
            let at = process.frozen_until;
            return self.schedule(at, Happening::Line { node: i, generation, line, message });
        }
        let desk = &mut process.desk;
        match message {
            Message::Linked(reports) => desk.linked(line, reports),
            Message::Unlinked => drop(desk.unlinked(line)),
            Message::Answer(order, answer) => desk.answered(line, order, answer),
            Message::Notice(notice) => desk.notice(line, notice),
            Message::Checked(ticket, check, result) => desk.checked(ticket, check, result),
            Message::Ill(ticket, token) => drop(desk.ill(&ticket, token)),
        }
        self.work_desk(i);
    }

    fn ask(&mut self, i: usize, line: Line, order: Order) {
        let node = &self.nodes[i];
        let (asker, incarnation) = (node.generation, node.disk.durable.own.incarnation.0);
        let generation = node.fence.generation;
        let fencing = Fencing::Asked { asker, line, order, incarnation };
        let takes = self.ipc(i);
        let end = &mut self.nodes[i].fence.line;
        let at = (self.time + takes).max(end.to_fenced);
        end.to_fenced = at;
        self.schedule(at, Happening::Fenced { node: i, generation, fencing });
    }

    /// How long a message between the two daemons of a site takes.
    fn ipc(&mut self, i: usize) -> Time {
        if let Some(takes) = self.nodes[i].fence.slow_line.at(self.time) {
            return takes;
        }
        let most = self.plan.fence.ipc_max;
        if self.calm { most.min(30_000) } else { self.rng.range(10_000, most) }
    }

    /// The fence daemon reads a request.
    pub(crate) fn asked(&mut self, i: usize, asker: u64, line: Line, order: Order, incarnation: u64) {
        let node = &mut self.nodes[i];
        let now = node.clocks.instant(self.time);
        let fence = &mut node.fence;
        let (Some(deadman), end) = (fence.deadman.as_mut(), &mut fence.line) else { return };
        if end.connected != Some((asker, line)) {
            return;
        }
        if let Some(message) = end.clients.asked(deadman, now, order, incarnation) {
            self.tell_desk(i, message);
        }
    }

    /// Tells clients what has come of this turn; `published` says whether its leases were.
    pub(crate) fn tell_clients(&mut self, i: usize, notices: Vec<wire::Notice>, published: bool) {
        let told = self.nodes[i].fence.line.clients.told(notices, published);
        for message in told {
            self.tell_desk(i, message);
        }
    }
}

fn answer_of(order: &Order, notice: &wire::Notice) -> Option<Answer> {
    let is = |ticket: &TicketName, name: &Name| name_of(ticket) == *name;
    let ended = |failed: &Option<String>| failed.clone().map_or(Answer::Ended, Answer::Failed);
    match (order, notice) {
        (Order::Arm(ticket, token, _), wire::Notice::Armed { resource, token: armed, deadline })
            if is(ticket, resource) && token.0 == *armed =>
        {
            Some(Answer::Armed(from_fence(*deadline)))
        }
        // An arming overtaken by its own deadline, or by an order to fence.
        (Order::Arm(ticket, ..), wire::Notice::Fencing { resource, .. }) if is(ticket, resource) => {
            Some(Answer::Failed("it is being fenced".into()))
        }
        (Order::Start(ticket, token), wire::Notice::Started { resource, token: of, failed })
        | (Order::Stop(ticket, token), wire::Notice::Stopped { resource, token: of, failed })
            if is(ticket, resource) && token.0 == *of =>
        {
            Some(ended(failed))
        }
        (Order::Fence(ticket, token, _), wire::Notice::Receipt(receipt))
            if is(ticket, &receipt.resource) && token.0 <= receipt.token =>
        {
            Some(Answer::Receipt(Token(receipt.token)))
        }
        _ => None,
    }
}

fn notice_of(notice: wire::Notice) -> Option<Notice> {
    match notice {
        wire::Notice::Receipt(receipt) => {
            Some(Notice::Receipt(ticket_of(&receipt.resource), Token(receipt.token)))
        }
        wire::Notice::Fencing { resource, .. } => Some(Notice::Fencing(ticket_of(&resource))),
        wire::Notice::FenceFailed { resource, token, rounds, .. } => {
            Some(Notice::Failing(ticket_of(&resource), Token(token), rounds.into()))
        }
        _ => None,
    }
}

fn is_arming(deadman: &Deadman) -> bool {
    deadman.views().any(|(_, view)| matches!(view.state, State::Arming { .. }))
}
