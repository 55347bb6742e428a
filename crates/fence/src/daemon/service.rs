//! The service manager: that the daemon is ready, alive, reloading, ending. Without one, nothing is said.

use std::time::Duration;

use sd_notify::NotifyState;
use tracing::warn;

use crate::store::with_causes;

/// How often the service manager hears that the loop turns, if it does not say itself.
const WATCHDOG_PERIOD: Duration = Duration::from_secs(10);

pub(super) fn watchdog_period() -> Duration {
    sd_notify::watchdog_enabled().map_or(WATCHDOG_PERIOD, |limit| limit / 3).max(Duration::from_millis(1))
}

/// The start, or a reload, is over.
pub(super) fn ready() {
    tell(&[NotifyState::Ready]);
}

pub(super) fn alive() {
    tell(&[NotifyState::Watchdog]);
}

pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => warn!("cannot tell the service manager of a reload: {}", with_causes(&error)),
    }
}

pub(super) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        warn!("cannot tell the service manager: {}", with_causes(&error));
    }
}
