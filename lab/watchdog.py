"""What stands for a hardware watchdog, as no machine of the lab has one: it counts what is written to a FIFO, and resets its machine.

A reset ends all of the machine's processes at once. It boots when the lab says so.
"""

import os
import select
import threading
import time

TIMEOUT_S = 2
TICK_S = 0.02
# The "magic close": it counts no more.
MAGIC = b"V"[0]


class StandIn(threading.Thread):
    """One machine's. It begins to count with the first write."""

    def __init__(self, lab, machine):
        super().__init__(daemon=True)
        self.lab, self.machine = lab, machine
        path = machine.directory / "watchdog"
        os.mkfifo(path)
        # Open at both ends, so that whoever pets it may come and go.
        self.fifo = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        self.counts, self.heard, self.pets, self.resets = False, 0.0, 0, 0

    def run(self):
        while True:
            if select.select([self.fifo], [], [], TICK_S)[0]:
                self.hear(os.read(self.fifo, 1 << 12))
            if self.counts and time.monotonic() > self.heard + TIMEOUT_S:
                self.reset()

    def hear(self, told):
        self.pets += sum(byte != MAGIC for byte in told)
        self.counts, self.heard = told[-1] != MAGIC, time.monotonic()

    def reset(self):
        self.lab.log("reset", member=self.machine.name)
        self.machine.power_off()
        self.counts = False
        self.resets += 1
