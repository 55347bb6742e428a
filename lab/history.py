"""What happened, as it is kept: the shared file, and the lab's own log of faults, commands and processes (JSON lines).

All times are seconds of the lab's CLOCK_MONOTONIC.
"""

import json
import os
import threading
import time
from collections import namedtuple

Write = namedtuple("Write", "ticket site token sequence at")


def parse(line):
    ticket, site, token, sequence, nanoseconds = line.split()
    return Write(ticket, site, int(token), int(sequence), int(nanoseconds) / 1e9)


def read_writes(path):
    """All lines of the shared file, in its order."""
    with open(path) as file:
        return [parse(line) for line in file]


def read_events(path):
    with open(path) as file:
        return [json.loads(line) for line in file]


class Log:
    """The lab's log, written as it happens."""

    def __init__(self, path):
        self.file = open(path, "w", buffering=1)
        self.lock = threading.Lock()

    def __call__(self, event, **what):
        entry = {"at": round(time.monotonic(), 4), "event": event, **what}
        with self.lock:
            self.file.write(json.dumps(entry) + "\n")
        return entry["at"]


class Tail:
    """The shared file as it grows: who wrote last, and since when without a pause."""

    def __init__(self, path, pause_s):
        self.path, self.pause_s = path, pause_s
        self.offset, self.rest = 0, b""
        self.last, self.since = {}, {}

    def read_on(self):
        with open(self.path, "rb") as file:
            file.seek(self.offset)
            data = file.read()
        self.offset += len(data)
        *lines, self.rest = (self.rest + data).split(b"\n")
        for line in lines:
            write = parse(line.decode())
            last = self.last.get(write.ticket)
            if last is None or write.at - last.at > self.pause_s:
                self.since[write.ticket] = write.at
            if last is None or write.site != last.site or write.at - last.at > self.pause_s:
                self.since[write.ticket, write.site] = write.at
            self.last[write.ticket] = write

    def is_steady(self, ticket, after, for_s):
        """Written without a pause for `for_s`, all of it later than `after`, until now."""
        last = self.last.get(ticket)
        if last is None or time.monotonic() - last.at > self.pause_s:
            return False
        return last.at - max(self.since[ticket], after) >= for_s


def writers_of(marker):
    """[(ticket, site, token)] of all writers in the process table."""
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/cmdline", "rb") as file:
                line = file.read().decode(errors="replace").split("\0")[:-1]
        except OSError:
            continue
        # A dead process that nobody has reaped has no command line; what is on its way to exec begins with nsenter.
        if marker in line and "/writer." in line[-5] and "nsenter" not in line[0]:
            found.append((line[-3], line[-2], int(line[-1])))
    return sorted(found)
