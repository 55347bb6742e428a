//! `formation.toml`: what all members share.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU8;
use std::time::Duration;

use serde::Deserialize;
use sitegate_host::diagnostic::{ConfigError, Diagnostic, Period, Problems, Source, Spanned};

use super::terms::{Setting, TermsEntry};
use super::{Address, ClockDrift, FormationName, MemberName, Terms, TicketName, timing};

/// The fewest members: one alone has nobody to agree with.
pub const MEMBERS_MIN: usize = 2;
/// The most members: with more, every commit waits for a larger majority and gains nothing.
pub const MEMBERS_MAX: usize = 15;
/// The most tickets: as many as failover was measured with.
pub const TICKETS_MAX: usize = 10_000;

const HEARTBEAT_DEFAULT: Period = Period::from_secs(1);
const HEARTBEAT_RANGE: (Period, Period) = (Period::from_millis(50), Period::from_secs(60));
const RTT_MAX_DEFAULT: Period = Period::from_millis(250);
const RTT_MAX_RANGE: (Period, Period) = (Period::from_millis(1), Period::from_secs(10));
/// Where no ticket says how long recovery must wait at least.
const RECOVERY_WAIT_WITHOUT_TICKETS: Duration = Duration::from_secs(120);

/// The whole: the members, how they keep time, and the tickets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Formation {
    /// Its name, which certificates carry too.
    pub name: FormationName,
    /// P: how often a site tells every member that it lives.
    pub heartbeat: Duration,
    /// ρ: how wrong clocks may run.
    pub max_clock_drift: ClockDrift,
    /// The longest round trip between two members that counts as healthy.
    pub rtt_max: Duration,
    /// How long a member whose disk may be old waits for witnesses before it trusts its disk; at least the longest guard.
    pub recovery_wait: Duration,
    /// Whether it ever trusts its disk.
    pub trust_disk: bool,
    /// The voters, 2 to 15, at least one of them a site, by ascending id.
    pub members: Vec<Member>,
    /// The tickets.
    pub tickets: BTreeMap<TicketName, Terms>,
}

/// One voter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its number, never reused for another member.
    pub id: NonZeroU8,
    /// Its name, which its certificate carries too.
    pub name: MemberName,
    /// What it does.
    pub role: Role,
    /// Where it can be reached, at least one, in the order in which to try.
    pub addresses: Vec<Address>,
}

/// What a member does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Votes, and may hold tickets.
    Site,
    /// Votes, and never holds.
    Arbitrator,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Site => "site",
            Self::Arbitrator => "arbitrator",
        })
    }
}

impl Formation {
    /// Reads and checks a formation file, of which the error says everything that is wrong.
    pub fn parse(source: &Source) -> Result<Self, ConfigError> {
        source.parse::<FormationFile>()?.resolve(source)
    }

    /// The member of that name.
    pub fn member(&self, name: &MemberName) -> Option<&Member> {
        self.members.iter().find(|member| member.name == *name)
    }

    /// The members that may hold tickets.
    pub fn sites(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| member.role == Role::Site)
    }

    /// How many members are a majority.
    pub fn majority(&self) -> usize {
        self.members.len() / 2 + 1
    }
}

/// The file as written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct FormationFile {
    formation: FormationName,
    heartbeat: Option<Spanned<Period>>,
    max_clock_drift: Option<ClockDrift>,
    rtt_max: Option<Spanned<Period>>,
    recovery_wait: Option<Spanned<Period>>,
    trust_disk: Option<bool>,
    #[serde(default)]
    member: Vec<MemberEntry>,
    #[serde(default)]
    ticket_defaults: TermsEntry,
    #[serde(default)]
    ticket: BTreeMap<Spanned<TicketName>, TermsEntry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct MemberEntry {
    id: Spanned<NonZeroU8>,
    name: Spanned<MemberName>,
    role: Role,
    address: Spanned<Vec<Spanned<Address>>>,
}

impl FormationFile {
    fn resolve(self, source: &Source) -> Result<Formation, ConfigError> {
        let mut problems = Problems::new();
        let members = resolve_members(&self.member, source, &mut problems);
        let setting = Setting {
            source,
            members: &members,
            heartbeat: in_range(self.heartbeat, HEARTBEAT_DEFAULT, HEARTBEAT_RANGE, source, &mut problems),
            rtt_max: in_range(self.rtt_max, RTT_MAX_DEFAULT, RTT_MAX_RANGE, source, &mut problems),
            drift: self.max_clock_drift.unwrap_or(ClockDrift::DEFAULT),
        };
        if self.ticket.len() > TICKETS_MAX {
            let cause = format!("{} tickets, but at most {TICKETS_MAX} are possible", self.ticket.len());
            let hint = "let one ticket gate what always moves together";
            problems.add(Diagnostic::of_file(source.file(), cause).hint(hint));
        }
        let mut tickets = BTreeMap::new();
        for (name, entry) in &self.ticket {
            let (at, name) = (name.span(), name.get_ref());
            let terms = entry.resolve(name, at, &self.ticket_defaults, &setting, &mut problems);
            tickets.extend(terms.map(|terms| (name.clone(), terms)));
        }
        let recovery_wait =
            resolve_recovery_wait(self.recovery_wait.as_ref(), &tickets, &setting, &mut problems);
        let Setting { heartbeat, rtt_max, drift, .. } = setting;
        problems.finish(Some(Formation {
            name: self.formation,
            heartbeat,
            max_clock_drift: drift,
            rtt_max,
            recovery_wait,
            trust_disk: self.trust_disk.unwrap_or(true),
            members,
            tickets,
        }))
    }
}

fn in_range(
    written: Option<Spanned<Period>>,
    default: Period,
    (least, most): (Period, Period),
    source: &Source,
    problems: &mut Problems,
) -> Duration {
    let Some(written) = written else { return default.get() };
    let period = *written.get_ref();
    if period < least || period > most {
        let cause = format!("{period} is out of range here");
        let hint = format!("write {least} to {most}; the default is {default}");
        problems.add(Diagnostic::at(source, written.span(), cause).hint(hint));
    }
    period.get()
}

fn resolve_members(entries: &[MemberEntry], source: &Source, problems: &mut Problems) -> Vec<Member> {
    let file = |cause: String| Diagnostic::of_file(source.file(), cause);
    if entries.len() < MEMBERS_MIN {
        let cause =
            format!("{} [[member]]: no majority is possible without at least {MEMBERS_MIN}", entries.len());
        problems
            .add(file(cause).hint("list every site and arbitrator; three members survive the loss of one"));
    }
    if entries.len() > MEMBERS_MAX {
        let cause = format!("{} [[member]], but at most {MEMBERS_MAX} are possible", entries.len());
        problems.add(file(cause).hint("remove some; five members already survive the loss of two"));
    }
    if !entries.is_empty() && !entries.iter().any(|entry| entry.role == Role::Site) {
        let cause = "no member is a site, so nobody could ever hold a ticket".to_owned();
        problems.add(file(cause).hint("give the members that run resources `role = \"site\"`"));
    }
    let mut members: Vec<Member> = Vec::new();
    for entry in entries {
        for problem in entry.clashes(&members, source) {
            problems.add(problem);
        }
        members.push(entry.resolve(source, problems));
    }
    members.sort_by_key(|member| member.id);
    members
}

impl MemberEntry {
    fn resolve(&self, source: &Source, problems: &mut Problems) -> Member {
        let addresses = self.address.get_ref();
        if addresses.is_empty() {
            let cause = format!("member `{}` has no address", self.name.get_ref());
            let hint = "write at least one name or address at which the other members reach it";
            problems.add(Diagnostic::at(source, self.address.span(), cause).hint(hint));
        }
        Member {
            id: *self.id.get_ref(),
            name: self.name.get_ref().clone(),
            role: self.role,
            addresses: addresses.iter().map(|address| address.get_ref().clone()).collect(),
        }
    }

    /// What this member shares with those before it, or twice with itself.
    fn clashes(&self, before: &[Member], source: &Source) -> Vec<Diagnostic> {
        let mut clashes = Vec::new();
        if let Some(other) = before.iter().find(|other| other.id == *self.id.get_ref()) {
            let cause = format!("`{}` has the id {} already", other.name, other.id);
            let hint = "give every member an id of its own, which no other member ever had";
            clashes.push(Diagnostic::at(source, self.id.span(), cause).hint(hint));
        }
        let name = self.name.get_ref();
        if let Some(other) = before.iter().find(|other| other.name == *name) {
            let cause = format!("the member with id {} is named `{name}` already", other.id);
            clashes.push(
                Diagnostic::at(source, self.name.span(), cause).hint("give every member a name of its own"),
            );
        }
        let addresses = self.address.get_ref();
        for (index, address) in addresses.iter().enumerate() {
            let other = before.iter().find(|other| other.addresses.contains(address.get_ref()));
            let twice = addresses[..index].contains(address);
            let owner = other.map(|other| &other.name).or(twice.then_some(name));
            if let Some(owner) = owner {
                let cause = format!("{} is an address of `{owner}` already", address.get_ref());
                let hint = "give every address once; members on one machine need different ports";
                clashes.push(Diagnostic::at(source, address.span(), cause).hint(hint));
            }
        }
        clashes
    }
}

/// At least the longest guard: until then, what a recovering member promised before may still be in force.
fn resolve_recovery_wait(
    written: Option<&Spanned<Period>>,
    tickets: &BTreeMap<TicketName, Terms>,
    setting: &Setting<'_>,
    problems: &mut Problems,
) -> Duration {
    let guards =
        tickets.values().map(|terms| timing::guard(terms.expire, terms.acquire_after, setting.drift));
    let longest_guard = guards.max().map(whole_seconds);
    let Some(written) = written else {
        return longest_guard.unwrap_or(RECOVERY_WAIT_WITHOUT_TICKETS);
    };
    let wait = written.get_ref().get();
    if let Some(least) = longest_guard.filter(|least| wait < *least) {
        let cause = format!(
            "recovery-wait is shorter than the longest guard of a ticket, (expire + acquire-after)·(1+ρ) = {least:?}"
        );
        let hint = format!("write \"{}s\" or more, or leave it out", least.as_secs());
        problems.add(Diagnostic::at(setting.source, written.span(), cause).hint(hint));
    }
    wait
}

fn whole_seconds(length: Duration) -> Duration {
    Duration::from_secs(length.as_secs() + u64::from(length.subsec_nanos() > 0))
}
