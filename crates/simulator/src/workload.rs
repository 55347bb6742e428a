//! What administrators do, and whether what they were told holds.

use std::collections::BTreeMap;

use sitegate_protocol::{
    Caller, Command, CommandId, Done, Event, Key, Ownership, Register, Reply, Role, StandbyMode, Value,
};

use crate::clock::Time;
use crate::world::{Happening, World};

/// The commands of a run.
#[derive(Default)]
pub(crate) struct Workload {
    next: u64,
    /// Given and not answered: the command, and where.
    pub(crate) open: BTreeMap<CommandId, (Command, usize, Time)>,
    pub(crate) done: u64,
}

impl World {
    pub(crate) fn schedule_command(&mut self) {
        let at = self.time + self.rng.range(1, 2 * self.plan.faults.commands_every);
        self.schedule(at, Happening::Command);
    }

    pub(crate) fn give_command(&mut self) {
        if self.calm {
            return;
        }
        self.schedule_command();
        let via = self.rng.index(self.nodes.len());
        let command = self.draw_command();
        self.command(via, command);
    }

    /// Somebody vouches for the death of site `i`, to a member that votes, for a ticket that it held as far as its disk knows.
    pub(crate) fn attest(&mut self, i: usize) {
        let registers = &self.nodes[i].disk.durable.registers;
        let site = self.nodes[i].id;
        let held = registers.iter().find_map(|(key, register)| {
            let tenancy = register.accepted()?.value.ownership()?.held()?;
            key.ticket().filter(|_| tenancy.site == site).cloned()
        });
        let via = (0..self.nodes.len()).find(|&via| self.nodes[via].votes());
        if let (Some(ticket), Some(via)) = (held, via.filter(|_| !self.calm)) {
            self.command(via, Command::AttestDead(site, Some(ticket)));
        }
    }

    fn draw_command(&mut self) -> Command {
        let ticket = self.rng.pick(&self.plan.tickets).clone();
        let sites: Vec<_> = self.nodes.iter().filter(|n| n.role == Role::Site).map(|n| n.id).collect();
        let site = *self.rng.pick(&sites);
        match self.rng.range(0, 100) {
            0..40 => Command::Grant(ticket, site),
            40..55 => Command::Revoke(ticket),
            55..70 => Command::Move(ticket, site),
            70..74 => Command::Pause(ticket),
            74..82 => Command::Resume(ticket),
            82..85 => Command::Standby(site, StandbyMode::Vacate),
            85..87 => Command::Standby(site, StandbyMode::Keep),
            87..95 => Command::Standby(site, StandbyMode::Online),
            95..96 => Command::AttestDead(site, Some(ticket)),
            _ => {
                let member = self.nodes[self.rng.index(self.nodes.len())].id;
                Command::Readmit(member)
            }
        }
    }

    /// Gives `command` at node `via`, if a member runs there.
    pub(crate) fn command(&mut self, via: usize, command: Command) -> Option<CommandId> {
        if self.nodes[via].process.is_none() || !self.is_honest(&command) {
            return None;
        }
        self.workload.next += 1;
        let id = CommandId(self.workload.next);
        self.checks.wishes.given(&command, self.time);
        self.workload.open.insert(id, (command.clone(), via, self.time));
        self.trace(via, || format!("command {id:?} {command:?}"));
        let request = self.rng.next();
        let caller = Caller { who: "simulator".into(), reason: String::new(), request };
        self.deliver(via, Event::Command(id, command, caller));
        Some(id)
    }

    /// An operator who vouches for the death of a site has seen it: it has no power, and had none when asked. Then
    /// whatever it held may be taken over.
    fn is_honest(&mut self, command: &Command) -> bool {
        let Command::AttestDead(site, Some(ticket)) = command else { return true };
        let Some(i) = self.nodes.iter().position(|n| n.id == *site) else { return false };
        if self.nodes[i].up {
            return false;
        }
        let held =
            self.nodes.iter().filter_map(|n| n.disk.durable.registers.get(&Key::Ownership(ticket.clone())));
        let tokens = held.filter_map(|r: &Register| match r.accepted().map(|a| &a.value) {
            Some(Value::Ownership(Ownership::Held(t))) if t.site == *site => Some(t.token),
            _ => None,
        });
        if let Some(newest) = tokens.max() {
            let attested = self.checks.attested.entry(ticket.clone()).or_insert(newest);
            *attested = newest.max(*attested);
        }
        true
    }

    pub(crate) fn replied(&mut self, _i: usize, id: CommandId, reply: &Reply) {
        if matches!(reply, Reply::Recorded) {
            return;
        }
        let Some((command, _, given)) = self.workload.open.remove(&id) else { return };
        self.checks.wishes.may_have_come_true(&command, self.time);
        match reply {
            Reply::Done(done) => {
                self.workload.done += 1;
                self.coverage.met("done", &command);
                // A revoke that finds the ticket held by then was overtaken by somebody else's wish.
                if !matches!(command, Command::Revoke(_)) || matches!(done, Done::Free(_)) {
                    let open = self.workload.open.values().map(|(command, ..)| command);
                    self.checks.wishes.confirmed(&command, given, self.time, open);
                }
            }
            Reply::Refused(refusal) => self.coverage.met("refusal", refusal),
            Reply::Recorded => {}
        }
    }

    /// Nobody at `via` waits for an answer any more; what was asked there may have come true all the same.
    pub(crate) fn forget_commands(&mut self, via: usize) {
        for (_, (command, ..)) in self.workload.open.extract_if(.., |_, (_, at, _)| *at == via) {
            self.checks.wishes.may_have_come_true(&command, self.time);
        }
    }
}
