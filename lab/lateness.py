#!/usr/bin/env python3
"""How late the fence daemon is: python3 lab/lateness.py --programs DIR [--deadlines N] [--load LOAD…] [--json]

Arms resources, each with a process that was started under it, and lets their deadlines pass, a few milliseconds apart, on a
machine that is idle or loaded. For each deadline four spans, on the clock by which it passed first:

  struck    from the deadline to the first strike at the resource's control groups, as the daemon's log has it; none without them
  decided   to the daemon's beginning of the fence, as the receipt has it (`began`)
  killed    to the death of the process, as somebody sees who waits for it (pidfd); the watcher's own waking is counted
  receipt   to the durable receipt's arrival at the client

As root the daemon runs as its unit has it, at nice -15 and with its memory locked; otherwise it says that it does not. `together`
is another experiment: so many deadlines at the same moment, and the spans to the first and the last death.

Loads: `idle`; `cpu` (two busy loops a core); `disk` (two writers with fsync on the disk of the daemon's state); `memory` (all
but --leave-mib of the machine's memory taken and written over and over, so that the kernel drops whatever it may).
"""

import argparse
import contextlib
import json
import os
import platform
import queue
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

NICE = -15  # as conf/systemd/sitegate-fenced.service
RESOURCES = 100
SPACING_S = 0.01
AHEAD_S = 1.0  # until the first deadline of a round: everything is armed and started by then
PATIENCE_S = 120.0
TAKING_S = 600.0  # a hypervisor may give memory slowly
TOGETHER = 1000
FAR_NS = 3600 * 10**9
LAST_WORDS = 2000
TAKEN_MIB = 64  # at a time
LATE = re.compile(r"was struck after its deadline.*late_us=(\d+)")
CONFIG = """state-dir = "{directory}/state"
runtime-dir = "{run}"
concurrency = 32
kill-within = "5s"
[log]
filter = "info"
"""
RESOURCE = """[resource.r{i}]
start = {{ command = ["/bin/sh", "-c", "sleep 1000000 & echo $! > {run}/r{i}.pid"], within = "60s" }}
fence = [{{ driver = "command", command = ["/bin/true"], within = "60s" }}]
last-level-may-fail = true
"""


def since(deadline, at):
    """How long it has passed, in ns: it has when one of the clocks says so, and they do not run alike."""
    return max(at[clock] - deadline[clock] for clock in ("boot_ns", "raw_ns"))


def now(offset_ns=0):
    return {
        "boot_ns": time.clock_gettime_ns(time.CLOCK_BOOTTIME) + offset_ns,
        "raw_ns": time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW) + offset_ns,
    }


class Client:
    """A connection to the daemon; replies by their ids, events as they come, each with when it was read."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.connect(str(path))
        self.lines = self.socket.makefile("rwb")
        self.ids = 0

    def send(self, **request):
        self.ids += 1
        self.lines.write(json.dumps({"id": self.ids, **request}).encode() + b"\n")

    def read(self):
        line = self.lines.readline()
        if not line:
            raise ConnectionError("the daemon has closed a connection")
        return json.loads(line)

    def ask_all(self, requests):
        """Asks all at once and reads as many replies; any of them that says no ends the measurement."""
        for request in requests:
            self.send(**request)
        self.lines.flush()
        for _ in requests:
            reply = self.read()
            if reply.get("reply") in ("refused", "error") or reply.get("failed"):
                raise SystemExit(f"error: the daemon says {reply}")


class Events(threading.Thread):
    """What the daemon tells, read at once: who does not read is disconnected."""

    def __init__(self, path):
        super().__init__(daemon=True)
        self.client, self.queue = Client(path), queue.SimpleQueue()
        self.client.ask_all([{"op": "hello", "watch": True}])
        self.start()

    def run(self):
        with contextlib.suppress(OSError):
            while True:
                event = self.client.read()
                self.queue.put((now(), event))
        self.queue.put(None)

    def next(self):
        """When it came, and what."""
        got = self.queue.get(timeout=PATIENCE_S)
        if got is None:
            raise ConnectionError("the daemon has closed a connection")
        return got


class Daemon:
    def __init__(self, programs, directory, resources):
        # Leases and socket lie in memory, as /run does; the state on a disk.
        self.run = Path(tempfile.mkdtemp(prefix="lateness-", dir="/dev/shm"))
        self.directory, self.resources, self.token, self.fenced, self.struck = directory, resources, 0, 0, 0
        text = CONFIG.format(directory=directory, run=self.run)
        text += "".join(RESOURCE.format(i=i, run=self.run) for i in range(resources))
        (directory / "fenced.toml").write_text(text)
        self.log = directory / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [programs / "sitegate-fenced", "--config", directory / "fenced.toml"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                # Before its threads are there: each has a priority of its own.
                preexec_fn=lambda: os.nice(NICE if os.geteuid() == 0 else 0),
            )
        until = time.monotonic() + PATIENCE_S
        while not (self.run / "fenced.sock").exists():
            if self.process.poll() is not None or time.monotonic() > until:
                raise SystemExit(f"error: sitegate-fenced does not start: {self.log.read_text()}")
            time.sleep(0.01)

        self.asks, self.events = Client(self.run / "fenced.sock"), Events(self.run / "fenced.sock")

    def start_all(self, count):
        """Arms and starts so many resources; the pids of what runs then."""
        self.token += 1
        names = [f"r{i}" for i in range(count)]
        far = now(FAR_NS)
        self.asks.ask_all([{"op": "arm", "resource": n, "token": self.token, "deadline": far} for n in names])
        self.asks.ask_all([{"op": "start", "resource": n, "token": self.token} for n in names])
        return {name: int((self.run / f"{name}.pid").read_text()) for name in names}

    def strikes(self, count):
        """How late the first strikes at these `count` resources were, in ns, once the log, which is written aside, tells of all their
        receipts. Fewer than that, if all was dead before a strike began, and none without control groups."""
        self.fenced += count
        until = time.monotonic() + PATIENCE_S
        while (text := self.log.read_text()).count("fenced: ") < self.fenced:
            if time.monotonic() > until:
                raise SystemExit(f"error: the log does not tell of {self.fenced} receipts: {text[-LAST_WORDS:]}")
            time.sleep(0.1)
        late = [int(us) * 1000 for us in LATE.findall(text)]
        new, self.struck = late[self.struck:], len(late)
        return new

    def stop(self):
        self.process.terminate()
        self.process.wait()
        # What is still armed goes on running without the daemon.
        for file in self.run.glob("*.pid"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(file.read_text()), signal.SIGKILL)
        shutil.rmtree(self.run)


class Watcher(threading.Thread):
    """Notes when each of some processes has died."""

    def __init__(self, pids):
        super().__init__()
        self.died, self.names, self.epoll = {}, {}, select.epoll()
        for name, pid in pids.items():
            fd = os.pidfd_open(pid)
            self.names[fd] = name
            self.epoll.register(fd, select.EPOLLIN)

    def run(self):
        until = time.monotonic() + PATIENCE_S
        while len(self.died) < len(self.names) and time.monotonic() < until:
            ready = self.epoll.poll(1)
            at = now()
            for fd, _ in ready:
                self.died[self.names[fd]] = at
                self.epoll.unregister(fd)
                os.close(fd)


def let_pass(daemon, count, spacing_s):
    """Lets so many deadlines pass; for each the spans until all came of it, in ns; and how late the strikes were."""
    watcher = Watcher(daemon.start_all(count))
    watcher.start()
    deadlines = {f"r{i}": now(int((AHEAD_S + i * spacing_s) * 1e9)) for i in range(count)}
    daemon.asks.ask_all([{
        "op": "extend",
        "set": [{"deadline": at, "resources": [[name, daemon.token]]} for name, at in deadlines.items()],
    }])
    spans = {}
    while len(spans) < count:
        at, event = daemon.events.next()
        if event.get("event") == "receipt":
            due = deadlines[event["resource"]]
            spans[event["resource"]] = {"decided": since(due, event["began"]), "receipt": since(due, at)}
    watcher.join(PATIENCE_S)
    for name in deadlines:
        if name not in watcher.died:
            raise SystemExit(f"error: there is a receipt for {name}, whose process lives")
        spans[name]["killed"] = since(deadlines[name], watcher.died[name])
    return list(spans.values()), daemon.strikes(count)


def in_ms(ns):
    return round(ns / 1e6, 3)


def distribution(values_ns):
    values = sorted(values_ns)

    def of(share):
        return in_ms(values[min(len(values) - 1, int(share * len(values)))])
    return {"n": len(values), "median_ms": of(0.5), "p99_ms": of(0.99), "p99.9_ms": of(0.999), "max_ms": of(1)}


# Loads.

def busy():
    while True:
        pass


def write(directory):
    block = os.urandom(1 << 20)
    while True:
        with open(directory / f"load-{os.getpid()}", "wb") as file:
            for _ in range(16):
                file.write(block)
            file.flush()
            os.fsync(file.fileno())


def take_memory(leave_mib):
    page, held = 4096, []
    while True:
        while available_mib() > leave_mib + TAKEN_MIB:
            held.append(bytearray(os.urandom(1 << 20) * TAKEN_MIB))
        for block in held:
            block[::page] = os.urandom(len(block) // page)


def available_mib():
    return int(Path("/proc/meminfo").read_text().split("MemAvailable:")[1].split()[0]) // 1024


LOADS = {
    "idle": lambda directory, leave_mib: [],
    "cpu": lambda directory, leave_mib: [busy] * (2 * os.cpu_count()),
    "disk": lambda directory, leave_mib: [lambda: write(directory)] * 2,
    "memory": lambda directory, leave_mib: [lambda: take_memory(leave_mib)],
}


@contextlib.contextmanager
def load(kind, directory, leave_mib):
    children = []
    for work in LOADS[kind](directory, leave_mib):
        pid = os.fork()
        if pid == 0:
            # If memory runs out after all, this is whom the kernel shall end.
            Path("/proc/self/oom_score_adj").write_text("1000")
            work()
        children.append(pid)
    try:
        if kind == "memory":
            until = time.monotonic() + TAKING_S
            while available_mib() > leave_mib + 2 * TAKEN_MIB:
                if time.monotonic() > until:
                    raise SystemExit("error: the memory could not be taken in time")
                time.sleep(0.1)
        yield
        for pid in children:
            if os.waitpid(pid, os.WNOHANG) != (0, 0):
                raise SystemExit(f"error: the load `{kind}` has ended before the measurement")
    finally:
        for pid in children:
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(pid, 9)
                os.waitpid(pid, 0)


def measure(arguments, kind, directory):
    daemon = Daemon(arguments.programs, directory, TOGETHER)
    try:
        with load(kind, directory, arguments.leave_mib):
            rounds = [let_pass(daemon, RESOURCES, SPACING_S) for _ in range(-(-arguments.deadlines // RESOURCES))]
            together, strikes_together = let_pass(daemon, TOGETHER, 0)
    except (ConnectionError, queue.Empty) as error:
        raise SystemExit(f"error: {error!r}; the last that it wrote:\n{daemon.log.read_text()[-LAST_WORDS:]}") from error
    finally:
        daemon.stop()
    apart = [spans for each, _ in rounds for spans in each]
    strikes = [late for _, each in rounds for late in each]
    result = {what: distribution([spans[what] for spans in apart]) for what in ("decided", "killed", "receipt")}
    if strikes:
        result["struck"] = distribution(strikes)
    result["together"] = {
        "n": TOGETHER,
        "last_struck_ms": in_ms(max(strikes_together, default=0)),
        "first_killed_ms": in_ms(min(spans["killed"] for spans in together)),
        "last_killed_ms": in_ms(max(spans["killed"] for spans in together)),
        "last_receipt_ms": in_ms(max(spans["receipt"] for spans in together)),
    }
    early = [(what, in_ms(spans[what])) for spans in apart + together for what in spans if spans[what] < 0]
    log = daemon.log.read_text()
    return {"load": kind, "early": early, "locked": "memory is locked" in log, **result}


def show(result):
    locked = "" if result["locked"] else ", memory not locked"
    print(f"{result['load']}{locked}")
    for what in ("struck", "decided", "killed", "receipt"):
        of = result.get(what)
        if of is None:
            continue
        print(
            f"  {what:8} {of['median_ms']:9.3f} ms median {of['p99_ms']:9.3f} p99 {of['p99.9_ms']:9.3f} p99.9"
            f" {of['max_ms']:9.3f} max of {of['n']}"
        )
    of = result["together"]
    print(
        f"  {of['n']} at once: last struck after {of['last_struck_ms']} ms, first killed after {of['first_killed_ms']} ms, last after {of['last_killed_ms']},"
        f" last receipt {of['last_receipt_ms']}"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", type=Path, required=True, help="where sitegate-fenced is")
    parser.add_argument("--deadlines", type=int, default=10_000, help="how many, for each load (10000)")
    parser.add_argument("--load", nargs="+", choices=LOADS, default=["idle", "cpu", "disk"], help="which loads")
    parser.add_argument("--leave-mib", type=int, default=1500, help="what the load `memory` leaves (1500)")
    parser.add_argument("--directory", type=Path, help="where the daemon's state lies (a new one in /var/tmp)")
    parser.add_argument("--json", action="store_true", help="one object for each load")
    arguments = parser.parse_args()
    if not arguments.json:
        cpu = [line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")]
        as_unit = "as its unit has it" if os.geteuid() == 0 else "without its unit's priority"
        print(f"{len(cpu)} cores, {cpu[0]}, Linux {platform.release()}; the daemon {as_unit}")
    worst = 0
    for kind in arguments.load:
        with tempfile.TemporaryDirectory(prefix="lateness-", dir=arguments.directory or "/var/tmp") as directory:
            result = measure(arguments, kind, Path(directory))
        worst += len(result["early"])
        if arguments.json:
            print(json.dumps(result), flush=True)
        else:
            show(result)
    if worst:
        sys.exit(f"error: {worst} spans are negative (`early`, with --json): something came before its deadline")


if __name__ == "__main__":
    main()
