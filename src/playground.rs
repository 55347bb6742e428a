//! `sitegate playground`: a whole formation on this machine, to try things and to judge it.
//!
//! A [`Ground`](ground) is a directory with all configuration, a [`Daemon`](daemon) a process with its supervisor, a
//! [`Stage`](stage) both together with an [`Observer`](observer) of the shared file. [`scenario`] plays on it, [`live`] shows it,
//! [`figures`] measures it.

use std::future::Future;

use clap::Args;
use clap::ValueEnum;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use tokio::signal::unix::{SignalKind, signal};

mod daemon;
mod figures;
mod ground;
mod live;
mod observer;
mod processes;
mod report;
mod scenario;
mod stage;
mod timeline;
mod writer;
mod writes;

pub(crate) use writer::{WriterCommand, run as run_writer};

use crate::terminal::exit::Exit;
use crate::terminal::failure::Failure;
use scenario::{Scenario, perform};
use timeline::{Timeline, To};

/// `sitegate playground`.
#[derive(Debug, Args)]
pub(crate) struct PlaygroundArgs {
    /// Play and judge this scenario, or all of them
    #[arg(long, value_name = "NAME", value_parser = scenarios(), hide_possible_values = true, group = "task")]
    scenario: Option<Scenarios>,
    /// Measure what the programs take on this machine: latencies, failovers, memory, traffic
    #[arg(long, group = "task")]
    figures: bool,
    /// How often to grant, move and revoke for --figures; a third as often what takes longer
    #[arg(long, value_name = "N", requires = "figures", default_value_t = figures::RUNS_DEFAULT)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    runs: u16,
    /// Print one JSON object a line for each scenario, or one with all figures; the timeline goes to standard error
    #[arg(long, requires = "task")]
    json: bool,
    /// Keep the directory with configuration, logs and the shared file
    #[arg(long)]
    keep: bool,
}

/// Which scenarios to play, in this order.
#[derive(Clone, Debug)]
struct Scenarios(Vec<Scenario>);

fn scenarios() -> impl TypedValueParser<Value = Scenarios> {
    let names = Scenario::value_variants().iter().filter_map(ValueEnum::to_possible_value);
    PossibleValuesParser::new(names.chain([PossibleValue::new("all")])).map(|name| {
        match Scenario::from_str(&name, false) {
            Ok(one) => Scenarios(vec![one]),
            Err(_) => Scenarios(Scenario::value_variants().to_vec()),
        }
    })
}

/// Runs the playground until its scenarios are played, or until Ctrl-C.
///
/// # Errors
/// Something did not hold, or could not be played.
pub(crate) async fn run(args: &PlaygroundArgs) -> Result<(), Failure> {
    match &args.scenario {
        None if args.figures => {
            let measuring = figures::run(args.runs, args.json, args.keep, Timeline::new(To::Talk));
            unless_interrupted(measuring).await
        }
        None => live::run(args.keep).await,
        Some(scenarios) => unless_interrupted(play(&scenarios.0, args)).await,
    }
}

async fn play(scenarios: &[Scenario], args: &PlaygroundArgs) -> Result<(), Failure> {
    let to = if args.json { To::Talk } else { To::Data };
    let mut failed = Vec::new();
    for scenario in scenarios {
        let timeline = Timeline::new(to);
        timeline.say(&format!("{}\n", scenario.name()));
        let report = perform(*scenario, args.keep, timeline.clone()).await?;
        timeline.say(&format!("{report}\n"));
        if args.json {
            crate::terminal::output::print_json_line(&report)?;
        }
        if !report.ok {
            failed.push(scenario.name());
        }
    }
    match (&failed[..], scenarios.len()) {
        ([], _) => Ok(()),
        (_, 1) => Err(Failure::new(Exit::Refused, "the scenario did not hold, see above")),
        (_, n) => Err(Failure::new(
            Exit::Refused,
            format!("{} of {n} scenarios did not hold: {}", failed.len(), failed.join(", ")),
        )),
    }
}

/// Ctrl-C and its like end the playing; all that was started ends with it.
async fn unless_interrupted(playing: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    tokio::select! {
        result = playing => result,
        result = interrupted() => {
            result?;
            Err(Failure::new(Exit::Interrupted, "interrupted; what was started has ended"))
        }
    }
}

/// Waits for Ctrl-C, or for what closing the terminal or `kill` sends.
async fn interrupted() -> Result<(), Failure> {
    let on = |kind| signal(kind).map_err(|error| Failure::machine("listen for signals", &error));
    let (mut interrupt, mut terminate) = (on(SignalKind::interrupt())?, on(SignalKind::terminate())?);
    let mut hang_up = on(SignalKind::hangup())?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hang_up.recv() => {}
    }
    Ok(())
}
