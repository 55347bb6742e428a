//! What comes of a choice.

use sitegate_fence::deadman::{Acts, Deadman, Order, Save, may_exec};
use sitegate_fence_client::wire::{Name, Reason, Refusal};

use super::choice::{Choice, Ending, Rules};
use super::judge::Judge;
use super::scene::{Coming, Job, Left, Request, Running, Scene, What};
use super::world::{AHEAD, INCARNATIONS, LIMIT, PAUSE, Planted, Start, TOKENS, deadline, now};
use crate::programs::proof;

impl Rules<'_> {
    pub(super) fn begin(&self) -> Scene {
        let mut scene = Scene {
            tick: 0,
            deadman: None,
            rest: None,
            succeeded: None,
            disk: Default::default(),
            unwritten: Vec::new(),
            leases: Default::default(),
            running: Default::default(),
            coming: Vec::new(),
            jobs: Vec::new(),
            left: Left { requests: u8::MAX, faults: 0, deaths: 0 },
            judge: Judge::default(),
            broken: None,
        };
        scene = self.happen(scene, Choice::Start);
        let arm = Request::Arm(TOKENS[0], 0, INCARNATIONS[1]);
        let steps = |i| {
            [Choice::Ask(i, arm), Choice::Write, Choice::Ask(i, Request::Start(TOKENS[0])), Choice::Exec(0)]
        };
        let taken = match self.world.start {
            Start::Unarmed => 0,
            Start::Starting => 3,
            Start::Running => 4,
        };
        for choice in (0..self.world.resources).flat_map(|i| steps(i).into_iter().take(taken)) {
            scene = self.happen(scene, choice);
        }
        let (requests, faults, deaths) = (self.world.requests, self.world.faults, self.world.deaths);
        Scene { left: Left { requests, faults, deaths }, ..scene }
    }

    pub(super) fn happen(&self, mut scene: Scene, choice: Choice) -> Scene {
        match choice {
            Choice::Pass => self.pass(&mut scene),
            Choice::Start => self.start(&mut scene),
            Choice::Wake => self.wake(&mut scene),
            Choice::GoOn => self.go_on(&mut scene),
            Choice::Ask(i, request) => {
                let Some(name) = self.world.names().nth(i) else { return scene };
                return self.ask(scene, &name, request);
            }
            Choice::Write => self.write(&mut scene),
            Choice::Exec(place) => self.exec(&mut scene, place),
            Choice::End(place, ending) => self.end(&mut scene, place, ending),
            Choice::Hang(place) => {
                scene.left.faults -= 1;
                scene.jobs[place].hangs = true;
                let job = scene.jobs[place].clone();
                // A level is killed past its limit, which takes the time of a kill.
                let until = if matches!(job.what, What::Level(_)) { LIMIT } else { 0 };
                self.forgive(&mut scene, &job, until);
            }
            Choice::Die(written) => self.die(&mut scene, written),
            Choice::Power(written) => {
                self.die(&mut scene, written);
                scene.leases.clear();
                scene.running.clear();
                scene.coming.clear();
                scene.judge.powered_off();
            }
        }
        scene
    }

    fn pass(&self, scene: &mut Scene) {
        Judge::passing(scene);
        scene.tick += 1;
    }

    fn start(&self, scene: &mut Scene) {
        let schedules = self.world.schedules();
        let deadman = Deadman::recover(now(scene.tick), 1, schedules, scene.disk.clone(), &scene.leases);
        scene.deadman = Some(deadman);
        Judge::started(scene, self.world);
        self.world.names().for_each(|name| Judge::look(scene, &name));
        self.carry_out(scene);
    }

    fn wake(&self, scene: &mut Scene) {
        let Some(deadman) = &mut scene.deadman else { return };
        deadman.tick(now(scene.tick));
        if deadman.next_timeout().is_some_and(|due| due.passed(now(scene.tick))) {
            scene.broken = Some(("promise 1", "it is due again at once".into()));
        }
        self.world.names().for_each(|name| Judge::look(scene, &name));
        self.carry_out(scene);
    }

    fn ask(&self, scene: Scene, name: &Name, request: Request) -> Scene {
        let mut asked = scene.clone();
        let Some(deadman) = &mut asked.deadman else { return scene };
        let answer = put(deadman, asked.tick, name, request);
        match answer {
            Ok(()) => {
                asked.left.requests -= 1;
                Judge::accepted(&mut asked, self.world, name, request);
            }
            // A refusal changes nothing, unless a time has come that nobody had noticed.
            Err(_) if deadman.clone().take().is_empty() => return scene,
            Err(_) => {}
        }
        Judge::look(&mut asked, name);
        self.carry_out(&mut asked);
        asked
    }

    fn write(&self, scene: &mut Scene) {
        let save = scene.unwritten.remove(0);
        scene.disk.insert(save.resource().clone(), save.record().clone());
        let name = save.resource().clone();
        Judge::wrote(scene, self.world, &name);
        let Ok(saved) = Save::write_all::<()>(vec![save], |_| Ok(())) else { return };
        let Some(deadman) = &mut scene.deadman else { return };
        saved.into_iter().for_each(|saved| deadman.saved(now(scene.tick), saved));
        Judge::look(scene, &name);
        self.carry_out(scene);
    }

    fn exec(&self, scene: &mut Scene, place: usize) {
        let Coming { run, resource, token, awaited } = scene.coming.remove(place);
        let blind = self.world.planted == Some(Planted::BlindExec);
        let allowed = blind || may_exec(&scene.leases, &resource, token, now(scene.tick)).is_ok();
        if allowed {
            Judge::began(scene, &resource, token);
            let handed_on = self.world.levels > 0;
            scene.running.insert(resource.clone(), Running { token, handed_on });
        }
        if let Some(deadman) = scene.deadman.as_mut().filter(|_| awaited) {
            deadman.start_done(now(scene.tick), &resource, run, (!allowed).then(|| "barred".into()));
            Judge::look(scene, &resource);
            self.carry_out(scene);
        }
    }

    fn end(&self, scene: &mut Scene, place: usize, ending: Ending) {
        let job = scene.jobs.remove(place);
        if ending != Ending::Well && !job.hangs {
            scene.left.faults -= 1;
        }
        if ending == Ending::Fails && !job.hangs {
            self.forgive(scene, &job, 0);
        }
        let Job { run, resource, what, .. } = job;
        let sees = |running: &Running| match what {
            What::Kill(_) => !running.handed_on && self.world.planted != Some(Planted::IdleKill),
            What::Level(_) | What::Stop => true,
        };
        match ending {
            Ending::Well if scene.running.get(&resource).is_some_and(sees) => {
                scene.running.remove(&resource);
            }
            Ending::Leaves => {
                scene.running.entry(resource.clone()).and_modify(|running| running.handed_on = false);
            }
            Ending::Well | Ending::Fails => {}
        }
        let Some(deadman) = &mut scene.deadman else { return };
        let now = now(scene.tick);
        let failed = (ending == Ending::Fails).then(|| "failed".to_owned());
        let result = failed.clone().map_or_else(|| Ok(proof("done")), Err);
        match what {
            What::Kill(_) => deadman.kill_done(now, &resource, run, result),
            What::Level(_) => deadman.level_done(now, &resource, run, result),
            What::Stop => deadman.stop_done(now, &resource, run, failed),
        }
        scene.succeeded = match what {
            What::Level(level) if ending != Ending::Fails => Some((resource, level)),
            _ => None,
        };
        self.carry_out(scene);
    }

    /// The last step of a plan fails, or will in so many ticks: the plan rests and starts over.
    fn forgive(&self, scene: &mut Scene, job: &Job, until: u16) {
        let last = match job.what {
            What::Kill(after) => after.map_or(0, |level| level + 1) == self.world.levels,
            What::Level(level) => level + 1 == self.world.levels,
            What::Stop => false,
        };
        if last {
            let by = scene.tick + until + PAUSE + self.world.plan();
            scene.judge.prolong(&job.resource, by);
        }
    }

    fn die(&self, scene: &mut Scene, written: usize) {
        scene.left.deaths -= 1;
        scene.deadman = None;
        scene.rest = None;
        scene.succeeded = None;
        scene.jobs.clear();
        scene.coming.iter_mut().for_each(|coming| coming.awaited = false);
        for save in std::mem::take(&mut scene.unwritten).into_iter().take(written) {
            scene.disk.insert(save.resource().clone(), save.record().clone());
            Judge::wrote(scene, self.world, save.resource());
        }
        scene.judge.died();
    }

    /// Publishes the leases. The daemon may die before it does the rest.
    fn carry_out(&self, scene: &mut Scene) {
        let Some(deadman) = &mut scene.deadman else { return };
        let step = deadman.take();
        if step.is_empty() {
            return;
        }
        let leases = &mut scene.leases;
        let (acts, _) = step.publish::<()>(|published| {
            published.apply(leases);
            Ok(())
        });
        scene.rest = Some(acts);
        if scene.left.deaths == 0 {
            self.go_on(scene);
        }
    }

    fn go_on(&self, scene: &mut Scene) {
        let Some(Acts { saves, orders, notices }) = scene.rest.take() else { return };
        saves.iter().for_each(|save| Judge::saving(scene, save));
        scene.unwritten.extend(saves);
        orders.into_iter().for_each(|order| obey(scene, order));
        notices.iter().for_each(|notice| Judge::told(scene, self.world, notice));
        scene.succeeded = None;
    }
}

/// Puts a request to the deadman.
fn put(deadman: &mut Deadman, tick: u16, name: &Name, request: Request) -> Result<(), Refusal> {
    let now = now(tick);
    match request {
        Request::Arm(token, ahead, by) => deadman.arm(now, name, token, deadline(tick, AHEAD[ahead]), by),
        Request::Extend(token, ahead, by) => {
            deadman.extend(now, name, token, deadline(tick, AHEAD[ahead]), by)
        }
        Request::Start(token) => deadman.start(now, name, token),
        Request::Stop(token) => deadman.stop(now, name, token),
        Request::Fence(token) => deadman.fence(now, name, token, Reason::deadline()),
    }
}

fn obey(scene: &mut Scene, order: Order) {
    let (run, resource, what) = match order {
        Order::Kill { run, resource, .. } => {
            let after = scene.succeeded.as_ref().filter(|(of, _)| *of == resource).map(|(_, level)| *level);
            (run, resource, What::Kill(after))
        }
        Order::Level { run, resource, level, .. } => (run, resource, What::Level(level)),
        Order::Stop { run, resource, .. } => (run, resource, What::Stop),
        Order::Start { run, resource, token, .. } => {
            scene.coming.push(Coming { run, resource, token, awaited: true });
            return;
        }
        // A start hook that it comes too late for finds out by its lease.
        Order::Cancel { run } => {
            scene.jobs.retain(|job| job.run != run);
            return;
        }
    };
    let by = scene.tick + LIMIT;
    scene.jobs.push(Job { run, resource, what, by, hangs: false });
}
