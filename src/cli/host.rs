//! Commands about this host: `reload`, `check`.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use sitegate_member::api::types::Reloaded;
use sitegate_member::config::DIRECTORY_DEFAULT;

use crate::api::client::Client;
use crate::api::place::PlaceArgs;
use crate::api::view::read;
use crate::terminal::exit::Exit;
use crate::terminal::failure::Failure;
use crate::terminal::output::{print, print_json};
use sitegate_check::check_host;

/// `sitegate check`.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// The directory with formation.toml, member.toml and fenced.toml
    #[arg(value_name = "DIR", default_value = DIRECTORY_DEFAULT)]
    directory: PathBuf,
    /// Print what was found as JSON
    #[arg(long)]
    json: bool,
}

/// Checks a configuration and shows what its times mean.
///
/// # Errors
/// It cannot be loaded, or something in it breaks a promise.
pub(crate) fn check(args: &CheckArgs) -> Result<(), Failure> {
    let checked = check_host(&args.directory)?;
    if args.json {
        print_json(&checked)?;
    } else {
        print(&checked.to_string())?;
    }
    match checked.problems.len() {
        0 => Ok(()),
        1 => Err(Failure::new(Exit::Configuration, "the configuration has a problem, see above")),
        n => Err(Failure::new(Exit::Configuration, format!("the configuration has {n} problems, see above"))),
    }
}

/// `sitegate reload`.
#[derive(Debug, Args)]
pub(crate) struct ReloadArgs {
    /// Print what changed as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: PlaceArgs,
}

/// Lets the member take its configuration again.
///
/// # Errors
/// Nobody answers, or the configuration is invalid; then the old one stays in force.
pub(crate) async fn reload(args: &ReloadArgs) -> Result<(), Failure> {
    let answer = Client::new(args.place.resolve()?).post("/v1/reload", &json!({})).await?;
    if args.json {
        return print_json(&answer);
    }
    let reloaded: Reloaded = read(&answer)?;
    if reloaded.changed.is_empty() {
        return print("nothing has changed\n");
    }
    print(&format!("{}\n", reloaded.changed.join("\n")))
}
