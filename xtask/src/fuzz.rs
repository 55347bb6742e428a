//! `cargo xtask fuzz`: builds the programs in `fuzz/` with what libFuzzer needs, and runs them, without cargo-fuzz, which takes
//! longer to build than all of them. Works with the stable toolchain: without a sanitizer there is nothing unstable in it, and
//! without `unsafe` a sanitizer finds nothing.

use std::collections::VecDeque;
use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::available_parallelism;

use super::{cargo, target_directory};

const HELP: &str = "\
Usage: cargo xtask fuzz [TARGET...] [OPTIONS]

Fuzzes all targets, or those named, and fails if one of them finds something. docs/testing.md, \"Fuzzing\", says more.

Options:
  --seconds N   fuzz each target for so long (default: 60)
  --jobs N      fuzz so many at a time (default: one for each processor)
  --keep        add what was found to cover more to fuzz/corpus, minimised
  --seeds       only write the seeds of fuzz/corpus anew
";

/// What cargo-fuzz passes too: edges are counted, and what is compared is told to libFuzzer.
const RUSTFLAGS: [&str; 7] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "--cfg",
    "fuzzing",
];

/// Of an input, in bytes: `INPUT_BYTES_MAX` of `sitegate-fuzzing`.
const INPUT_BYTES_MAX: u64 = 4096;
/// An input that takes longer, in seconds, counts as found: all of them take milliseconds.
const INPUT_SECONDS_MAX: u64 = 30;
/// A target that takes more memory, in MiB, counts as found.
const MEMORY_MIB_MAX: u64 = 2048;
/// Files that `--keep` adds to a corpus: it is replayed with every `cargo test`.
const KEPT_MAX: usize = 40;

struct Arguments {
    targets: Vec<String>,
    seconds: u64,
    jobs: usize,
    keep: bool,
    seeds: bool,
}

/// Does what the words say.
pub(super) fn fuzz(words: impl Iterator<Item = std::ffi::OsString>) -> Result<(), String> {
    let place = Place::find()?;
    let Some(arguments) = parse(words, &place)? else {
        print!("{HELP}");
        return Ok(());
    };
    if arguments.seeds {
        return write_seeds(&place);
    }
    let triple = host()?;
    build(&place, &triple)?;
    let programs = place.built.join(&triple).join("release");
    let runs: Vec<Run> = arguments.targets.iter().map(|name| Run::new(name, &programs, &place)).collect();
    let outcome = run_all(&runs, &arguments);
    if arguments.keep {
        runs.iter().try_for_each(|run| run.keep(&place))?;
    }
    outcome
}

fn parse(
    mut words: impl Iterator<Item = std::ffi::OsString>,
    place: &Place,
) -> Result<Option<Arguments>, String> {
    let all = place.targets()?;
    let jobs = available_parallelism().map_or(1, usize::from);
    let mut arguments = Arguments { targets: Vec::new(), seconds: 60, jobs, keep: false, seeds: false };
    while let Some(word) = words.next() {
        let word = word.into_string().map_err(|word| format!("what is {}?", word.display()))?;
        let mut number = || {
            let number = words.next().and_then(|number| number.into_string().ok()?.parse().ok());
            number.filter(|number| *number > 0).ok_or_else(|| format!("{word} needs a number\n\n{HELP}"))
        };
        match word.as_str() {
            "--help" | "-h" => return Ok(None),
            "--seconds" => arguments.seconds = number()?,
            "--jobs" => arguments.jobs = usize::try_from(number()?).unwrap_or(usize::MAX),
            "--keep" => arguments.keep = true,
            "--seeds" => arguments.seeds = true,
            name if all.iter().any(|target| target == name) => arguments.targets.push(word),
            other => return Err(format!("there is no target `{other}`; there are {}", all.join(", "))),
        }
    }
    if arguments.targets.is_empty() {
        arguments.targets = all;
    }
    Ok(Some(arguments))
}

/// Where things lie.
struct Place {
    /// The directory `fuzz` of the tree.
    fuzz: PathBuf,
    /// What is built for fuzzing, and what that finds; apart from all else that cargo builds.
    built: PathBuf,
}

impl Place {
    fn find() -> Result<Self, String> {
        let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz");
        let fuzz = fuzz.canonicalize().map_err(|error| format!("cannot find {}: {error}", fuzz.display()))?;
        Ok(Self { fuzz, built: target_directory()?.join("fuzz") })
    }

    fn targets(&self) -> Result<Vec<String>, String> {
        let directory = self.fuzz.join("fuzz_targets");
        let files = list(&directory)?;
        let names = files.iter().filter_map(|file| Some(file.file_stem()?.to_str()?.to_owned()));
        Ok(names.collect())
    }
}

/// The files of a directory, in order.
fn list(directory: &Path) -> Result<Vec<PathBuf>, String> {
    let failed = |error| format!("cannot read {}: {error}", directory.display());
    let entries: Result<Vec<_>, _> = fs::read_dir(directory).map_err(failed)?.collect();
    let mut files: Vec<PathBuf> = entries.map_err(failed)?.into_iter().map(|entry| entry.path()).collect();
    files.sort();
    Ok(files)
}

fn make(directory: &Path) -> Result<(), String> {
    fs::create_dir_all(directory).map_err(|error| format!("cannot make {}: {error}", directory.display()))
}

fn write_seeds(place: &Place) -> Result<(), String> {
    let mut write = cargo();
    write.args(["run", "--quiet", "--package", "sitegate-fuzzing", "--"]).arg(place.fuzz.join("corpus"));
    succeed(&mut write, "writing the seeds")
}

fn build(place: &Place, triple: &str) -> Result<(), String> {
    let mut build = cargo();
    build.args(["build", "--locked", "--release", "--bins", "--target", triple]);
    build.arg("--manifest-path").arg(place.fuzz.join("Cargo.toml"));
    build.arg("--target-dir").arg(&place.built);
    // A target names flags for programs, and none for build scripts and macros.
    build.env("CARGO_ENCODED_RUSTFLAGS", RUSTFLAGS.join("\x1f"));
    succeed(&mut build, "the build (libfuzzer-sys needs a C++ compiler)")
}

/// What rustc builds for unless told otherwise.
fn host() -> Result<String, String> {
    let rustc = Command::new("rustc").arg("-vV").output();
    let text = rustc.map_err(|error| format!("cannot run rustc: {error}"))?.stdout;
    let text = String::from_utf8_lossy(&text).into_owned();
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).ok_or_else(|| "rustc does not say its host".to_owned())
}

fn succeed(command: &mut Command, what: &str) -> Result<(), String> {
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{what} failed: {status}")),
        Err(error) => Err(format!("{what} failed: {error}")),
    }
}

/// One target's part.
struct Run {
    name: String,
    program: PathBuf,
    corpus: PathBuf,
    /// What covers more goes here, not into the tree.
    found: PathBuf,
    /// What fails goes here, as with cargo-fuzz.
    artifacts: PathBuf,
    log: PathBuf,
}

impl Run {
    fn new(name: &str, programs: &Path, place: &Place) -> Self {
        Self {
            name: name.to_owned(),
            program: programs.join(name),
            corpus: place.fuzz.join("corpus").join(name),
            found: place.built.join("found").join(name),
            artifacts: place.fuzz.join("artifacts").join(name),
            log: place.built.join(format!("{name}.log")),
        }
    }

    fn begin(&self, seconds: u64) -> Result<Child, String> {
        make(&self.found)?;
        make(&self.artifacts)?;
        let failed = |error| format!("cannot write {}: {error}", self.log.display());
        let log = File::create(&self.log).map_err(failed)?;
        let mut program = Command::new(&self.program);
        program.arg(format!("-max_total_time={seconds}"));
        program.arg(format!("-max_len={INPUT_BYTES_MAX}"));
        program.arg(format!("-timeout={INPUT_SECONDS_MAX}"));
        program.arg(format!("-rss_limit_mb={MEMORY_MIB_MAX}"));
        program.args(["-fork=0", "-print_final_stats=1"]);
        program.arg(format!("-artifact_prefix={}/", self.artifacts.display()));
        program.args([&self.found, &self.corpus]);
        program.stdin(Stdio::null()).stdout(log.try_clone().map_err(failed)?).stderr(log);
        program.spawn().map_err(|error| format!("cannot run {}: {error}", self.program.display()))
    }

    /// Prints what came of it; true if nothing was found.
    fn end(&self, child: &mut Child) -> Result<bool, String> {
        let status = child.wait().map_err(|error| format!("{}: {error}", self.name))?;
        let log = fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        if status.success() {
            println!("{:<14} {}", self.name, Figures::read(&log));
            return Ok(true);
        }
        for line in log.lines().rev().take(40).collect::<Vec<_>>().iter().rev() {
            println!("{line}");
        }
        println!(
            "{}: found something: {status}; all of it is in {}, and what led to it in {}. Put the file into {} and \
             `cargo test -p sitegate-fuzzing` replays it",
            self.name,
            self.log.display(),
            self.artifacts.display(),
            self.corpus.display()
        );
        Ok(false)
    }

    /// Adds to the corpus of the tree what covers more than it does, smallest first.
    fn keep(&self, place: &Place) -> Result<(), String> {
        let minimised = place.built.join("minimised").join(&self.name);
        if minimised.exists() {
            fs::remove_dir_all(&minimised)
                .map_err(|e| format!("cannot remove {}: {e}", minimised.display()))?;
        }
        make(&minimised)?;
        let mut merge = Command::new(&self.program);
        merge.args(["-set_cover_merge=1", &format!("-max_len={INPUT_BYTES_MAX}")]).arg(&minimised);
        merge.args([&self.corpus, &self.found]).stdout(Stdio::null()).stderr(Stdio::null());
        succeed(&mut merge, "minimising")?;
        let mut files = list(&minimised)?;
        files.sort_by_key(|file| fs::metadata(file).map_or(u64::MAX, |file| file.len()));
        let all = files.len();
        files.truncate(KEPT_MAX);
        for file in &files {
            let to = self.corpus.join(file.file_name().unwrap_or_default());
            fs::copy(file, &to).map_err(|error| format!("cannot write {}: {error}", to.display()))?;
        }
        println!("{:<14} kept {} of {all}", self.name, files.len());
        Ok(())
    }
}

fn run_all(runs: &[Run], arguments: &Arguments) -> Result<(), String> {
    println!("{} targets, {} at a time, {} s each", runs.len(), arguments.jobs, arguments.seconds);
    let (mut running, mut found) = (VecDeque::new(), Vec::new());
    let mut waiting = runs.iter();
    loop {
        let next = if running.len() < arguments.jobs { waiting.next() } else { None };
        if let Some(run) = next {
            running.push_back((run, run.begin(arguments.seconds)?));
            continue;
        }
        // All take as long: the oldest ends first.
        let Some((run, mut child)) = running.pop_front() else { break };
        if !run.end(&mut child)? {
            found.push(run.name.as_str());
        }
    }
    if found.is_empty() { Ok(()) } else { Err(format!("found something with {}", found.join(", "))) }
}

/// What libFuzzer says at its end.
struct Figures<'l> {
    executions: &'l str,
    covered: &'l str,
    features: &'l str,
    memory_mib: &'l str,
}

impl<'l> Figures<'l> {
    fn read(log: &'l str) -> Self {
        let after = |line: &'l str, word: &str| {
            line.split_once(word).and_then(|(_, rest)| rest.split_whitespace().next()).unwrap_or("?")
        };
        let done = log.lines().rev().find(|line| line.contains("DONE")).unwrap_or_default();
        let stat =
            |name: &str| log.lines().find(|line| line.contains(name)).map_or("?", |line| after(line, name));
        Self {
            executions: stat("stat::number_of_executed_units:"),
            covered: after(done, "cov:"),
            features: after(done, "ft:"),
            memory_mib: stat("stat::peak_rss_mb:"),
        }
    }
}

impl std::fmt::Display for Figures<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { executions, covered, features, memory_mib } = self;
        write!(
            f,
            "{executions:>10} executions, {covered:>6} edges, {features:>6} features, {memory_mib:>4} MiB"
        )
    }
}
