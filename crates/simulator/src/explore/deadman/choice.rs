//! What can happen next in a state.

use sitegate_fence::deadman::Deadman;
use sitegate_protocol::Token;

use super::scene::{Job, Request, Scene, What};
use super::world::{AHEAD, DeadmanWorld, INCARNATIONS, Planted, TOKENS, now};
use crate::explore::search::{Broken, Space};

/// One thing that can happen. Numbers are places in the lists of the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Choice {
    /// Time goes on to the next tick.
    Pass,
    /// The daemon starts.
    Start,
    /// It notices that a time has come.
    Wake,
    /// It does the rest of its turn.
    GoOn,
    /// A client asks, of a resource.
    Ask(usize, Request),
    /// The oldest save is on the disk, and the daemon is told.
    Write,
    /// A start hook comes to its exec.
    Exec(usize),
    /// A program or a kill ends.
    End(usize, Ending),
    /// It does not end at its limit.
    Hang(usize),
    /// The daemon is killed; so many of the saves under way reach the disk.
    Die(usize),
    /// The machine loses its power; the same.
    Power(usize),
}

/// How a program or a kill ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Ending {
    Well,
    Fails,
    /// It reports success and leaves something running, which a kill finds.
    Leaves,
}

/// The rules of a world.
pub(crate) struct Rules<'a> {
    pub(super) world: &'a DeadmanWorld,
}

impl<'a> Rules<'a> {
    pub(super) const fn new(world: &'a DeadmanWorld) -> Self {
        Self { world }
    }

    fn all_choices(&self, scene: &Scene) -> Vec<Choice> {
        if scene.tick >= self.world.ticks {
            return Vec::new();
        }
        let deaths = if scene.deadman.is_some() && scene.left.deaths > 0 {
            (0..=scene.unwritten.len()).flat_map(|n| [Choice::Die(n), Choice::Power(n)]).collect()
        } else {
            Vec::new()
        };
        if scene.rest.is_some() {
            return std::iter::once(Choice::GoOn).chain(deaths).collect();
        }
        let mut choices = Vec::new();
        match &scene.deadman {
            None => choices.push(Choice::Start),
            Some(deadman) => {
                // What keeps its limit ends before the daemon looks whether it has.
                if self.is_due(deadman, scene.tick)
                    && !scene.jobs.iter().any(|job| job.has_to_end(scene.tick))
                {
                    choices.push(Choice::Wake);
                }
                if !scene.unwritten.is_empty() {
                    choices.push(Choice::Write);
                }
            }
        }
        choices.extend((0..scene.coming.len()).map(Choice::Exec));
        for (place, job) in scene.jobs.iter().enumerate() {
            Self::endings(scene, place, job, &mut choices);
        }
        if scene.deadman.is_some() && scene.left.requests > 0 {
            let resources = 0..self.world.resources;
            choices.extend(resources.flat_map(|i| requests().map(move |request| Choice::Ask(i, request))));
        }
        choices.extend(deaths);
        if self.may_pass(scene) {
            choices.push(Choice::Pass);
        }
        choices
    }

    /// Whether the daemon has to look at the time.
    fn is_due(&self, deadman: &Deadman, tick: u16) -> bool {
        let late = u16::from(self.world.planted == Some(Planted::LateTimer));
        deadman.next_timeout().is_some_and(|due| due.passed(now(tick.saturating_sub(late))))
    }

    fn endings(scene: &Scene, place: usize, job: &Job, choices: &mut Vec<Choice>) {
        // A level that succeeds says so within its limit.
        if !(job.hangs && matches!(job.what, What::Level(_))) {
            choices.push(Choice::End(place, Ending::Well));
        }
        if job.hangs || scene.left.faults > 0 {
            choices.push(Choice::End(place, Ending::Fails));
        }
        if job.hangs || scene.left.faults == 0 {
            return;
        }
        if matches!(job.what, What::Level(_)) && scene.running.contains_key(&job.resource) {
            choices.push(Choice::End(place, Ending::Leaves));
        }
        if job.has_to_end(scene.tick) {
            choices.push(Choice::Hang(place));
        }
    }

    /// The daemon is not late, and neither is what has a limit.
    fn may_pass(&self, scene: &Scene) -> bool {
        let due = scene.deadman.as_ref().is_some_and(|deadman| self.is_due(deadman, scene.tick));
        !due && !scene.jobs.iter().any(|job| job.has_to_end(scene.tick))
    }
}

fn requests() -> impl Iterator<Item = Request> {
    let armings = TOKENS.into_iter().flat_map(|token| {
        let terms = (0..AHEAD.len()).flat_map(|ahead| INCARNATIONS.into_iter().map(move |i| (ahead, i)));
        terms.flat_map(move |(ahead, i)| [Request::Arm(token, ahead, i), Request::Extend(token, ahead, i)])
    });
    let others = TOKENS.into_iter().flat_map(|t| [Request::Start(t), Request::Stop(t), Request::Fence(t)]);
    armings.chain(others)
}

impl Space for Rules<'_> {
    type State = Scene;
    type Choice = Choice;

    fn root(&mut self) -> Scene {
        Rules::begin(self)
    }

    fn choices(&mut self, scene: &Scene) -> Vec<Choice> {
        self.all_choices(scene)
    }

    fn apply(&mut self, scene: &Scene, choice: Choice) -> Scene {
        self.happen(scene.clone(), choice)
    }

    fn tell(&mut self, scene: &Scene, choice: Choice) -> Vec<String> {
        let name = |i: usize| self.world.names().nth(i);
        let job = |k: usize| format!("{:?} of {:?}", scene.jobs[k].what, scene.jobs[k].resource.as_str());
        let what = match choice {
            Choice::Pass | Choice::GoOn => return Vec::new(),
            Choice::Start => "the daemon starts".into(),
            Choice::Wake => "the daemon wakes".into(),
            Choice::Ask(i, request) => format!("a client asks of {:?}: {request:?}", name(i)),
            Choice::Write => format!("on the disk: {:?}", scene.unwritten[0].record()),
            Choice::Exec(k) => format!("comes to its exec: {:?}", scene.coming[k]),
            Choice::End(k, ending) => format!("{} ends: {ending:?}", job(k)),
            Choice::Hang(k) => format!("{} hangs", job(k)),
            Choice::Die(n) => format!("the daemon dies, with {n} of {} saves done", scene.unwritten.len()),
            Choice::Power(n) => format!("the power goes, with {n} of {} saves done", scene.unwritten.len()),
        };
        vec![format!("tick {}: {what}", scene.tick)]
    }

    fn tick(scene: &Scene) -> u16 {
        scene.tick
    }

    fn newest(scene: &Scene) -> Option<Token> {
        scene.judge.newest.map(Token)
    }

    fn broken(scene: &Scene) -> Option<&Broken> {
        scene.broken.as_ref()
    }
}
