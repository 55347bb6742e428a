//! How it goes, for the service manager; and what stays behind when a daemon is told to stop.

use std::sync::Arc;
use std::time::Duration;

use sitegate_protocol::{Deadline, Now, StandingView};
use tokio::time::timeout;
use tracing::{info, warn};

use crate::driver::{Handle, Observed, Request};
use crate::service::Service;
use crate::shared::Shared;

/// How long the loop may take to say how it stands.
const LOOK_WITHIN: Duration = Duration::from_secs(2);

/// Says until when the daemon has to be back, and lets the loop end. Nothing is stopped and nothing is given up: what
/// this site holds stays held, and its fence daemon armed.
pub(super) async fn say_goodbye(handle: Handle, shared: Arc<Shared>) {
    if let Ok(Ok(observed)) = timeout(LOOK_WITHIN, handle.look()).await {
        for (ticket, deadline) in armed(&observed) {
            let left = deadline.remaining(observed.now);
            let at = jiff::Timestamp::now()
                + jiff::SignedDuration::from_nanos(i64::try_from(left.as_nanos()).unwrap_or(i64::MAX));
            let left_ms = left.as_millis();
            warn!(
                ticket,
                left_ms,
                "{ticket} stays held and its fence daemon armed: start again before {at:.0}, or it is fenced"
            );
        }
        if armed(&observed).next().is_none() {
            info!(member = %shared.configuration.get().local.name, "holds nothing: no hurry to start again");
        }
    }
    // A loop that has ended by itself needs no telling.
    let _ = handle.ask(Request::Stop).await;
}

fn armed(observed: &Observed) -> impl Iterator<Item = (String, Deadline)> + '_ {
    observed.view.tickets.iter().filter_map(|(ticket, view)| {
        let deadline = view.local.as_ref()?.deadline?;
        is_ahead(deadline, observed.now).then(|| (ticket.to_string(), deadline))
    })
}

fn is_ahead(deadline: Deadline, now: Now) -> bool {
    !deadline.has_passed(now)
}

/// Tells the service manager how it goes.
pub(super) async fn status_line(handle: Handle, shared: Arc<Shared>, service: Service) {
    let line = match timeout(LOOK_WITHIN, handle.look()).await {
        Ok(Ok(observed)) => describe(&observed, &shared),
        Ok(Err(_gone)) => return,
        Err(_elapsed) => format!("a commit has been running for more than {LOOK_WITHIN:?}"),
    };
    service.status(&line);
}

fn describe(observed: &Observed, shared: &Shared) -> String {
    let standing = match observed.view.standing {
        StandingView::Unborn { .. } => "waits until all members have met",
        StandingView::Recovering => "looks for witnesses",
        StandingView::Settling => "waits before it votes",
        StandingView::Voting => "votes",
        StandingView::Quarantined => "IN QUARANTINE",
    };
    let heard = observed.view.peers.values().filter(|peer| peer.heard_ago.is_some()).count();
    let held: Vec<String> = armed(observed).map(|(ticket, _)| ticket).collect();
    let of = shared.names.others().count();
    if held.is_empty() {
        format!("{standing}; has heard {heard} of {of} others")
    } else {
        format!("{standing}; has heard {heard} of {of} others; holds {}", held.join(", "))
    }
}
