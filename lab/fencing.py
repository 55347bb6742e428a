"""`--suite fencing`: the holder loses all its tickets, over and over, and something is wrong with how it fences.

Each scenario hurts paris, which holds all tickets, until lyon has taken them over, heals it, and moves the tickets back. What counts
is the shared file: that nobody wrote after somebody else had begun. What the fence daemon did when is read from its own socket, for
the figures only. Times are those of one clock, as no machine's clocks are ahead here.
"""

import contextlib
import json
import signal
import socket
import statistics
import threading
import time

import checker
from harms import cut_off, daemon_frozen, daemon_killed, fork_bomb, host_dead
from history import read_writes
from machine import until
from scenarios import HOLDER, OTHER, hold

LOOK_EVERY_S = 0.1
# The status of a thousand is long.
LOOK_AT_MANY_EVERY_S = 1.0
SETTLED_S = 0.5


# What happens, besides what `harms.py` has. Each is a context: what it does when it begins, and how that is healed.

@contextlib.contextmanager
def fenced_killed(lab, machine):
    """sitegated stays down, and the fence daemon is killed at any moment up to the end of its plan; its unit restarts it."""
    with daemon_killed(lab, machine):
        hold(lab, lab.chance.uniform(0, lab.options.times.expire_s + 0.5))
        machine.signal("sitegate-fenced", signal.SIGKILL)
        yield


@contextlib.contextmanager
def fenced_frozen(lab, machine):
    """The same with SIGSTOP; its watchdog ends that."""
    with daemon_killed(lab, machine):
        hold(lab, lab.chance.uniform(0, lab.options.times.expire_s))
        machine.signal("sitegate-fenced", signal.SIGSTOP)
        yield


@contextlib.contextmanager
def both_killed(lab, machine):
    """Both at once; the fence daemon is restarted, sitegated is not."""
    machine.signal("sitegate-fenced", signal.SIGKILL)
    with daemon_killed(lab, machine):
        yield


@contextlib.contextmanager
def nobody_left(lab, machine):
    """Both daemons are killed, and nothing restarts either; the watchdog resets the machine, which is long at it."""
    watchdog = lab.watchdogs[machine.name]
    resets = watchdog.resets
    machine.signal("sitegate-fenced", signal.SIGKILL, wanted=False)
    machine.signal("sitegated", signal.SIGKILL, wanted=False)
    yield
    if watchdog.resets != resets + 1:
        raise RuntimeError(f"the watchdog has reset the machine {watchdog.resets - resets} times")
    machine.mend()
    machine.boot(lab.offsets())


@contextlib.contextmanager
def disk_full(lab, machine):
    """Nothing fits on the disk any more, no receipt either, while sitegated is down."""
    machine.fill()
    with daemon_killed(lab, machine):
        yield
    machine.empty()
    lab.formation.restart_after_disk(machine.name)


@contextlib.contextmanager
def levels(lab, machine, *flags):
    for flag in flags:
        (machine.writers / flag).touch()
    with daemon_killed(lab, machine):
        yield
    for flag in flags:
        (machine.writers / flag).unlink()


def second_level(lab, machine):
    """The first level fails."""
    return levels(lab, machine, "fail-1")


def third_level(lab, machine):
    """The first level hangs, the second fails."""
    return levels(lab, machine, "hang-1", "fail-2")


def thousand_lost(lab, machine):
    """SIGKILL to sitegated where a thousand tickets are held: all deadlines come within one heartbeat."""
    return daemon_killed(lab, machine)


SCENARIOS = {function.__name__.replace("_", "-"): function for function in (
    daemon_killed, daemon_frozen, cut_off, fenced_killed, fenced_frozen, both_killed, host_dead, nobody_left, fork_bomb,
    disk_full, second_level, third_level, thousand_lost)}

# These would hurt other formations as well.
ALONE = {"fork-bomb", "thousand-lost"}
# These are in a formation with a thousand tickets, and end when they have been lost once.
MANY = {"thousand-lost"}
# These are in a formation whose sites have a watchdog.
WATCHED = {"nobody-left"}


# A run.

def rounds(lab):
    """Loses all tickets so many times."""
    machine = lab.machines[HOLDER]
    watch = Watch(machine.directory / "fenced-run/fenced.sock", LOOK_AT_MANY_EVERY_S if lab.options.many else LOOK_EVERY_S)
    watch.start()
    lab.watch = watch
    for _ in range(lab.options.rounds):
        # Any phase of the renewals.
        hold(lab, SETTLED_S + lab.chance.uniform(0, 2 * lab.options.times.heartbeat_s))
        began = lab.log("begin", kind=lab.options.fencing, id="scenario", member=HOLDER)
        with SCENARIOS[lab.options.fencing](lab, machine):
            taken = lambda: all_at(lab, OTHER, began)
            until(f"{OTHER} has taken over", taken, lab.bound_s)
            hold(lab, SETTLED_S)
        lab.log("heal", kind=lab.options.fencing, id="scenario")
        if lab.options.many:
            return
        until(f"{HOLDER} is well", lambda: lab.formation.is_well(HOLDER), lab.bound_s)
        # A member that has just been cut off may not reach everybody yet, and lyon takes the ticket back then.
        lab.for_all(lambda ticket: until(f"{ticket} is moved back", lambda: moved_back(lab, ticket), lab.bound_s))
        moved = time.monotonic()
        until(f"{HOLDER} holds everything again", lambda: all_at(lab, HOLDER, moved), lab.bound_s)


def moved_back(lab, ticket):
    began = lab.log("move", ticket=ticket, to=HOLDER)
    done, said = lab.formation.move(ticket, HOLDER, OTHER)
    lab.log("moved", ticket=ticket, to=HOLDER, began=began, done=done, said=said[-200:])
    return done


def all_at(lab, site, after):
    lab.look()
    return all(
        ticket in lab.tail.last and lab.tail.last[ticket].site == site and lab.tail.last[ticket].at > after
        for ticket in lab.tickets)


class Watch(threading.Thread):
    """What the fence daemon says of itself: deadlines, and when fences began and ended."""

    def __init__(self, path, every_s):
        super().__init__(daemon=True)
        self.every_s = every_s
        self.path, self.deadlines, self.receipts = path, {}, {}

    def run(self):
        while True:
            with contextlib.suppress(OSError, ValueError):
                self.follow()
            time.sleep(LOOK_EVERY_S)

    def follow(self):
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(1)
            line.connect(str(self.path))
            lines = line.makefile("rwb")
            while True:
                lines.write(b'{"op":"status"}\n')
                lines.flush()
                status = json.loads(lines.readline())
                # Its clock against the lab's, which is CLOCK_MONOTONIC.
                offset_s = status["now"]["boot_ns"] / 1e9 - time.monotonic()
                for resource in status["resources"]:
                    self.note(resource, offset_s)
                time.sleep(self.every_s)

    def note(self, resource, offset_s):
        if resource["state"] == "armed":
            key = resource["name"], resource["token"]
            self.deadlines[key] = resource["deadline"]["boot_ns"] / 1e9 - offset_s
        receipt = resource["receipt"]
        if receipt:
            key = receipt["resource"], receipt["token"]
            times = [receipt[which]["boot_ns"] / 1e9 - offset_s for which in ("began", "ended")]
            self.receipts.setdefault(key, (receipt["reason"], receipt["level"], *times))


# What came of it.

def figures(lab):
    """Of each tenure of paris that ended by its deadline, the spans from that, in ms."""
    spans = {"begun": [], "written_last": [], "receipt": [], "written_elsewhere": []}
    by_level, losses = {}, 0
    for ticket, tenures in checker.tenures_of(read_writes(lab.writes)).items():
        for older, newer in zip(tenures, tenures[1:]):
            deadline = lab.watch.deadlines.get((ticket, older.token))
            if older.site != HOLDER or newer.site != OTHER:
                continue
            losses += 1
            if deadline is None:
                continue
            reason, level, began, ended = lab.watch.receipts.get((ticket, older.token), (None, None, None, None))
            spans["written_last"].append(older.last - deadline)
            spans["written_elsewhere"].append(newer.first - deadline)
            if reason == "deadline":
                spans["begun"].append(began - deadline)
                spans["receipt"].append(ended - deadline)
                by_level[level] = by_level.get(level, 0) + 1
    # Every change but those back, which were asked for.
    return {"losses": losses, "level": by_level, **{f"deadline_to_{what}_ms": distribution(times) for what, times in spans.items()}}


def distribution(times_s):
    times = sorted(round(1000 * t) for t in times_s)
    if not times:
        return None
    return {"n": len(times), "min": times[0], "median": round(statistics.median(times)),
            "p90": times[min(len(times) - 1, int(0.9 * len(times)))], "max": times[-1]}


def run(options, directory, spawn, wait, say):
    """All scenarios, some at a time, each in a formation of its own. Exit code: 0 if all held."""
    names = options.scenarios.split(",") if options.scenarios else list(SCENARIOS)
    if unknown := [name for name in names if name not in SCENARIOS]:
        say(f"error: no such scenario: {', '.join(unknown)}; there are {', '.join(SCENARIOS)}")
        return 2
    results = []
    together = [name for name in names if name not in ALONE]
    batches = [together[first:first + options.parallel] for first in range(0, len(together), options.parallel)]
    for batch in batches + [[name] for name in names if name in ALONE]:
        say(f"{options.rounds} rounds each of {', '.join(batch)}")
        ended = wait([spawn(options, directory / name, 3, fencing=name, rounds=1 if name in MANY else options.rounds)
                      for name in batch])
        if ended:
            say(ended)
            return 1
        for name in batch:
            results.append(result(directory, name))
            print(json.dumps(results[-1]) if options.json else line_of(results[-1]), flush=True)
    total = {key: sum(r[key] for r in results) for key in ("losses", "overlaps")}
    say(f"{total['losses']} losses, {total['overlaps']} overlaps; kept in {directory}")
    return 0 if all(r["ok"] for r in results) else 1


def result(directory, name):
    path = directory / name / "verdict.json"
    verdict = json.loads(path.read_text()) if path.exists() else {"ok": False, "why": ["no verdict"]}
    return {"scenario": name, "ok": verdict["ok"], "overlaps": verdict.get("overlaps", 0),
            "losses": verdict.get("losses", 0), "why": verdict["why"], **verdict.get("figures", {})}


def line_of(r):
    def span(what):
        times = r.get(f"deadline_to_{what}_ms")
        return f"{times['min']}/{times['median']}/{times['max']}" if times else "-"
    text = (f"{r['scenario']:14s} {'ok' if r['ok'] else 'NOT OK':6s} {r['overlaps']} overlaps in {r['losses']:3d} losses; "
            f"ms from the deadline (min/median/max): begun {span('begun')}, last write {span('written_last')}, "
            f"receipt {span('receipt')}, first write elsewhere {span('written_elsewhere')}")
    return "\n".join([text] + [f"  {why}" for why in r["why"]])
