//! `sitegate pki`: the commands, and what they print.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use clap::{Args, Subcommand};
use sitegate_host::diagnostic::Source;
use sitegate_member::config::{Formation, MemberName, PersonName};
use sitegate_member::tls::Principal;

use super::authority::Authority;
use super::days::{DAYS_MAX, MEMBER_DAYS, PERSON_DAYS};
use super::error::PkiError;
use super::pack::{FormationCertificates, Pack, usual_days};
use super::show::{self, rfc3339};

/// The commands of `sitegate pki`.
#[derive(Debug, Subcommand)]
pub enum PkiCommand {
    /// Make a CA, and a certificate for every member and one operator
    #[command(long_about = INIT_ABOUT, after_long_help = INIT_EXAMPLES)]
    Init(InitArgs),
    /// Make a certificate for one more member, operator or viewer
    #[command(long_about = ISSUE_ABOUT, after_long_help = ISSUE_EXAMPLES)]
    Issue(IssueArgs),
    /// Replace certificates by new ones with the same names
    #[command(long_about = RENEW_ABOUT, after_long_help = RENEW_EXAMPLES)]
    Renew(RenewArgs),
    /// Make certificates count no more
    #[command(long_about = REVOKE_ABOUT, after_long_help = REVOKE_EXAMPLES)]
    Revoke(RevokeArgs),
    /// Show whose they are, how long they are valid, and whether keys fit
    #[command(after_long_help = SHOW_EXAMPLES)]
    Show(ShowArgs),
}

const INIT_ABOUT: &str = "\
Make a CA, and a certificate for every member and one operator

Reads the names from the formation file and makes, in one directory, `ca/` with the key of the CA, and for everybody a \
pack of three files: ca.pem, NAME.pem and NAME.key. Copy each pack to /etc/sitegate/pki/ of its host, then move `ca/` to \
where you keep such keys: whoever has it can be anybody in this formation. No member needs it.";

const INIT_EXAMPLES: &str = "\
Examples:
  sitegate pki init --formation /etc/sitegate/formation.toml --out pki
  sitegate pki init --formation formation.toml --operator alice --operator bob";

const ISSUE_ABOUT: &str = "\
Make a certificate for one more member, operator or viewer

Operators may give commands from afar, viewers may only look; neither is needed on a member's own host. The pack goes \
beside the others. A member must also stand in formation.toml to get in.";

const ISSUE_EXAMPLES: &str = "\
Examples:
  sitegate pki issue --pki pki --operator alice
  sitegate pki issue --pki pki --viewer grafana --days 90
  sitegate pki issue --pki pki --member rome";

const RENEW_ABOUT: &str = "\
Replace certificates by new ones with the same names

Makes a new key too, unless --keep-key. What was there stays beside it as .old. Copy the new pack to its host and run \
`sitegate reload` there: connections change over one by one, and no ticket is lost.";

const RENEW_EXAMPLES: &str = "\
Examples:
  sitegate pki renew --pki pki pki/paris
  sitegate pki renew --pki pki pki/paris pki/lyon pki/tiebreak";

const REVOKE_ABOUT: &str = "\
Make certificates count no more

Adds them to the CA's list, ca/crl.pem. Copy that to every member, name it as `crl` in [tls] of member.toml, and run \
`sitegate reload`: only then is the certificate refused.";

const REVOKE_EXAMPLES: &str = "\
Example:
  sitegate pki revoke --pki pki pki/operator-alice";

const SHOW_EXAMPLES: &str = "\
Examples:
  sitegate pki show /etc/sitegate/pki/paris.pem
  sitegate pki show pki --json";

/// Where `ca/` and the packs are.
#[derive(Debug, Args)]
struct PkiDirectory {
    /// The directory that `sitegate pki init` made
    #[arg(long, value_name = "DIR", default_value = "pki")]
    pki: PathBuf,
}

/// `sitegate pki init`.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// The file that says who the members are
    #[arg(long, value_name = "FILE", default_value = "/etc/sitegate/formation.toml")]
    formation: PathBuf,
    /// Where to put the CA and the packs
    #[arg(long, value_name = "DIR", default_value = "pki")]
    out: PathBuf,
    /// Who gets an operator's certificate; may be given several times
    #[arg(long, value_name = "NAME", default_value = "admin")]
    operator: Vec<PersonName>,
    /// How long the members' certificates are valid
    #[arg(long, value_name = "DAYS", default_value_t = MEMBER_DAYS, value_parser = days())]
    days: u32,
    /// How long the operators' certificates are valid
    #[arg(long, value_name = "DAYS", default_value_t = PERSON_DAYS, value_parser = days())]
    operator_days: u32,
}

/// `sitegate pki issue`.
#[derive(Debug, Args)]
pub struct IssueArgs {
    #[command(flatten)]
    directory: PkiDirectory,
    #[command(flatten)]
    who: Who,
    /// How long it is valid [default: 1826 for a member, 365 for an operator or viewer]
    #[arg(long, value_name = "DAYS", value_parser = days())]
    days: Option<u32>,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Who {
    /// For a daemon that votes
    #[arg(long, value_name = "NAME")]
    member: Option<MemberName>,
    /// For somebody who may give commands
    #[arg(long, value_name = "NAME")]
    operator: Option<PersonName>,
    /// For somebody who may look
    #[arg(long, value_name = "NAME")]
    viewer: Option<PersonName>,
}

impl Who {
    fn principal(&self) -> Principal {
        let member = self.member.clone().map(Principal::Member);
        let operator = || self.operator.clone().map(Principal::Operator);
        let viewer = || self.viewer.clone().map(Principal::Viewer);
        member.or_else(operator).or_else(viewer).expect("clap lets exactly one of them through")
    }
}

/// `sitegate pki renew`.
#[derive(Debug, Args)]
pub struct RenewArgs {
    #[command(flatten)]
    directory: PkiDirectory,
    /// The packs
    #[arg(required = true, value_name = "PACK")]
    packs: Vec<PathBuf>,
    /// How long they are valid [default: 1826 for a member, 365 for an operator or viewer]
    #[arg(long, value_name = "DAYS", value_parser = days())]
    days: Option<u32>,
    /// Keep the private key
    #[arg(long)]
    keep_key: bool,
}

/// `sitegate pki revoke`.
#[derive(Debug, Args)]
pub struct RevokeArgs {
    #[command(flatten)]
    directory: PkiDirectory,
    /// The certificates, or the packs with them
    #[arg(required = true, value_name = "CERT|PACK")]
    certificates: Vec<PathBuf>,
}

/// `sitegate pki show`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// Certificates, packs, or the directory that `sitegate pki init` made
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Print a JSON array with an object for each certificate
    #[arg(long)]
    json: bool,
}

fn days() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=i64::from(DAYS_MAX))
}

/// Does what `command` says. Results go to `out`, advice to `talk`.
pub fn run(command: &PkiCommand, out: &mut dyn Write, talk: &mut dyn Write) -> Result<(), PkiError> {
    match command {
        PkiCommand::Init(args) => init(args, out, talk),
        PkiCommand::Issue(args) => issue(args, out, talk),
        PkiCommand::Renew(args) => renew(args, out, talk),
        PkiCommand::Revoke(args) => revoke(args, out, talk),
        PkiCommand::Show(args) => print_shown(args, out),
    }
}

fn init(args: &InitArgs, out: &mut dyn Write, talk: &mut dyn Write) -> Result<(), PkiError> {
    let formation = Formation::parse(&Source::read(&args.formation)?)?;
    let wanted = FormationCertificates {
        formation: formation.name,
        members: formation.members.into_iter().map(|member| member.name).collect(),
        operators: args.operator.clone(),
        member_days: args.days,
        operator_days: args.operator_days,
    };
    let (authority, packs) = wanted.make(&args.out)?;
    let ca = authority.directory().display();
    let until = rfc3339(authority.validity().not_after);
    say(out, &format!("{ca}: the CA of formation {}, valid until {until}", authority.formation()))?;
    for pack in &packs {
        say_pack(out, pack)?;
    }
    say(
        talk,
        "hint: copy each pack to /etc/sitegate/pki/ of its host, with a key that only the daemon's user reads",
    )?;
    say(talk, &format!("hint: then move {ca} to where you keep such keys; no member needs it"))
}

fn issue(args: &IssueArgs, out: &mut dyn Write, talk: &mut dyn Write) -> Result<(), PkiError> {
    let authority = Authority::load(&args.directory.pki)?;
    let principal = args.who.principal();
    let days = args.days.unwrap_or_else(|| usual_days(&principal));
    let pack = authority.make_pack(&args.directory.pki, &principal, days)?;
    say_pack(out, &pack)?;
    warn_if_cut_short(&authority, &pack, days, talk)
}

fn renew(args: &RenewArgs, out: &mut dyn Write, talk: &mut dyn Write) -> Result<(), PkiError> {
    let authority = Authority::load(&args.directory.pki)?;
    for path in &args.packs {
        let pack = authority.renew_pack(path, args.days, args.keep_key)?;
        say_pack(out, &pack)?;
        warn_if_cut_short(&authority, &pack, args.days.unwrap_or_else(|| usual_days(&pack.principal)), talk)?;
    }
    say(
        talk,
        "hint: copy each pack to its host and run `sitegate reload` there; the old files are beside it as .old",
    )
}

fn revoke(args: &RevokeArgs, out: &mut dyn Write, talk: &mut dyn Write) -> Result<(), PkiError> {
    let authority = Authority::load(&args.directory.pki)?;
    for path in &args.certificates {
        let revoked = authority.revoke(path)?;
        let how = if revoked.already { "was revoked before" } else { "is revoked" };
        say(out, &format!("{}: the certificate of {} {how}", revoked.list.display(), revoked.principal))?;
    }
    say(
        talk,
        "hint: copy the list to every member, name it as `crl` in [tls] of member.toml, and run `sitegate reload`",
    )
}

fn print_shown(args: &ShowArgs, out: &mut dyn Write) -> Result<(), PkiError> {
    let now = SystemTime::now();
    let shown: Result<Vec<_>, _> =
        args.paths.iter().map(|path: &PathBuf| show::show(Path::new(path), now)).collect();
    let shown = shown?.concat();
    if args.json {
        let json = serde_json::to_string_pretty(&shown).map_err(|error| PkiError::Output(error.into()))?;
        return say(out, &json);
    }
    for (index, certificate) in shown.iter().enumerate() {
        let gap = if index == 0 { "" } else { "\n" };
        write!(out, "{gap}{certificate}").map_err(PkiError::Output)?;
    }
    Ok(())
}

fn say_pack(out: &mut dyn Write, pack: &Pack) -> Result<(), PkiError> {
    let until = rfc3339(pack.not_after);
    say(out, &format!("{}: {}, valid until {until}", pack.directory.display(), pack.principal))
}

/// A certificate ends with its CA at the latest.
fn warn_if_cut_short(
    authority: &Authority,
    pack: &Pack,
    days: u32,
    talk: &mut dyn Write,
) -> Result<(), PkiError> {
    let left = authority.validity().days_left(SystemTime::now());
    if left >= i64::from(days) {
        return Ok(());
    }
    let who = &pack.principal;
    say(
        talk,
        &format!("warning: the certificate of {who} ends with the CA, in {left} days; time for a new CA"),
    )
}

fn say(to: &mut dyn Write, text: &str) -> Result<(), PkiError> {
    writeln!(to, "{text}").map_err(PkiError::Output)
}
