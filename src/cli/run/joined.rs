//! The child of `sitegate run`: it joins, and becomes the command.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};
use sitegate_client::Name;
use sitegate_fence_client::status::Joined;
use sitegate_fence_client::{Client, ClientError};
use tokio::time::timeout;

use super::refusal::{ANSWER_MAX, refused};
use crate::terminal::exit::Exit;
use crate::terminal::failure::{Failure, with_causes};

/// `sitegate run-joined`.
#[derive(Debug, Args)]
pub(crate) struct RunJoinedArgs {
    #[arg(long, value_parser = Name::new)]
    pub(super) ticket: Name,
    #[arg(long)]
    pub(super) fenced_socket: PathBuf,
    /// `sitegate run`
    #[arg(long)]
    pub(super) parent: i32,
    #[arg(last = true, required = true)]
    pub(super) command: Vec<OsString>,
}

impl RunJoinedArgs {
    /// As a command line.
    pub(super) fn to_arguments(&self) -> Vec<OsString> {
        let mut arguments: Vec<OsString> =
            ["run-joined", "--ticket", self.ticket.as_str()].map(Into::into).into();
        arguments.extend(["--fenced-socket".into(), self.fenced_socket.clone().into()]);
        arguments.extend(["--parent".into(), self.parent.to_string().into(), "--".into()]);
        arguments.extend(self.command.iter().cloned());
        arguments
    }
}

/// Joins, and becomes the command.
///
/// # Errors
/// Why not.
pub(crate) async fn join(args: &RunJoinedArgs) -> Result<(), Failure> {
    die_with(args.parent)?;
    let joined = joined(&args.fenced_socket, &args.ticket).await?;
    let (program, arguments) = args.command.split_first().expect("the command line requires it");
    let error = Command::new(program).args(arguments).envs(&joined.environment).exec();
    let exit = if error.kind() == std::io::ErrorKind::NotFound { Exit::Missing } else { Exit::Unstartable };
    Err(Failure::new(exit, format!("cannot run {}: {error}", Path::new(program).display())))
}

/// What is killed together with `sitegate run` is not beside what its successor starts: here, both hold the ticket.
fn die_with(parent: i32) -> Result<(), Failure> {
    let failed = |error: rustix::io::Errno| Failure::machine("die with `sitegate run`", &error.into());
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(failed)?;
    if getppid().map(Pid::as_raw_pid) == Some(parent) {
        Ok(())
    } else {
        Err(Failure::new(Exit::Failed, "`sitegate run` has ended"))
    }
}

async fn joined(socket: &Path, ticket: &Name) -> Result<Joined, Failure> {
    let joining = async {
        let (client, _events, _status) = Client::connect(socket, None, false).await?;
        client.join(ticket.clone()).await
    };
    match timeout(ANSWER_MAX, joining).await {
        Ok(Ok(joined)) => Ok(joined),
        Ok(Err(ClientError::Refused(refusal))) => {
            Err(refused(&refusal, format!("cannot run under {ticket}: {refusal}")))
        }
        Ok(Err(error)) => Err(Failure::new(Exit::Unreachable, with_causes(&error))),
        Err(_elapsed) => Err(Failure::new(Exit::Unreachable, "sitegate-fenced does not answer")),
    }
}
