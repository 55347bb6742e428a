//! Another `fenced.toml` while the daemon works: all of it or nothing (docs/fencing.md, "Reloading").
//!
//! What a reload brings is in force at once, with two exceptions. Whoever waits for the end of a tenure counts with the plan that
//! it was armed under, so a longer one waits until it is over. And with the time in which all can be fenced, so what would raise
//! that waits until nothing is armed or being fenced.

use std::collections::BTreeMap;
use std::future::pending;
use std::path::{Path, PathBuf};

use sitegate_fence_client::request::reloaded_line;
use sitegate_fence_client::wire::Name;
use sitegate_host::service::ServiceManager;
use tokio::sync::oneshot;
use tracing::{error, info, warn};

use super::access::Access;
use super::bound::Bound;
use super::core::Core;
use super::setup::raise_open_files;
use crate::agent::{self, check::Findings};
use crate::aside::aside;
use crate::config::{Config, Resource};
use crate::deadman::State;
use crate::plan::{Driver, Plan};
use crate::store::with_causes;
use sitegate_host::log::LogFilter;

/// What a resource will be once that is possible.
#[derive(Debug)]
pub(super) enum Coming {
    New(Box<Resource>),
    Plan(Plan),
    Gone,
}

/// Reads the file again, aside: it may lie on a file system that hangs, and fencing must not wait for that.
#[derive(Debug)]
pub(super) struct Reread {
    path: PathBuf,
    reading: Option<oneshot::Receiver<Result<Config, String>>>,
    /// Asked for while it was being read: what is read then may be older than that.
    again: bool,
}

impl Reread {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_path_buf(), reading: None, again: false }
    }

    pub(super) fn begin(&mut self) {
        if self.reading.is_some() {
            self.again = true;
            return;
        }
        let path = self.path.clone();
        let reading = aside("reload", move || read(&path)).unwrap_or_else(|error| {
            let (tell, told) = oneshot::channel();
            // The other end is here.
            let _ = tell.send(Err(format!("cannot start a thread: {error}")));
            told
        });
        self.reading = Some(reading);
    }

    /// What was read, or everything that is wrong with it; waits for ever while nothing is being read. Safe to cancel.
    pub(super) async fn done(&mut self) -> Result<Config, String> {
        let Some(reading) = &mut self.reading else { return pending().await };
        let read = reading.await;
        self.reading = None;
        if std::mem::take(&mut self.again) {
            self.begin();
        }
        read.unwrap_or_else(|_| Err("the thread that read it has ended".to_owned()))
    }
}

/// What carries a reload out.
#[derive(Debug)]
pub(super) struct Reloader {
    pub(super) reread: Reread,
    pub(super) filter: LogFilter,
    pub(super) access: Access,
    pub(super) manager: ServiceManager,
}

impl Reloader {
    pub(super) fn begin(&mut self) {
        self.manager.reloading();
        self.reread.begin();
    }

    /// Takes what was read, if it is right and can be taken; else all stays as it was.
    pub(super) fn reload(&self, core: &mut Core, read: Result<Config, String>) {
        match read.and_then(|new| core.reload(new)) {
            Ok(changed) => {
                keep(&core.config);
                self.filter.change(&core.config.log);
                self.access.change(&core.config);
                if changed.is_empty() {
                    info!("reloaded; nothing has changed");
                } else {
                    info!(changed = changed.join(", "), "reloaded");
                }
            }
            Err(why) => error!("not reloaded, all stays as it was:\n{why}"),
        }
        self.manager.ready();
    }
}

/// For a restart that finds the file wrong.
pub(super) fn keep(config: &Config) {
    if let Err(error) = config.keep() {
        warn!("a restart with a wrong fenced.toml would not fence what is armed: {}", with_causes(&error));
    }
}

/// A file is taken only if `--check` finds nothing wrong with it. Its warnings are only told.
fn read(path: &Path) -> Result<Config, String> {
    let config = Config::load(path).map_err(|error| error.to_string())?;
    let unusable = config.unusable_programs();
    let mut problems: Vec<String> =
        unusable.iter().map(|(name, why)| format!("resource {name}: {}", with_causes(why))).collect();
    let Findings { errors, warnings } = agent::check::check(&config, path);
    problems.extend(errors.iter().map(ToString::to_string));
    warnings.iter().for_each(|warning| warn!("{warning}"));
    if problems.is_empty() { Ok(config) } else { Err(problems.join("\n")) }
}

/// Looks at the fence agents of the configuration that was started with, aside: nothing waits for that, and it only warns.
pub(super) fn look_at_agents(config: &Config, path: &Path) {
    if config.agents.is_empty() {
        return;
    }
    let (config, path) = (config.clone(), path.to_path_buf());
    let looking = aside("agents", move || {
        let Findings { errors, warnings } = agent::check::check(&config, &path);
        errors.iter().chain(&warnings).for_each(|finding| warn!("{finding}"));
    });
    if let Err(error) = looking {
        warn!("fence agents are not checked: cannot start a thread: {error}");
    }
}

impl Core {
    /// Takes another configuration; tells what is different.
    ///
    /// # Errors
    /// What a running daemon cannot change; then nothing has changed.
    pub(super) fn reload(&mut self, new: Config) -> Result<Vec<String>, String> {
        needs_restart(&self.config, &new)?;
        let mut changed = Vec::new();
        for (what, differs) in [
            ("allow-uid", self.config.allow_uid != new.allow_uid),
            ("log filter", self.config.log != new.log),
            ("site", self.config.site != new.site),
        ] {
            if differs {
                changed.push(what.to_owned());
            }
        }
        self.config.text = new.text;
        self.config.agents = new.agents;
        self.config.allow_uid = new.allow_uid;
        self.config.join_uid = new.join_uid;
        self.config.log = new.log;
        if new.site.is_some() {
            self.site.clone_from(&new.site);
        }
        self.config.site = new.site;
        let of_resources = self.take_resources(new.resources);
        if !of_resources.is_empty() {
            self.tell_of_reload();
        }
        changed.extend(of_resources);
        Ok(changed)
    }

    fn take_resources(&mut self, new: BTreeMap<Name, Resource>) -> Vec<String> {
        let gone = self.config.resources.keys().filter(|name| !new.contains_key(*name));
        // What an earlier reload has left to come is no longer wanted, unless this one says so too.
        self.coming = gone.map(|name| (name.clone(), Coming::Gone)).collect();
        let mut changed = Vec::new();
        for (name, resource) in new {
            let Some(current) = self.config.resources.get_mut(&name) else {
                self.coming.insert(name, Coming::New(Box::new(resource)));
                continue;
            };
            let programs =
                |resource: &Resource| [&resource.start, &resource.stop, &resource.status].map(Option::clone);
            if programs(current) != programs(&resource) {
                (current.start, current.stop, current.status) =
                    (resource.start, resource.stop, resource.status);
                changed.push(format!("programs of {name}"));
            }
            if current.join != resource.join {
                current.join = resource.join;
                changed.push(format!("join of {name}"));
            }
            if current.plan != resource.plan {
                self.coming.insert(name, Coming::Plan(resource.plan));
            }
        }
        changed.extend(self.take_up());
        raise_open_files(&self.config);
        for (name, coming) in &self.coming {
            changed.push(match coming {
                Coming::New(_) => format!("resource {name} is new {ONCE_IDLE}"),
                Coming::Gone => format!("resource {name} is gone once its tenure is over and fenced"),
                Coming::Plan(_) if self.is_unarmed(name) => format!("plan of {name} {ONCE_IDLE}"),
                Coming::Plan(_) => format!("plan of {name} once its tenure is over"),
            });
        }
        changed
    }

    fn is_unarmed(&self, name: &Name) -> bool {
        self.deadman.view(name).is_some_and(|view| view.state == State::Unarmed)
    }

    fn add(&mut self, name: &Name, resource: Resource) {
        let schedule = resource.plan.schedule(self.config.kill_within);
        self.deadman.add(name.clone(), schedule, self.forgotten.remove(name));
        self.config.resources.insert(name.clone(), resource);
    }

    /// After each turn: whether what had to wait still has to.
    pub(super) fn take_up_what_comes(&mut self) {
        if self.coming.is_empty() {
            return;
        }
        let taken = self.take_up();
        if !taken.is_empty() {
            raise_open_files(&self.config);
            info!(changed = taken.join(", "), "what the last reload had left to come is in force");
            self.tell_of_reload();
        }
    }

    fn take_up(&mut self) -> Vec<String> {
        let mut taken = Vec::new();
        let mut bound = self.bound();
        for (name, coming) in std::mem::take(&mut self.coming) {
            match self.take_up_one(&name, coming, &mut bound) {
                Ok(what) => taken.push(what),
                Err(coming) => drop(self.coming.insert(name, coming)),
            }
        }
        taken
    }

    /// What is in force now, or the same again if it has to wait.
    fn take_up_one(&mut self, name: &Name, coming: Coming, bound: &mut Bound) -> Result<String, Coming> {
        match coming {
            Coming::New(resource) => {
                if !self.keeps(bound, &resource.plan, 1) {
                    return Err(Coming::New(resource));
                }
                self.add(name, *resource);
                bound.add();
                Ok(format!("resource {name} is new"))
            }
            Coming::Gone => {
                let Ok(receipt) = self.deadman.remove(name) else { return Err(coming) };
                self.config.resources.remove(name);
                self.forgotten.extend(receipt.map(|receipt| (name.clone(), receipt)));
                Ok(format!("resource {name} is gone"))
            }
            Coming::Plan(plan) => {
                // Another plan for what no plan has fenced is better than to keep to any time.
                let keeps = !self.is_unarmed(name) || self.keeps(bound, &plan, 0);
                let kill_within = self.config.kill_within;
                let Some(current) = self.config.resources.get_mut(name) else {
                    return Ok(format!("resource {name} is gone"));
                };
                let armed_too =
                    plan.within(kill_within) <= current.plan.within(kill_within) || is_removed(&current.plan);
                if !keeps || self.deadman.reschedule(name, &plan.schedule(kill_within), armed_too).is_err() {
                    return Err(Coming::Plan(plan));
                }
                current.plan = plan;
                Ok(format!("plan of {name}"))
            }
        }
    }

    /// Those who watch learn what can be armed now, and how long fencing it takes.
    fn tell_of_reload(&mut self) {
        match reloaded_line(&self.status()) {
            Ok(line) => self.tell_watchers(&line),
            Err(error) => warn!("cannot tell clients of the reload: {error}"),
        }
    }
}

/// Until when waits what would raise the time in which all can be fenced.
const ONCE_IDLE: &str = "once nothing is armed, since fencing all would take longer";

/// The plan that stands for one that nobody knows: anything is better.
fn is_removed(plan: &Plan) -> bool {
    plan.levels.iter().any(|level| level.driver == Driver::Removed)
}

/// Refuses what a running daemon cannot change, or what would make every fence at once take longer than was counted with.
fn needs_restart(old: &Config, new: &Config) -> Result<(), String> {
    let differs = [
        ("state-dir", old.state_dir != new.state_dir),
        ("runtime-dir", old.runtime_dir != new.runtime_dir),
        ("socket", old.socket != new.socket),
        ("concurrency", old.concurrency != new.concurrency),
        ("kill-within", old.kill_within != new.kill_within),
        ("status-every", old.status_every != new.status_every),
        ("containment or cgroup-parent", old.containment != new.containment),
        ("watchdog", old.watchdog != new.watchdog),
        ("log format", old.log.format != new.log.format),
    ];
    let what: Vec<&str> = differs.iter().filter(|(_, differs)| *differs).map(|(what, _)| *what).collect();
    if what.is_empty() {
        return Ok(());
    }
    Err(format!(
        "error: a reload cannot change: {}\nhint: restart sitegate-fenced; that fences nothing",
        what.join(", ")
    ))
}
