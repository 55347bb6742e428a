//! `sitegate check`: whether a configuration is right, and what its times mean, without asking any daemon.
//!
//! A file that cannot be loaded is a [`ConfigError`] with everything that is wrong. Otherwise a [`Checked`] says, for every
//! ticket, how the inequalities of `docs/protocol.md` come out and how long a failover takes at most; what breaks a promise
//! is in [`Checked::problems`], what merely deserves a look in [`Checked::warnings`].

use std::path::Path;
use std::time::Duration;

use sitegate_fence::config::Config as FenceConfig;
use sitegate_fence::systemd;
use sitegate_fence_client::wire::Name;
use sitegate_host::diagnostic::{ConfigError, Problems, Source};
use sitegate_host::spawn::inspect;
use sitegate_member::config::timing::{self, FencingBudget, RenewalBudget};
use sitegate_member::config::{
    FORMATION_FILE, Formation, FormationDigest, Local, MEMBER_FILE, Role, Takeover, Terms, TicketName,
};
use sitegate_member::tls::{MemberTls, Standing};

mod checked;
mod render;

use checked::millis;
pub use checked::{Checked, CheckedFencing, CheckedRenewal, CheckedTicket};

/// The fence daemon's file beside the two others.
const FENCED_FILE: &str = "fenced.toml";

/// Checks the files in `directory`: formation.toml, and member.toml and fenced.toml if they are there. The error holds
/// everything that is wrong with any of them.
pub fn check(directory: &Path) -> Result<Checked, ConfigError> {
    let mut found = Problems::new();
    let formation = Source::read(&directory.join(FORMATION_FILE)).and_then(|file| Formation::parse(&file));
    let formation = found.take(formation);
    let local =
        found.take(if_there(&directory.join(MEMBER_FILE), |file| Local::parse(file, formation.as_ref())));
    let fence = found.take(if_there(&directory.join(FENCED_FILE), FenceConfig::from_source));
    match (formation, local, fence) {
        (Some(formation), Some(local), Some(fence)) => {
            found.finish(Some(Host { formation, local, fence }.check()))
        }
        _ => found.finish(None),
    }
}

/// The same on the host itself, where systemd can tell of the units that tickets gate. It is waited for, but not for long.
pub fn check_host(directory: &Path) -> Result<Checked, ConfigError> {
    let mut checked = check(directory)?;
    let fence = if_there(&directory.join(FENCED_FILE), FenceConfig::from_source)?;
    checked.warnings.extend(fence.iter().flat_map(systemd::check::warnings));
    Ok(checked)
}

fn if_there<T>(
    file: &Path,
    parse: impl FnOnce(&Source) -> Result<T, ConfigError>,
) -> Result<Option<T>, ConfigError> {
    if file.exists() { Source::read(file).and_then(|source| parse(&source)).map(Some) } else { Ok(None) }
}

/// What was loaded for one host.
struct Host {
    formation: Formation,
    local: Option<Local>,
    fence: Option<FenceConfig>,
}

impl Host {
    fn check(&self) -> Checked {
        let formation = &self.formation;
        let mut checked = Checked {
            formation: formation.name.to_string(),
            digest: FormationDigest::of(formation).to_string(),
            members: formation.members.len(),
            majority: formation.majority(),
            me: self.local.as_ref().map(|local| local.name.to_string()),
            heartbeat_ms: millis(formation.heartbeat),
            rtt_max_ms: millis(formation.rtt_max),
            max_clock_drift_ppm: formation.max_clock_drift.ppm(),
            recovery_wait_ms: millis(formation.recovery_wait),
            tickets: formation.tickets.iter().map(|(name, terms)| self.ticket(name, terms)).collect(),
            problems: Vec::new(),
            warnings: self.shape_warnings(),
        };
        self.check_fencing(&mut checked);
        checked.warnings.extend(self.program_warnings());
        checked.warnings.extend(self.certificate_warnings());
        checked
    }

    fn ticket(&self, name: &TicketName, terms: &Terms) -> CheckedTicket {
        let formation = &self.formation;
        let (expire, acquire_after) = (terms.expire, terms.acquire_after);
        let (rtt_max, drift) = (formation.rtt_max, formation.max_clock_drift);
        let renewal = RenewalBudget::new(expire, formation.heartbeat, rtt_max, drift);
        let failover = |rank: usize| {
            let rank = u32::try_from(rank).unwrap_or(u32::MAX);
            millis(timing::failover_max(expire, acquire_after, rank, rtt_max, drift))
        };
        let timed = terms.takeover == Takeover::Timed;
        CheckedTicket {
            name: name.to_string(),
            expire_ms: millis(expire),
            acquire_after_ms: millis(acquire_after),
            takeover: terms.takeover.to_string(),
            order: terms.order.iter().map(ToString::to_string).collect(),
            renewal: CheckedRenewal {
                needed_ms: millis(renewal.needed),
                available_ms: millis(renewal.available),
                lost_heartbeats: renewal.survives.unwrap_or(0),
            },
            fencing: self.plan_worst_case(name).map(|plan| {
                let budget = FencingBudget::new(acquire_after, plan, drift);
                CheckedFencing {
                    plan_ms: millis(plan),
                    needed_ms: millis(budget.needed),
                    available_ms: millis(budget.available),
                    acquire_after_min_ms: millis(budget.acquire_after_min),
                    holds: budget.holds(),
                }
            }),
            failover_ms: timed.then(|| failover(0)),
            failover_last_ms: timed.then(|| failover(terms.order.len().saturating_sub(1))),
            deaf_failover_ms: timed.then(|| millis(timing::deaf_failover_max(expire, acquire_after))),
        }
    }

    /// The longest that fencing takes if all tickets are lost at once; none without a plan for this one.
    fn plan_worst_case(&self, ticket: &TicketName) -> Option<Duration> {
        let fence = self.fence.as_ref()?;
        let resource = fence.resources.get(&Name::new(ticket.as_str()).ok()?)?;
        // As long as every plan has its turn at once, none waits for another.
        if fence.resources.len() <= fence.concurrency.get() {
            Some(resource.plan.within(fence.kill_within))
        } else {
            Some(fence.all_fenced_within(None))
        }
    }

    /// Inequality 2, and that every ticket has a plan and every plan a ticket.
    fn check_fencing(&self, checked: &mut Checked) {
        for ticket in checked.tickets.iter().filter(|ticket| ticket.takeover == "timed") {
            if let Some(fencing) = ticket.fencing.as_ref().filter(|fencing| !fencing.holds) {
                checked.problems.push(render::fence_too_long(ticket, fencing));
            }
        }
        let Some(fence) = &self.fence else {
            if self.my_role() == Some(Role::Site) {
                checked.warnings.push(format!(
                    "no {FENCED_FILE} here: nothing says how this site fences, and inequality 2 was not checked"
                ));
            }
            return;
        };
        if self.my_role() == Some(Role::Arbitrator) {
            checked.warnings.push(format!("{FENCED_FILE} is of no use on an arbitrator"));
            return;
        }
        for ticket in checked.tickets.iter().filter(|ticket| ticket.fencing.is_none()) {
            let name = &ticket.name;
            checked.problems.push(format!(
                "ticket {name}: {FENCED_FILE} has no [resource.{name}], so this site could not fence it and never acquires it"
            ));
        }
        for name in fence.resources.keys() {
            let ticket = name.as_str().parse::<TicketName>();
            if !ticket.is_ok_and(|ticket| self.formation.tickets.contains_key(&ticket)) {
                let warning =
                    format!("[resource.{name}] of {FENCED_FILE} belongs to no ticket of the formation");
                checked.warnings.push(warning);
            }
        }
    }

    fn my_role(&self) -> Option<Role> {
        let local = self.local.as_ref()?;
        self.formation.member(&local.name).map(|me| me.role)
    }

    fn shape_warnings(&self) -> Vec<String> {
        let formation = &self.formation;
        let members = formation.members.len();
        let mut warnings = Vec::new();
        if members == 2 {
            warnings.push(
                "2 members are a majority only together: when either fails, the other loses its tickets; \
                 add an arbitrator"
                    .to_owned(),
            );
        } else if members.is_multiple_of(2) {
            let survives = members - formation.majority();
            warnings.push(format!(
                "{members} members survive the loss of {survives}, as {} do; one more would make it {}",
                members - 1,
                survives + 1
            ));
        }
        if formation.sites().count() == 1 {
            warnings.push("there is only one site, so no ticket can fail over".to_owned());
        }
        if formation.tickets.is_empty() {
            warnings.push(format!("{FORMATION_FILE} has no [ticket.…], so there is nothing to grant"));
        }
        warnings
    }

    /// Programs that could not run here. Elsewhere than on the host itself, that means nothing.
    fn program_warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        for (name, ticket) in self.local.iter().flat_map(|local| &local.tickets) {
            let check = ticket.check.as_ref().map(|check| &check.hook);
            for hook in ticket.before_acquire.iter().chain(check) {
                let program = Path::new(&hook.command[0]);
                warnings.extend(inspect(program).err().map(|error| format!("ticket {name}: {error}")));
            }
        }
        let fence = self.fence.iter().flat_map(FenceConfig::unusable_programs);
        warnings.extend(fence.map(|(name, error)| format!("resource {name}: {error}")));
        warnings
    }

    fn certificate_warnings(&self) -> Vec<String> {
        let Some(local) = &self.local else { return Vec::new() };
        match MemberTls::load(&local.tls, &self.formation, &local.name) {
            Err(error) => error.diagnostics().iter().map(render::in_one_line).collect(),
            Ok(tls) => {
                let now = std::time::SystemTime::now();
                let reports = tls.credentials.reports().iter();
                let due = reports.filter(|report| report.validity.standing(now) != Standing::Valid);
                due.map(|report| {
                    format!(
                        "the certificate of {} has {} days left",
                        report.subject,
                        report.validity.days_left(now)
                    )
                })
                .collect()
            }
        }
    }
}
