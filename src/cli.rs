//! The command line: arguments, and what each command does.

use std::io;
use std::process::ExitCode;

use clap::CommandFactory;
use sitegate_member::api::types::CommandRequest;
use sitegate_member::config::MemberName;

use crate::terminal::exit::Exit;
use crate::terminal::failure::Failure;
use crate::terminal::output;

mod args;
mod attest;
mod command;
mod fence;
mod host;
mod init;
mod look;
mod run;
mod status;
mod text;
mod verify;

use args::{
    AttestArgs, Cli, Command, HowArgs, MemberCommand, ReadmitArgs, SiteArgs, TicketArgs, WishCommand,
};
use command::{WaitArgs, give};

/// Runs the program.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::from_command_line();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = runtime
        .map_err(|error| Failure::machine("start", &error))
        .and_then(|runtime| runtime.block_on(begin(&cli.command)));
    match result {
        Ok(code) => code,
        Err(failure) => {
            // The message is all that is left to say; if nobody can read it, the code still tells.
            eprintln!("{failure}");
            failure.exit.into()
        }
    }
}

async fn begin(command: &Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Run(args) => run::run(args).await,
        command => carry_out(command).await.map(|()| Exit::Done.into()),
    }
}

async fn carry_out(command: &Command) -> Result<(), Failure> {
    match command {
        // With an exit code of its own.
        Command::Run(args) => run::run(args).await.map(drop),
        Command::RunJoined(args) => run::join(args).await,
        Command::Status(args) => status::run(args).await,
        Command::Explain(args) => look::explain(args).await,
        Command::History(args) => look::history(args).await,
        Command::Member(MemberCommand::List(args)) => look::members(args).await,
        Command::Member(MemberCommand::Readmit(args)) => give(readmit_wish(args), &args.how.wait).await,
        Command::Fence(command) => fence::run(command).await,
        Command::Check(args) => host::check(args),
        Command::Reload(args) => host::reload(args).await,
        Command::Init(args) => init::run(args),
        Command::Verify(args) => verify::run(args),
        Command::Simulate(args) => crate::simulate::run(args),
        Command::Pki(command) => {
            Ok(crate::pki::run(command, &mut io::stdout().lock(), &mut io::stderr().lock())?)
        }
        Command::Playground(args) => crate::playground::run(args).await,
        Command::PlaygroundWriter(command) => crate::playground::run_writer(command),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "sitegate", &mut script);
            output::print(&String::from_utf8_lossy(&script))
        }
        Command::Wish(wish) => give_wish(wish).await,
    }
}

async fn give_wish(command: &WishCommand) -> Result<(), Failure> {
    let (wish, wait) = match command {
        WishCommand::Grant(args) => about_ticket("grant", &args.ticket, Some(&args.site)),
        WishCommand::Move(args) => about_ticket("move", &args.ticket, Some(&args.to)),
        WishCommand::Revoke(args) => about_ticket("revoke", args, None),
        WishCommand::Pause(args) => about_ticket("pause", args, None),
        WishCommand::Resume(args) => about_ticket("resume", args, None),
        WishCommand::Standby(args) => about_site("standby", &args.site, args.keep),
        WishCommand::Online(args) => about_site("online", args, false),
        WishCommand::AttestDead(args) => (attest_wish(args)?, &args.wait),
    };
    give(wish, wait).await
}

fn about_ticket<'a>(
    command: &str,
    args: &'a TicketArgs,
    site: Option<&MemberName>,
) -> (CommandRequest, &'a WaitArgs) {
    let ticket = Some(args.ticket.to_string());
    (
        CommandRequest { ticket, site: site.map(ToString::to_string), ..wish(command, &args.how) },
        &args.how.wait,
    )
}

fn about_site<'a>(command: &str, args: &'a SiteArgs, keep: bool) -> (CommandRequest, &'a WaitArgs) {
    let site = Some(args.site.to_string());
    (CommandRequest { site, keep, ..wish(command, &args.how) }, &args.how.wait)
}

fn readmit_wish(args: &ReadmitArgs) -> CommandRequest {
    CommandRequest { member: Some(args.name.to_string()), ..wish("readmit", &args.how) }
}

fn wish(command: &str, how: &HowArgs) -> CommandRequest {
    CommandRequest { command: command.to_owned(), reason: how.reason.clone(), ..CommandRequest::default() }
}

fn attest_wish(args: &AttestArgs) -> Result<CommandRequest, Failure> {
    let ticket = args.ticket.as_ref().map(ToString::to_string);
    attest::confirm(args.site.as_str(), ticket.as_deref(), args.yes_i_have_seen_it_dead)?;
    Ok(CommandRequest {
        command: "attest-dead".to_owned(),
        ticket,
        site: Some(args.site.to_string()),
        reason: Some(args.reason.clone()),
        ..CommandRequest::default()
    })
}
