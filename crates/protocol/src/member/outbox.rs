//! What a member says: to whom, to which process of it, and whether before the commit that goes with it.

use sitegate_mutant::planted;

use super::Member;
use crate::ids::{Lsn, MemberId, Nonce};
use crate::message::{Body, Header};
use crate::turn::{Address, Send, Urgency};

impl Member {
    /// The header of a frame for `to`, in answer to process `answers` if to one in particular.
    pub(crate) fn header(&self, to: MemberId, answers: Option<Nonce>) -> Header {
        let me = self.settings.me;
        let others = self.peers.iter().filter(|(id, _)| **id != me);
        Header {
            epoch: self.epoch(),
            from: me,
            identity: self.durable.own.identity,
            life: self.life,
            lsn: Lsn(self.durable.own.lsn_base.saturating_add(self.lsn.0)),
            to: answers.or_else(|| self.nonce_of(to)),
            known: others.filter_map(|(&id, peer)| peer.life.map(|life| (id, life))).collect(),
        }
    }

    pub(super) fn send(&mut self, to: MemberId, body: Body) {
        if to == self.settings.me {
            self.loopback.push_back(body);
        } else {
            let early = match &body {
                Body::Prepare { .. } => true,
                // The next life could use a ballot again whose promise is not durable, and give it another value.
                Body::Accept { key, .. } => {
                    !self.unsaved.contains_key(key) || planted!(AcceptBeforeOwnPromise)
                }
                _ => false,
            };
            let urgency = if early { Urgency::Proposal } else { Urgency::AfterCommit };
            self.out.sends.push(Send { to, urgency, address: Address::Whoever, body });
        }
    }

    pub(super) fn send_to_all(&mut self, body: &Body) {
        for to in self.settings.clone().members.keys() {
            self.send(*to, body.clone());
        }
    }

    pub(super) fn send_to_others(&mut self, body: &Body) {
        for to in self.settings.clone().others() {
            self.send(to, body.clone());
        }
    }

    /// Answers the process `nonce` of `to`, and no other.
    pub(super) fn reply(&mut self, to: MemberId, nonce: Nonce, body: Body) {
        if to == self.settings.me {
            self.loopback.push_back(body);
        } else {
            let address = Address::Process(nonce);
            let urgency = match body {
                Body::Accepted { .. } if planted!(VoteBeforeCommit) => Urgency::Proposal,
                Body::Promise { .. } if planted!(PromiseBeforeCommit) => Urgency::Proposal,
                _ => Urgency::AfterCommit,
            };
            self.out.sends.push(Send { to, urgency, address, body });
        }
    }
}
