//! `test`: what every level would fence by is looked at, and nothing is fenced.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::thread::{CapabilitySet, capabilities};
use sitegate_fence_client::request::Reply;
use sitegate_fence_client::status::{Found, TestedLevel, TestedResource};
use sitegate_fence_client::wire::{Name, Reason, Refusal};
use sitegate_host::clock::boot_ns;
use tokio::sync::{Semaphore, oneshot};

use super::core::{Core, Done};
use super::orders::tell;
use super::pending::Asker;
use super::status::milliseconds;
use crate::agent::{self, Agent, off};
use crate::config::Watchdog;
use crate::leases;
use crate::plan::{Driver, Level, Plan, Program, RebootMethod};
use crate::programs::{Input, Programs, Role, Run, Told, limit_from};
use crate::systemd::{Call, UnitName, Verb};

/// How many levels are tested at once: no more than a small machine can do beside its work.
const AT_ONCE: usize = 4;

/// What a test needs of the daemon, in a task of its own.
#[derive(Clone, Debug)]
struct Trial {
    programs: Programs,
    site: Option<Name>,
    watchdog: Option<Watchdog>,
    /// Whether something is armed or being fenced.
    busy: bool,
    room: Arc<Semaphore>,
}

impl Core {
    /// Tests the plan of one resource or of all. One test at a time: it is for people.
    pub(super) fn test(&mut self, asker: Asker, resource: Option<&Name>) {
        if resource.is_some_and(|name| !self.config.resources.contains_key(name)) {
            return self.reply(asker, &Reply::refused(Refusal::UnknownResource));
        }
        let Ok(place) = Arc::clone(&self.testing).try_acquire_owned() else {
            let why = "another test runs: wait for its end".to_owned();
            return self.reply(asker, &Reply::Error { why });
        };
        if let Some(connected) = self.clients.get_mut(&asker.client) {
            connected.testing = true;
        }
        let trial = Trial {
            programs: self.programs.clone(),
            site: self.site.clone(),
            watchdog: self.config.watchdog.clone(),
            busy: !self.is_idle(),
            room: Arc::new(Semaphore::new(AT_ONCE)),
        };
        let plans: Vec<(Name, Plan)> = self
            .config
            .resources
            .iter()
            .filter(|(name, _)| resource.is_none_or(|wanted| wanted == *name))
            .map(|(name, resource)| (name.clone(), resource.plan.clone()))
            .collect();
        let (kill_within, all) = (self.config.kill_within, self.config.all_fenced_within(None));
        let done = self.done.clone();
        tokio::spawn(async move {
            let begun: Vec<_> = plans.into_iter().map(|(name, plan)| trial.begin(name, plan)).collect();
            let mut resources = Vec::new();
            for (name, plan, tests) in begun {
                let within_ms = milliseconds(plan.within(kill_within));
                let mut tested =
                    TestedResource { name, within_ms, within_all_ms: milliseconds(all), levels: vec![] };
                for test in tests {
                    // A test is not cancelled, and has no bug that ends it.
                    tested.levels.extend(test.await);
                }
                resources.push(tested);
            }
            tell(&done, Done::Tested(asker, resources)).await;
            drop(place);
        });
    }

    pub(super) fn tested(&mut self, asker: Asker, resources: Vec<TestedResource>) {
        if let Some(connected) = self.clients.get_mut(&asker.client) {
            connected.testing = false;
        }
        self.reply(asker, &Reply::Tested { resources });
    }
}

/// The tests of a plan's levels, under way.
type Begun = (Name, Plan, Vec<tokio::task::JoinHandle<TestedLevel>>);

impl Trial {
    fn begin(&self, name: Name, plan: Plan) -> Begun {
        let test = |(number, level): (usize, &Level)| {
            let (trial, name, level) = (self.clone(), name.clone(), level.clone());
            tokio::spawn(async move { trial.test(name, number, level).await })
        };
        let tests = plan.levels.iter().enumerate().map(test).collect();
        (name, plan, tests)
    }

    async fn test(&self, resource: Name, number: usize, level: Level) -> TestedLevel {
        // It is never closed.
        let _place = self.room.acquire().await;
        let began = Instant::now();
        let found = match &level.driver {
            Driver::Command(program) => self.command(resource, number, program, level.within).await,
            Driver::Agent(agent) => self.agent(resource, Arc::clone(agent), level.within).await,
            Driver::Systemd(unit) => self.systemd(resource, number, unit.clone(), level.within).await,
            Driver::Reboot(method) => reboot(*method),
            Driver::Watchdog => self.watchdog(),
            Driver::Removed => failed("it is no longer in fenced.toml"),
        };
        TestedLevel {
            driver: level.driver.name().to_owned(),
            within_ms: milliseconds(level.within),
            took_ms: milliseconds(began.elapsed()),
            found,
        }
    }

    async fn command(&self, resource: Name, number: usize, program: &Program, within: Duration) -> Found {
        let Some(check) = &program.check else {
            let what = format!(
                "{} can be run; what it does, no check tells: give the level a `check`",
                program.command[0]
            );
            return match sitegate_host::spawn::inspect(program.command[0].as_ref()) {
                Ok(()) => Found::Untested { what },
                Err(error) => failed(error),
            };
        };
        let (input, shown, told) = (Input::default(), check[0].clone(), self.told(within));
        let role = Role::trial(boot_ns(), u32::try_from(number).unwrap_or(u32::MAX));
        let run = Run { resource, token: 0, role, command: check.clone(), input, shown, within, told };
        // The other end is here: nobody gives it up.
        let (_cancel, cancelled) = oneshot::channel();
        match self.programs.run(&run, cancelled).await {
            Ok(()) => Found::Ready { what: format!("{} exited with 0", check[0]) },
            Err(why) => failed(format!("{} {why}", check[0])),
        }
    }

    async fn agent(&self, resource: Name, agent: Arc<Agent>, within: Duration) -> Found {
        let case = off::Case { resource, token: 0, run: boot_ns(), told: self.told(within) };
        // The other end is here: nobody gives it up.
        let (_cancel, cancelled) = oneshot::channel();
        let told = match agent::trial::try_out(agent, case, within, self.programs.clone(), cancelled).await {
            Ok(told) => told,
            Err(why) => return failed(why),
        };
        let (well, ill): (Vec<_>, Vec<_>) =
            told.into_iter().map(|told| told.outcome).partition(Result::is_ok);
        let sentences = |outcomes: Vec<Result<String, String>>| -> String {
            let texts: Vec<String> = outcomes.into_iter().map(|o| o.unwrap_or_else(|why| why)).collect();
            texts.join("; ")
        };
        if ill.is_empty() { Found::Ready { what: sentences(well) } } else { failed(sentences(ill)) }
    }

    async fn systemd(&self, resource: Name, number: usize, unit: UnitName, within: Duration) -> Found {
        let call = Call { verb: Verb::Test, resource: resource.clone(), unit, within };
        let (input, shown, told) = (Input::default(), call.shown(), self.told(within));
        let role = Role::trial(boot_ns(), u32::try_from(number).unwrap_or(u32::MAX));
        let run = Run { resource, token: 0, role, command: call.command(), input, shown, within, told };
        // The other end is here: nobody gives it up.
        let (_cancel, cancelled) = oneshot::channel();
        match self.programs.exit(&run, cancelled).await {
            Ok(exited) if exited.code == 0 => Found::Ready { what: exited.said().to_owned() },
            Ok(exited) => failed(exited),
            Err(why) => failed(why),
        }
    }

    fn told(&self, within: Duration) -> Told {
        let reason = Reason::new("test").expect("a word is a reason");
        Told { site: self.site.clone(), reason, deadline: limit_from(leases::now(), within) }
    }

    fn watchdog(&self) -> Found {
        let Some(Watchdog { device, timeout }) = &self.watchdog else {
            return failed("there is no [watchdog]");
        };
        let timeout = timeout.as_secs();
        if self.busy {
            let what = format!("{} counts, and is petted: {timeout} s", device.display());
            return Found::Ready { what };
        }
        match std::fs::metadata(device) {
            Ok(_) => Found::Untested {
                what: format!("{} is there; it was tried out at the start", device.display()),
            },
            Err(error) => failed(format!("{}: {error}", device.display())),
        }
    }
}

fn reboot(method: RebootMethod) -> Found {
    let untested = |what: &str| Found::Untested {
        what: format!("{what}; whether the machine comes back, no check tells"),
    };
    match method {
        RebootMethod::Syscall => {
            let may = capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_BOOT));
            if may { untested("reboot(2) is permitted") } else { failed("reboot(2) needs CAP_SYS_BOOT") }
        }
        RebootMethod::Sysrq => {
            match rustix::fs::access("/proc/sysrq-trigger", rustix::fs::Access::WRITE_OK) {
                Ok(()) => untested("/proc/sysrq-trigger can be written"),
                Err(error) => failed(format!("/proc/sysrq-trigger cannot be written: {error}")),
            }
        }
    }
}

fn failed(why: impl std::fmt::Display) -> Found {
    Found::Failed { why: why.to_string() }
}
