//! Birth: a member votes only when all have met (docs/protocol.md, "Birth").

use alloc::collections::{BTreeMap, BTreeSet};

use sitegate_mutant::planted;

use super::{Member, Standing};
use crate::durable::{Duty, Record};
use crate::event::Note;
use crate::ids::{Epoch, Identity, MemberId, Nonce};
use crate::message::{Body, Header, RequestId};
use crate::time::Now;
use crate::timer::Timer;
use crate::value::Identities;

/// How far a member has come with meeting the others.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Birth {
    /// Drawn anew whenever the list of identities changes: a report counts only for the list that asked for it.
    ask: RequestId,
    /// Who has reported the very same list.
    confirmed: BTreeSet<MemberId>,
}

impl Member {
    pub(super) fn begin_birth(&mut self, now: Now) {
        let ask = self.request_id();
        self.standing = Standing::Unborn(Birth { ask, confirmed: BTreeSet::new() });
        self.timers.set_boot(Timer::Standing, now.boot);
    }

    pub(super) fn ask_birth(&mut self, now: Now) {
        let Standing::Unborn(birth) = &self.standing else { return };
        let ask = birth.ask;
        // Who has confirmed the list may have been born since, and somebody else have gone for good.
        for other in self.settings.clone().others() {
            if planted!(ConfirmedNotAskedAgain)
                && matches!(&self.standing, Standing::Unborn(birth) if birth.confirmed.contains(&other))
            {
                continue;
            }
            self.send(other, Body::Meet { ask });
        }
        self.timers.set_boot(Timer::Standing, now.boot.plus(self.settings.timing.retry()));
    }

    /// Another identity under a name replaces the one before, if its process is certain to run now.
    pub(super) fn meet(&mut self, now: Now, header: &Header) {
        let fresh = header.to == Some(self.life.nonce);
        let known = self.durable.met.get(&header.from);
        if known == Some(&header.identity) || (known.is_some() && !fresh) || !self.is_unborn() {
            return;
        }
        self.write(Record::Met(header.from, header.identity));
        // Another identity, another life: incarnations count from 1 again.
        if let Some(peer) = self.peers.get_mut(&header.from) {
            (peer.life, peer.told) = (None, None);
        }
        self.begin_birth(now);
    }

    fn everybody(&self) -> BTreeMap<MemberId, Identity> {
        let mut all = self.durable.met.clone();
        all.insert(self.settings.me, self.durable.own.identity);
        all
    }

    pub(super) fn on_meet(&mut self, from: MemberId, nonce: Nonce, ask: RequestId) {
        let born = self.durable.own.formation.clone();
        self.reply(from, nonce, Body::Met { ask, identities: self.everybody(), born });
    }

    pub(super) fn on_met(
        &mut self,
        now: Now,
        from: MemberId,
        ask: RequestId,
        identities: &BTreeMap<MemberId, Identity>,
        born: Option<Identities>,
    ) {
        if let Some(formation) = born {
            return self.on_epoch(now, crate::ids::Ballot::ZERO, &formation);
        }
        let all = self.everybody();
        let n = self.settings.n();
        let Standing::Unborn(birth) = &mut self.standing else { return };
        let met = all.len();
        let met = if planted!(BirthByMajority) && met >= self.settings.majority() { n } else { met };
        if ask != birth.ask || *identities != all || met != n {
            return;
        }
        birth.confirmed.insert(from);
        let needed = match n - 1 {
            _ if planted!(BirthByMajority) => self.settings.majority() - 1,
            _ if planted!(BirthByOne) => 1,
            others => others,
        };
        if birth.confirmed.len() == needed {
            self.be_born(now, Identities { epoch: Epoch(0), of: all });
        }
    }

    pub(super) fn be_born(&mut self, now: Now, formation: Identities) {
        self.durable.own.formation = Some(formation);
        self.write_own();
        self.note(Note::Born);
        if self.durable.own.duty == Duty::None {
            self.begin_voting(now);
        } else {
            self.begin_recovery(now); // it was put back in time, maybe to before an earlier birth
        }
    }
}
