//! What a member does with a frame: who is that, and do we live in the same formation? Only then its contents.

use sitegate_mutant::planted;

use super::{Member, Standing};
use crate::durable::Record;
use crate::event::Note;
use crate::ids::{Life, Lsn, MemberId, Nonce};
use crate::message::{Body, Header, ValidFrame};
use crate::mirror::Mirror;
use crate::mirror::Page;
use crate::support::Digest;
use crate::time::Now;

/// How the sender of a frame stands to this member.
enum Acquaintance {
    /// One of us, in its newest life.
    Member,
    /// Only what it says about identities matters.
    Outsider,
    /// Nothing it says matters.
    Nobody,
}

impl Member {
    pub(super) fn on_frame(&mut self, now: Now, frame: ValidFrame) {
        let (header, bodies) = frame.into_parts();
        let acquaintance = self.acquaint(now, &header);
        let addressed = header.to == Some(self.life.nonce) || planted!(ReplyToAnother);
        let (from, nonce) = (header.from, header.life.nonce);
        let bodies = bodies.into_iter().filter(|body| addressed || !body.is_reply());
        match acquaintance {
            Acquaintance::Nobody => {}
            Acquaintance::Outsider => {
                for body in bodies.filter(|b| matches!(b, Body::Epoch { .. } | Body::RolledBack { .. })) {
                    self.on_body(now, from, nonce, body);
                }
            }
            Acquaintance::Member => {
                self.hear(now, &header);
                let bodies: alloc::vec::Vec<Body> = bodies.collect();
                self.mirror_accepts(now, from, &bodies);
                for body in bodies {
                    self.on_body(now, from, nonce, body);
                }
            }
        }
    }

    fn acquaint(&mut self, now: Now, header: &Header) -> Acquaintance {
        if let Some(formation) = &self.durable.own.formation {
            if header.epoch > formation.epoch {
                // Our header shows that we are behind; the answer brings the news.
                self.reply(header.from, header.life.nonce, Body::Want { keys: alloc::vec::Vec::new() });
                return Acquaintance::Outsider;
            }
            if formation.of.get(&header.from) != Some(&header.identity) && !planted!(OutsiderCounted) {
                self.meet_stranger(now, header);
                return Acquaintance::Outsider;
            }
            if header.epoch < formation.epoch {
                self.tell_epoch(header.from, header.life.nonce);
                return Acquaintance::Outsider;
            }
        } else {
            self.meet(now, header);
        }
        self.acquaint_life(header)
    }

    fn acquaint_life(&mut self, header: &Header) -> Acquaintance {
        let (from, life) = (header.from, header.life);
        let Some(peer) = self.peers.get(&from) else { return Acquaintance::Nobody };
        let (known, told) = (peer.life, peer.told);
        let outlived = known.is_some_and(|known| {
            life.incarnation < known.incarnation
                || (life.incarnation == known.incarnation && life.nonce != known.nonce)
        });
        // Others may have told of this life before it speaks itself: what it told of an earlier one stands.
        let forgot = outlived || told.is_some_and(|(of, lsn)| of != life && header.lsn < lsn);
        let hidden = known == Some(life) && planted!(HearsayHidesRollback);
        if forgot && !hidden && !planted!(RollbackNotSeen) {
            // Before birth it may be another identity, whose lives count from 1.
            let met = self.durable.met.get(&from) == Some(&header.identity);
            if met || self.durable.own.formation.is_some() {
                let incarnation = known.map_or(life.incarnation, |known| known.incarnation);
                let lsn = told.map_or(Lsn(0), |(_, lsn)| lsn);
                self.reply(from, life.nonce, Body::RolledBack { incarnation, lsn });
            }
            return Acquaintance::Outsider;
        }
        self.learn_life(from, life);
        if self.durable.lives.get(&from) != Some(&life) {
            self.note(Note::PeerRestarted(from, life.incarnation));
            self.write(Record::Life(from, Some(life)));
        }
        Acquaintance::Member
    }

    /// A newer life of `member`: whatever an older one said counts no more.
    fn learn_life(&mut self, member: MemberId, life: Life) {
        let me = self.settings.me;
        let Some(peer) = self.peers.get_mut(&member) else { return };
        if member == me || peer.life.is_some_and(|known| known >= life) {
            return;
        }
        peer.life = Some(life);
        peer.answered = None;
        if !planted!(MirrorKeptOverRestart) {
            peer.mirror = None;
        }
        peer.clock = None;
        for parked in self.parked.values_mut() {
            if parked.get(&member).is_some_and(|candidate| candidate.nonce != life.nonce) {
                parked.remove(&member);
            }
        }
    }

    fn hear(&mut self, now: Now, header: &Header) {
        for &(member, life) in &header.known {
            if member == self.settings.me {
                let forgot = (life.incarnation > self.life.incarnation
                    || (life.incarnation == self.life.incarnation && life.nonce != self.life.nonce))
                    && !planted!(RollbackNotSeen);
                if forgot && self.durable.own.formation.is_some() {
                    self.on_rolled_back(life.incarnation, Lsn(0));
                }
            } else {
                self.learn_life(member, life);
            }
        }
        let me = self.settings.me;
        if let Some(peer) = self.peers.get_mut(&header.from) {
            peer.heard = Some(now);
            let before = peer.told.filter(|(of, _)| *of == header.life).map(|(_, lsn)| lsn);
            peer.told = Some((header.life, before.max(Some(header.lsn)).unwrap_or(header.lsn)));
            if peer.mirror.is_none() && self.settings.is_site(me) {
                peer.mirror = Some(Mirror::new(header.life.nonce));
            }
        }
        self.heard_for_attestations(header.from);
    }

    pub(super) fn on_body(&mut self, now: Now, from: MemberId, nonce: Nonce, body: Body) {
        match body {
            Body::Epoch { ballot, identities } => self.on_epoch(now, ballot, &identities),
            Body::RolledBack { incarnation, lsn } => self.on_rolled_back(incarnation, lsn),
            Body::Meet { ask } => self.on_meet(from, nonce, ask),
            Body::Met { ask, identities, born } => self.on_met(now, from, ask, &identities, born),
            Body::RecoverAsk { after } => self.on_recover_ask(from, nonce, after),
            Body::RecoverPage { after, registers, last, unsure } => {
                self.on_recover_page(now, from, nonce, after.as_ref(), registers, last, unsure);
            }
            body if self.votes() => self.on_voter_body(now, from, nonce, body),
            body if planted!(OutsiderCounted) && self.standing == Standing::Quarantined => {
                self.on_voter_body(now, from, nonce, body);
            }
            _ => {}
        }
    }

    fn on_voter_body(&mut self, now: Now, from: MemberId, nonce: Nonce, body: Body) {
        match body {
            Body::Prepare { key, ballot, rank } => self.on_prepare(now, from, nonce, key, ballot, rank),
            Body::Accept { key, ballot, value, attempt } => {
                self.on_accept(now, from, nonce, &key, ballot, &value, attempt);
            }
            Body::Chosen { key, ballot, value } => self.on_chosen(now, &key, ballot, &value),
            Body::Promise { key, ballot, accepted, context } => {
                self.on_promise(now, from, nonce, &key, ballot, accepted, context);
            }
            Body::Nack { key, ballot, promised } => self.on_nack(now, from, &key, ballot, promised),
            Body::Leased { ticket, ballot, holder, remaining } => {
                self.on_leased(now, from, ticket, ballot, holder, remaining);
            }
            Body::Accepted { key, ballot, attempt } => {
                self.on_accepted(now, from, nonce, &key, ballot, attempt);
            }
            Body::Heartbeat { seq } => self.on_heartbeat(now, from, nonce, seq),
            Body::Ack { seq, support, chosen, clock } => {
                self.on_ack(now, from, seq, support, chosen, clock);
            }
            Body::Ping { seq } => self.reply(from, nonce, Body::Pong { seq }),
            Body::Pong { seq } => self.on_pong(now, from, seq),
            Body::ListAsk { seq, after } => self.on_list_ask(now, from, nonce, seq, after),
            Body::Listing { seq, entries, support, last, .. } => {
                self.on_listing(now, from, seq, Page { entries, digest: Digest(support), last });
            }
            Body::Compare { after, entries, last } => self.on_compare(from, after, &entries, last),
            Body::Want { keys } => self.on_want(from, &keys),
            Body::Settle { ticket, id } => self.on_settle(now, from, nonce, &ticket, id),
            Body::Settled { ticket, id, ownership, intent } => {
                self.on_settled(now, &ticket, id, ownership, intent.as_ref());
            }
            Body::Willing { ticket, id } => self.on_willing(now, from, nonce, &ticket, id),
            Body::Willingness { ticket, id, refusal } => {
                self.on_willingness(now, from, &ticket, id, refusal);
            }
            Body::HeardAsk { site, id } => self.on_heard_ask(from, nonce, site, id),
            Body::Heard { id } => self.on_heard(id),
            Body::Forgo { tickets } => self.support.forgo(from, &tickets),
            Body::Epoch { .. }
            | Body::RolledBack { .. }
            | Body::Meet { .. }
            | Body::Met { .. }
            | Body::RecoverAsk { .. }
            | Body::RecoverPage { .. } => {}
        }
    }

    /// Whether this very process of `member` is the newest that anybody counted so far has told of.
    pub(super) fn is_current(&self, member: MemberId, nonce: Nonce) -> bool {
        if planted!(VoteOfAnotherLife) {
            return true;
        }
        self.nonce_of(member) == Some(nonce)
    }

    pub(super) const fn is_unborn(&self) -> bool {
        matches!(self.standing, Standing::Unborn(_))
    }
}
