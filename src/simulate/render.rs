//! A forecast for people.

use std::fmt::Write as _;
use std::time::Duration;

use super::forecast::{Cost, Failed, Forecast, Ticket};
use crate::terminal::style::Style;
use crate::terminal::table::Table;

pub(super) fn text(forecast: &Forecast, took: Duration, style: Style) -> String {
    let mut text = String::new();
    let Forecast { formation, members, sites, seed, loss_percent, delay_min_ms, delay_max_ms, .. } = forecast;
    put(
        &mut text,
        format_args!(
            "{}\n{:.0} s simulated in {:.1} s, {} events; seed {seed}, {loss_percent} % of all frames lost, {delay_min_ms} to {delay_max_ms} ms each way\n",
            style.bold(&format!("{formation}: {members} members, {sites} of them sites")),
            forecast.simulated_seconds,
            took.as_secs_f64(),
            forecast.events,
        ),
    );
    let heading = "The holder's machine is lost: until another site holds the ticket";
    put(&mut text, format_args!("\n{}\n{}", style.bold(heading), failovers(&forecast.tickets)));
    let heading = "Nothing fails, but frames are lost: tickets lost by that alone";
    put(&mut text, format_args!("\n{}\n{}", style.bold(heading), losses(&forecast.tickets)));
    put(
        &mut text,
        format_args!("\n{}\n{}", style.bold("What a failure costs"), failures(&forecast.failures)),
    );
    text
}

fn named(ticket: &Ticket) -> String {
    match ticket.like.len() {
        0 => ticket.ticket.clone(),
        more => format!("{} (and {more} like it)", ticket.ticket),
    }
}

fn failovers(tickets: &[Ticket]) -> Table {
    let mut table = Table::new(&["TICKET", "LOSSES", "MEDIAN", "P99", "WORST", "BOUND", "NEVER", ""]);
    let seconds = |ms: Option<f64>| ms.map_or_else(|| "-".to_owned(), |ms| format!("{:.1} s", ms / 1000.0));
    for ticket in tickets {
        let late = matches!((ticket.worst_ms, ticket.bound_ms), (Some(worst), Some(bound)) if worst > bound);
        let remark = match (ticket.takeover, late) {
            ("confirmed", _) => "waits for a receipt or an operator's word",
            ("timed", _) if ticket.never > 0 && ticket.never == ticket.failovers => {
                "no other site is left, or no majority"
            }
            (_, true) => "the bound is that of a network that loses nothing",
            _ => "",
        };
        table.row([
            named(ticket),
            ticket.failovers.to_string(),
            seconds(ticket.median_ms),
            seconds(ticket.p99_ms),
            seconds(ticket.worst_ms),
            seconds(ticket.bound_ms),
            ticket.never.to_string(),
            remark.to_owned(),
        ]);
    }
    table
}

fn losses(tickets: &[Ticket]) -> Table {
    let mut table = Table::new(&["TICKET", "LOST", "IN", "A YEAR", "AT 95 %", ""]);
    for ticket in tickets {
        let interval = match ticket.lost {
            0 => format!("fewer than {:.1}", ticket.lost_per_year_high),
            _ => format!("{:.1} to {:.1}", ticket.lost_per_year_low, ticket.lost_per_year_high),
        };
        let remark = if ticket.lost == 0 { "none was seen; more --seconds say more" } else { "" };
        table.row([
            named(ticket),
            ticket.lost.to_string(),
            format!("{} s", ticket.watched_seconds),
            format!("{:.1}", ticket.lost_per_year),
            interval,
            remark.to_owned(),
        ]);
    }
    table
}

/// What costs something, and in one line what does not.
fn failures(failures: &[Failed]) -> String {
    let mut table = Table::new(&["LOST", "TICKET", "WHAT HAPPENS"]);
    let mut harmless = Vec::new();
    for failed in failures {
        let name = match failed.kind {
            "link" => format!("{} <-> {}", failed.fails[0], failed.fails[1]),
            _ => failed.fails.join(" and "),
        };
        if failed.tickets.iter().all(|cost| cost.outcome == "stays") {
            harmless.push(name);
            continue;
        }
        let said: Vec<String> = failed.tickets.iter().map(what_happens).collect();
        if said.len() > 1 && said.windows(2).all(|pair| pair[0] == pair[1]) {
            table.row([name, "all".to_owned(), said[0].clone()]);
            continue;
        }
        for (cost, said) in failed.tickets.iter().zip(said) {
            table.row([name.clone(), cost.ticket.clone(), said]);
        }
    }
    let harmless = if harmless.is_empty() { "nothing".to_owned() } else { harmless.join(", ") };
    format!("{table}No ticket is touched by the loss of: {harmless}\n")
}

fn what_happens(cost: &Cost) -> String {
    match (cost.outcome, &cost.site, cost.unheld_ms) {
        ("stays", Some(site), _) => format!("stays at {site}"),
        ("moves", Some(site), Some(ms)) => format!("held by nobody for {:.1} s, then by {site}", ms / 1000.0),
        ("unheld", ..) => "held by nobody until what was lost is back".to_owned(),
        _ => "was never held: no site could be granted it".to_owned(),
    }
}

fn put(text: &mut String, what: std::fmt::Arguments<'_>) {
    text.write_fmt(what).expect("writing to a String cannot fail");
}
