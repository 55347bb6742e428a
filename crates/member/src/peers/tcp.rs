//! How TCP is used, and how patiently: all of it sized by the shortest lease, since a connection that is noticed to be
//! dead only after the lease is no use.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::net::sockopt;
use tokio::net::TcpStream;
use tracing::debug;

use crate::config::Formation;

/// How patient to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// To connect to one address, and to shake hands.
    pub connect_within: Duration,
    /// How long a connection may be tried until another one is tried beside it.
    pub again_after: Duration,
    /// The longest pause between attempts to reach a member.
    pub backoff_max: Duration,
    /// How long what was sent may stay unacknowledged until the connection counts as dead.
    pub unanswered_max: Duration,
}

/// Where no ticket says how soon it matters.
const EXPIRE_WITHOUT_TICKETS: Duration = Duration::from_secs(60);

impl Pace {
    /// Of the tickets of `formation`.
    #[must_use]
    pub fn of(formation: &Formation) -> Self {
        let shortest = formation.tickets.values().map(|terms| terms.expire).min();
        let expire = shortest.unwrap_or(EXPIRE_WITHOUT_TICKETS);
        let share = |of: u32, least_ms: u64, most_s: u64| {
            (expire / of).clamp(Duration::from_millis(least_ms), Duration::from_secs(most_s))
        };
        Self {
            connect_within: share(4, 500, 5),
            again_after: share(30, 200, 1),
            backoff_max: share(8, 100, 5),
            unanswered_max: share(8, 1000, 5),
        }
    }
}

/// Probes of an idle connection that may stay unanswered.
const KEEPALIVE_PROBES: u32 = 3;
/// The kernel counts these times in whole seconds.
const KEEPALIVE_UNIT: Duration = Duration::from_secs(1);

/// Lets TCP repeat what is lost without waiting longer each time, six times over. Little is ever on its way here, so nothing
/// is congested by that; and the pauses cost leases. Connections inherit it from what they were accepted by. A kernel that does
/// not know of it repeats at its own pace.
pub(crate) fn repeat_soon(socket: impl AsFd) {
    if let Err(error) = sockopt::set_tcp_thin_linear_timeouts(socket, true) {
        debug!(%error, "TCP waits twice as long after each loss: no TCP_THIN_LINEAR_TIMEOUTS here");
    }
}

/// Sets up a connection with a peer: nothing waits to be sent, and its end is noticed.
///
/// # Errors
/// Those of `setsockopt(2)`.
pub(super) fn set_up(stream: &TcpStream, pace: Pace) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let unanswered_ms = u32::try_from(pace.unanswered_max.as_millis()).unwrap_or(u32::MAX);
    sockopt::set_tcp_user_timeout(stream, unanswered_ms)?;
    sockopt::set_socket_keepalive(stream, true)?;
    let idle = (pace.unanswered_max / 2).max(KEEPALIVE_UNIT);
    sockopt::set_tcp_keepidle(stream, idle)?;
    sockopt::set_tcp_keepintvl(stream, (idle / KEEPALIVE_PROBES).max(KEEPALIVE_UNIT))?;
    sockopt::set_tcp_keepcnt(stream, KEEPALIVE_PROBES)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use sitegate_host::diagnostic::Source;

    use super::*;

    #[test]
    fn the_shortest_lease_sets_the_pace() {
        let text = "formation = \"a\"\nheartbeat = \"300ms\"\nrtt-max = \"50ms\"\n\
            [[member]]\nid = 1\nname = \"a\"\nrole = \"site\"\naddress = [\"a\"]\n\
            [[member]]\nid = 2\nname = \"b\"\nrole = \"site\"\naddress = [\"b\"]\n\
            [ticket-defaults]\nacquire-after = \"2s\"\n[ticket.slow]\nexpire = \"10m\"\n[ticket.quick]\nexpire = \"3s\"\n";
        let pace = Pace::of(&Formation::parse(&Source::new("formation.toml", text)).unwrap());
        let ms = Duration::from_millis;
        assert_eq!(
            pace,
            Pace {
                connect_within: ms(750),
                again_after: ms(200),
                backoff_max: ms(375),
                unanswered_max: ms(1000)
            }
        );
    }
}
