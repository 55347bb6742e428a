//! Heartbeats: one small frame that renews all tickets of a site, what its answers prove, and when it is not sent
//! (docs/protocol.md, "Heartbeats").

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use sitegate_mutant::planted;

use super::Member;
use super::proposer::Phase;
use super::tenure::Tenure;
use crate::durable::Record;
use crate::event::{Bar, Note};
use crate::ids::{Ballot, Lsn, MemberId, Nonce, TicketName};
use crate::message::{Body, LIST_PAGE};
use crate::mirror::{Listed, Mirror, Page};
use crate::quorum::kth_newest;
use crate::support::Digest;
use crate::time::{Boot, Now, Span};
use crate::timer::Timer;
use crate::value::Key;

/// Heartbeats whose send time is remembered: an ack of an older one would renew next to nothing.
const SENT_MAX: usize = 64;
/// A peer's clock is judged over at least this long: shorter, and the network's jitter outweighs the drift.
const CLOCK_SPAN: Span = Span::from_secs(600);

/// The state of this site's heartbeats.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Pulse {
    /// The last heartbeat or ping.
    pub(super) seq: u64,
    sent: VecDeque<(u64, Now)>,
    last_commit: Now,
    bar: Option<Bar>,
    /// When it last beat.
    pub(super) now: Now,
}

impl Pulse {
    pub(super) const fn new(now: Now) -> Self {
        Self { seq: 0, sent: VecDeque::new(), last_commit: now, bar: None, now }
    }

    pub(super) fn committed(&mut self, now: Now) {
        self.last_commit = self.last_commit.max(now);
    }

    pub(super) const fn is_barred(&self) -> bool {
        self.bar.is_some()
    }

    pub(super) const fn bar(&self) -> Option<Bar> {
        self.bar
    }

    fn sent_at(&self, seq: u64) -> Option<Now> {
        self.sent.iter().rev().find(|(s, _)| *s == seq).map(|(_, at)| *at)
    }
}

impl Member {
    /// Sends the next heartbeat, or a ping where a heartbeat is barred.
    pub(super) fn beat(&mut self, now: Now) {
        if !self.votes() || !self.settings.is_site(self.settings.me) {
            return;
        }
        self.pulse.now = now;
        let bar = self.find_bar(now);
        if bar != self.pulse.bar {
            self.note(bar.map_or(Note::Unbarred, Note::Barred));
            self.pulse.bar = bar;
        }
        if bar == Some(Bar::Fence) && !planted!(OrderNotRepeated) {
            self.extend_again(now);
        }
        let smallest = self.smallest_expire();
        if smallest.is_some_and(|e| now.since_at_most(self.pulse.last_commit) >= e.divided(8)) {
            self.write(Record::Touch);
        }
        self.forgo_unused();
        self.pulse.seq += 1;
        let seq = self.pulse.seq;
        if self.pulse.sent.len() == SENT_MAX {
            self.pulse.sent.pop_front();
        }
        self.pulse.sent.push_back((seq, now));
        let barred = bar.is_some() && !planted!(HeartbeatWhileBarred);
        let body = if barred { Body::Ping { seq } } else { Body::Heartbeat { seq } };
        self.send_to_all(&body);
        self.timers.set_boot(Timer::Heartbeat, now.boot.plus(self.settings.timing.heartbeat));
    }

    fn tenures(&self) -> impl Iterator<Item = &Tenure> {
        self.locals.values().filter_map(|local| local.state.tenure())
    }

    fn smallest_expire(&self) -> Option<Span> {
        self.tenures().map(|tenure| tenure.expire).min()
    }

    /// Why a heartbeat must not be sent now. A site that holds nothing may still be guarded for what it held: it falls
    /// silent too when nobody hears it.
    fn find_bar(&self, now: Now) -> Option<Bar> {
        let Some(smallest) = self.smallest_expire() else { return self.find_bar_when_idle(now) };
        // A beat writes if nothing was committed for an eighth, the next one finds that: later only if the disk stood still, or
        // this process did.
        let beats = self.settings.timing.heartbeat.times(2);
        let stall = smallest.divided(4).max(smallest.divided(8).plus(beats));
        if now.since_at_most(self.pulse.last_commit) > stall && !planted!(DiskNotWatched) {
            return Some(Bar::Disk);
        }
        if (!self.fence.is_up() || self.fence_owes_for(now, smallest.divided(4)))
            && !planted!(FenceNotWatched)
        {
            return Some(Bar::Fence);
        }
        let unheard = match self.majority_answered() {
            Some(at) => now.since_at_most(at) > smallest.divided(2),
            None => self.tenures().any(|tenure| now.since_at_most(tenure.since) > smallest.divided(2)),
        };
        unheard.then_some(Bar::Unheard)
    }

    /// Whether the fence daemon has owed its word about some deadline for so long.
    fn fence_owes_for(&self, now: Now, span: Span) -> bool {
        let mut owed = self.locals.values().filter_map(|local| local.state.owed_since());
        owed.any(|since| now.since_at_most(since) > span)
    }

    fn find_bar_when_idle(&self, now: Now) -> Option<Bar> {
        let smallest = self.settings.tickets.values().map(|ticket| ticket.expire).min()?;
        let last = self.majority_answered().unwrap_or(self.started);
        (now.since_at_most(last) > smallest.divided(2)).then_some(Bar::Unheard)
    }

    /// When the newest heartbeat or ping was sent that a majority has answered.
    fn majority_answered(&self) -> Option<Now> {
        let mut answered: Vec<Now> = self.peers.values().filter_map(|peer| peer.answered).collect();
        kth_newest(&mut answered, self.settings.majority())
    }

    pub(super) fn on_heartbeat(&mut self, now: Now, from: MemberId, nonce: Nonce, seq: u64) {
        let Some(life) = self.peers.get(&from).and_then(|peer| peer.life) else { return };
        let support = self.support.heartbeat(from, life.incarnation, now).0;
        let chosen = self.chosen_digest.0;
        self.reply(from, nonce, Body::Ack { seq, support, chosen, clock: now.boot });
    }

    pub(super) fn on_ack(
        &mut self,
        now: Now,
        from: MemberId,
        seq: u64,
        support: u128,
        chosen: u128,
        clock: Boot,
    ) {
        let Some(base) = self.answered(from, seq) else { return };
        let base = if planted!(AckFromReceipt) { now } else { base };
        let Some(peer) = self.peers.get_mut(&from) else { return };
        let known = peer.mirror.as_mut().is_some_and(|mirror| mirror.ack(Digest(support), base));
        if !known {
            self.ask_listing(now, from);
        }
        self.watch_clock(now, base, from, clock);
        self.extend(now);
        self.compare_chosen(from, chosen);
        self.beat_again(now);
    }

    pub(super) fn on_pong(&mut self, now: Now, from: MemberId, seq: u64) {
        if self.answered(from, seq).is_some() {
            self.beat_again(now);
        }
    }

    /// Notes that `from` has answered; the send time of what it answered.
    fn answered(&mut self, from: MemberId, seq: u64) -> Option<Now> {
        if seq > self.pulse.seq {
            // An answer to what this process has not said yet: it was put back in time.
            self.on_rolled_back(self.life.incarnation, Lsn(0));
            return None;
        }
        let base = self.pulse.sent_at(seq)?;
        let peer = self.peers.get_mut(&from)?;
        peer.answered = peer.answered.max(Some(base));
        Some(base)
    }

    /// Heard again after a silence, or the fence daemon answers again: renews at once.
    pub(super) fn beat_again(&mut self, now: Now) {
        if matches!(self.pulse.bar, Some(Bar::Unheard | Bar::Fence)) && self.find_bar(now).is_none() {
            self.beat(now);
        }
    }

    fn watch_clock(&mut self, now: Now, base: Now, from: MemberId, clock: Boot) {
        let drift = i128::from(self.settings.timing.drift.ppm());
        let Some(peer) = self.peers.get_mut(&from) else { return };
        let Some((first, first_clock)) = peer.clock else {
            peer.clock = Some((base, clock));
            return;
        };
        let here = i128::from(base.boot.since(first.boot).as_nanos());
        let there = i128::from(clock.since(first_clock).as_nanos());
        let round_trip = i128::from(now.boot.since(base.boot).as_nanos());
        if here < i128::from(CLOCK_SPAN.as_nanos()) {
            return;
        }
        let ppm = (there - here).abs().saturating_sub(2 * round_trip).max(0) * 1_000_000 / here;
        let off = ppm > 2 * drift;
        if off && !peer.clock_off {
            let signed = i64::try_from((there - here) * 1_000_000 / here).unwrap_or(i64::MAX);
            self.out.notes.push(Note::ClockOff(from, signed));
        }
        peer.clock_off = off;
    }

    // Listings.

    fn ask_listing(&mut self, now: Now, from: MemberId) {
        let pause = self.settings.timing.retry().times(2);
        let Some(peer) = self.peers.get_mut(&from) else { return };
        let Some(mirror) = &mut peer.mirror else { return };
        let recent = peer.list_asked.is_some_and(|at| now.boot.since(at) < pause);
        if mirror.is_listing() && recent {
            return;
        }
        mirror.begin_listing();
        peer.list_asked = Some(now.boot);
        self.ask_page(now, from, None);
    }

    /// The acceptor takes the question for a heartbeat, so it is bound by what bars those. The heartbeat before it serves as
    /// its number: counting from when that was sent is on the safe side.
    fn ask_page(&mut self, now: Now, from: MemberId, after: Option<TicketName>) {
        let barred = self.find_bar(now).is_some() && !planted!(ListAskWhileBarred);
        let seq = (!barred).then_some(self.pulse.seq);
        self.send(from, Body::ListAsk { seq, after });
    }

    pub(super) fn on_list_ask(
        &mut self,
        now: Now,
        from: MemberId,
        nonce: Nonce,
        seq: Option<u64>,
        after: Option<TicketName>,
    ) {
        let Some(life) = self.peers.get(&from).and_then(|peer| peer.life) else { return };
        if seq.is_some() && !planted!(ListAskRenewsNothing) {
            self.support.heartbeat(from, life.incarnation, now);
        }
        let Page { entries, digest, last } = self.support.page(from, after.as_ref());
        self.reply(from, nonce, Body::Listing { seq, after, entries, support: digest.0, last });
    }

    pub(super) fn on_listing(&mut self, now: Now, from: MemberId, seq: Option<u64>, page: Page) {
        let base = seq.and_then(|seq| self.answered(from, seq));
        let base = if planted!(ListingFromReceipt) { base.map(|_| now) } else { base };
        let next = page.entries.last().map(|(ticket, _)| ticket.clone());
        let unwanted: Vec<(TicketName, Ballot)> =
            page.entries.iter().filter(|(ticket, _)| !self.renews(ticket)).take(LIST_PAGE).cloned().collect();
        let Some(mirror) = self.peers.get_mut(&from).and_then(|peer| peer.mirror.as_mut()) else { return };
        if !mirror.is_listing() {
            return;
        }
        match mirror.page(page, base) {
            Listed::More => self.ask_page(now, from, next),
            Listed::Done => self.extend(now),
            Listed::Torn => {
                mirror.end_listing();
                self.extend(now);
            }
        }
        if !unwanted.is_empty() {
            self.send(from, Body::Forgo { tickets: unwanted });
        }
    }

    /// Whether this site counts, or may come to count, on support for `ticket`.
    fn renews(&self, ticket: &TicketName) -> bool {
        let tenure = self.locals.get(ticket).and_then(|local| local.state.tenure());
        let round = self.rounds.get(&Key::Ownership(ticket.clone()));
        let proposes = round.is_some_and(|round| matches!(round.phase, Phase::Accepting { .. }));
        tenure.is_some() || proposes
    }

    /// Tells acceptors which tickets it counts on no more: its heartbeats would keep others waiting for nothing.
    fn forgo_unused(&mut self) {
        let unused = |mirror: &Mirror| -> Vec<(TicketName, Ballot)> {
            let entries = mirror.entries().filter(|(ticket, _)| !self.renews(ticket));
            entries.take(LIST_PAGE).map(|(ticket, ballot)| (ticket.clone(), ballot)).collect()
        };
        let mirrors = self.peers.iter().filter_map(|(&id, peer)| Some((id, peer.mirror.as_ref()?)));
        let forgone: Vec<(MemberId, Vec<(TicketName, Ballot)>)> = mirrors
            .map(|(id, mirror)| (id, unused(mirror)))
            .filter(|(_, tickets)| !tickets.is_empty())
            .collect();
        for (id, tickets) in forgone {
            if let Some(mirror) = self.peers.get_mut(&id).and_then(|peer| peer.mirror.as_mut()) {
                mirror.change(tickets.iter().map(|(ticket, _)| (ticket.clone(), None)), false);
            }
            self.send(id, Body::Forgo { tickets });
        }
    }

    /// Follows in the mirror of `from` what its accepts in one frame have changed.
    pub(super) fn mirror_accepts(&mut self, now: Now, from: MemberId, bodies: &[Body]) {
        let changes: Vec<(TicketName, Option<Ballot>)> = bodies
            .iter()
            .filter_map(|body| match body {
                Body::Accepted { key: Key::Ownership(ticket), ballot, .. } => {
                    let supported = self.supported_by_accept(ticket, *ballot)?;
                    Some((ticket.clone(), supported.then_some(*ballot)))
                }
                _ => None,
            })
            .collect();
        let own = from == self.settings.me;
        if let Some(mirror) = self.peers.get_mut(&from).and_then(|peer| peer.mirror.as_mut())
            && !changes.is_empty()
            && mirror.change(changes, own)
        {
            self.extend(now);
        }
    }
}
