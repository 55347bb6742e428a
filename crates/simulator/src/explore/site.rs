//! The fence daemon of a site, around the real deadman: its disk, its runtime directory, and what runs under it.

use std::collections::BTreeMap;

use sitegate_fence::deadman::{Deadman, Leases, Order, Record, RunId, Save, may_exec};
use sitegate_fence_client::wire::{Instant, Name};
use sitegate_protocol::{self as protocol, Deadline, FenceReport, Now, Token};

use super::react::Reacting;
use crate::clock::from_fence;
use crate::fenced::{event_of, name_of, obey, reports};
use crate::programs::proof;
use crate::script::db;

/// What belongs to fencing on one machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Site {
    deadman: Option<Deadman>,
    /// Durable.
    records: BTreeMap<Name, Record>,
    /// In /run, of this boot.
    leases: Leases,
    /// What runs in truth.
    pub(crate) running: Option<Token>,
    /// A kill that is under way, and the last tick at which it may be.
    kill: Option<(RunId, u16)>,
    /// The right to run, as the fence daemon last had it.
    pub(crate) hold: Option<Hold>,
}

/// A site's right to run the ticket's resources.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Hold {
    pub(crate) token: Token,
    pub(crate) deadline: Deadline,
    /// Whether nothing runs under it any more, for certain.
    pub(crate) over: bool,
}

impl Site {
    pub(crate) fn reports(&self) -> Vec<FenceReport> {
        self.deadman.as_ref().map(reports).unwrap_or_default()
    }

    /// The newest receipt on the disk.
    pub(crate) fn receipt(&self) -> Option<Token> {
        let record = self.records.get(&name_of(&db()))?;
        record.receipt.as_ref().map(|receipt| Token(receipt.token))
    }

    /// Nothing runs any more, and nothing is taken up again. The others do not know that, and wait for A.
    pub(crate) fn power_off(&mut self, now: Now) {
        if let Some(hold) = &mut self.hold {
            hold.deadline = hold.deadline.earlier(Deadline { boot: now.boot, raw: now.raw });
        }
        self.deadman = None;
        self.leases.clear();
        self.running = None;
        self.kill = None;
    }
}

impl Reacting<'_> {
    fn instant(&self) -> Instant {
        Instant { boot_ns: self.now.boot.0, raw_ns: self.now.raw.0 }
    }

    pub(super) fn start_fenced(&mut self) {
        let (now, schedule) = (self.instant(), self.world.schedule());
        let Some(site) = self.machine.site.as_mut().filter(|site| site.deadman.is_none()) else { return };
        let schedules = BTreeMap::from([(name_of(&db()), schedule)]);
        site.deadman = Some(Deadman::recover(now, 1, schedules, site.records.clone(), &site.leases));
        self.carry_out_fencing();
    }

    /// The fence daemon dies and is started again at once. What it was about to kill, it kills anew.
    pub(super) fn restart_fenced(&mut self) {
        let Some(site) = &mut self.machine.site else { return };
        site.deadman = None;
        site.kill = None;
        if let Some(process) = &mut self.machine.process {
            process.mail = vec![protocol::FenceEvent::Down];
        }
        self.start_fenced();
        let reports = self.machine.site.as_ref().map(Site::reports).unwrap_or_default();
        if let Some(process) = &mut self.machine.process {
            process.mail.push(protocol::FenceEvent::Up(reports));
        }
    }

    /// Time has passed: kills have to be over, deadlines may have passed.
    pub(super) fn dawn(&mut self) {
        let Some(site) = &self.machine.site else { return };
        if let Some((run, _)) = site.kill.filter(|(_, last)| *last <= self.tick) {
            self.killed(run);
        }
        let now = self.instant();
        if let Some(deadman) = self.machine.site.as_mut().and_then(|site| site.deadman.as_mut()) {
            deadman.tick(now);
        }
        self.carry_out_fencing();
    }

    pub(super) fn order(&mut self, order: protocol::Order) {
        let (now, incarnation) = (self.instant(), self.machine.disk.durable.own.incarnation.0);
        let Some(deadman) = self.machine.site.as_mut().and_then(|site| site.deadman.as_mut()) else { return };
        let answers = obey(deadman, now, order, incarnation);
        if let Some(process) = &mut self.machine.process {
            process.mail.extend(answers);
        }
        self.carry_out_fencing();
    }

    /// Does what the deadman asks for, in its order, until it asks for nothing. Its disk is quick.
    fn carry_out_fencing(&mut self) {
        loop {
            let now = self.instant();
            let Some(site) = &mut self.machine.site else { return };
            let Some(deadman) = &mut site.deadman else { return };
            let step = deadman.take();
            if step.is_empty() {
                break;
            }
            let (acts, _) = step.publish::<()>(|leases| {
                leases.apply(&mut site.leases);
                Ok(())
            });
            let written = acts.saves.iter().map(|save| (save.resource().clone(), save.record().clone()));
            site.records.extend(written);
            let Ok(saved) = Save::write_all::<()>(acts.saves, |_| Ok(())) else { return };
            saved.into_iter().for_each(|saved| deadman.saved(now, saved));
            self.follow_lease();
            for order in acts.orders {
                self.begin(&order);
            }
            if let Some(process) = &mut self.machine.process {
                process.mail.extend(acts.notices.into_iter().filter_map(event_of));
            }
        }
        self.follow_lease();
    }

    /// What the fence daemon goes by, for the judge.
    fn follow_lease(&mut self) {
        let Some(site) = &mut self.machine.site else { return };
        if let Some(lease) = site.leases.get(&name_of(&db())) {
            let (token, deadline) = (Token(lease.token), from_fence(lease.deadline));
            site.hold = Some(Hold { token, deadline, over: false });
        }
        let receipt = site.receipt();
        if receipt.is_some() && site.running.is_some() && receipt >= site.running {
            let what = format!("a receipt for {receipt:?} while {:?} runs", site.running);
            return self.break_rule("I2", what);
        }
        if let Some(hold) = &mut site.hold {
            hold.over |= receipt >= Some(hold.token);
        }
    }

    fn begin(&mut self, order: &Order) {
        let (now, name) = (self.instant(), name_of(&db()));
        let Some(site) = &mut self.machine.site else { return };
        match *order {
            Order::Kill { run, .. } => {
                self.did.kills = true;
                site.kill = Some((run, self.tick + self.world.kill_ticks(self.i)));
                if self.swift {
                    self.killed(run);
                }
            }
            Order::Start { run, token, .. } => {
                // As in the process that is about to exec: only if the lease is published and lies ahead.
                let allowed = may_exec(&site.leases, &name, token, now).is_ok();
                if allowed {
                    site.running = Some(Token(token));
                    self.did.started.push(Token(token));
                }
                let failed = (!allowed).then(|| "lease withdrawn".to_owned());
                if let Some(deadman) = &mut site.deadman {
                    deadman.start_done(now, &name, run, failed);
                }
            }
            Order::Stop { run, .. } => {
                site.running = None;
                if let Some(deadman) = &mut site.deadman {
                    deadman.stop_done(now, &name, run, None);
                }
            }
            Order::Level { .. } | Order::Cancel { .. } => {}
        }
    }

    fn killed(&mut self, run: RunId) {
        let now = self.instant();
        let Some(site) = &mut self.machine.site else { return };
        site.kill = None;
        site.running = None;
        if let Some(deadman) = &mut site.deadman {
            deadman.kill_done(now, &name_of(&db()), run, Ok(proof("killed")));
        }
    }
}
