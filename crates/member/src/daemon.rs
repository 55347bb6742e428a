//! A daemon from its command line to its end: what `sitegated` and `sitegate-arbitrator` share.

use std::error::Error;
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use axum::Router;
use sitegate_host::diagnostic::ConfigError;

use crate::arguments::{self, Action, Arguments, usage};
use crate::config::{Configuration, Role};
use crate::site::SitePort;

mod exit;
mod goodbye;
mod reload;
mod run;

pub use exit::Exit;

/// What makes a daemon the one it is.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    /// Its name.
    pub name: &'static str,
    /// What it is, for its usage.
    pub what: &'static str,
    /// The role of the members that it is for.
    pub role: Role,
    /// Checks what else its configuration, from this directory, has to agree with; gives what an operator should know.
    pub check: fn(&Path, &Configuration) -> Result<Vec<String>, ConfigError>,
    /// Begins to do the work of a site; gives the routes that only a site has. None on an arbitrator.
    pub attach: Option<fn(SitePort) -> Router>,
}

/// Why a daemon cannot begin, with the exit code that says so.
#[derive(Debug)]
struct Failure {
    exit: Exit,
    text: String,
}

impl Failure {
    /// Of an error with its causes, and what to do about it.
    fn new(exit: Exit, error: &dyn Error, hint: &str) -> Self {
        let mut text = format!("error: {error}");
        let mut cause = error.source();
        while let Some(error) = cause {
            text.push_str(&format!(": {error}"));
            cause = error.source();
        }
        if !hint.is_empty() {
            text.push_str(&format!("\nhint: {hint}"));
        }
        Self { exit, text }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self { exit: Exit::Configuration, text: error.to_string() }
    }
}

/// Does what the command line of this process asks for.
#[must_use]
pub fn main(program: &Program) -> ExitCode {
    start(program, std::env::args_os().skip(1)).into()
}

/// Does what `words` ask for; as a daemon, until it ends.
#[must_use]
pub fn start(program: &Program, words: impl IntoIterator<Item = OsString>) -> Exit {
    let done = match arguments::parse(words) {
        Ok(arguments) => act(program, &absolute(arguments)),
        Err(error) => {
            let hint = format!("`{} --help` shows what is", program.name);
            Err(Failure::new(Exit::Configuration, &error, &hint))
        }
    };
    done.unwrap_or_else(|failure| {
        eprintln!("{}", failure.text);
        failure.exit
    })
}

/// Whatever becomes of the working directory, a reload finds the same files.
fn absolute(mut arguments: Arguments) -> Arguments {
    if let Ok(directory) = std::path::absolute(&arguments.directory) {
        arguments.directory = directory;
    }
    arguments
}

fn act(program: &Program, arguments: &Arguments) -> Result<Exit, Failure> {
    match arguments.action {
        Action::Help => println!("{}", usage(program.name, program.what)),
        Action::Version => println!("{} {}", program.name, env!("CARGO_PKG_VERSION")),
        Action::Check => {
            let (_, warnings) = load(program, arguments)?;
            warnings.iter().for_each(|warning| println!("warning: {warning}"));
            println!("{}: the configuration is sound", arguments.directory.display());
        }
        Action::Init => {
            let (configuration, _) = load(program, arguments)?;
            let done = crate::init::init(&configuration).map_err(|error| {
                Failure::new(
                    Exit::Store,
                    &error,
                    "a member is initialised once; look into state-dir of member.toml",
                )
            })?;
            println!("{done}");
        }
        Action::Run => {
            let (configuration, warnings) = load(program, arguments)?;
            return run::run(program, arguments, configuration, &warnings);
        }
    }
    Ok(Exit::Told)
}

/// Loads the configuration, checks it, and whether this is the program for it.
fn load(program: &Program, arguments: &Arguments) -> Result<(Configuration, Vec<String>), Failure> {
    let configuration = Configuration::load(&arguments.directory)?;
    let me = configuration.me();
    if me.role != program.role {
        let text = format!(
            "error: {} is {} {} in formation.toml, but {} is for {}s\nhint: {}",
            me.name,
            article(me.role),
            me.role,
            program.name,
            program.role,
            "run sitegated on sites and sitegate-arbitrator on arbitrators, or correct `role` or `name`",
        );
        return Err(Failure { exit: Exit::Configuration, text });
    }
    let warnings = (program.check)(&arguments.directory, &configuration)?;
    Ok((configuration, warnings))
}

const fn article(role: Role) -> &'static str {
    match role {
        Role::Site => "a",
        Role::Arbitrator => "an",
    }
}

/// What an arbitrator checks beyond its two files: nothing.
///
/// # Errors
/// None.
pub fn nothing_to_check(_: &Path, _: &Configuration) -> Result<Vec<String>, ConfigError> {
    Ok(Vec::new())
}

/// What a reload needs to know of the daemon.
#[derive(Clone, Debug)]
struct Setup {
    program: Program,
    arguments: Arc<Arguments>,
}
