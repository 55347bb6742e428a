//! [`Checked`] as text.

use std::fmt;

use sitegate_host::diagnostic::{Diagnostic, Period};
use sitegate_member::config::timing::{FENCE_MARGIN, LOST_HEARTBEATS_MIN, WAKE_LATENESS_MAX};

use crate::checked::{Checked, CheckedFencing, CheckedTicket, millis};

impl fmt::Display for Checked {
    /// Several lines, with a newline at the end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "formation {}, digest {}", self.formation, &self.digest[..12])?;
        writeln!(f, "{} members, of which {} are a majority", self.members, self.majority)?;
        if let Some(me) = &self.me {
            writeln!(f, "this host is {me}")?;
        }
        writeln!(
            f,
            "heartbeat {}, rtt-max {}, clock drift up to {} ppm, recovery-wait {}",
            length(self.heartbeat_ms),
            length(self.rtt_max_ms),
            self.max_clock_drift_ppm,
            length(self.recovery_wait_ms)
        )?;
        for ticket in &self.tickets {
            writeln!(f)?;
            self.fmt_ticket(ticket, f)?;
        }
        for (kind, lines) in [("warning", &self.warnings), ("problem", &self.problems)] {
            if !lines.is_empty() {
                writeln!(f)?;
            }
            lines.iter().try_for_each(|line| writeln!(f, "{kind}: {line}"))?;
        }
        Ok(())
    }
}

impl Checked {
    fn fmt_ticket(&self, ticket: &CheckedTicket, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "ticket {}", ticket.name)?;
        writeln!(
            f,
            "  expire {}, acquire-after {}, takeover {}, order {}",
            length(ticket.expire_ms),
            length(ticket.acquire_after_ms),
            ticket.takeover,
            ticket.order.join(", ")
        )?;
        writeln!(
            f,
            "  renewal   ({LOST_HEARTBEATS_MIN}+1)·{} heartbeat + 2·{} rtt-max + {} margin = {} <= {} = expire·(1−ρ): \
             survives {} lost heartbeats",
            length(self.heartbeat_ms),
            length(self.rtt_max_ms),
            length_of(WAKE_LATENESS_MAX),
            length(ticket.renewal.needed_ms),
            length(ticket.renewal.available_ms),
            ticket.renewal.lost_heartbeats
        )?;
        match &ticket.fencing {
            None => writeln!(f, "  fencing   no fence plan for it here")?,
            Some(fencing) => fmt_fencing(fencing, ticket, f)?,
        }
        match (ticket.failover_ms, ticket.failover_last_ms, ticket.deaf_failover_ms) {
            (Some(first), Some(last), Some(deaf)) => {
                writeln!(f, "  failover  at most {} after the holder is lost,", length(first))?;
                writeln!(f, "            {} if only the last in the order is willing,", length(last))?;
                writeln!(f, "            {} if the holder can send but not hear", length(deaf))
            }
            _ => writeln!(f, "  failover  after a fence receipt or an attestation, however long that takes"),
        }
    }
}

fn fmt_fencing(fencing: &CheckedFencing, ticket: &CheckedTicket, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let relation = if fencing.holds { "<=" } else { ">" };
    writeln!(
        f,
        "  fencing   {} plan + {} margin = {} {relation} {} = acquire-after·(1−ρ): the minimum of acquire-after is {}{}",
        length(fencing.plan_ms),
        length_of(FENCE_MARGIN),
        length(fencing.needed_ms),
        length(fencing.available_ms),
        length(fencing.acquire_after_min_ms),
        if ticket.takeover == "confirmed" { ", but takeover waits for the receipt" } else { "" }
    )
}

/// What broke inequality 2.
pub(super) fn fence_too_long(ticket: &CheckedTicket, fencing: &CheckedFencing) -> String {
    format!(
        "ticket {}: fencing may take {} ({} plan + {} margin), longer than acquire-after·(1−ρ) = {}; raise acquire-after to {} \
         or more, or shorten the plan",
        ticket.name,
        length(fencing.needed_ms),
        length(fencing.plan_ms),
        length_of(FENCE_MARGIN),
        length(fencing.available_ms),
        length(fencing.acquire_after_min_ms)
    )
}

/// A diagnostic about a whole file, as a warning.
pub(super) fn in_one_line(diagnostic: &Diagnostic) -> String {
    let advice = diagnostic.advice().map(|advice| format!("; {advice}")).unwrap_or_default();
    format!("{}: {}{advice}", diagnostic.file().display(), diagnostic.cause())
}

/// As in "45s", "59.94s" or "300ms"; minutes and hours only where they are whole.
fn length(millis: u64) -> String {
    if millis >= 1000 && !millis.is_multiple_of(1000) {
        let decimals = format!("{}.{:03}", millis / 1000, millis % 1000);
        return format!("{}s", decimals.trim_end_matches('0'));
    }
    Period::from_millis(millis).to_string()
}

fn length_of(length_of: std::time::Duration) -> String {
    length(millis(length_of))
}
