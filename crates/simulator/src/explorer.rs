//! `sitegate-explorer`: goes through all states of small worlds.

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use serde_json::{Value, json};
use sitegate_simulator::explore::{Case, Outcome, Size, World, planted, worlds};

const HELP: &str = "\
Goes through all states of small worlds with the real protocol in them, and checks its invariants in each.

usage: sitegate-explorer [--small] [--states N] [--threads N] [--json] [--list] [WORLD...]

  WORLD         only these; without any, all but those with something planted
  --small       only the worlds that the tests explore too
  --states N    gives up on a world with more states
  --threads N   how many worlds at a time (1)
  --json        one object on stdout: worlds (each with states, transitions, tenures, wall_seconds,
                complete, violation)
  --list        names the worlds, and what is in them

A violation is told with everything that led to it. Exit code 0: no violation, and as many states as there should be;
1: otherwise; 2: bad usage.
";

/// What is to be explored, and what should come of it.
struct Task {
    world: World,
    /// States and transitions; not known where something is planted.
    expected: Option<(u64, u64)>,
    size: Size,
}

struct Arguments {
    names: Vec<String>,
    small: bool,
    states: u64,
    threads: usize,
    json: bool,
    list: bool,
}

fn parse() -> Result<Option<Arguments>, String> {
    let mut arguments =
        Arguments { names: Vec::new(), small: false, states: u64::MAX, threads: 1, json: false, list: false };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--small" => arguments.small = true,
            "--json" => arguments.json = true,
            "--list" => arguments.list = true,
            "--states" => arguments.states = number(&word, words.next())?,
            "--threads" => {
                arguments.threads = usize::try_from(number(&word, words.next())?).unwrap_or(1).max(1);
            }
            "--help" | "-h" => return Ok(None),
            option if option.starts_with('-') => return Err(format!("unknown option {option}")),
            _ => arguments.names.push(word),
        }
    }
    let known = tasks();
    let unknown = arguments.names.iter().find(|name| !known.iter().any(|task| task.world.name == **name));
    match unknown {
        Some(name) => Err(format!("there is no world {name}")),
        None => Ok(Some(arguments)),
    }
}

fn number(option: &str, value: Option<String>) -> Result<u64, String> {
    let value = value.ok_or_else(|| format!("{option} takes a number"))?;
    value.parse().map_err(|error| format!("{option} {value}: {error}"))
}

fn main() -> ExitCode {
    match parse() {
        Ok(None) => {
            print!("{HELP}");
            ExitCode::SUCCESS
        }
        Ok(Some(arguments)) if arguments.list => {
            for Task { world, .. } in tasks() {
                println!("{:<22} {} ({} ticks)", world.name, world.about, world.ticks);
            }
            ExitCode::SUCCESS
        }
        Ok(Some(arguments)) => run(&arguments),
        Err(error) => {
            eprintln!("error: {error}\nhint: --help lists the options, --list the worlds");
            ExitCode::from(2)
        }
    }
}

fn tasks() -> Vec<Task> {
    let sound = worlds().into_iter().map(|Case { world, size, states, transitions }| Task {
        world,
        expected: Some((states, transitions)),
        size,
    });
    let planted = planted().into_iter().map(|(world, _)| Task { world, expected: None, size: Size::Small });
    sound.chain(planted).collect()
}

fn run(arguments: &Arguments) -> ExitCode {
    let mut chosen = tasks();
    chosen.retain(|task| {
        let named = arguments.names.iter().any(|name| name == task.world.name);
        let usual = task.expected.is_some() && (!arguments.small || task.size == Size::Small);
        if arguments.names.is_empty() { usual } else { named }
    });
    let (next, told) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..arguments.threads {
            scope.spawn(|| {
                while let Some(task) = chosen.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let began = Instant::now();
                    let outcome = task.world.explore(arguments.states);
                    let (well, value) = tell(arguments, task, &outcome, began.elapsed().as_secs_f64());
                    if let Ok(mut told) = told.lock() {
                        told.push((well, value));
                    }
                }
            });
        }
    });
    let told = told.into_inner().unwrap_or_default();
    if arguments.json {
        let worlds: Vec<&Value> = told.iter().map(|(_, value)| value).collect();
        println!("{}", json!({ "worlds": worlds }));
    }
    if told.iter().all(|(well, _)| *well) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Tells what came of a world. True if it is as it should be.
fn tell(arguments: &Arguments, task: &Task, outcome: &Outcome, wall: f64) -> (bool, Value) {
    let Outcome { states, transitions, widest, tenures, complete, violation } = outcome;
    let (name, held) = (task.world.name, tenures.len());
    if !arguments.json {
        println!(
            "{name}: {states} states, {transitions} transitions, at most {widest} of one tick, {held} tenures, {wall:.1} s"
        );
    }
    if let Some(violation) = violation {
        eprintln!("violation of {} in {name}: {}", violation.invariant, violation.what);
        violation.steps.iter().for_each(|step| eprintln!("  {step}"));
    }
    let as_known = task.expected.is_none_or(|expected| *complete && expected == (*states, *transitions));
    if violation.is_none() && !as_known {
        eprintln!(
            "error: {name} should have {:?} states and transitions\nhint: after a wanted change of the protocol, write what it has now into crates/simulator/src/explore/worlds.rs",
            task.expected.unwrap_or_default()
        );
    }
    let found =
        violation.as_ref().map(|v| json!({ "invariant": v.invariant, "what": v.what, "steps": v.steps }));
    let value = json!({
        "world": name, "states": states, "transitions": transitions, "widest": widest, "tenures": held,
        "wall_seconds": wall, "complete": complete, "violation": found,
    });
    (violation.is_none() && as_known, value)
}
