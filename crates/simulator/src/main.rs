//! `sitegate-simulator`: runs seeds of the simulator.

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use serde_json::{Value, json};
use sitegate_simulator::{Coverage, Options, Report, run};

const HELP: &str = "\
Runs the sitegate protocol in a simulated world and checks its invariants.

usage: sitegate-simulator [--seed N] [--runs N] [--seconds N] [--members N] [--tickets N] [--no-faults]
                          [--threads N] [--least N] [--json] [--trace]

  --seed N      the first seed (0)
  --runs N      how many seeds to run (1)
  --seconds N   simulated seconds with faults, per run (60)
  --members N   2 to 15 members; drawn from the seed if not given
  --tickets N   tickets; drawn from the seed if not given
  --no-faults   nothing goes wrong
  --threads N   how many runs at a time (1); the results are the same
  --least N     fails unless every fault, refusal and rare message was met N times in all
  --json        one object on stdout: events, events_per_second_per_core, simulated_seconds, wall_seconds, runs, tenures,
                losses, commands_done, violations, coverage
  --trace       prints every event; with one thread only

A failing run prints the one command that replays it. Exit code 0: no violation; 1: a violation, or too little was met;
2: bad usage.
";

struct Arguments {
    options: Options,
    runs: u64,
    threads: u64,
    least: u64,
    json: bool,
    trace: bool,
}

fn parse() -> Result<Option<Arguments>, String> {
    let options = Options::of(0);
    let mut arguments = Arguments { options, runs: 1, threads: 1, least: 0, json: false, trace: false };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || {
            let value = words.next().ok_or_else(|| format!("{word} takes a number"))?;
            value.parse::<u64>().map_err(|error| format!("{word} {value}: {error}"))
        };
        match word.as_str() {
            "--seed" => arguments.options.seed = number()?,
            "--runs" => arguments.runs = number()?,
            "--seconds" => arguments.options.seconds = number()?,
            "--members" => arguments.options.members = Some(usize::try_from(number()?).unwrap_or(usize::MAX)),
            "--tickets" => arguments.options.tickets = Some(usize::try_from(number()?).unwrap_or(usize::MAX)),
            "--no-faults" => arguments.options.faults = false,
            "--threads" => arguments.threads = number()?.max(1),
            "--least" => arguments.least = number()?,
            "--json" => arguments.json = true,
            #[cfg(sitegate_mutants)]
            "--mutants" => {
                sitegate_simulator::mutants::all().for_each(|(name, bug)| println!("{name}\t{bug}"));
                std::process::exit(0);
            }
            "--trace" => arguments.trace = true,
            "--help" | "-h" => return Ok(None),
            _ => return Err(format!("unknown option {word}")),
        }
    }
    if arguments.trace && arguments.threads > 1 {
        return Err("--trace takes one thread: traces of several runs would be mixed".into());
    }
    Ok(Some(arguments))
}

fn main() -> ExitCode {
    match parse() {
        Ok(None) => {
            print!("{HELP}");
            ExitCode::SUCCESS
        }
        Ok(Some(arguments)) => simulate(&arguments),
        Err(error) => {
            eprintln!("error: {error}\nhint: --help lists the options");
            ExitCode::from(2)
        }
    }
}

/// All runs together.
#[derive(Default)]
struct Sum {
    runs: u64,
    events: u64,
    simulated_ns: u64,
    tenures: u64,
    losses: u64,
    commands_done: u64,
    violations: Vec<Value>,
    coverage: Coverage,
}

impl Sum {
    fn add(&mut self, report: Report) {
        self.runs += 1;
        self.events += report.events;
        self.simulated_ns += report.simulated_ns;
        self.tenures += report.tenures;
        self.losses += report.losses;
        self.commands_done += report.commands_done;
        self.coverage.add(&report.coverage);
        if let Some(violation) = report.violation {
            let at = seconds(violation.at_ns);
            eprintln!("violation of {} at {at:.6} s: {}", violation.invariant, violation.what);
            eprintln!("replay: {}", report.replay);
            self.violations.push(json!({
                "invariant": violation.invariant, "at_seconds": at, "what": violation.what, "replay": report.replay,
            }));
        }
    }
}

/// Runs all seeds, until one violates something.
fn simulate(arguments: &Arguments) -> ExitCode {
    let began = Instant::now();
    let (next, sum) = (AtomicU64::new(0), Mutex::new(Sum::default()));
    std::thread::scope(|scope| {
        for _ in 0..arguments.threads {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= arguments.runs {
                        break;
                    }
                    let options =
                        Options { seed: arguments.options.seed + number, ..arguments.options.clone() };
                    let report = run(options, arguments.trace);
                    if report.violation.is_some() {
                        next.store(arguments.runs, Ordering::Relaxed);
                    }
                    if let Ok(mut sum) = sum.lock() {
                        sum.add(report);
                    }
                }
            });
        }
    });
    let sum = sum.into_inner().unwrap_or_default();
    let missing = if sum.violations.is_empty() { sum.coverage.missing(arguments.least) } else { Vec::new() };
    tell(arguments, &sum, began.elapsed().as_secs_f64());
    for missing in &missing {
        eprintln!("met less than {} times: {missing}", arguments.least);
    }
    if sum.violations.is_empty() && missing.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn tell(arguments: &Arguments, sum: &Sum, wall: f64) {
    let simulated = seconds(sum.simulated_ns);
    let per_core = as_f64(sum.events) / wall / as_f64(arguments.threads);
    let Sum { runs, events, tenures, losses, commands_done, violations, coverage, .. } = sum;
    if arguments.json {
        let mut met = serde_json::Map::new();
        for (kind, name, count) in coverage.iter() {
            met.entry(kind).or_insert_with(|| json!({}))[name] = json!(count);
        }
        let told = json!({
            "runs": runs, "events": events, "events_per_second_per_core": per_core, "simulated_seconds": simulated,
            "wall_seconds": wall, "tenures": tenures, "losses": losses, "commands_done": commands_done,
            "violations": violations, "coverage": met,
        });
        println!("{told}");
        return;
    }
    let found = if violations.is_empty() { "no violation" } else { "VIOLATED" };
    println!(
        "{runs} runs, {events} events ({per_core:.0} a second and thread), {simulated:.0} simulated seconds ({:.0} times real time), {tenures} tenures, {losses} leases lost, {commands_done} commands done, {found}",
        simulated / wall
    );
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn as_f64(count: u64) -> f64 {
    count as f64
}

fn seconds(ns: u64) -> f64 {
    as_f64(ns) / 1e9
}
