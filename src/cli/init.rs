//! `sitegate init`: creates the identity and store of this host's member, once.

use std::path::PathBuf;

use clap::Args;
use sitegate_member::config::{Configuration, DIRECTORY_DEFAULT};
use sitegate_member::init::{InitError, init};
use sitegate_member::store::CreateError;

use crate::api::place::CONFIG_VARIABLE;
use crate::terminal::exit::Exit;
use crate::terminal::failure::{Failure, with_causes};
use crate::terminal::output::print;

/// `sitegate init`.
#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// The directory with formation.toml and member.toml
    #[arg(long, value_name = "DIR", default_value = DIRECTORY_DEFAULT, env = CONFIG_VARIABLE, hide_env_values = true)]
    config: PathBuf,
}

/// Creates the identity and store of the member that the configuration is for.
///
/// # Errors
/// The configuration is invalid, there is a store already, or it cannot be written.
pub(crate) fn run(args: &InitArgs) -> Result<(), Failure> {
    let configuration = Configuration::load(&args.config)?;
    let done = init(&configuration).map_err(|error| not_created(&error))?;
    print(&format!("{done}\n"))
}

fn not_created(error: &InitError) -> Failure {
    match error {
        InitError::Create(CreateError::Exists(_)) => Failure::new(Exit::Refused, with_causes(error)).hint(
            "start the daemon; if this machine is to forget what it promised, read \"Lost disks\" in \
             docs/operations.md first",
        ),
        _ => Failure::new(Exit::Failed, with_causes(error))
            .hint("the state directory must be writable, and no daemon may run on it"),
    }
}
