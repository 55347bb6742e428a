//! `cargo xtask mutants`: plants one bug after the other and says what killed it (docs/testing.md, "Mutants").

use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Instant;

use super::{cargo, target_directory};

/// Names the bug to plant, as `crates/simulator/src/mutants.rs` reads it.
const VARIABLE: &str = "SITEGATE_MUTANT";
/// How many seeds each may take, unless told otherwise.
const RUNS: u64 = 2000;
/// The tests that are scenes. Others count exactly what happens, which any change does.
const SCENES: &str = "regressions::";
/// How many states of one world: with a bug there may be more than without, and no end of them.
const STATES: &str = "200000";

struct Arguments {
    json: bool,
    runs: u64,
    names: Vec<String>,
}

/// What came of one.
struct Fate {
    name: String,
    /// What saw it: an invariant and how, or a scene.
    by: Option<String>,
    events: u64,
}

/// Builds the simulator with all bugs in it, in a target directory of its own, and plants each.
///
/// # Errors
/// If one survives, or the build fails, or the unplanted program finds a violation.
pub(super) fn run(arguments: Vec<String>) -> Result<(), String> {
    let arguments = parse(arguments)?;
    let programs = Programs::build()?;
    let all = programs.names()?;
    let chosen: Vec<String> = if arguments.names.is_empty() { all.clone() } else { arguments.names };
    if let Some(unknown) = chosen.iter().find(|name| !all.contains(name)) {
        return Err(format!("there is no planted bug `{unknown}`; without a name all are planted"));
    }
    programs.check_healthy(arguments.runs / 10)?;
    let began = Instant::now();
    let mut survivors = Vec::new();
    for (place, name) in chosen.iter().enumerate() {
        eprintln!("{} of {}: {name}", place + 1, chosen.len());
        let fate = programs.fate(name, arguments.runs)?;
        tell(&fate, arguments.json);
        if fate.by.is_none() {
            survivors.push(name.as_str());
        }
    }
    let seconds = began.elapsed().as_secs();
    eprintln!("{} of {} killed in {seconds} s", chosen.len() - survivors.len(), chosen.len());
    if survivors.is_empty() { Ok(()) } else { Err(format!("not killed: {}", survivors.join(", "))) }
}

fn parse(words: Vec<String>) -> Result<Arguments, String> {
    let mut arguments = Arguments { json: false, runs: RUNS, names: Vec::new() };
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--json" => arguments.json = true,
            "--runs" => {
                let runs = words.next().and_then(|runs| runs.parse().ok());
                arguments.runs = runs.ok_or("--runs takes how many seeds each may take")?;
            }
            name if !name.starts_with('-') => arguments.names.push(word),
            _ => {
                return Err(format!(
                    "unknown option {word}: cargo xtask mutants [--json] [--runs N] [NAME…]"
                ));
            }
        }
    }
    Ok(arguments)
}

fn tell(fate: &Fate, json: bool) {
    let Fate { name, by, events } = fate;
    if json {
        let by = by.as_ref().map_or("null".to_owned(), |by| format!("\"{by}\""));
        println!(
            "{{\"mutant\":\"{name}\",\"killed\":{},\"by\":{by},\"events\":{events}}}",
            fate.by.is_some()
        );
    } else {
        println!("{name:32} {:36} {events}", by.as_deref().unwrap_or("SURVIVED"));
    }
}

/// The simulator and its scenes, with all bugs compiled in and none planted.
struct Programs {
    seeds: PathBuf,
    scenes: PathBuf,
    worlds: PathBuf,
}

impl Programs {
    fn build() -> Result<Self, String> {
        let target = target_directory()?.join("mutants");
        let build = |what: &[&str]| {
            let mut command = cargo();
            command.args(what).args(["--profile", "sim", "--package", "sitegate-simulator"]);
            command.arg("--target-dir").arg(&target).env("RUSTFLAGS", "--cfg sitegate_mutants");
            let output = command.stderr(std::process::Stdio::inherit()).output();
            let output = output.map_err(|error| format!("cannot run cargo: {error}"))?;
            if output.status.success() { Ok(output) } else { Err("the build failed".to_owned()) }
        };
        build(&["build", "--bins"])?;
        let tests = build(&["test", "--lib", "--no-run", "--message-format", "json"])?;
        let text = String::from_utf8_lossy(&tests.stdout).into_owned();
        // The one artifact with an executable is the library's test.
        let scenes = text.lines().rev().find_map(|line| after(line, "\"executable\":\"")?.split('"').next());
        let scenes = scenes.ok_or("cargo did not say where the scenes are")?;
        let [seeds, worlds] =
            ["simulator", "explorer"].map(|name| target.join(format!("sim/sitegate-{name}")));
        Ok(Self { seeds, scenes: PathBuf::from(scenes), worlds })
    }

    fn names(&self) -> Result<Vec<String>, String> {
        let listed = output(Command::new(&self.seeds).arg("--mutants"))?;
        let text = String::from_utf8_lossy(&listed.stdout).into_owned();
        Ok(text.lines().filter_map(|line| line.split('\t').next()).map(str::to_owned).collect())
    }

    /// What is killed without a bug in it proves nothing.
    fn check_healthy(&self, runs: u64) -> Result<(), String> {
        let seeds = self.sweep(None, runs)?;
        let scenes = output(Command::new(&self.scenes).arg(SCENES))?;
        let worlds = output(Command::new(&self.worlds).args(["--small", "--deadman"]))?;
        if [&seeds, &scenes, &worlds].iter().all(|healthy| healthy.status.success()) {
            return Ok(());
        }
        let told = [seeds.stderr, worlds.stderr].concat();
        Err(format!("without any bug planted there is a violation:\n{}", String::from_utf8_lossy(&told)))
    }

    /// Seeds first; what they do not see, the worlds of the deadman may, which take seconds, or a scene, or the explorer's other
    /// worlds.
    fn fate(&self, name: &str, runs: u64) -> Result<Fate, String> {
        let swept = self.sweep(Some(name), runs)?;
        let told = String::from_utf8_lossy(&swept.stdout).into_owned();
        let events =
            after(&told, "\"events\":").map_or("", |rest| rest.split([',', '}']).next().unwrap_or(""));
        let events = events.parse().unwrap_or(0);
        let stderr = String::from_utf8_lossy(&swept.stderr).into_owned();
        let violation = |line: &str| line.strip_prefix("violation of ").map(str::to_owned);
        let seen =
            stderr.lines().find_map(violation).and_then(|rest| rest.split(' ').next().map(str::to_owned));
        if let Some(invariant) = seen {
            return Ok(Fate { name: name.to_owned(), by: Some(format!("seeds, {invariant}")), events });
        }
        if let Some(by) = self.explored(name, &["--deadman"])? {
            return Ok(Fate { name: name.to_owned(), by: Some(by), events });
        }
        let played = output(Command::new(&self.scenes).arg(SCENES).env(VARIABLE, name))?;
        let text = String::from_utf8_lossy(&played.stdout).into_owned();
        let failed = text.lines().find_map(|line| line.strip_prefix("test ")?.strip_suffix(" ... FAILED"));
        let scene = failed.map(|scene| format!("scene {}", scene.rsplit("::").next().unwrap_or(scene)));
        let by = match scene {
            Some(scene) => Some(scene),
            None => self.explored(name, &[])?,
        };
        Ok(Fate { name: name.to_owned(), by, events })
    }

    /// What the explorer finds in its small worlds, or in those that `which` leaves, and in which.
    fn explored(&self, name: &str, which: &[&str]) -> Result<Option<String>, String> {
        let mut command = Command::new(&self.worlds);
        command.args(["--small", "--states", STATES, "--threads", &threads().to_string()]);
        command.args(which);
        let explored = output(command.env(VARIABLE, name))?;
        let text = String::from_utf8_lossy(&explored.stderr).into_owned();
        let seen = after(&text, "violation of ").and_then(|rest| rest.split(':').next());
        Ok(seen.map(|seen| format!("explorer, {seen}")))
    }

    fn sweep(&self, mutant: Option<&str>, runs: u64) -> Result<Output, String> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let mut command = Command::new(&self.seeds);
        command.args([
            "--seed",
            "0",
            "--json",
            "--runs",
            &runs.to_string(),
            "--threads",
            &threads.to_string(),
        ]);
        if let Some(mutant) = mutant {
            command.env(VARIABLE, mutant);
        }
        output(&mut command)
    }
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn output(command: &mut Command) -> Result<Output, String> {
    command.output().map_err(|error| format!("cannot run {}: {error}", command.get_program().display()))
}

/// What follows `mark` in `text`.
fn after<'a>(text: &'a str, mark: &str) -> Option<&'a str> {
    text.split_once(mark).map(|(_, rest)| rest)
}
