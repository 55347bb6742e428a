"""What can happen to a machine under any system. Each is a context: it begins with it, and its end heals."""

import contextlib
import os
import signal
import subprocess

from machine import until

# Nobody else on the machine has it.
BOMB_UID = 60_321
BOMB_PROCESSES_MAX = 100
# All machines of the lab share the cores of one: what starves paris alone must not starve the others too.
BOMB_NICE = 10
BOMB = "bomb() { bomb | bomb & }; bomb; while :; do :; done"


@contextlib.contextmanager
def daemon_killed(lab, machine):
    """SIGKILL to the daemon that holds tickets, which stays down."""
    machine.signal(lab.formation.daemon(machine.name), signal.SIGKILL, wanted=False)
    yield
    machine.start(lab.formation.daemon(machine.name))


@contextlib.contextmanager
def daemon_frozen(lab, machine):
    """SIGSTOP to it."""
    machine.signal(lab.formation.daemon(machine.name), signal.SIGSTOP)
    yield
    machine.signal(lab.formation.daemon(machine.name), signal.SIGCONT)


@contextlib.contextmanager
def cut_off(lab, machine):
    """All of it is well and alone."""
    lab.network.drop("cut", lab.network.cut_in(machine.node) + lab.network.cut_out(machine.node))
    yield
    lab.network.heal("cut")


@contextlib.contextmanager
def host_dead(lab, machine):
    """All of the machine at once."""
    machine.power_off()
    yield
    machine.mend()
    machine.boot(lab.offsets())


@contextlib.contextmanager
def fork_bomb(lab, machine):
    """A user's processes fork without end, up to a limit, while the daemon that holds tickets is down."""
    enter = ["nsenter", "-t", str(machine.init), "-m", "-p", "-n"]
    become = ["nice", "-n", str(BOMB_NICE), "setpriv", f"--reuid={BOMB_UID}", "--clear-groups", "--inh-caps=-all"]
    # Before it is that user: whoever is not may not raise it again.
    limited = ["prlimit", f"--nproc={BOMB_PROCESSES_MAX}:{BOMB_PROCESSES_MAX}"]
    bomb = subprocess.Popen([*enter, *limited, *become, "sh", "-c", BOMB], stdin=subprocess.DEVNULL,
                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with daemon_killed(lab, machine):
            yield
    finally:
        until("the bomb is defused", defuse)
        bomb.wait()


def defuse():
    """Stops all first, so that none forks while the others are killed."""
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit() and owner(name) == BOMB_UID]
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
    return not pids


def owner(pid):
    try:
        return os.stat(f"/proc/{pid}").st_uid
    except OSError:
        return None
