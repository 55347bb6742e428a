"""`--suite latency`: how long a grant, a revoke, a move and a failover take, without faults, from the shared file.

A command is counted from before its client starts to its return, and to the first write that proves it. Both systems are asked by
their own command line on the same machine, and start the same writer; booth's through `cluster.py`, sitegate's through a hook written in
Python, whose start is counted too. A failover is a power cut of the holder, less the lease (E + A; E with etcd, which knows no A),
since that is waited for on purpose.
"""

import statistics
import time

from formation import TICKETS
from machine import until
from scenarios import HOLDER, OTHER, hold

TICKET = TICKETS[0]
PATIENCE_S = 30
# Of the things that take E + A each, so many less are done.
FAILOVERS_PER = 4
SETTLED_S = 1.0


class Latency:
    def __init__(self, lab, runs):
        self.lab, self.formation, self.runs = lab, lab.formation, runs
        self.samples = {}

    def run(self):
        self.lab.formation.prepare()
        self.lab.formation.start(self.lab.offsets)
        for _ in range(self.runs):
            self.granted()
            self.revoked()
        for _ in range(self.runs if hasattr(self.formation, "move") else 0):
            self.moved()
        for _ in range(max(1, self.runs // FAILOVERS_PER)):
            self.failed_over()
        return {what: distribution(times) for what, times in self.samples.items()}

    def sample(self, what, seconds):
        self.samples.setdefault(what, []).append(seconds * 1000)

    def timed(self, what, command):
        """Runs a command that has to succeed; gives when it began."""
        began = time.monotonic()
        done, said = command()
        if not done:
            raise RuntimeError(f"{what}: {said}")
        if self.formation.has_commands:
            self.sample(f"{what}: command to done", time.monotonic() - began)
        return began

    def first_write(self, site, after):
        """When `site` first wrote after `after`."""
        def written():
            self.lab.look()
            last = self.lab.tail.last.get(TICKET)
            return last is not None and last.site == site and last.at > after
        until(f"{site} writes", written, PATIENCE_S + self.lab.failover_s)
        return self.lab.tail.since[TICKET, site]

    def granted(self):
        began = self.timed("grant", lambda: self.formation.grant(TICKET, HOLDER))
        self.sample("grant: command to first write", self.first_write(HOLDER, began) - began)
        hold(self.lab, SETTLED_S)

    def revoked(self):
        self.timed("revoke", lambda: self.formation.revoke(TICKET, HOLDER))
        hold(self.lab, SETTLED_S)

    def moved(self):
        if not self.lab.tail.last.get(TICKET) or time.monotonic() - self.lab.tail.last[TICKET].at > SETTLED_S:
            self.formation.grant(TICKET, HOLDER)
            hold(self.lab, SETTLED_S)
        to = OTHER if self.lab.tail.last[TICKET].site == HOLDER else HOLDER
        began = self.timed("move", lambda: self.formation.move(TICKET, to, HOLDER))
        self.sample("move: command to first write elsewhere", self.first_write(to, began) - began)
        hold(self.lab, SETTLED_S)

    def failed_over(self):
        if not self.lab.tail.last.get(TICKET) or time.monotonic() - self.lab.tail.last[TICKET].at > SETTLED_S:
            self.formation.grant(TICKET, HOLDER)
            hold(self.lab, SETTLED_S)
        times = self.lab.options.times
        # Any phase of the renewals.
        hold(self.lab, self.lab.chance.uniform(times.expire_s, 2 * times.expire_s))
        holder = self.lab.tail.last[TICKET].site
        other = OTHER if holder == HOLDER else HOLDER
        began = time.monotonic()
        self.lab.machines[holder].power_off()
        self.sample("failover: power cut to first write elsewhere, less the lease",
                    self.first_write(other, began) - began - self.formation.takeover_s)
        self.lab.machines[holder].mend()
        self.lab.machines[holder].boot(self.lab.offsets())
        until(f"{holder} is well", lambda: self.formation.is_well(holder))
        hold(self.lab, SETTLED_S)


def distribution(times):
    times = sorted(times)
    return {"n": len(times), "min": round(times[0], 1), "median": round(statistics.median(times), 1),
            "p90": round(times[int(0.9 * (len(times) - 1))], 1), "max": round(times[-1], 1)}
