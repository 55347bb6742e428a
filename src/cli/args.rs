//! The command line: what can be said, and the help that teaches it. What is parsed here is done elsewhere.

use clap::{Args, Parser, Subcommand};
use sitegate_member::config::{MemberName, TicketName};

use super::command::WaitArgs;
use super::fence::FenceCommand;
use super::host::{CheckArgs, ReloadArgs};
use super::init::InitArgs;
use super::look::{ExplainArgs, HistoryArgs, MemberListArgs};
use super::run::{RunArgs, RunJoinedArgs};
use super::status::StatusArgs;
use super::text;
use super::verify::VerifyArgs;
use crate::pki::PkiCommand;
use crate::playground::{PlaygroundArgs, WriterCommand};
use crate::simulate::SimulateArgs;
use crate::terminal::exit::Exit;

/// `sitegate`.
#[derive(Debug, Parser)]
#[command(
    name = "sitegate",
    version,
    about = "Decides which site of a formation may run what",
    long_about = text::ABOUT,
    after_long_help = text::with_exit_codes(text::EXAMPLES),
    after_help = "`sitegate --help` shows examples and exit codes, `sitegate COMMAND --help` explains a command.",
    subcommand_required = true,
    arg_required_else_help = true,
    max_term_width = 100
)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show who holds what, who is reachable, and what is wrong
    #[command(after_long_help = text::STATUS)]
    Status(StatusArgs),
    /// Say why a ticket is where it is, and what happens next
    #[command(after_long_help = text::EXPLAIN)]
    Explain(ExplainArgs),
    /// Show what happened lately, and why
    #[command(after_long_help = text::HISTORY)]
    History(HistoryArgs),
    /// The commands that wish something.
    #[command(flatten)]
    Wish(WishCommand),
    /// Show who votes, or take back a member that lost its disk
    #[command(subcommand)]
    Member(MemberCommand),
    /// Run a command while this site holds a ticket, and end it in time
    #[command(long_about = text::RUN_ABOUT, after_long_help = text::RUN)]
    Run(RunArgs),
    /// Show what this site's fence daemon guards, and what it did
    #[command(subcommand)]
    Fence(FenceCommand),
    /// Validate a configuration, and show what its times mean
    #[command(after_long_help = text::CHECK)]
    Check(CheckArgs),
    /// Let the daemon read its configuration again, all or nothing
    #[command(after_long_help = text::RELOAD)]
    Reload(ReloadArgs),
    /// Create this member's identity and store, once
    #[command(long_about = text::INIT_ABOUT, after_long_help = text::INIT)]
    Init(InitArgs),
    /// Simulate a formation: failovers, losses, what failures cost
    #[command(long_about = text::SIMULATE_ABOUT, after_long_help = text::SIMULATE)]
    Simulate(SimulateArgs),
    /// Prove from the members' journals that no two tenures overlapped
    #[command(long_about = text::VERIFY_ABOUT, after_long_help = text::VERIFY)]
    Verify(VerifyArgs),
    /// Make and renew certificates, without openssl
    #[command(subcommand)]
    Pki(PkiCommand),
    /// Try and judge a whole formation on this machine
    #[command(long_about = text::PLAYGROUND_ABOUT, after_long_help = text::PLAYGROUND)]
    Playground(PlaygroundArgs),
    /// Print a completion script for a shell
    #[command(after_long_help = text::COMPLETIONS)]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// What `run` runs: it joins and becomes the command
    #[command(hide = true)]
    RunJoined(RunJoinedArgs),
    /// What the playground's hooks run
    #[command(subcommand, hide = true)]
    PlaygroundWriter(WriterCommand),
}

/// The commands that wish something of the formation, and wait for it.
#[derive(Debug, Subcommand)]
pub(crate) enum WishCommand {
    /// Let a site hold a free ticket, or another one should it be lost
    #[command(long_about = text::GRANT_ABOUT, after_long_help = text::GRANT)]
    Grant(GrantArgs),
    /// Let nobody hold a ticket
    #[command(long_about = text::REVOKE_ABOUT, after_long_help = text::REVOKE)]
    Revoke(TicketArgs),
    /// Let another site hold a ticket
    #[command(long_about = text::MOVE_ABOUT, after_long_help = text::MOVE)]
    Move(MoveArgs),
    /// Bar new tenures of a ticket; one that runs goes on
    #[command(long_about = text::PAUSE_ABOUT, after_long_help = text::PAUSE)]
    Pause(TicketArgs),
    /// Allow new tenures of a paused ticket again
    #[command(after_long_help = text::RESUME)]
    Resume(TicketArgs),
    /// Let a site take no tickets, and keep none
    #[command(long_about = text::STANDBY_ABOUT, after_long_help = text::STANDBY)]
    Standby(StandbyArgs),
    /// Let a site take tickets again
    #[command(after_long_help = text::ONLINE)]
    Online(SiteArgs),
    /// Vouch that a lost site is dead, so that others need not wait
    #[command(long_about = text::ATTEST_ABOUT, after_long_help = text::ATTEST)]
    AttestDead(AttestArgs),
}

/// `sitegate grant`.
#[derive(Debug, Args)]
pub(crate) struct GrantArgs {
    /// Who should hold it
    #[arg(long)]
    pub(crate) site: MemberName,
    #[command(flatten)]
    pub(crate) ticket: TicketArgs,
}

/// `sitegate move`.
#[derive(Debug, Args)]
pub(crate) struct MoveArgs {
    /// Who should hold it instead
    #[arg(long, value_name = "SITE")]
    pub(crate) to: MemberName,
    #[command(flatten)]
    pub(crate) ticket: TicketArgs,
}

/// Commands about a ticket.
#[derive(Debug, Args)]
pub(crate) struct TicketArgs {
    /// The ticket
    pub(crate) ticket: TicketName,
    #[command(flatten)]
    pub(crate) how: HowArgs,
}

/// `sitegate standby`.
#[derive(Debug, Args)]
pub(crate) struct StandbyArgs {
    /// Let it keep the tickets that it holds
    #[arg(long)]
    pub(crate) keep: bool,
    #[command(flatten)]
    pub(crate) site: SiteArgs,
}

/// Commands about a site.
#[derive(Debug, Args)]
pub(crate) struct SiteArgs {
    /// The site
    pub(crate) site: MemberName,
    #[command(flatten)]
    pub(crate) how: HowArgs,
}

/// `sitegate attest-dead`.
#[derive(Debug, Args)]
pub(crate) struct AttestArgs {
    /// The site that is dead
    pub(crate) site: MemberName,
    /// Vouch for this ticket only [default: every ticket that it holds]
    #[arg(long, value_name = "TICKET")]
    pub(crate) ticket: Option<TicketName>,
    /// How you know, for the history
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,
    /// Do not ask: for scripts that have made certain themselves
    #[arg(long)]
    pub(crate) yes_i_have_seen_it_dead: bool,
    #[command(flatten)]
    pub(crate) wait: WaitArgs,
}

/// The commands of `sitegate member`.
#[derive(Debug, Subcommand)]
pub(crate) enum MemberCommand {
    /// Show all members with their identities
    List(MemberListArgs),
    /// Take back a member that lost its disk
    #[command(long_about = text::READMIT_ABOUT, after_long_help = text::READMIT)]
    Readmit(ReadmitArgs),
}

/// `sitegate member readmit`.
#[derive(Debug, Args)]
pub(crate) struct ReadmitArgs {
    /// The member
    pub(crate) name: MemberName,
    #[command(flatten)]
    pub(crate) how: HowArgs,
}

/// What every wish takes, but for one that must have a reason.
#[derive(Debug, Args)]
pub(crate) struct HowArgs {
    /// Why, for the history
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
    #[command(flatten)]
    pub(crate) wait: WaitArgs,
}

impl Cli {
    /// Parses the command line; ends the program with help, version or what is wrong with it.
    #[must_use]
    pub(crate) fn from_command_line() -> Self {
        // clap exits with 2 by itself, which is ours too.
        const { assert!(Exit::Usage.code() == 2) };
        Self::parse()
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    /// Every command with its full path, but for those that are hidden.
    fn commands(of: &clap::Command, path: &str, found: &mut Vec<String>) {
        for command in of.get_subcommands().filter(|command| !command.is_hide_set()) {
            let path = format!("{path} {}", command.get_name());
            commands(command, &path, found);
            if command.get_subcommands().next().is_none() {
                found.push(path);
            }
        }
    }

    /// What help says of `command` and all below it, in lines that a terminal of 80 columns would break.
    fn too_wide(command: &clap::Command, found: &mut Vec<String>) {
        /// As wide as terminals are at least.
        const COLUMNS: usize = 80;
        let below: Vec<_> = command.get_subcommands().filter(|command| !command.is_hide_set()).collect();
        let names = below.iter().map(|command| command.get_name().len()).max().unwrap_or_default();
        for command in below {
            let about = command.get_about().map(ToString::to_string).unwrap_or_default();
            found.extend((2 + names + 2 + about.chars().count() > COLUMNS).then_some(about));
            too_wide(command, found);
        }
        let examples = command.get_after_long_help().map(ToString::to_string).unwrap_or_default();
        let written =
            examples.lines().filter(|line| line.starts_with("  ") && line.chars().count() > COLUMNS);
        found.extend(written.map(str::to_owned));
    }

    #[test]
    fn examples_and_summaries_fit_a_terminal() {
        let mut found = Vec::new();
        too_wide(&Cli::command(), &mut found);
        assert_eq!(found, [""; 0]);
    }

    #[test]
    fn every_command_stands_in_the_manual() {
        let manual = include_str!("../../docs/cli.md");
        let mut found = Vec::new();
        commands(&Cli::command(), "sitegate", &mut found);
        assert!(found.len() > 20, "{found:?}");
        for path in found {
            assert!(manual.contains(&format!("`{path}")), "docs/cli.md lacks `{path}`");
        }
    }
}
