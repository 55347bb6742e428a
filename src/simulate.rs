//! `sitegate simulate`: what would happen to a formation, by the project's own simulator: the real protocol and the real
//! deadman, in simulated machines and a simulated network ([`sitegate_simulator::forecast`]).
//!
//! [`jobs`] runs the simulations, [`forecast`] puts together what they came to, [`render`] shows it.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::{Duration, Instant};

use clap::Args;
use sitegate_host::diagnostic::{Period, Source};
use sitegate_member::config::Formation;

use crate::terminal::exit::Exit;
use crate::terminal::failure::Failure;
use crate::terminal::output::{print, print_json};
use crate::terminal::style::Style;

mod forecast;
mod jobs;
mod render;

use forecast::Forecast;

/// What is simulated if no file is given: the formation of the README.
const EXAMPLE: &str = include_str!("simulate/formation.toml");

/// `sitegate simulate`.
#[derive(Debug, Args)]
pub(crate) struct SimulateArgs {
    /// The formation; that of the README unless it is given
    formation: Option<PathBuf>,
    /// How many seconds to simulate, half of them losses of holders and half an undisturbed formation
    #[arg(long, value_name = "N", default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000_000))]
    seconds: u64,
    /// What chance is drawn from: the same seed gives the same result
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// How many of the frames between members are lost
    #[arg(long, value_name = "PERCENT", default_value = "1%")]
    loss: Loss,
    /// What a frame takes from one member to another at least; it takes a quarter longer at most
    #[arg(long, value_name = "TIME", default_value = "10ms")]
    delay: Period,
    /// How many simulations to run at a time; the result is the same [default: one for each processor]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// A share of frames, in parts per million.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Loss(u64);

impl FromStr for Loss {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let percent = text.trim().trim_end_matches('%').trim();
        let number: f64 =
            percent.parse().map_err(|_| format!("\"{text}\" is no percentage: write \"1%\" or \"0.5%\""))?;
        if !(0.0..=99.0).contains(&number) {
            return Err(format!("\"{text}\" is not between 0% and 99%"));
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "at most 990 000, and not negative"
        )]
        let per_million = (number * 10_000.0).round() as u64;
        Ok(Self(per_million))
    }
}

/// Simulates and shows.
///
/// # Errors
/// The formation cannot be used, or the simulation has broken an invariant.
pub(crate) fn run(args: &SimulateArgs) -> Result<(), Failure> {
    let source = match &args.formation {
        Some(path) => Source::read(path)?,
        None => Source::new("formation.toml", EXAMPLE),
    };
    let formation = Formation::parse(&source)?;
    if formation.tickets.is_empty() {
        let why = "the formation has no [ticket.…]: there is nothing to hold, and nothing to lose";
        return Err(Failure::new(Exit::Configuration, why).hint("add the tickets that it is to have"));
    }
    let began = Instant::now();
    let forecast = forecast(args, &formation);
    if args.json {
        print_json(&forecast)?;
    } else {
        print(&render::text(&forecast, began.elapsed(), Style::of_stdout()))?;
    }
    match forecast.violations.first() {
        None => Ok(()),
        Some(violation) => Err(Failure::new(
            Exit::Violated,
            format!("the simulation broke an invariant of the protocol: {violation}"),
        )
        .hint("report it with the formation, the options and this message: this must never happen")),
    }
}

fn forecast(args: &SimulateArgs, formation: &Formation) -> Forecast {
    let began = Instant::now();
    let delay = args.delay.get();
    let conditions = forecast::Conditions {
        seconds: args.seconds,
        seed: args.seed,
        loss_per_million: args.loss.0,
        delay: (delay, delay + delay / 4),
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = args.threads.map_or(cores, usize::from);
    let mut forecast = Forecast::new(formation, &conditions, |jobs| jobs::run_all(jobs, threads));
    forecast.wall_seconds = round(began.elapsed());
    forecast
}

/// To the millisecond.
fn round(length: Duration) -> f64 {
    (length.as_secs_f64() * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_that_of_the_readme() {
        assert!(include_str!("../README.md").contains(EXAMPLE));
        assert!(Formation::parse(&Source::new("formation.toml", EXAMPLE)).is_ok());
    }

    #[test]
    fn losses_are_percentages() {
        assert_eq!("1%".parse(), Ok(Loss(10_000)));
        assert_eq!("0.25 %".parse(), Ok(Loss(2_500)));
        assert_eq!("30".parse(), Ok(Loss(300_000)));
        assert!(["-1%", "100%", "x", ""].iter().all(|text| text.parse::<Loss>().is_err()));
    }
}
