//! Routines of the project: `cargo xtask COMMAND`. Uses nothing but the standard library, so that it is there at once.

mod fuzz;
mod mutants;

use std::collections::BTreeSet;
use std::env;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

const HELP: &str = "\
Usage: cargo xtask COMMAND

Commands:
  playground [ARGS]   build all programs in release and run `sitegate playground ARGS`
  mutants [--json] [--runs N] [NAME…]
                      plant one bug after the other, and say what killed it
  lab [ARGS]          build all programs in release and hurt them in namespaces, as root: `lab/run.py ARGS`
  tree-check          the daemons must depend on no command line parser, certificate making or simulator; the arbitrator
                      on no fencing either
  fuzz [ARGS]         build and run the fuzz targets: `cargo xtask fuzz --help`
  protocol-check      the protocol must depend on nothing but serde, siphasher and the macro of planted bugs
";

fn main() -> ExitCode {
    let mut arguments = env::args_os().skip(1);
    let command = arguments.next().unwrap_or_default();
    let result = match command.to_str() {
        Some("playground") => playground(arguments.collect()),
        Some("mutants") => words(arguments).and_then(mutants::run),
        Some("fuzz") => fuzz::fuzz(arguments),
        Some("lab") => lab(arguments.collect()),
        Some("tree-check") => tree_check(),
        Some("protocol-check") => protocol_check(),
        Some("help" | "-h" | "--help") => {
            print!("{HELP}");
            Ok(())
        }
        Some("") => Err(format!("say what to do\n\n{HELP}")),
        _ => Err(format!("there is no command `{}`\n\n{HELP}", command.display())),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("error: {}", why.trim_end());
            ExitCode::FAILURE
        }
    }
}

fn words(arguments: impl Iterator<Item = OsString>) -> Result<Vec<String>, String> {
    let word = |word: OsString| word.into_string().map_err(|word| format!("what is {}?", word.display()));
    arguments.map(word).collect()
}

/// The packages with programs that the playground and the lab start.
const WITH_PROGRAMS: [&str; 4] = ["sitegate", "sitegate-site", "sitegate-fence", "sitegate-arbitrator"];

fn playground(arguments: Vec<OsString>) -> Result<(), String> {
    let mut play = Command::new(build_programs()?.join("sitegate"));
    play.arg("playground").args(arguments);
    become_it(play)
}

fn lab(arguments: Vec<OsString>) -> Result<(), String> {
    let programs = build_programs()?;
    let mut lab = Command::new("python3");
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../lab/run.py");
    lab.arg(script).arg("--programs").arg(programs).args(arguments);
    become_it(lab)
}

/// The directory with all programs, in release.
fn build_programs() -> Result<PathBuf, String> {
    let mut build = cargo();
    build.args(["build", "--release", "--bins"]);
    for package in WITH_PROGRAMS {
        build.args(["--package", package]);
    }
    let built = build.status().map_err(|error| format!("cannot run cargo: {error}"))?;
    if !built.success() {
        return Err("the build failed".to_owned());
    }
    Ok(target_directory()?.join("release"))
}

/// Takes this process's place, so that Ctrl-C and the exit code are the other's own.
fn become_it(mut other: Command) -> Result<(), String> {
    let error = other.exec();
    Err(format!("cannot run {}: {error}", other.get_program().display()))
}

/// Where cargo put this program: in the directory of its profile, below the target directory.
fn target_directory() -> Result<PathBuf, String> {
    let program = env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?;
    let directory = program.parent().and_then(|profile| profile.parent());
    directory.map(PathBuf::from).ok_or_else(|| format!("{} lies in no target directory", program.display()))
}

/// What must not reach a program, by the beginning of its name: first of `sitegated`, then of the arbitrator.
const NOT_IN: [(&str, &[&str]); 2] = [
    ("sitegate-site", &["clap", "rcgen", "sitegate-simulator", "sitegate-verify", "stateright", "tempfile"]),
    (
        "sitegate-arbitrator",
        &[
            "clap",
            "rcgen",
            "sitegate-fence",
            "sitegate-simulator",
            "sitegate-site",
            "sitegate-verify",
            "tempfile",
        ],
    ),
];

fn tree_check() -> Result<(), String> {
    NOT_IN.iter().try_for_each(|(package, unwanted)| keep_out(package, &tree(package)?, unwanted))
}

/// Fails if `package`, with all that ends up in it, depends on the command line, or on anything that begins like one of `unwanted`.
fn keep_out(package: &str, tree: &BTreeSet<String>, unwanted: &[&str]) -> Result<(), String> {
    let is_unwanted = |name: &&str| *name == "sitegate" || unwanted.iter().any(|one| name.starts_with(one));
    let found: Vec<&str> = tree.iter().map(String::as_str).filter(is_unwanted).collect();
    if found.is_empty() {
        println!("{package}: {} packages, none of them unwanted", tree.len());
        return Ok(());
    }
    Err(format!("{package} must not depend on {}", found.join(", ")))
}

/// All that the protocol may depend on, with what these bring along themselves.
const IN_PROTOCOL: [&str; 10] = [
    "sitegate-protocol",
    // A macro that is `false`, where no bugs are planted:
    "sitegate-mutant",
    "serde",
    "serde_core",
    "serde_derive",
    "siphasher",
    // Of serde's derive macro, at compile time:
    "proc-macro2",
    "quote",
    "syn",
    "unicode-ident",
];

fn protocol_check() -> Result<(), String> {
    let tree = tree("sitegate-protocol")?;
    let unwanted: Vec<&str> =
        tree.iter().map(String::as_str).filter(|name| !IN_PROTOCOL.contains(name)).collect();
    if unwanted.is_empty() {
        println!("sitegate-protocol: serde, siphasher and the macro of planted bugs, nothing else");
        return Ok(());
    }
    Err(format!("sitegate-protocol must not depend on {}", unwanted.join(", ")))
}

/// The names of all packages that end up in `package`, itself included.
fn tree(package: &str) -> Result<BTreeSet<String>, String> {
    let mut command = cargo();
    command.args(["tree", "--package", package, "--edges", "normal", "--prefix", "none", "--format", "{p}"]);
    let output = command.output().map_err(|error| format!("cannot run cargo: {error}"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect())
}

fn cargo() -> Command {
    Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_unwanted_is_found() {
        let tree = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let found =
            keep_out("daemon", &tree(&["clap_complete", "serde", "sitegate"]), &["clap"]).unwrap_err();
        assert_eq!(found, "daemon must not depend on clap_complete, sitegate");
        assert_eq!(keep_out("daemon", &tree(&["serde", "sitegate-protocol"]), &["clap"]), Ok(()));
    }
}
