//! What happens next, and when.

use super::Scene;
use crate::api::types::NextStep;

impl Scene {
    pub(super) fn next(&self) -> Vec<NextStep> {
        let mut next = Vec::new();
        let mut step = |what: String, in_ms: Option<u64>| next.push(NextStep { what, in_ms });
        let ticket = &self.status.ticket;
        if let Some(local) = &self.status.local
            && let Some(remaining) = local.remaining_ms
        {
            step(
                format!("Unless it is renewed until then, {} loses {ticket} and fences it.", self.me),
                Some(remaining),
            );
        }
        if let Some(round) = &self.status.round
            && let Some(first) = round.leased.iter().map(|leased| leased.remaining_ms).max()
        {
            step(
                format!("The last of these leases ends, and {} may acquire {ticket}.", self.me),
                Some(first),
            );
        }
        match (&self.status.holder, self.status.wanted.as_str()) {
            (Some(holder), "revoked") => step(format!("{holder} stops it, fences it and gives it up."), None),
            (Some(holder), _) if *holder != self.me => {
                if let Some(guard) = self.status.guard_remaining_ms {
                    let what = if self.status.takeover == "confirmed" {
                        format!(
                            "Unless {holder} renews, its lease ends; {ticket} then waits for its receipt or an attestation."
                        )
                    } else {
                        format!(
                            "Unless {holder} renews, its lease ends, and another site may take {ticket} over."
                        )
                    };
                    step(what, Some(guard));
                }
            }
            (None, "managed") if self.status.paused => {
                step(format!("Somebody runs `sitegate resume {ticket}`."), None);
            }
            (None, "unset") if self.not_voting.is_some() => {}
            (None, "managed") => step(format!("The best site that wants {ticket} acquires it."), None),
            (None, _) => step(format!("Somebody runs `sitegate grant {ticket} --site SITE`."), None),
            _ => {}
        }
        next
    }
}
