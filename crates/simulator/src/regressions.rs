//! Situations in which something went wrong once, or might well: staged step by step, so that a change of the protocol or
//! of chance does not turn them into others. The observer looks on in each, as in any run.

mod desk;
mod epochs;
mod guards;
mod leases;
mod listings;
mod memory;
mod rounds;
mod site;
mod wishes;

use std::cell::RefCell;
use std::rc::Rc;

use sitegate_protocol::{
    Body, Caller, Command, CommandId, Epoch, Event, Frame, Header, Intent, Key, Lsn, MemberId, Ownership,
    Reply, Role, RoundView, TicketSettings, TicketView, Token,
};

use crate::clock::{MS, SECOND, Time};
use crate::node::{Process, Slow};
use crate::plan::{MemberPlan, Plan};
use crate::script::{LYON, PARIS, Stage, TIEBREAK, db, member, plan};

/// A scene that handles more events than this goes on without an end.
const EVENTS_MAX: u64 = 100_000;

impl Stage {
    /// Paris, lyon and tiebreak have met. E is 5 s, A 2 s, a trip 5 ms, a commit 1 ms.
    fn born() -> Self {
        Self::born_with(plan(vec![db()], 5 * MS, MS))
    }

    fn born_with(plan: Plan) -> Self {
        let mut stage = Self::of(plan);
        stage.world.events_max = EVENTS_MAX;
        stage.world.noted = Some(Vec::new());
        stage.run(2 * SECOND);
        stage
    }

    /// Paris holds db.
    fn held() -> Self {
        Self::held_with(plan(vec![db()], 5 * MS, MS))
    }

    fn held_with(plan: Plan) -> Self {
        let mut stage = Self::born_with(plan);
        stage.grant();
        assert_eq!(stage.holder(), Some(PARIS));
        stage
    }

    /// Lets time pass until something holds; how long that took.
    fn wait_for(&mut self, limit: Time, what: &str, holds: impl Fn(&Self) -> bool) -> Time {
        /// Shorter than any commit or trip.
        const STEP: Time = MS / 5;
        let began = self.world.time;
        while !holds(self) {
            assert!(self.world.time < began + limit, "{what}: not within {limit} ns");
            assert!(self.world.events < EVENTS_MAX, "{what}: too much happens");
            self.run(STEP);
        }
        self.world.time - began
    }

    fn cut(&mut self, from: usize, to: usize, span: Time) {
        let until = self.world.time + span;
        self.world.network.cut(from, to, until);
    }

    fn isolate_from(&mut self, i: usize, j: usize, span: Time) {
        self.cut(i, j, span);
        self.cut(j, i, span);
    }

    /// Neither hears nor is heard.
    fn isolate(&mut self, i: usize, span: Time) {
        for j in (0..self.world.nodes.len()).filter(|&j| j != i) {
            self.isolate_from(i, j, span);
        }
    }

    /// `kill -9`, and a new process a little later.
    fn restart_member(&mut self, i: usize) {
        self.world.kill_member(i);
        self.run(100 * MS);
        self.world.start_member(i);
    }

    /// Commits that begin from now on take so long, for a while.
    fn slow_disk(&mut self, i: usize, takes: Time) {
        self.world.nodes[i].slow_disk = Slow { until: self.world.time + takes, takes };
    }

    fn process(&self, i: usize) -> &Process {
        self.world.nodes[i].process.as_ref().expect("it runs")
    }

    /// What the process at `from` might say to the one at `to`.
    fn frame_of(&self, from: usize, to: usize, body: Body) -> Frame {
        let disk = &self.world.nodes[from].disk;
        let header = Header {
            epoch: Epoch(0),
            from: id_of(from),
            identity: disk.durable.own.identity,
            life: self.process(from).member().life(),
            lsn: Lsn(disk.lsn),
            to: Some(self.process(to).member().life().nonce),
            known: Vec::new(),
        };
        Frame { header, bodies: vec![body] }
    }

    fn ticket(&self, i: usize) -> TicketView {
        let now = self.world.nodes[i].now(self.world.time);
        self.process(i).member().ticket_view(now, &db())
    }

    fn round(&self, i: usize) -> Option<RoundView> {
        self.ticket(i).round
    }

    fn state(&self, i: usize) -> &'static str {
        self.ticket(i).local.expect("it is a site").state
    }

    fn ownership(&self, i: usize) -> Ownership {
        self.ticket(i).ownership
    }

    fn intent(&self, i: usize) -> Intent {
        self.ticket(i).intent.expect("somebody wished for something")
    }

    /// What stands on the disk of `i`, whether it runs or not.
    fn written(&self, i: usize) -> Option<Token> {
        let register = self.world.nodes[i].disk.durable.registers.get(&Key::Ownership(db()))?;
        register.accepted()?.value.ownership()?.held().map(|tenancy| tenancy.token)
    }

    fn votes(&self, i: usize) -> bool {
        self.world.nodes[i].votes()
    }

    /// The token under which `i` is before its deadline.
    fn token(&self, i: usize) -> Option<Token> {
        let node = &self.world.nodes[i];
        let (token, deadline) = node.process.as_ref()?.member().holds(&db())?;
        (!deadline.has_passed(node.now(self.world.time))).then_some(token)
    }

    /// Who holds db, by its own account.
    fn holder(&self) -> Option<usize> {
        (0..self.world.nodes.len()).find(|&i| self.token(i).is_some())
    }

    fn runs_at(&self, i: usize) -> bool {
        !self.world.nodes[i].fence.running.is_empty()
    }

    fn ask(&mut self, via: usize, command: Command) -> CommandId {
        self.world.command(via, command).expect("a member runs there")
    }

    /// A command that the observer is not asked about.
    fn ask_unseen(&mut self, via: usize, command: Command) -> CommandId {
        let id = CommandId(1_000_000);
        let caller = Caller { who: "operator".into(), reason: "it is dead".into(), request: 77 };
        self.world.deliver(via, Event::Command(id, command, caller));
        id
    }

    /// What a command was answered in the end.
    fn answer(&self, id: CommandId) -> Option<&Reply> {
        let answers = self.world.answers.iter().rev();
        answers.filter(|(of, reply)| *of == id && *reply != Reply::Recorded).map(|(_, reply)| reply).next()
    }

    fn noted(&self, i: usize, is: impl Fn(&sitegate_protocol::Note) -> bool) -> bool {
        self.world.noted.iter().flatten().any(|(_, at, note)| *at == i && is(note))
    }
}

/// What `from` says from now on, and `is` lets through.
fn overhear(
    s: &mut Stage,
    from: usize,
    is: impl Fn(&Body) -> bool + 'static,
    lost: impl Fn(&Body) -> bool + 'static,
) -> Rc<RefCell<Vec<Body>>> {
    let said = Rc::new(RefCell::new(Vec::new()));
    let into = Rc::clone(&said);
    s.world.lost = Some(Box::new(move |sender, _, frame| {
        let bodies = frame.bodies.iter().filter(|body| sender == from && is(body));
        into.borrow_mut().extend(bodies.cloned());
        sender == from && frame.bodies.iter().any(&lost)
    }));
    said
}

/// A ticket that is not like others.
fn with_ticket(change: impl Fn(&mut TicketSettings)) -> Plan {
    let mut plan = plan(vec![db()], 5 * MS, MS);
    plan.settings.tickets.values_mut().for_each(change);
    plan.editions = vec![plan.settings.tickets.clone()];
    plan
}

/// Two sites and three arbitrators.
fn five() -> Plan {
    with_arbitrators(2)
}

/// Paris, lyon, tiebreak and so many arbitrators more.
fn with_arbitrators(more: u8) -> Plan {
    let mut plan = plan(vec![db()], 5 * MS, MS);
    let clocks = plan.members[TIEBREAK].clocks;
    for id in 4..4 + more {
        plan.members.push(MemberPlan { id: member(id), role: Role::Arbitrator, clocks });
        plan.settings.members.insert(member(id), Role::Arbitrator);
    }
    plan
}

fn id_of(i: usize) -> MemberId {
    member(u8::try_from(i + 1).expect("few"))
}
