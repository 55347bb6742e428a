//! A member that may have forgotten looks for witnesses before it votes (docs/protocol.md, "Forgetting").

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use sitegate_mutant::planted;

use super::{Member, Standing};
use crate::durable::{Duty, Record};
use crate::event::Note;
use crate::ids::{Incarnation, Lsn, MemberId, Nonce};
use crate::message::{Body, RECOVER_PAGE};
use crate::quorum::witnesses;
use crate::register::Register;
use crate::time::{Now, Span};
use crate::timer::{Soonest, Timer};
use crate::value::{Key, Ownership, Value};

/// What a recovering member has heard so far.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Recovery {
    since: Now,
    witnesses: BTreeMap<MemberId, Witness>,
}

/// What one other member has told.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Witness {
    nonce: Nonce,
    told: BTreeMap<Key, Register>,
    /// The last key of the page before: the next page is being asked for.
    after: Option<Key>,
    /// Whether a page has come since it was last looked at.
    tells: bool,
    end: Option<Sureness>,
}

/// Whether a witness itself may have forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Sureness {
    Sure,
    Unsure,
}

impl Member {
    pub(super) fn begin_recovery(&mut self, now: Now) {
        if self.durable.own.duty == Duty::None {
            self.durable.own.duty = Duty::Look;
            self.write_own();
        }
        self.standing = Standing::Recovering(Recovery { since: now, witnesses: BTreeMap::new() });
        self.note(Note::Recovering);
        self.timers.set_boot(Timer::Standing, now.boot);
    }

    /// Asks everybody who has not told everything for certain; trusts the disk when nobody answers for too long.
    pub(super) fn ask_recovery(&mut self, now: Now) {
        let Standing::Recovering(recovery) = &mut self.standing else { return };
        let peers = &self.peers;
        let current = |id: &MemberId| peers.get(id).and_then(|peer| peer.life).map(|life| life.nonce);
        recovery.witnesses.retain(|id, witness| current(id) == Some(witness.nonce));
        let sure = recovery.witnesses.values().filter(|w| w.end == Some(Sureness::Sure)).count();
        let mut asked: Vec<(MemberId, Option<Key>)> = Vec::new();
        for id in self.settings.others() {
            let witness = recovery.witnesses.get_mut(&id);
            let after = witness.as_ref().and_then(|witness| witness.after.clone());
            // One that tells has been asked for its next page.
            let is_done = witness.is_some_and(|witness| {
                core::mem::take(&mut witness.tells) || witness.end == Some(Sureness::Sure)
            });
            if !is_done {
                asked.push((id, after));
            }
        }
        let waited = now.certainly_past(recovery.since, self.recovery_wait());
        if waited && self.settings.trust_disk && self.durable.own.duty == Duty::Look {
            let needed = witnesses(self.settings.n());
            let narrow = |count: usize| u8::try_from(count).unwrap_or(u8::MAX);
            self.note(Note::TrustsDisk { answered: narrow(sure), needed: narrow(needed) });
            return self.finish_recovery(now);
        }
        for (id, after) in asked {
            self.send(id, Body::RecoverAsk { after });
        }
        // A page on its way is given the time of a few round trips before it is asked for again.
        self.timers.set_boot(Timer::Standing, now.boot.plus(self.settings.timing.retry().times(2)));
    }

    fn recovery_wait(&self) -> Span {
        self.settings.timing.recovery_wait.max(self.longest_guard())
    }

    /// The longest (E+A)(1+ρ) of any ticket, configured or running.
    fn longest_guard(&self) -> Span {
        let running = self.durable.registers.values().filter_map(|register| {
            let held = register.accepted().and_then(|a| a.value.ownership()).and_then(Ownership::held)?;
            Some(self.settings.guard_span(held))
        });
        running.max().unwrap_or(Span::ZERO).max(self.settings.longest_guard())
    }

    /// The asker's life is written down with this step, before the answer leaves.
    pub(super) fn on_recover_ask(&mut self, from: MemberId, nonce: Nonce, after: Option<Key>) {
        let unsure = !self.votes() && !planted!(UnsureWitness);
        if self.durable.own.formation.is_none() || self.standing == Standing::Quarantined {
            return;
        }
        let later = self.durable.registers.iter().filter(|(key, _)| after.as_ref().is_none_or(|a| *key > a));
        let mut registers: Vec<(Key, Register)> =
            later.take(RECOVER_PAGE + 1).map(|(key, register)| (key.clone(), register.clone())).collect();
        let last = registers.len() <= RECOVER_PAGE;
        registers.truncate(RECOVER_PAGE);
        self.reply(from, nonce, Body::RecoverPage { after, registers, last, unsure });
    }

    #[expect(clippy::too_many_arguments, reason = "they are the message")]
    pub(super) fn on_recover_page(
        &mut self,
        now: Now,
        from: MemberId,
        nonce: Nonce,
        after: Option<&Key>,
        registers: Vec<(Key, Register)>,
        last: bool,
        unsure: bool,
    ) {
        let Standing::Recovering(recovery) = &mut self.standing else { return };
        let fresh = || Witness { nonce, told: BTreeMap::new(), after: None, tells: false, end: None };
        let witness = recovery.witnesses.entry(from).or_insert_with(fresh);
        if witness.nonce != nonce {
            *witness = fresh();
        }
        if witness.after.as_ref() != after || witness.end == Some(Sureness::Sure) {
            return;
        }
        witness.after = registers.last().map(|(key, _)| key.clone()).or(witness.after.take());
        witness.tells = true;
        witness.told.extend(registers);
        if last {
            witness.after = None;
            witness.end = Some(if unsure { Sureness::Unsure } else { Sureness::Sure });
            self.try_recover(now);
        } else {
            let after = witness.after.clone();
            self.send(from, Body::RecoverAsk { after });
        }
    }

    fn try_recover(&mut self, now: Now) {
        let Standing::Recovering(recovery) = &self.standing else { return };
        let ended =
            recovery.witnesses.iter().filter(|(id, w)| w.end.is_some() && self.is_current(**id, w.nonce));
        let (mut all, mut sure) = (0, 0);
        for (_, witness) in ended {
            all += 1;
            sure += usize::from(witness.end == Some(Sureness::Sure));
        }
        let n = self.settings.n();
        let needed = witnesses(n);
        let needed = if planted!(RecoveryFromFewer) { needed - 1 } else { needed };
        if sure >= needed || all == n - 1 {
            self.note(Note::Recovered);
            self.finish_recovery(now);
        }
    }

    /// Adopts the most that anybody knows, and contradicts nothing that this member may have said.
    fn finish_recovery(&mut self, now: Now) {
        let Standing::Recovering(recovery) = core::mem::replace(&mut self.standing, Standing::Quarantined)
        else {
            return;
        };
        let told = recovery.witnesses.values().flat_map(|w| w.told.iter());
        let mut registers = self.durable.registers.clone();
        registers.values_mut().for_each(Register::doubt);
        for (key, witness) in told {
            registers.entry(key.clone()).or_default().recover(witness);
        }
        for (key, register) in registers {
            let own = register.clone();
            let mut register = register;
            register.recover(&own);
            self.register_changed(&key, register, Some(now));
        }
        if self.durable.own.duty == Duty::Settle && !planted!(SettlingSkipped) {
            self.standing = Standing::Settling { since: now };
            let mut soonest = Soonest::default();
            soonest.guard(crate::time::Guard::after(now, self.longest_guard()), now);
            self.timers.set(Timer::Standing, soonest.0);
        } else {
            self.finish_duty(now);
        }
    }

    pub(super) fn finish_settling(&mut self, now: Now, since: Now) {
        let guard = crate::time::Guard::after(since, self.longest_guard());
        if guard.is_over(now) {
            return self.finish_duty(now);
        }
        let mut soonest = Soonest::default();
        soonest.guard(guard, now);
        self.timers.set(Timer::Standing, soonest.0);
    }

    fn finish_duty(&mut self, now: Now) {
        self.durable.own.duty = Duty::None;
        self.write_own();
        self.begin_voting(now);
    }

    /// Others remember more of this member than it does itself: it writes that down and starts again.
    pub(super) fn on_rolled_back(&mut self, incarnation: Incarnation, lsn: Lsn) {
        if self.is_over() {
            return;
        }
        let recovers =
            matches!(self.standing, Standing::Recovering(_)) && self.durable.own.duty != Duty::Look;
        let own = &mut self.durable.own;
        if recovers && incarnation < self.life.incarnation {
            // It looks for witnesses already, and will not trust its disk: the sender only counts more commits of it.
            own.lsn_base = own.lsn_base.saturating_add(lsn.0);
            return self.write_own();
        }
        own.incarnation = own.incarnation.max(incarnation);
        own.lsn_base = own.lsn_base.saturating_add(lsn.0);
        if own.duty != Duty::Settle {
            own.duty = Duty::Recover;
        }
        self.write_own();
        self.note(Note::RolledBack);
        self.start_again();
    }

    /// Takes over a value that a quorum of promises has shown to be chosen.
    pub(super) fn learn_found(&mut self, now: Now, key: &Key, ballot: crate::ids::Ballot, value: &Value) {
        let newer = self.register(key).and_then(Register::accepted).is_none_or(|a| a.ballot <= ballot);
        if newer {
            self.on_chosen(now, key, ballot, value);
        }
    }

    /// Written so that the journal can tell whose life a vote was from.
    pub(super) fn forget_life(&mut self, member: MemberId) {
        if let Some(peer) = self.peers.get_mut(&member) {
            *peer = super::Peer::default();
        }
        self.write(Record::Life(member, None));
    }
}
