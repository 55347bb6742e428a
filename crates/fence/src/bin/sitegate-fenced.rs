//! The fence daemon: command line, logging, and what has to be done before the runtime starts.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{Resource, getrlimit};
use rustix::thread::{CapabilitySet, capabilities};
use sitegate_fence::agent::{self, check::Findings};
use sitegate_fence::config::{Config, DEFAULT_PATH};
use sitegate_fence::store::with_causes;
use sitegate_fence::{daemon, keeper, systemd};
use sitegate_host::log::{self, LogFilter};

const HELP: &str = "\
sitegate-fenced: fences resources at their deadlines, unless somebody extends them

Usage: sitegate-fenced [OPTIONS]

Options:
  -c, --config PATH  the configuration [default: /etc/sitegate/fenced.toml]
      --check        check the configuration, ask fence agents what they can do, show how long fencing
                     takes, and end
  -h, --help         show this
  -V, --version      show the version

It stops on SIGTERM without fencing anything: what is armed stays armed, what runs stays running, and
the next start carries on, or fences what was not extended in time. On SIGHUP it reads its configuration again, all or
nothing.

Exit codes: 0 ended by a signal, or the check found nothing wrong; 1 could not start or go on;
2 wrong command line; 3 wrong configuration, and nothing armed that has to be fenced all the same.
";

/// Could not start, or could not go on.
const FAILED: u8 = 1;
/// The command line is wrong.
const WRONG_USAGE: u8 = 2;
/// The configuration is wrong.
const WRONG_CONFIGURATION: u8 = 3;

#[derive(Debug, PartialEq, Eq)]
enum Command {
    Help,
    Version,
    Check { config: PathBuf },
    Serve { config: PathBuf },
}

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1).peekable();
    if arguments.peek().is_some_and(|first| first == keeper::SUBCOMMAND) {
        return keeper::run(arguments.skip(1));
    }
    if arguments.peek().is_some_and(|first| first == systemd::SUBCOMMAND) {
        return systemd::run(arguments.skip(1));
    }
    match parse(arguments) {
        Ok(Command::Help) => {
            print!("{HELP}");
            ExitCode::SUCCESS
        }
        Ok(Command::Version) => {
            println!("sitegate-fenced {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        Ok(Command::Check { config }) => check(&config),
        Ok(Command::Serve { config }) => serve(&config),
        Err(why) => {
            eprintln!("error: {why}\nhint: sitegate-fenced --help shows what there is");
            ExitCode::from(WRONG_USAGE)
        }
    }
}

fn parse(mut arguments: impl Iterator<Item = OsString>) -> Result<Command, String> {
    let mut config = PathBuf::from(DEFAULT_PATH);
    let mut check = false;
    while let Some(argument) = arguments.next() {
        let name = argument.to_string_lossy().into_owned();
        let mut value = || arguments.next().ok_or_else(|| format!("{name} needs a value"));
        match name.as_str() {
            "-h" | "--help" => return Ok(Command::Help),
            "-V" | "--version" => return Ok(Command::Version),
            "-c" | "--config" => config = value()?.into(),
            "--check" => check = true,
            _ => return Err(format!("unknown argument {name}")),
        }
    }
    Ok(if check { Command::Check { config } } else { Command::Serve { config } })
}

fn check(path: &Path) -> ExitCode {
    let config = match Config::load(path) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(WRONG_CONFIGURATION);
        }
    };
    let unusable = config.unusable_programs();
    for (resource, problem) in &unusable {
        eprintln!("error: resource {resource}: {}", with_causes(problem));
    }
    let Findings { errors, warnings } = agent::check::check(&config, path);
    for finding in errors.iter().chain(&warnings) {
        eprintln!("{finding}");
    }
    for warning in systemd::check::warnings(&config) {
        eprintln!("warning: {warning}");
    }
    for name in config.resources.keys() {
        let within = config.fenced_within(name).unwrap_or_default();
        println!("{name}: fenced within {} ms", within.as_millis());
    }
    println!("all at once: fenced within {} ms", config.all_fenced_within(None).as_millis());
    if unusable.is_empty() && errors.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(WRONG_CONFIGURATION)
    }
}

fn serve(path: &Path) -> ExitCode {
    let (config, wrong) = match Config::load(path) {
        Ok(config) => (config, None),
        Err(error) => match Config::kept(path) {
            Some(config) => (config, Some(error)),
            None => {
                eprintln!("{error}");
                return ExitCode::from(WRONG_CONFIGURATION);
            }
        },
    };
    let logging = match log::start(&config.log) {
        Ok(logging) => logging,
        Err(why) => {
            eprintln!("error: cannot begin to log: {why}");
            return ExitCode::from(FAILED);
        }
    };
    if let Some(wrong) = wrong {
        tracing::error!(
            "THE CONFIGURATION IS WRONG: going on with the one that was in force, since something is armed; correct it and reload:\n{wrong}"
        );
    }
    let code = serve_logging(config, path, logging.filter());
    logging.flush();
    code
}

fn serve_logging(config: Config, path: &Path, filter: LogFilter) -> ExitCode {
    lock_memory();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!("cannot start: {error}");
            return ExitCode::from(FAILED);
        }
    };
    let result = runtime.block_on(daemon::run(config, path, filter));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{}", with_causes(&error));
            ExitCode::from(FAILED)
        }
    }
}

/// Keeps this daemon in memory: on a machine that thrashes it has to fence in time. Under a limit, growing past it would fail
/// instead; root's right to lock memory knows none.
fn lock_memory() {
    let limited = getrlimit(Resource::Memlock).current.is_some();
    let may = capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::IPC_LOCK));
    if limited && !may {
        return tracing::info!(
            "memory is not locked: LimitMEMLOCK is not infinity, and there is no CAP_IPC_LOCK"
        );
    }
    let all = MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT;
    match mlockall(all) {
        Ok(()) => tracing::info!("memory is locked"),
        Err(error) => tracing::warn!("memory is not locked: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> Result<Command, String> {
        parse(arguments.iter().map(OsString::from))
    }

    #[test]
    fn reads_the_command_line() {
        let config = PathBuf::from(DEFAULT_PATH);
        assert_eq!(parsed(&[]), Ok(Command::Serve { config: config.clone() }));
        assert_eq!(parsed(&["-c", "/x"]), Ok(Command::Serve { config: "/x".into() }));
        assert_eq!(parsed(&["--check"]), Ok(Command::Check { config }));
        assert_eq!(parsed(&["--help", "--colour"]), Ok(Command::Help));
        assert_eq!(parsed(&["--config"]), Err("--config needs a value".to_owned()));
        assert!(parsed(&["--colour"]).unwrap_err().contains("--colour"));
    }

    #[test]
    fn help_names_the_default_configuration() {
        assert!(HELP.contains(DEFAULT_PATH));
    }
}
