//! What administrators do, and whether what they were told holds.

use std::collections::BTreeMap;

use sitegate_protocol::{
    Caller, Command, CommandId, Done, Event, Key, Ownership, Register, Reply, Role, StandbyMode, TicketName,
    Value,
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
    pub(crate) refused: u64,
    /// When each ticket was last resumed, and each site taken online.
    resumed: BTreeMap<TicketName, Time>,
    online: BTreeMap<usize, Time>,
    /// When each ticket was last granted or moved, or anything else that allows a tenure.
    allowed: BTreeMap<TicketName, Time>,
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
            87..94 => Command::Standby(site, StandbyMode::Online),
            94..98 => Command::AttestDead(site, Some(ticket)),
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
        self.allow(&command);
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

    /// From now on a tenure may begin again.
    fn allow(&mut self, command: &Command) {
        let tickets = match command {
            Command::Grant(t, _) | Command::Move(t, _) | Command::Resume(t) => vec![t.clone()],
            Command::Standby(_, StandbyMode::Online) => self.plan.tickets.clone(),
            _ => Vec::new(),
        };
        match command {
            Command::Resume(ticket) => drop(self.checks.paused.remove(ticket)),
            Command::Standby(site, StandbyMode::Online) => {
                let i = self.nodes.iter().position(|n| n.id == *site);
                if let Some(i) = i {
                    self.checks.standing_by.remove(&i);
                    self.workload.online.insert(i, self.time);
                }
            }
            _ => {}
        }
        if let Command::Resume(ticket) = command {
            self.workload.resumed.insert(ticket.clone(), self.time);
        }
        if matches!(command, Command::Grant(..)) {
            for ticket in tickets {
                self.checks.revoked.remove(&ticket);
                self.workload.allowed.insert(ticket, self.time);
            }
        }
    }

    pub(crate) fn replied(&mut self, _i: usize, id: CommandId, reply: &Reply) {
        if matches!(reply, Reply::Recorded) {
            return;
        }
        let Some((command, _, given)) = self.workload.open.remove(&id) else { return };
        // Whatever was asked may have come true at any time until it was answered.
        match &command {
            Command::Grant(t, _) => drop(self.workload.allowed.insert(t.clone(), self.time)),
            Command::Resume(t) => drop(self.workload.resumed.insert(t.clone(), self.time)),
            Command::Standby(site, StandbyMode::Online) => {
                if let Some(i) = self.nodes.iter().position(|n| n.id == *site) {
                    self.workload.online.insert(i, self.time);
                }
            }
            _ => {}
        }
        match reply {
            Reply::Done(done) => {
                self.workload.done += 1;
                self.confirmed(&command, given);
                if let (Command::Revoke(ticket), Done::Free(_)) = (&command, done) {
                    let granted = self.workload.allowed.get(ticket).is_some_and(|at| *at >= given);
                    let pending = self
                        .workload
                        .open
                        .values()
                        .any(|(c, _, _)| matches!(c, Command::Grant(t, _) if t == ticket));
                    if !granted && !pending {
                        self.checks.revoked.insert(ticket.clone(), self.time);
                    }
                }
            }
            Reply::Refused(_) => self.workload.refused += 1,
            Reply::Recorded => {}
        }
    }

    /// A pause or a standby that was confirmed, and that nobody has taken back or is about to.
    fn confirmed(&mut self, command: &Command, given: Time) {
        match command {
            Command::Pause(ticket) => {
                let resumed = self.workload.resumed.get(ticket).is_some_and(|at| *at >= given);
                let open =
                    self.workload.open.values().any(|(c, ..)| matches!(c, Command::Resume(t) if t == ticket));
                if !resumed && !open {
                    self.checks.paused.insert(ticket.clone(), self.time);
                }
            }
            Command::Standby(site, StandbyMode::Vacate | StandbyMode::Keep) => {
                let Some(i) = self.nodes.iter().position(|n| n.id == *site) else { return };
                let online = self.workload.online.get(&i).is_some_and(|at| *at >= given);
                let open = self
                    .workload
                    .open
                    .values()
                    .any(|(c, ..)| matches!(c, Command::Standby(s, StandbyMode::Online) if s == site));
                if !online && !open {
                    self.checks.standing_by.insert(i, self.time);
                }
            }
            _ => {}
        }
    }

    /// What a process was asked dies with it.
    pub(crate) fn forget_commands(&mut self, via: usize) {
        self.workload.open.retain(|_, (_, at, _)| *at != via);
    }
}
