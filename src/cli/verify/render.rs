//! A verification for people.

use std::fmt::Write as _;

use sitegate_verify::{Judged, Line, Verdict, Verification};

use crate::terminal::style::Style;
use crate::terminal::table::Table;

/// How many reasons why something is only consistent are told for one ticket; `--json` has them all.
const REASONS_SHOWN: usize = 3;

pub(super) fn text(found: &Verification, style: Style) -> String {
    let mut text = String::new();
    let mut journals = Table::new(&["JOURNAL", "ENTRIES", "FROM", "TO", "CHAIN", "SOURCE"]);
    let number = |number: Option<u64>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
    for about in &found.journals {
        journals.row([
            about.member.clone(),
            about.entries.to_string(),
            number(about.first),
            number(about.last),
            about.chain.to_uppercase().replace("WHOLE", "whole").replace("ROTATED", "rotated"),
            about.source.clone(),
        ]);
    }
    let mut tickets = Table::new(&[
        "TICKET",
        "VERDICT",
        "TENURES",
        "LOSSES",
        "BY ORDER",
        "BY CLOCKS",
        "UNPROVEN",
        "SHORTEST GAP",
        "SITES",
    ]);
    for judged in &found.tickets {
        tickets.row([
            judged.ticket.clone(),
            word(judged.verdict).to_owned(),
            judged.tenures.to_string(),
            judged.losses.to_string(),
            judged.by_order.to_string(),
            judged.by_clocks.to_string(),
            judged.consistent.to_string(),
            judged.gap_min_ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.1} ms")),
            judged.sites.join(", "),
        ]);
    }
    put(&mut text, format_args!("{journals}\n{tickets}"));
    for missing in &found.missing {
        put(&mut text, format_args!("missing: {missing}\n"));
    }
    for judged in &found.tickets {
        details(&mut text, judged, style);
    }
    let verdict = match found.verdict {
        Verdict::Proven => style.good("PROVEN: no two tenures of a ticket overlapped"),
        Verdict::Consistent => {
            style.bold("CONSISTENT: nothing shows that tenures overlapped, and not everything is proven")
        }
        Verdict::Violated => style.bad("VIOLATED: see above"),
    };
    put(&mut text, format_args!("\n{verdict}\n"));
    text
}

const fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Proven => "proven",
        Verdict::Consistent => "consistent",
        Verdict::Violated => "VIOLATED",
    }
}

fn details(text: &mut String, judged: &Judged, style: Style) {
    let unproven: Vec<_> = judged.successions.iter().filter_map(|s| Some((s, s.why.as_ref()?))).collect();
    for (succeeded, why) in unproven.iter().take(REASONS_SHOWN) {
        let (from, to) = (&succeeded.from, &succeeded.to);
        put(
            text,
            format_args!(
                "{}: {} ({}) before {} ({}) is not proven: {why}\n",
                judged.ticket, from.token, from.site, to.token, to.site
            ),
        );
    }
    if let Some(more) = unproven.len().checked_sub(REASONS_SHOWN).filter(|more| *more > 0) {
        put(text, format_args!("{}: and {more} more; --json tells why\n", judged.ticket));
    }
    for finding in &judged.findings {
        put(text, format_args!("\n{} {}: {}\n", style.bad("FOUND"), judged.ticket, finding.text));
        finding.lines.iter().for_each(|line| show(text, line));
    }
}

fn show(text: &mut String, Line { member, seq, at, text: said }: &Line) {
    put(text, format_args!("  {at}  {member:12} {seq:>7}  {said}\n"));
}

fn put(text: &mut String, what: std::fmt::Arguments<'_>) {
    text.write_fmt(what).expect("writing to a String cannot fail");
}
