"""A machine of the lab: namespaces of its own for processes, mounts and clocks, a disk, and a place on the network.

Its disk is an ext4 on a loop device, so that it can be full, read-only, frozen or broken as the kernel knows these. Whoever
kills its init kills all of it, as a power cut does; the disk outlives it, what lies in its runtime directories does not.
"""

import fcntl
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
import uuid
from pathlib import Path

import control
from network import run

HERE = Path(__file__).resolve().parent
PYTHON = [sys.executable, "-SEsB"]
DISK_MIB = 24
BOOT_S_MAX = 30


class Machine:
    def __init__(self, name, node, network, ground, logs):
        self.name, self.node, self.network = name, node, network
        self.directory = ground / name
        self.logs = logs / name
        self.disk = self.directory / "disk"
        self.image = self.directory / "image"
        self.control = self.directory / "init.sock"
        # What a reboot empties.
        self.writers = self.directory / "writers"
        self.volatile = [self.directory / "run", self.directory / "fenced-run", self.writers]
        self.orders = {}
        self.outer = None
        self.init = None
        self.is_frozen = False
        for directory in (self.directory, self.logs, self.disk):
            directory.mkdir(parents=True)
        # Daemons that change their user work here too.
        for directory in (self.directory, self.logs):
            directory.chmod(0o777)
        self.format()

    def format(self):
        with open(self.image, "wb") as image:
            image.truncate(DISK_MIB << 20)
        run(["mkfs.ext4", "-q", "-F", "-m", "0", "-J", "size=4", str(self.image)])

    # Power.

    def boot(self, offsets):
        """With CLOCK_BOOTTIME and CLOCK_MONOTONIC `offsets` away from the lab's, in seconds."""
        for directory in self.volatile:
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir()
            directory.chmod(0o777)
        (self.directory / "boot_id").write_text(f"{uuid.uuid4()}\n")
        settings = self.directory / "init.json"
        settings.write_text(json.dumps({
            "boot_id": str(self.directory / "boot_id"), "image": str(self.image), "disk": str(self.disk),
            "notify": str(self.directory / "notify.sock"), "control": str(self.control)}))
        boot, monotonic = offsets
        self.control.unlink(missing_ok=True)
        with open(self.logs / "init.log", "ab") as log:
            self.outer = subprocess.Popen(
                [*self.network.enter(self.node), "unshare", "--mount", "--pid", "--fork", "--kill-child", "--time",
                 "--boottime", str(boot), "--monotonic", str(monotonic),
                 *PYTHON, str(HERE / "init.py"), str(settings)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        until(f"{self.name} boots", self.is_up)
        os.chmod(self.disk_seen(), 0o777)
        for order in self.orders.values():
            control.ask(str(self.control), op="start", **order)

    def disk_seen(self):
        """The disk, as mounted in the machine's own mount namespace."""
        return f"/proc/{self.init}/root{self.disk}"

    def is_up(self):
        if self.outer.poll() is not None:
            raise RuntimeError(f"{self.name} does not boot: {(self.logs / 'init.log').read_text()[-800:]}")
        children = Path(f"/proc/{self.outer.pid}/task/{self.outer.pid}/children").read_text().split()
        if not children or not self.control.exists():
            return False
        self.init = int(children[0])
        try:
            control.ask(str(self.control), op="look")
        except (ConnectionError, FileNotFoundError):
            return False
        return True

    def power_off(self):
        os.kill(self.init, signal.SIGKILL)
        self.outer.wait(BOOT_S_MAX)
        # Its mounts go with its last process; then the disk may be mounted or mended.
        until(f"the disk of {self.name} is let go", lambda: not self.loops())
        self.init = None

    def loops(self):
        return run(["losetup", "--associated", str(self.image), "--noheadings", "--output", "NAME"]).split()

    # Processes.

    def order(self, name, argv, nice=0, watchdog_s=None, env=None):
        """A daemon of this machine, started now, at each boot, and whenever it ends."""
        self.orders[name] = {"name": name, "argv": [str(a) for a in argv], "nice": nice, "watchdog_s": watchdog_s,
                             "env": env or {}, "log": str(self.logs / f"{name}.log")}
        self.start(name)

    def start(self, name):
        control.ask(str(self.control), op="start", **self.orders[name])

    def signal(self, name, number, wanted=True):
        """Not `wanted`: it stays down until it is started."""
        control.ask(str(self.control), op="signal", name=name, number=int(number), wanted=wanted)

    def stick_log(self, name):
        """Nobody reads what this daemon says, until `read_log`."""
        control.ask(str(self.control), op="stick_log", name=name)

    def read_log(self, name):
        control.ask(str(self.control), op="read_log", name=name)

    def look(self):
        return control.ask(str(self.control), op="look")

    def run(self, *argv, timeout=30, env=None):
        """Runs a command inside."""
        enter = ["nsenter", "-t", str(self.init), "-m", "-p", "-n"]
        return subprocess.run([*enter, *map(str, argv)], capture_output=True, text=True, timeout=timeout,
                              env=env and dict(os.environ, **env), stdin=subprocess.DEVNULL)

    # The disk.

    def fill(self):
        """Until nothing fits any more."""
        with open(f"{self.disk_seen()}/filler", "ab", buffering=0) as filler:
            for size in (1 << 20, 1 << 16, 1 << 12):
                try:
                    while filler.write(bytes(size)):
                        pass
                except OSError:
                    continue

    def empty(self):
        os.unlink(f"{self.disk_seen()}/filler")

    def freeze(self):
        self.is_frozen = True
        run(["fsfreeze", "--freeze", self.disk_seen()])

    def thaw(self):
        run(["fsfreeze", "--unfreeze", self.disk_seen()])
        self.is_frozen = False

    def thaw_if_frozen(self):
        if self.is_frozen and self.init:
            subprocess.run(["fsfreeze", "--unfreeze", self.disk_seen()], stderr=subprocess.DEVNULL)

    def make_read_only(self):
        """The kernel finds the file system broken, and lets nobody write any more (errors=remount-ro)."""
        loop = self.loops()[0].removeprefix("/dev/")
        Path(f"/sys/fs/ext4/{loop}/trigger_fs_error").write_text("the lab breaks it\n")

    def break_disk(self):
        """Every access ends with EIO from now on; what was not synced is lost (EXT4_IOC_SHUTDOWN, without a flush)."""
        directory = os.open(self.disk_seen(), os.O_RDONLY)
        try:
            fcntl.ioctl(directory, 0x8004587D, struct.pack("I", 2))
        finally:
            os.close(directory)

    def mend(self):
        """While it is off: what a boot does with a disk that was not unmounted."""
        done = subprocess.run(["e2fsck", "-p", str(self.image)], capture_output=True, text=True)
        if done.returncode > 1:
            raise RuntimeError(f"e2fsck of {self.name}: exit {done.returncode}: {done.stdout}")


def until(what, condition, patience_s=BOOT_S_MAX):
    """Waits for a condition, with a bound."""
    end = time.monotonic() + patience_s
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {patience_s:.0f} s")
        time.sleep(0.02)
