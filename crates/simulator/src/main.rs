//! `sitegate-simulator`: runs seeds of the simulator.

use std::process::ExitCode;
use std::time::Instant;

use sitegate_simulator::{Options, run};

const HELP: &str = "\
Runs the sitegate protocol in a simulated world and checks its invariants.

usage: sitegate-simulator [--seed N] [--runs N] [--seconds N] [--members N] [--tickets N] [--no-faults] [--trace]

  --seed N      the first seed (0)
  --runs N      how many seeds to run (1)
  --seconds N   simulated seconds with faults, per run (60)
  --members N   2 to 15 members; drawn from the seed if not given
  --tickets N   tickets; drawn from the seed if not given
  --no-faults   nothing goes wrong
  --trace       prints every event

A failing run prints the one command that replays it. Exit code 0: no violation; 1: a violation; 2: bad usage.
";

struct Arguments {
    options: Options,
    runs: u64,
    trace: bool,
}

fn parse() -> Result<Option<Arguments>, String> {
    let mut arguments = Arguments { options: Options::of(0), runs: 1, trace: false };
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
            "--trace" => arguments.trace = true,
            "--help" | "-h" => return Ok(None),
            _ => return Err(format!("unknown option {word}")),
        }
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

fn simulate(arguments: &Arguments) -> ExitCode {
    let began = Instant::now();
    let (mut events, mut simulated_ns, mut tenures, mut losses, mut done) = (0, 0, 0, 0, 0);
    for run_number in 0..arguments.runs {
        let options = Options { seed: arguments.options.seed + run_number, ..arguments.options.clone() };
        let report = run(options, arguments.trace);
        events += report.events;
        simulated_ns += report.simulated_ns;
        tenures += report.tenures;
        losses += report.losses;
        done += report.commands_done;
        if let Some(violation) = report.violation {
            eprintln!(
                "violation of {} at {:.6} s: {}\nreplay: {}",
                violation.invariant,
                seconds(violation.at_ns),
                violation.what,
                report.replay
            );
            return ExitCode::FAILURE;
        }
    }
    let wall = began.elapsed().as_secs_f64();
    println!(
        "{} runs, {events} events ({:.0} a second), {:.0} simulated seconds ({:.0} times real time), {tenures} tenures, {losses} leases lost, {done} commands done, no violation",
        arguments.runs,
        as_f64(events) / wall,
        seconds(simulated_ns),
        seconds(simulated_ns) / wall
    );
    ExitCode::SUCCESS
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn as_f64(count: u64) -> f64 {
    count as f64
}

fn seconds(ns: u64) -> f64 {
    as_f64(ns) / 1e9
}
