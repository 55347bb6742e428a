//! `fenced.toml` as it is written, and the checks that turn it into [`Config`].

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use sitegate_fence_client::wire::Name;
use sitegate_host::diagnostic::{ConfigError, Diagnostic, Period, Problems, Source, Spanned};

use super::{
    Config, ContainmentChoice, DEFAULT_CONCURRENCY, DEFAULT_KILL_WITHIN, DEFAULT_LOG_FILTER,
    DEFAULT_RUNTIME_DIR, DEFAULT_STATE_DIR, DEFAULT_STATUS_EVERY, Log, LogFormat, Resource, SOCKET_NAME,
    SOCKET_PATH_BYTES_MAX, Watchdog,
};
use tracing_subscriber::EnvFilter;

use crate::agent::Places;
use crate::plan::{Level, Plan};

mod agent;
mod hook;
mod join;
pub(super) mod level;

use hook::RawHook;
use join::RawJoin;
use level::RawLevel;

const DEFAULT_WATCHDOG: &str = "/dev/watchdog";
/// Shorter, and a daemon that pets it every fourth of it has no time to be busy.
const WATCHDOG_TIMEOUT_MIN: Duration = Duration::from_secs(2);

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawConfig {
    state_dir: Option<PathBuf>,
    runtime_dir: Option<PathBuf>,
    socket: Option<Spanned<PathBuf>>,
    site: Option<Name>,
    concurrency: Option<NonZeroUsize>,
    kill_within: Option<Spanned<Period>>,
    status_every: Option<Spanned<Period>>,
    #[serde(default)]
    allow_uid: Vec<u32>,
    containment: Option<Spanned<RawContainment>>,
    cgroup_parent: Option<Spanned<PathBuf>>,
    watchdog: Option<RawWatchdog>,
    #[serde(default)]
    log: RawLog,
    #[serde(default)]
    resource: BTreeMap<Name, Spanned<RawResource>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawLog {
    #[serde(default)]
    format: LogFormat,
    filter: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawWatchdog {
    device: Option<PathBuf>,
    timeout: Spanned<Period>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum RawContainment {
    Auto,
    Cgroup,
    Tree,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawResource {
    start: Option<RawHook>,
    stop: Option<RawHook>,
    status: Option<RawHook>,
    join: Option<Spanned<RawJoin>>,
    fence: Spanned<Vec<Spanned<RawLevel>>>,
    unfenced: Option<Spanned<bool>>,
    last_level_may_fail: Option<Spanned<bool>>,
}

/// Checks what the types alone cannot.
pub(super) fn check(source: &Source, raw: RawConfig) -> Result<Config, ConfigError> {
    let mut check = Check { source, problems: Problems::new(), watchdog: None, agents: Vec::new() };
    let base = source.file().parent().unwrap_or(Path::new(""));
    let state_dir = base.join(raw.state_dir.unwrap_or_else(|| DEFAULT_STATE_DIR.into()));
    let runtime_dir = base.join(raw.runtime_dir.unwrap_or_else(|| DEFAULT_RUNTIME_DIR.into()));
    let socket = check.socket(base, raw.socket, runtime_dir.join(SOCKET_NAME));
    let log = check.log(raw.log);
    let watchdog = raw.watchdog.map(|raw| check.watchdog(base, raw));
    check.watchdog.clone_from(&watchdog);
    let kill_within = raw.kill_within.map_or(DEFAULT_KILL_WITHIN, |within| check.limit(&within));
    let status_every = raw.status_every.map_or(DEFAULT_STATUS_EVERY, |every| check.status_every(&every));
    let containment = check.containment(raw.containment, raw.cgroup_parent);
    if raw.resource.is_empty() {
        let nothing = Diagnostic::of_file(source.file(), "no resource: there is nothing to fence");
        check.problems.add(nothing.hint("add a [resource.NAME] for each ticket that this site may hold"));
    }
    let resources = raw.resource.into_iter();
    let resources: BTreeMap<Name, Resource> =
        resources.map(|(name, raw)| (name.clone(), check.resource(&name, raw))).collect();
    let config = Config {
        state_dir,
        runtime_dir,
        socket,
        site: raw.site,
        concurrency: raw.concurrency.unwrap_or(DEFAULT_CONCURRENCY),
        kill_within,
        allow_uid: raw.allow_uid,
        join_uid: join::users(&resources),
        status_every,
        containment,
        watchdog,
        log,
        resources,
        agents: check.agents,
        text: source.text().to_owned(),
    };
    check.problems.finish(Some(config))
}

struct Check<'a> {
    source: &'a Source,
    problems: Problems,
    /// What levels that rely on it are held against.
    watchdog: Option<Watchdog>,
    agents: Vec<Places>,
}

impl Check<'_> {
    fn problem(&mut self, span: Range<usize>, cause: impl Into<String>, hint: impl Into<String>) {
        self.problems.add(Diagnostic::at(self.source, span, cause).hint(hint));
    }

    fn socket(&mut self, base: &Path, written: Option<Spanned<PathBuf>>, default: PathBuf) -> PathBuf {
        let at = written.as_ref().map(Spanned::span);
        let socket = written.map_or(default, |written| base.join(written.into_inner()));
        let length = socket.as_os_str().len();
        if length > SOCKET_PATH_BYTES_MAX {
            let cause = format!(
                "{} is {length} bytes long; the path of a socket has at most {SOCKET_PATH_BYTES_MAX}",
                socket.display()
            );
            let diagnostic = match at {
                Some(at) => Diagnostic::at(self.source, at, cause),
                None => Diagnostic::of_file(self.source.file(), cause),
            };
            self.problems.add(diagnostic.hint("set `socket` to a shorter path, in /run say"));
        }
        socket
    }

    fn log(&mut self, raw: RawLog) -> Log {
        if let Some(filter) = &raw.filter
            && let Err(error) = EnvFilter::builder().parse(filter.get_ref())
        {
            let hint = "write a level (error, warn, info, debug, trace), or per module as in \"info,sitegate_fence=debug\"";
            self.problem(filter.span(), format!("not a log filter: {error}"), hint);
        }
        let filter = raw.filter.map_or_else(|| DEFAULT_LOG_FILTER.to_owned(), Spanned::into_inner);
        Log { format: raw.format, filter }
    }

    fn watchdog(&mut self, base: &Path, raw: RawWatchdog) -> Watchdog {
        let timeout = raw.timeout.get_ref().get();
        if timeout < WATCHDOG_TIMEOUT_MIN || timeout.subsec_nanos() != 0 {
            let cause = "a watchdog's time-out is a number of whole seconds, at least 2";
            self.problem(raw.timeout.span(), cause, "write one that the device takes, such as \"10s\"");
        }
        let device = raw.device.unwrap_or_else(|| DEFAULT_WATCHDOG.into());
        Watchdog { device: base.join(device), timeout }
    }

    fn status_every(&mut self, every: &Spanned<Period>) -> Duration {
        const LEAST: Duration = Duration::from_secs(1);
        if every.get_ref().get() < LEAST {
            let cause = "programs that look whether something runs would be started all the time";
            self.problem(every.span(), cause, "write one second or more");
        }
        every.get_ref().get()
    }

    fn limit(&mut self, within: &Spanned<Period>) -> Duration {
        if within.get_ref().get().is_zero() {
            self.problem(
                within.span(),
                "a time limit of 0 leaves no time at all",
                "write how long it may take",
            );
        }
        within.get_ref().get()
    }

    fn containment(
        &mut self,
        choice: Option<Spanned<RawContainment>>,
        parent: Option<Spanned<PathBuf>>,
    ) -> ContainmentChoice {
        let parent_at = parent.as_ref().map(Spanned::span);
        let parent = parent.map(|parent| self.cgroup(parent));
        match (choice.map(Spanned::into_inner), parent) {
            (None | Some(RawContainment::Cgroup), Some(parent)) => ContainmentChoice::Cgroup(Some(parent)),
            (Some(RawContainment::Cgroup), None) => ContainmentChoice::Cgroup(None),
            (None | Some(RawContainment::Auto), None) => ContainmentChoice::Auto,
            (Some(RawContainment::Tree), None) => ContainmentChoice::Tree,
            (Some(RawContainment::Auto | RawContainment::Tree), Some(_)) => {
                let hint = "remove it, or write containment = \"cgroup\"";
                self.problem(parent_at.unwrap_or_default(), "`cgroup-parent` without control groups", hint);
                ContainmentChoice::Tree
            }
        }
    }

    fn cgroup(&mut self, parent: Spanned<PathBuf>) -> PathBuf {
        if !parent.get_ref().is_absolute() {
            let cause = format!("\"{}\" is no absolute path", parent.get_ref().display());
            self.problem(parent.span(), cause, "write it from / on, as in \"/sys/fs/cgroup/sitegate\"");
        }
        parent.into_inner()
    }

    fn resource(&mut self, name: &Name, raw: Spanned<RawResource>) -> Resource {
        let raw = raw.into_inner();
        let fence_at = raw.fence.span();
        let written = (1..).zip(raw.fence.into_inner());
        let levels: Vec<(Range<usize>, Level)> =
            written.filter_map(|(n, l)| Some((l.span(), self.level((name, n), l)?))).collect();
        let unfenced = raw.unfenced.as_ref().is_some_and(|u| *u.get_ref());
        match (levels.last(), raw.unfenced) {
            (None, _) if !unfenced => self.problem(
                fence_at,
                "an empty `fence`: when the ticket is lost, only the resource's own processes are killed",
                "add a level, or say that this is meant with unfenced = true",
            ),
            (Some(_), Some(says)) if unfenced => {
                self.problem(says.span(), "`unfenced` with fence levels", "remove one of the two");
            }
            (Some((at, last)), _) => self.last_level(at.clone(), last, raw.last_level_may_fail.as_ref()),
            (None, _) => {}
        }
        let plan = Plan { levels: levels.into_iter().map(|(_, level)| level).collect() };
        let start = raw.start.map(|hook| self.start(hook, &plan));
        let (stop, status) = (raw.stop.map(|hook| self.hook(hook)), raw.status.map(|hook| self.hook(hook)));
        let join = raw.join.map(|join| self.join(join));
        Resource { start, stop, status, join, plan }
    }

    /// When the last level fails too, the other site acquires all the same, and both run.
    fn last_level(&mut self, at: Range<usize>, last: &Level, may_fail: Option<&Spanned<bool>>) {
        if last.driver.certain() || may_fail.is_some_and(|may| *may.get_ref()) {
            return;
        }
        let cause = format!(
            "the last level, driver \"{}\", can fail, and then nothing is left to try",
            last.driver.name()
        );
        let hint = "end the list with { driver = \"reboot\" }, or set last-level-may-fail = true if the ticket's takeover is \
                    \"confirmed\" or you accept that both sites may run";
        self.problem(at, cause, hint);
    }
}
