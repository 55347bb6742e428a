//! The fence daemon of a site, around the real deadman: its disk, its runtime directory, and what runs under it.

use std::collections::BTreeMap;

use sitegate_fence::deadman::{Deadman, Leases, Order, Record, RunId, Save, may_exec};
use sitegate_fence_client::wire::{self, Instant, Name};
use sitegate_protocol::{self as protocol, CheckResult, Deadline, FenceReport, Now, Token};
use sitegate_shell::site as desk;

use super::react::Reacting;
use crate::clock::from_fence;
use crate::fenced::{name_of, reports};
use crate::line::{Clients, Message};
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
    /// What the fence daemon owes its clients.
    clients: Clients,
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

    /// The member's process has ended: nobody is answered any more.
    pub(super) fn hang_up(&mut self) {
        self.clients = Clients::default();
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
        self.hang_up();
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
        site.hang_up();
        if let Some(process) = &mut self.machine.process {
            process.mail = vec![Message::Unlinked];
        }
        self.start_fenced();
    }

    /// Does what the desk wants done; the line between the two daemons takes no time.
    pub(super) fn work_desk(&mut self) {
        while let Some(process) = &mut self.machine.process
            && let Some(deed) = process.desk.next()
        {
            match deed {
                desk::Deed::Tell(event) => self.offer(event),
                desk::Deed::Connect(line) => {
                    let reports = self.machine.site.as_ref().map(Site::reports).unwrap_or_default();
                    process.desk.linked(line, reports);
                }
                desk::Deed::Ask(_, order) => self.ask(order),
                // The check before acquiring always passes, at once.
                desk::Deed::Check(ticket, check) => process.desk.checked(ticket, check, CheckResult::Passed),
                desk::Deed::Watch(..) | desk::Deed::Unwatch(..) | desk::Deed::Complain(..) => {}
            }
        }
    }

    /// The desk reads what the fence daemon has said.
    pub(super) fn read_mail(&mut self) {
        while let Some(process) = &mut self.machine.process
            && !process.mail.is_empty()
        {
            let line = process.desk.line();
            match process.mail.remove(0) {
                Message::Answer(order, answer) => process.desk.answered(line, order, answer),
                Message::Notice(notice) => process.desk.notice(line, notice),
                Message::Unlinked => drop(process.desk.unlinked(line)),
                Message::Linked(_) | Message::Checked(..) | Message::Ill(..) => {}
            }
            self.work_desk();
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

    fn ask(&mut self, order: protocol::Order) {
        let (now, incarnation) = (self.instant(), self.machine.disk.durable.own.incarnation.0);
        let Some(site) = &mut self.machine.site else { return };
        let Some(deadman) = &mut site.deadman else { return };
        let answer = site.clients.asked(deadman, now, order, incarnation);
        self.post(answer.into_iter().collect());
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
            self.tell(acts.notices);
        }
        self.tell(Vec::new());
        self.follow_lease();
    }

    /// Tells the desk what has come of a turn of the fence daemon.
    fn tell(&mut self, notices: Vec<wire::Notice>) {
        let told = self.machine.site.as_mut().map(|site| site.clients.told(notices, true));
        self.post(told.unwrap_or_default());
    }

    fn post(&mut self, messages: Vec<Message>) {
        if let Some(process) = &mut self.machine.process {
            process.mail.extend(messages);
        }
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
