"""The times of a formation under test, and what follows from them."""

from collections import namedtuple

DRIFT, RTT_MAX_S, COMMIT_S = 0.001, 0.1, 0.05


class Times(namedtuple("Times", "heartbeat_s expire_s acquire_after_s watchdog_s")):
    """P, E, A, and WatchdogSec of sitegate-fenced.

    The unit's 3 s fit an E + A of 15 s and more. The restart must be over and the plan done within A of the deadline of a
    lease that was renewed just before the freeze.
    """

    @property
    def lease_s(self):
        return (self.expire_s + self.acquire_after_s) * (1 + DRIFT) / (1 - DRIFT)

    def failover_s(self, sites):
        """docs/configuration.md, the two inequalities."""
        step = 2 * RTT_MAX_S + 2 * COMMIT_S
        return self.lease_s + (sites - 1) * step + 1.5 * RTT_MAX_S + 2 * COMMIT_S


CHAOS = Times(0.3, 3.0, 2.0, 1.0)
# Room in A for three levels of which two are in vain.
FENCING = Times(0.3, 3.0, 4.0, 1.0)
# Room in A for one level, and for the watchdog below it.
WATCHED = Times(0.3, 3.0, 5.0, 1.0)
# Room in A for a plan of each of a thousand tickets, so many at once as `formation.MANY_AT_ONCE` says.
MANY = Times(1.0, 10.0, 35.0, 3.0)
COMPARE = Times(1.0, 8.0, 4.0, 3.0)


def ms(seconds):
    return f"{round(seconds * 1000)}ms"
