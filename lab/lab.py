"""One formation under a nemesis: lays everything out, hurts it, and records what happens."""

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import checker
import faults
import fencing
import scenarios
from booth import BoothFormation
from etcd import EtcdFormation
from formation import COMMAND_S_MAX, Formation
from history import Log, Tail, read_events, read_writes, writers_of
from machine import until
from nemesis import Nemesis
from network import Network, run
from watchdog import StandIn

# On top of what docs/configuration.md bounds: one duel of candidates (a lease more), and what starts on a busy machine.
DUELS, SLACK_S = 1, 3.0
# And what a thousand hooks take that two cores start, one after the other.
MANY_S, MANY_UP_S = 60.0, 300.0
COMMANDS_AT_ONCE = 8
LOOK_EVERY_S = 0.25
# A thousand writers make a long process table.
LOOK_AT_MANY_EVERY_S = 5.0
# How far a machine's clocks may be ahead of the lab's: some months.
AHEAD_S_MAX = 10_000_000
SYSTEMS = {"sitegate": Formation, "booth": BoothFormation, "etcd": EtcdFormation}


class Lab:
    """`ground` is in memory and vanishes with the lab; `directory` is what is kept."""

    def __init__(self, options, ground, directory, say):
        self.options, self.directory, self.say = options, directory, say
        self.chance = random.Random(f"{options.seed} {options.members}")
        self.writes = directory / "writes"
        self.writes.touch()
        self.writes.chmod(0o666)
        self.log = Log(directory / "history.jsonl")
        clock = ground / "clock"
        clock.touch()
        run(["mount", "--bind", "/proc/self/ns/time", str(clock)])
        self.network = Network("lab", options.members + 1)
        self.network.make()
        self.formation = SYSTEMS[options.sut](options, self.network, ground, directory / "logs", self.writes, clock)
        self.machines, self.sites = self.formation.machines, self.formation.sites
        self.tickets = self.formation.tickets
        self.kinds = set(options.kinds.split(",")) if options.kinds else set(faults.KINDS)
        self.tail = Tail(self.writes, checker.PAUSE_S)
        self.looked = 0.0
        self.movers = []
        times = options.times
        self.failover_s = times.failover_s(len(self.sites))
        self.bound_s = self.failover_s + DUELS * times.lease_s + SLACK_S + (MANY_S if options.many else 0)

    def offsets(self):
        """Of CLOCK_BOOTTIME and CLOCK_MONOTONIC, in whole seconds; a machine's clocks are never below zero."""
        if self.options.scenario or self.options.latency or self.options.fencing:
            # To compare, nobody has anything to overcome but the scenario.
            return [0, 0]
        behind_max = int(time.monotonic()) - 10
        return [self.chance.randint(-behind_max, AHEAD_S_MAX) for _ in range(2)]

    # A run.

    def chaos(self):
        """Returns the verdict."""
        def work():
            self.bring_up(lambda index: self.sites[index % len(self.sites)])
            self.log("plan", faults=self.options.faults, seed=self.options.seed, members=self.options.members)
            Nemesis(self, self.chance, self.options.faults, self.say).run()
            self.end()
        return self.judged(work)

    def scenario(self):
        """One of those that compare systems; returns the verdict, of which only what writers wrote counts."""
        def work():
            self.bring_up(lambda _: scenarios.HOLDER)
            # Any phase of the renewals.
            scenarios.hold(self, self.options.times.expire_s / 2 + self.chance.uniform(0, self.options.times.expire_s / 2))
            at = self.log("begin", kind=self.options.scenario, id="scenario", member=scenarios.HOLDER)
            scenarios.SCENARIOS[self.options.scenario](self)
            self.log("heal", kind=self.options.scenario, id="scenario")
            self.log("revoking")
            self.began = at
        return self.judged(work)

    def fence(self):
        """One scenario of the suite `fencing`; returns the verdict, with figures."""
        def work():
            self.bring_up(lambda _: scenarios.HOLDER)
            fencing.rounds(self)
            if not self.options.many:
                self.end()
        self.judged(work)
        self.verdict["figures"] = fencing.figures(self)
        return self.verdict

    def bring_up(self, place):
        self.formation.prepare()
        if self.options.watched:
            self.watchdogs = {name: StandIn(self, self.machines[name]) for name in self.sites}
            for watchdog in self.watchdogs.values():
                watchdog.start()
        self.formation.start(self.offsets)
        places = {ticket: place(index) for index, ticket in enumerate(self.tickets)}

        def grant(ticket):
            done, said = self.formation.grant(ticket, places[ticket])
            if not done:
                raise RuntimeError(f"{ticket} is not granted: {said}")
        self.for_all(grant)
        if self.options.many:
            until("all tickets are written", self.all_written, MANY_UP_S)
        else:
            until("all tickets are written", self.all_steady(time.monotonic(), 0.2))
        self.log("running")

    def judged(self, work):
        try:
            work()
        except Exception as error:
            self.log("failed", what=repr(error))
            raise
        finally:
            self.verdict = checker.judge(read_writes(self.writes), read_events(self.directory / "history.jsonl"),
                                         self.tickets, self.bound_s)
            # No judgement, but the first thing to look at if something overlaps: a plan that failed kept no promise.
            self.verdict["fence_failures"] = sum(
                log.read_text(errors="replace").count("FENCE FAILED") for log in self.directory.glob("logs/*/sitegate-fenced.log"))
        return self.verdict

    def end(self):
        """Revokes everything: then nothing may run any more."""
        self.log("revoking")

        def revoke(ticket):
            done, said = self.formation.revoke(ticket, self.sites[0])
            if not done:
                self.hung(f"{ticket} is not revoked: {said}")
        self.for_all(revoke)
        self.tail.read_on()
        try:
            until("the last writer ends", lambda: not writers_of(str(self.writes)), self.failover_s)
        except TimeoutError:
            for ticket, site, token in writers_of(str(self.writes)):
                self.hung(f"a writer of {ticket} at {site}, token {token}, is left after the revoke")
        self.log("ended")

    def for_all(self, command):
        """Some at a time; raises what the first raised."""
        with ThreadPoolExecutor(COMMANDS_AT_ONCE) as pool:
            list(pool.map(command, self.tickets))

    def thaw(self):
        """A frozen file system is the one thing that would outlive the lab, and hold on to its loop device."""
        for machine in self.machines.values():
            machine.thaw_if_frozen()

    def hung(self, what):
        self.log("hung", what=what)
        self.say(f"HUNG: {what}")

    # What the nemesis asks for.

    def look(self):
        now = time.monotonic()
        self.tail.read_on()
        if now > self.looked + (LOOK_AT_MANY_EVERY_S if self.options.many else LOOK_EVERY_S):
            self.looked = now
            self.log("processes", writers=writers_of(str(self.writes)))

    def holders(self):
        self.tail.read_on()
        return sorted({write.site for write in self.tail.last.values()})

    def tokens(self):
        """Under which token each ticket was last written."""
        self.tail.read_on()
        return {ticket: write.token for ticket, write in self.tail.last.items()}

    def all_written(self):
        self.look()
        return all(ticket in self.tail.last for ticket in self.tickets)

    def all_steady(self, after, for_s):
        def steady():
            self.look()
            return all(self.tail.is_steady(ticket, after, for_s) for ticket in self.tickets)
        return steady

    def recover(self, healed):
        """Waits until everything is as before; says how long it took."""
        try:
            until("all tickets are held", self.all_steady(healed, checker.STEADY_S), self.bound_s + checker.STEADY_S)
        except TimeoutError as error:
            self.say(f"HUNG: {error}")
        took = time.monotonic() - healed - checker.STEADY_S
        for name in self.machines:
            try:
                until(f"{name} is well", lambda: self.formation.is_well(name), self.bound_s)
            except TimeoutError as error:
                self.hung(str(error))
        return f"recovered within {max(0.0, took):.1f} s"

    def move_something(self, chance, at):
        ticket, site = chance.choice(self.tickets), chance.choice(self.sites)
        through = chance.choice(self.sites)

        def mover():
            time.sleep(max(0.0, at - time.monotonic()))
            began = self.log("move", ticket=ticket, to=site)
            done, said = self.formation.move(ticket, site, through)
            self.log("moved", ticket=ticket, to=site, began=began, done=done, said=said[-200:])

        self.movers.append(threading.Thread(target=mover, daemon=True))
        self.movers[-1].start()

    def finish_moves(self):
        """A command ends, done or not, before the next round."""
        for mover in self.movers:
            mover.join(2 * COMMAND_S_MAX)
            if mover.is_alive():
                self.hung("a move does not return")
        self.movers = []
