//! I7: every ack that is counted stood for a ticket supported at the ballot in force; and every base is the time of a
//! sending, never later. Takes nothing from the digests and mirrors that members judge acks by: it looks at the
//! registers of whoever answers, at the moment at which the answer leaves.

use std::collections::VecDeque;

use sitegate_protocol::{
    Ballot, Body, Deadline, Header, Key, LeaseView, Nonce, Now, Ownership, Register, Span, Token,
};

use super::Checks;
use crate::node::Node;
use crate::world::World;

/// Sendings of one process that are remembered, of each proposal by its ticket: more than a member itself answers for.
const SENDINGS_MAX: usize = 128;
/// Ballots of one ticket at one acceptor: the one in force, the next, and those that came to nothing.
const ANSWERS_MAX: usize = 6;

/// What every site said and was answered, as the observer saw it.
pub(super) struct Renewals {
    sites: Vec<Site>,
}

/// One site's running process, and what its leases were last found to be justified by.
struct Site {
    nonce: Option<Nonce>,
    /// When it last handled an event.
    handled: Now,
    heartbeats: VecDeque<(u64, Now)>,
    /// When it first asked for a listing, by the number that the questions carried.
    list_asks: VecDeque<(u64, Now)>,
    /// By ticket.
    attempts: Vec<VecDeque<Attempt>>,
    /// By acceptor and ticket.
    answers: Vec<Vec<VecDeque<Answer>>>,
    /// What it told acceptors to forgo, by ticket.
    forgone: Vec<VecDeque<Ballot>>,
    /// By ticket; of this process or an earlier one.
    leases: Vec<Option<Justified>>,
}

/// One sending of a proposal.
#[derive(Clone)]
struct Attempt {
    ballot: Ballot,
    number: u32,
    at: Now,
}

/// The newest sending that a process of an acceptor has answered while it supported the ticket at this ballot.
#[derive(Clone, Copy)]
struct Answer {
    nonce: Nonce,
    ballot: Ballot,
    base: Now,
}

/// A lease of which every deadline so far was found to be justified.
#[derive(Clone, Copy)]
struct Justified {
    token: Token,
    ordered: Deadline,
    fencing_until: Option<Deadline>,
    /// The latest of all, on each clock: while E shrinks and a clock changes its rate, one may be later than another on one of
    /// them only.
    latest: Deadline,
    /// The latest two while this value is in force: a fence daemon that comes back tells of an earlier one, and may acknowledge
    /// a later one after that.
    under_it: [Deadline; 2],
    /// The value in force, and the one before: an event may go by both.
    in_force: [(Ballot, Span); 2],
}

impl Renewals {
    pub(super) fn new(n: usize, tickets: usize) -> Self {
        let site = || Site {
            nonce: None,
            handled: Now::default(),
            heartbeats: VecDeque::new(),
            list_asks: VecDeque::new(),
            attempts: vec![VecDeque::new(); tickets],
            answers: vec![vec![VecDeque::new(); tickets]; n],
            forgone: vec![VecDeque::new(); tickets],
            leases: vec![None; tickets],
        };
        Self { sites: (0..n).map(|_| site()).collect() }
    }

    pub(super) fn handled(&mut self, i: usize, now: Now) {
        self.sites[i].handled = now;
    }

    /// The latest deadline that acks have justified for the tenure `token` of site `i`.
    pub(super) fn latest(&self, i: usize, ticket: usize, token: Token) -> Option<Deadline> {
        let lease = self.sites[i].leases[ticket].filter(|lease| lease.token == token)?;
        Some(lease.latest)
    }
}

impl Site {
    fn begin(&mut self, nonce: Nonce) {
        if self.nonce == Some(nonce) {
            return;
        }
        self.nonce = Some(nonce);
        self.heartbeats.clear();
        self.list_asks.clear();
        self.attempts.iter_mut().for_each(VecDeque::clear);
        self.forgone.iter_mut().for_each(VecDeque::clear);
        self.answers.iter_mut().flatten().for_each(VecDeque::clear);
    }

    /// When it sent, first of all with this number, what `header` answers.
    fn sent(&self, sendings: &VecDeque<(u64, Now)>, seq: u64, header: &Header) -> Option<Now> {
        let sent = sendings.iter().rev().find(|(s, _)| *s == seq).map(|(_, at)| *at);
        sent.filter(|_| header.to.is_some() && header.to == self.nonce)
    }

    fn answered(&mut self, by: usize, ticket: usize, answer: Answer) {
        if self.forgone[ticket].contains(&answer.ballot) {
            return;
        }
        let answers = &mut self.answers[by][ticket];
        let known = answers.iter_mut().find(|a| a.nonce == answer.nonce && a.ballot == answer.ballot);
        if let Some(known) = known {
            known.base = known.base.max(answer.base);
            return;
        }
        push(answers, answer, ANSWERS_MAX);
    }
}

fn push<T>(queue: &mut VecDeque<T>, item: T, most: usize) {
    if queue.len() == most {
        queue.pop_front();
    }
    queue.push_back(item);
}

fn push_first(sendings: &mut VecDeque<(u64, Now)>, seq: u64, at: Now) {
    if sendings.back().is_none_or(|(last, _)| *last < seq) {
        push(sendings, (seq, at), SENDINGS_MAX);
    }
}

impl Checks {
    fn ticket_of(&self, key: &Key) -> Option<usize> {
        if let Key::Ownership(ticket) = key { self.place_of(ticket) } else { None }
    }
}

impl World {
    /// A body of a frame leaves `i` for `to`: somebody asks to be supported, or answers.
    pub(super) fn record_renewal(&mut self, i: usize, to: usize, header: &Header, body: &Body) {
        match body {
            Body::Heartbeat { seq } => {
                let (now, site) = (self.nodes[i].now(self.time), &mut self.checks.renewals.sites[i]);
                site.begin(header.life.nonce);
                push_first(&mut site.heartbeats, *seq, now);
            }
            Body::ListAsk { seq: Some(seq), .. } => {
                let (now, site) = (self.nodes[i].now(self.time), &mut self.checks.renewals.sites[i]);
                site.begin(header.life.nonce);
                push_first(&mut site.list_asks, *seq, now);
            }
            Body::Accept { key, ballot, attempt, .. } => {
                let Some(ticket) = self.checks.ticket_of(key) else { return };
                let (at, site) = (self.nodes[i].now(self.time), &mut self.checks.renewals.sites[i]);
                site.begin(header.life.nonce);
                let attempts = &mut site.attempts[ticket];
                if !attempts.iter().rev().any(|a| a.ballot == *ballot && a.number == *attempt) {
                    let attempt = Attempt { ballot: *ballot, number: *attempt, at };
                    push(attempts, attempt, SENDINGS_MAX);
                }
            }
            Body::Forgo { tickets } => {
                for (ticket, ballot) in tickets {
                    self.record_forgone(i, ticket, *ballot);
                }
            }
            Body::Ack { seq, .. } => {
                let site = &self.checks.renewals.sites[to];
                if let Some(base) = site.sent(&site.heartbeats, *seq, header) {
                    (0..self.checks.tickets.len()).for_each(|t| self.record_answer(i, to, t, None, base));
                }
            }
            Body::Listing { seq: Some(seq), entries, .. } => {
                let site = &self.checks.renewals.sites[to];
                let Some(base) = site.sent(&site.list_asks, *seq, header) else { return };
                for (ticket, ballot) in entries {
                    let Some(t) = self.checks.place_of(ticket) else { continue };
                    self.record_answer(i, to, t, Some(*ballot), base);
                }
            }
            Body::Accepted { key, ballot, attempt } => {
                let Some(t) = self.checks.ticket_of(key) else { return };
                let site = &self.checks.renewals.sites[to];
                let same = |a: &&Attempt| a.ballot == *ballot && a.number == *attempt;
                let base = site.attempts[t].iter().rev().find(same).map(|a| a.at);
                if let Some(base) = base.filter(|_| header.to.is_some() && header.to == site.nonce) {
                    self.record_answer(i, to, t, Some(*ballot), base);
                }
            }
            _ => {}
        }
    }

    fn record_forgone(&mut self, i: usize, ticket: &sitegate_protocol::TicketName, ballot: Ballot) {
        let Some(t) = self.checks.place_of(ticket) else { return };
        let site = &mut self.checks.renewals.sites[i];
        if !site.forgone[t].contains(&ballot) {
            push(&mut site.forgone[t], ballot, SENDINGS_MAX);
            site.answers.iter_mut().for_each(|by_ticket| by_ticket[t].retain(|a| a.ballot != ballot));
        }
    }

    /// Acceptor `by` answers what `site` sent at `base`: remembers it if that stands for ticket `t`, at `only` if that
    /// is given.
    fn record_answer(&mut self, by: usize, site: usize, t: usize, only: Option<Ballot>, base: Now) {
        let Some(ballot) = self.supports(by, site, t) else { return };
        let Some(nonce) = self.nodes[by].process.as_ref().map(|p| p.member().life().nonce) else { return };
        if only.is_none_or(|only| only == ballot) {
            self.checks.renewals.sites[site].answered(by, t, Answer { nonce, ballot, base });
        }
    }

    /// At which ballot acceptor `by` supports `site` for ticket `t` now: what it has voted for is a tenure of the site's
    /// running process, and what it has promised is that site's own, on its disk and in its memory.
    fn supports(&self, by: usize, site: usize, t: usize) -> Option<Ballot> {
        let key = &self.checks.tickets[t].ownership;
        let disk = self.nodes[by].disk.durable.registers.get(key)?;
        let durable = supported(disk, &self.nodes[site])?;
        let memory = self.nodes[by].process.as_ref()?.member().register_of(key)?;
        (supported(memory, &self.nodes[site]) == Some(durable)).then_some(durable)
    }

    /// The site itself would answer at once, as long as its own vote stands: whenever it handles something, until another
    /// register is on its disk. Recorded when somebody asks for it, and before it ends.
    pub(super) fn record_own(&mut self, i: usize, key: &Key) {
        let node = &self.nodes[i];
        let Some(t) = self.checks.ticket_of(key).filter(|_| node.is_site()) else { return };
        let Some(nonce) = node.process.as_ref().map(|process| process.member().life().nonce) else { return };
        let register = node.disk.durable.registers.get(key);
        if let Some(ballot) = register.and_then(|register| supported(register, node)) {
            let site = &mut self.checks.renewals.sites[i];
            site.answered(i, t, Answer { nonce, ballot, base: site.handled });
        }
    }

    /// After anything that a site may have done about ticket `t`: whatever deadline is new is justified by answers that it was
    /// sent.
    ///
    /// `superseded` are deadlines that were ordered, and other ones in the same breath.
    pub(super) fn check_lease(&mut self, i: usize, t: usize, superseded: &[(usize, Deadline)]) {
        let process = self.nodes[i].process.as_ref();
        let lease = process.and_then(|process| process.member().lease(&self.checks.tickets[t].name));
        let fencing = &mut self.checks.seen[i].fencing;
        if lease.is_some_and(|lease| lease.fencing_until.is_some()) {
            fencing.insert(t);
        } else {
            fencing.remove(&t);
        }
        if let Some(lease) = lease {
            let superseded = superseded.iter().filter(|(of, _)| *of == t).map(|(_, deadline)| *deadline);
            self.check_lease_of(i, t, &lease, &superseded.collect::<Vec<_>>());
        }
    }

    fn check_lease_of(&mut self, i: usize, t: usize, lease: &LeaseView, superseded: &[Deadline]) {
        let in_force = (lease.ballot, lease.expire);
        let before = self.checks.renewals.sites[i].leases[t].filter(|before| before.token == lease.token);
        let known = before.is_some_and(|b| {
            b.ordered == lease.ordered && b.fencing_until == lease.fencing_until && b.in_force[0] == in_force
        });
        if known && superseded.is_empty() {
            return;
        }
        let key = self.checks.tickets[t].ownership.clone();
        self.record_own(i, &key);
        let previous = before.map_or(in_force, |b| b.in_force[usize::from(b.in_force[0] == in_force)]);
        if before.is_none_or(|b| b.in_force[0] != in_force) {
            self.check_chosen(i, &key, lease.ballot, "renews");
        }
        let mut latest = before.map_or(lease.ordered, |b| b.latest);
        let old = before.map(|b| (b.ordered, b.fencing_until));
        let mut under_it = before.filter(|b| b.in_force[0] == in_force).map(|b| b.under_it);
        let deadlines = superseded.iter().copied().chain([lease.ordered]).chain(lease.fencing_until);
        for deadline in deadlines {
            let before = old.iter().flat_map(|(ordered, until)| until.iter().chain([ordered]));
            let justified =
                before.chain(under_it.iter().flatten()).any(|known| deadline.no_later_than(*known));
            if !justified {
                self.check_deadline(i, t, deadline, [in_force, previous]);
            }
            latest = later_on_each(latest, deadline);
            under_it = Some(match under_it {
                Some([older, newer]) if deadline.no_later_than(newer) => [older, newer],
                Some([_, newer]) => [newer, deadline],
                None => [deadline; 2],
            });
        }
        let under_it = under_it.unwrap_or([lease.ordered; 2]);
        let (ordered, fencing_until) = (lease.ordered, lease.fencing_until);
        let in_force = [in_force, previous];
        let justified = Justified { token: lease.token, ordered, fencing_until, latest, under_it, in_force };
        self.checks.renewals.sites[i].leases[t] = Some(justified);
    }

    fn check_deadline(&mut self, i: usize, t: usize, deadline: Deadline, in_force: [(Ballot, Span); 2]) {
        if deadline.has_passed(self.nodes[i].now(self.time)) {
            return;
        }
        let ends = in_force.map(|(ballot, expire)| self.latest_end(i, t, ballot, expire));
        if !ends.iter().flatten().any(|end| deadline.no_later_than(*end)) {
            let what = format!(
                "{:?} counts on {} until {deadline:?}; what was answered for it at {in_force:?} allows {ends:?}",
                self.nodes[i].id, self.checks.tickets[t].name
            );
            self.checks.violate("I7", self.time, what);
        }
    }

    /// The latest end that the lease can have by what acceptors have answered: the majority-th newest base, plus E(1−ρ).
    fn latest_end(&self, i: usize, t: usize, ballot: Ballot, expire: Span) -> Option<Deadline> {
        let member = self.nodes[i].process.as_ref()?.member();
        let mut bases: Vec<Now> = Vec::with_capacity(self.nodes.len());
        for (a, by_ticket) in self.checks.renewals.sites[i].answers.iter().enumerate() {
            // An acceptor that is known to have begun another life has no say with its last one's answers.
            let Some(life) = member.life_of(self.nodes[a].id) else { continue };
            let mut answers = by_ticket[t].iter();
            bases.extend(answers.find(|b| b.nonce == life.nonce && b.ballot == ballot).map(|b| b.base));
        }
        bases.sort_unstable_by(|a, b| b.cmp(a));
        let base = bases.get(self.checks.majority() - 1)?;
        Some(Deadline::after(*base, self.plan.settings.timing.drift.at_most(expire)))
    }
}

fn later_on_each(one: Deadline, other: Deadline) -> Deadline {
    Deadline { boot: one.boot.max(other.boot), raw: one.raw.max(other.raw) }
}

/// The ballot at which `register` supports what runs at `site`.
fn supported(register: &Register, site: &Node) -> Option<Ballot> {
    let accepted = register.accepted().filter(|a| !a.adopted && register.promised().is_of(site.id))?;
    let tenancy = accepted.value.ownership().and_then(Ownership::held).filter(|t| t.site == site.id)?;
    let life = site.process.as_ref()?.member().life();
    (tenancy.incarnation == life.incarnation).then_some(accepted.ballot)
}
