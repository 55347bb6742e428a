"""Faults of a machine: its daemons, its power, its clocks, its disk."""

import signal

from fault import Fault


class Signalled(Fault):
    """Signals some daemons of a member."""

    which = None

    def choose(self):
        arbitrators = [name for name in self.lab.machines if name not in self.lab.sites]
        member = self.chance.choice(arbitrators) if self.which == "arbitrator" else self.any_site()
        names = self.lab.formation.daemons(member)
        self.detail = {"member": member, "daemons": names if self.which in ("both", "arbitrator") else [
            name for name in names if name == self.which]}


class Killed(Signalled):
    """SIGKILL; the supervisor starts it again after 100 ms, as the units do."""

    def begin(self):
        for daemon in self.detail["daemons"]:
            self.machine.signal(daemon, signal.SIGKILL)

    def heal(self):
        pass


class Down(Signalled):
    """SIGKILL, and nobody starts it again until healed. Never the fence daemon's: see docs/testing.md."""

    def begin(self):
        for daemon in self.detail["daemons"]:
            self.machine.signal(daemon, signal.SIGKILL, wanted=False)

    def heal(self):
        for daemon in self.detail["daemons"]:
            self.machine.start(daemon)


class Frozen(Signalled):
    """SIGSTOP, later SIGCONT. The fence daemon has a watchdog, as in its unit, which ends it before."""

    def begin(self):
        for daemon in self.detail["daemons"]:
            self.machine.signal(daemon, signal.SIGSTOP)

    def heal(self):
        for daemon in self.detail["daemons"]:
            self.machine.signal(daemon, signal.SIGCONT)


class LogStuck(Fault):
    """Nobody reads what a daemon says, as under a journald that is stopped, and the pipe is full."""

    is_harmless = True

    def choose(self):
        member = self.any_member()
        self.detail = {"member": member, "daemon": self.chance.choice(self.lab.formation.daemons(member))}

    def begin(self):
        self.machine.stick_log(self.detail["daemon"])

    def heal(self):
        self.machine.read_log(self.detail["daemon"])


class FencedStalls(Fault):
    """The fence daemon stands still for 0.1 to 0.9 of a limit: of E/4, after which its site may fall silent, or of E."""

    def choose(self):
        expire_s = self.lab.options.times.expire_s
        limit_s = self.chance.choice((expire_s / 4, expire_s))
        self.length_s = limit_s * self.chance.uniform(0.1, 0.9)
        self.is_harmless = limit_s < expire_s
        self.detail = {"member": self.any_site(), "stalls_s": round(self.length_s, 3)}

    def begin(self):
        self.machine.signal("sitegate-fenced", signal.SIGSTOP)

    def heal(self):
        self.machine.signal("sitegate-fenced", signal.SIGCONT)


class PowerCut(Fault):
    """All of a machine is gone at once; later it boots, with what its disk has."""

    def choose(self):
        self.detail = {"member": self.any_member()}

    def begin(self):
        self.machine.power_off()

    def heal(self):
        self.machine.mend()
        self.detail["offsets_s"] = self.lab.offsets()
        self.machine.boot(self.detail["offsets_s"])


class OtherClocks(PowerCut):
    """A machine is reset: it is back at once, with clocks that show something else than before."""

    def begin(self):
        super().begin()
        super().heal()

    def heal(self):
        pass


# Disks.

class DiskFull(PowerCut):
    def begin(self):
        self.machine.fill()

    def heal(self):
        self.machine.empty()
        self.lab.formation.restart_after_disk(self.detail["member"])


class DiskReadOnly(PowerCut):
    """The kernel finds the file system broken, and mounts it read-only; healing is fsck and a boot."""

    def begin(self):
        self.machine.make_read_only()

    def heal(self):
        super().begin()
        super().heal()


class DiskError(DiskReadOnly):
    """Every access to the disk ends with an I/O error."""

    def begin(self):
        self.machine.break_disk()


class DiskFrozen(PowerCut):
    """The disk answers nothing for a while: whoever writes waits, and cannot even be killed."""

    def begin(self):
        self.machine.freeze()

    def heal(self):
        self.machine.thaw()
        self.lab.formation.restart_after_disk(self.detail["member"])
