//! `sitegate-explorer`: goes through all states of small worlds.

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use serde_json::{Value, json};
use sitegate_simulator::explore::deadman::{self, DeadmanWorld};
use sitegate_simulator::explore::{Case, Outcome, Size, World, planted, worlds};

const HELP: &str = "\
Goes through all states of small worlds with the real protocol and the real deadman in them, and checks their invariants in
each.

usage: sitegate-explorer [--small] [--deadman] [--states N] [--threads N] [--json] [--list] [WORLD...]

  WORLD         only these; without any, all but those with something planted
  --small       only the worlds that the tests explore too
  --deadman     only the worlds of the deadman alone
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
    name: &'static str,
    about: &'static str,
    ticks: u16,
    /// Goes through its states, up to so many.
    explore: Box<dyn Fn(u64) -> Outcome + Send + Sync>,
    /// States and transitions; not known where something is planted.
    expected: Option<(u64, u64)>,
    size: Size,
    /// It is of the deadman alone.
    deadman: bool,
}

struct Arguments {
    names: Vec<String>,
    small: bool,
    deadman: bool,
    states: u64,
    threads: usize,
    json: bool,
    list: bool,
}

fn parse() -> Result<Option<Arguments>, String> {
    let mut arguments = Arguments {
        names: Vec::new(),
        small: false,
        deadman: false,
        states: u64::MAX,
        threads: 1,
        json: false,
        list: false,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--small" => arguments.small = true,
            "--deadman" => arguments.deadman = true,
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
    let unknown = arguments.names.iter().find(|name| !known.iter().any(|task| task.name == **name));
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
            for Task { name, about, ticks, .. } in tasks() {
                println!("{name:<22} {about} ({ticks} ticks)");
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
    let sound = worlds().into_iter().map(|case| known(case, of_members));
    let of_the_deadman = deadman::worlds().into_iter().map(|case| known(case, of_deadman));
    let planted = planted().into_iter().map(|(world, _)| of_members(world));
    let in_the_deadman = deadman::planted().into_iter().map(|(world, _)| of_deadman(world));
    sound.chain(of_the_deadman).chain(planted).chain(in_the_deadman).collect()
}

fn known<W>(case: Case<W>, task: fn(W) -> Task) -> Task {
    let Case { world, size, states, transitions } = case;
    Task { expected: Some((states, transitions)), size, ..task(world) }
}

fn of_members(world: World) -> Task {
    let (name, about, ticks) = (world.name, world.about, world.ticks);
    let explore = Box::new(move |states_max| world.explore(states_max));
    Task { name, about, ticks, explore, expected: None, size: Size::Small, deadman: false }
}

fn of_deadman(world: DeadmanWorld) -> Task {
    let (name, about, ticks) = (world.name, world.about, world.ticks);
    let explore = Box::new(move |states_max| world.explore(states_max));
    Task { name, about, ticks, explore, expected: None, size: Size::Small, deadman: true }
}

fn run(arguments: &Arguments) -> ExitCode {
    let mut chosen = tasks();
    chosen.retain(|task| {
        let named = arguments.names.iter().any(|name| name == task.name);
        let sought = (!arguments.small || task.size == Size::Small) && (!arguments.deadman || task.deadman);
        let usual = task.expected.is_some() && sought;
        if arguments.names.is_empty() { usual } else { named }
    });
    let (next, told) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..arguments.threads {
            scope.spawn(|| {
                while let Some(task) = chosen.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let began = Instant::now();
                    let outcome = (task.explore)(arguments.states);
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
    let (name, held) = (task.name, tenures.len());
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
            "error: {name} should have {:?} states and transitions\nhint: after a wanted change of the protocol or the deadman, write what it has now into its worlds.rs in crates/simulator/src/explore",
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
