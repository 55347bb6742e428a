#!/usr/bin/env python3
"""The shipped systemd units under a real systemd: python3 tests/units.py [--programs DIR]

Boots three machines, paris, lyon and tiebreak, each a systemd as PID 1 of namespaces of its own, on a copy-on-write view of this
machine's root, joined by one loopback device that nothing else uses. Installs sitegate on them as the README says, and looks at
what the units promise: that restarts of the daemons leave alone what runs under a ticket, that a daemon that hangs is killed and
comes back, that a lost ticket is fenced here before it is taken up there, and that the last level `reboot` ends the machine.

Needs root, Linux namespaces and Debian's packages systemd and dbus. Prints one line for each thing that holds; the exit code is 0 only if
all do. Nothing of this machine is changed: what the machines write goes to a file system in memory. Two things are not as on real
machines: reboot(2) ends a PID namespace, and each boot gets a boot id of its own by a mount over the kernel's.
"""

import argparse
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ADDRESSES = {"paris": "127.0.0.11", "lyon": "127.0.0.12", "tiebreak": "127.0.0.13"}
SITES = ("paris", "lyon")
# Longest wait for anything below: E + A of the tickets is 26 s.
PATIENCE_S = 60.0

FORMATION = (
    'formation = "acme"\nheartbeat = "500ms"\n'
    + "".join(
        f'\n[[member]]\nid = {i}\nname = "{name}"\nrole = "{"site" if name in SITES else "arbitrator"}"\n'
        f'address = ["{address}"]\n'
        for i, (name, address) in enumerate(ADDRESSES.items(), 1)
    )
    + '\n[ticket-defaults]\nexpire = "10s"\nacquire-after = "16s"\norder = ["paris", "lyon"]\n'
    + "\n[ticket.db]\n\n[ticket.job]\n\n[ticket.stubborn]\n\n[ticket.app]\n"
)

# `db` is a service of systemd, as in the README. `job` is a process that its start hook leaves behind. `stubborn` is a
# mount: while somebody works in it, nothing but the end of the machine ends it. `app` is a target that units of systemd join.
FENCED = """
concurrency = 4
kill-within = "500ms"
status-every = "1s"

[resource.db]
start = { unit = "mydb.service", within = "10s" }
stop = { unit = "mydb.service", within = "10s" }
status = { unit = "mydb.service", within = "5s" }
fence = [
  { driver = "systemd", unit = "mydb.service", within = "4s" },
  { driver = "reboot", within = "2s" },
]

[resource.job]
start = { command = ["/bin/sh", "-c", "sleep 100000 & echo $! >/run/job.pid"], within = "5s" }
stop = { command = ["/bin/sh", "-c", "kill $(cat /run/job.pid)"], within = "5s" }
fence = [{ driver = "command", command = ["/bin/true"], within = "1s" }]
last-level-may-fail = true

[resource.stubborn]
start = { unit = "stuck.mount", within = "5s" }
fence = [
  { driver = "systemd", unit = "stuck.mount", within = "2s" },
  { driver = "reboot", within = "2s" },
]

[resource.app]
start = { unit = "sitegate-ticket@app.target", within = "10s" }
stop = { unit = "sitegate-ticket@app.target", within = "2s" }
status = { unit = "sitegate-ticket@app.target", within = "5s" }
fence = [
  { driver = "systemd", unit = "sitegate-ticket@app.target", within = "4s" },
  { driver = "reboot", within = "2s" },
]
"""

MYDB = """
[Unit]
Description=Gated by the ticket db, and not enabled at boot

[Service]
ExecStart=/bin/sleep 100000
"""

# What the ticket `app` gates, in every way to join its target. `app` tells systemd that it is well, ignores SIGTERM, forks, and
# always comes back. `side` is not bound to the target, comes back at once until systemd has enough of that, and is never stopped by
# systemd alone. `helper` is bound to nothing, wanted by app alone, and leaves a process behind that systemd does not even try to stop.
UNITS = {
    "app.service": """
[Unit]
Description=Gated by the ticket app
BindsTo=sitegate-ticket@app.target
After=sitegate-ticket@app.target
Wants=helper.service

[Service]
Type=notify
NotifyAccess=all
WatchdogSec=4s
WatchdogSignal=SIGKILL
TimeoutStopSec=1s
Restart=always
RestartSec=100ms
EnvironmentFile=/run/sitegate/tickets/app.env
ExecStartPre=/bin/sh -c 'while [ -e /run/slow ]; do sleep 0.1; done'
ExecStart=/bin/sh -c 'trap "" TERM; echo $SITEGATE_TOKEN >/run/app.token; sleep 100000 & systemd-notify --ready; while :; do systemd-notify WATCHDOG=1; sleep 0.5; done'

[Install]
WantedBy=sitegate-ticket@app.target
""",
    "stuck.mount": """
[Mount]
What=tmpfs
Where=/stuck
Type=tmpfs
""",
    "side.service": """
[Service]
Restart=always
RestartSec=0
EnvironmentFile=/run/sitegate/tickets/app.env
TimeoutStopSec=infinity
ExecStart=/bin/sh -c 'trap "" TERM; exec sleep 100000'
""",
    "helper.service": """
[Service]
KillMode=process
ExecStart=/bin/sh -c 'trap "" TERM; sleep 100000 & exec sleep 100000'
""",
}
MEMBERS = ("app.service", "side.service", "helper.service")
TARGET = "sitegate-ticket@app.target"

# Connects to the fence daemon as a client, and tells how the control groups of units were at the moment of the receipt.
AT_RECEIPT = """
import json, socket, sys
from pathlib import Path
s = socket.socket(socket.AF_UNIX)
s.connect("/run/sitegate-fenced/fenced.sock")
s.sendall(b'{"op":"hello","watch":true}\\n')
for line in s.makefile():
    said = json.loads(line)
    if said.get("reply") == "status":
        print("watching", flush=True)
    if said.get("event") == "receipt" and said["resource"] == "app":
        groups = Path("/sys/fs/cgroup/system.slice")
        full = [u for u in sys.argv[1:] if (groups / u / "cgroup.procs").exists() and (groups / u / "cgroup.procs").read_text()]
        print(json.dumps({"full": full, "level": said["level"], "what": said["proof"]["what"], "reason": said["reason"]}), flush=True)
        break
"""

BOOT = """
set -e
mount --make-rprivate /
hostname "$1"
mkdir -p "$2/upper" "$2/work" "$2/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$2/upper,workdir=$2/work" "$2/root"
cd "$2/root"
mount -t proc proc proc
mount --rbind /dev dev
mount -t sysfs -o ro sysfs sys
mount -t tmpfs tmpfs sys/fs
mkdir sys/fs/cgroup
mount -t cgroup2 cgroup2 sys/fs/cgroup
for d in run tmp var/tmp dev/shm; do mount -t tmpfs tmpfs "$d"; done
# The kernel is the same after this machine's "reboot"; everybody else tells boots apart by this.
cat proc/sys/kernel/random/uuid >run/boot_id
mount --bind run/boot_id proc/sys/kernel/random/boot_id
mkdir -p run/before
pivot_root . run/before
umount -l /run/before
container=lab exec /lib/systemd/systemd --system --unit=multi-user.target
"""


class Failed(Exception):
    """Something that should hold does not."""


def until(what, condition, patience_s=PATIENCE_S):
    """Waits for a condition, with a bound; returns what it returned."""
    end = time.monotonic() + patience_s
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.1)
    raise Failed(f"{what}: not within {patience_s:.0f} s")


class Machine:
    """One machine: its disk outlives it."""

    def __init__(self, name, disks, cgroups):
        self.name = name
        self.disk = disks / name
        self.cgroup = cgroups / f"sitegate-units-{os.getpid()}-{name}"
        self.outer = None
        self.init = None

    def put(self, path, text, mode=0o644):
        target = self.disk / "upper" / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        target.chmod(mode)

    def boot(self):
        self.cgroup.mkdir(exist_ok=True)

        def into_cgroup():
            (self.cgroup / "cgroup.procs").write_text(str(os.getpid()))

        unshare = ["unshare", "--mount", "--ipc", "--uts", "--pid", "--cgroup", "--fork", "--kill-child"]
        log = open(self.disk / "console", "ab")
        self.outer = subprocess.Popen(
            [*unshare, "bash", "-c", BOOT, "boot", self.name, str(self.disk)],
            preexec_fn=into_cgroup, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )
        until(f"{self.name} boots", self.is_up)

    def is_up(self):
        if self.outer.poll() is not None:
            raise Failed(f"{self.name} did not boot: {(self.disk / 'console').read_text()[-2000:]}")
        children = Path(f"/proc/{self.outer.pid}/task/{self.outer.pid}/children").read_text().split()
        if not children:
            return False
        self.init = int(children[0])
        try:
            state = self.run("systemctl", "is-system-running", check=False).stdout.strip()
        except (subprocess.TimeoutExpired, Failed):
            return False
        return state in ("running", "degraded")

    def run(self, *command, check=True, timeout=PATIENCE_S):
        enter = ["nsenter", "-t", str(self.init), "-m", "-p", "-i", "-u", "-C"]
        done = subprocess.run([*enter, *command], capture_output=True, text=True, timeout=timeout)
        if check and done.returncode != 0:
            raise Failed(f"{self.name}: {' '.join(command)}: exit {done.returncode}: {done.stderr or done.stdout}")
        return done

    def out(self, *command, **options):
        return self.run(*command, **options).stdout.strip()

    def main_pid(self, unit):
        return int(self.out("systemctl", "show", "--value", "-p", "MainPID", unit))

    def is_active(self, unit):
        return self.run("systemctl", "is-active", unit, check=False).stdout.strip() == "active"

    def ticket(self, name):
        shown = self.run("sitegate", "status", name, "--json", check=False)
        return json.loads(shown.stdout)["tickets"][0] if shown.returncode == 0 else {}

    def job(self):
        """The process that the start hook of `job` left behind, if it runs."""
        shown = self.run("sh", "-c", "p=$(cat /run/job.pid) && kill -0 $p && echo $p", check=False)
        return shown.stdout.strip() if shown.returncode == 0 else None

    def is_running(self):
        return self.outer is not None and self.outer.poll() is None

    def end(self):
        if self.is_running():
            self.outer.kill()
        if self.outer is not None:
            self.outer.wait()
        until(f"{self.name} ends", self.remove_cgroups, 20)

    def has_program_of(self, unit):
        """Whether what a shipped unit runs is installed here."""
        program = re.search(r"^ExecStart=(\S+)", unit.read_text(), re.M)
        return program is None or (self.disk / "upper" / program[1].lstrip("/")).exists()

    def remove_cgroups(self):
        """Whatever was in them is dying with its PID 1."""
        for path, _, _ in os.walk(self.cgroup, topdown=False):
            try:
                os.rmdir(path)
            except OSError:
                return False
        return True


class Lab:
    def __init__(self, programs, scratch, cgroups):
        self.programs = programs
        self.scratch = scratch
        self.machines = {name: Machine(name, scratch, cgroups) for name in ADDRESSES}
        self.paris, self.lyon, self.tiebreak = self.machines.values()
        self.began = time.monotonic()
        self.watchers = []

    def says(self, text):
        print(f"{time.monotonic() - self.began:7.1f} s  {text}", flush=True)

    # Installing, as the README has it.

    def install(self):
        formation = self.scratch / "formation.toml"
        formation.write_text(FORMATION)
        subprocess.run(
            [self.programs / "sitegate", "pki", "init", "--formation", formation, "--out", self.scratch / "pki"],
            check=True, capture_output=True,
        )
        for name, machine in self.machines.items():
            upper = machine.disk / "upper"
            for directory in ("usr/sbin", "etc/sitegate", "etc/systemd/system"):
                (upper / directory).mkdir(parents=True)
            # Of what this machine starts at boot, nothing.
            for wants in ("multi-user.target.wants", "basic.target.wants", "sysinit.target.wants", "timers.target.wants"):
                (upper / "etc/systemd/system" / wants).mkdir()
                os.setxattr(upper / "etc/systemd/system" / wants, "trusted.overlay.opaque", b"y")
            programs = ("sitegate", "sitegated", "sitegate-fenced") if name in SITES else ("sitegate-arbitrator",)
            for program in programs:
                shutil.copy2(self.programs / program, upper / "usr/sbin")
            for unit in (ROOT / "conf/systemd").iterdir():
                shutil.copy2(unit, upper / "etc/systemd/system")
            shutil.copytree(self.scratch / "pki" / name, upper / "etc/sitegate/pki")
            machine.put("/etc/hostname", f"{name}\n")
            machine.put("/etc/sitegate/formation.toml", FORMATION)
            machine.put("/etc/sitegate/member.toml", self.member_toml(name))
            if name in SITES:
                machine.put("/etc/sitegate/fenced.toml", FENCED)
                machine.put("/etc/systemd/system/mydb.service", MYDB)
                for name, text in UNITS.items():
                    machine.put(f"/etc/systemd/system/{name}", text)

    @staticmethod
    def member_toml(name):
        tickets = '\n[ticket.db]\n\n[ticket.job]\n\n[ticket.stubborn]\n\n[ticket.app]\n' if name in SITES else ""
        return (
            # On one loopback device nobody may take the port on all addresses.
            f'name = "{name}"\nlisten = ["{ADDRESSES[name]}:9929"]\n\n[tls]\nca = "/etc/sitegate/pki/ca.pem"\ncert = "/etc/sitegate/pki/{name}.pem"\n'
            f'key = "/etc/sitegate/pki/{name}.key"\n\n[log]\nformat = "journald"\n{tickets}'
        )

    def boot(self):
        for machine in self.machines.values():
            machine.boot()
        self.says("three machines have booted, each with a systemd of its own")
        for site in (self.paris, self.lyon):
            site.run("sitegate", "check")
            site.run("systemctl", "enable", "app")
            site.run("systemctl", "add-wants", TARGET, "side")
            site.run("sitegate", "init")
            site.run("systemctl", "enable", "--now", "sitegate-fenced", "sitegated")
        self.tiebreak.run("sitegate-arbitrator", "init")
        self.tiebreak.run("systemctl", "enable", "--now", "sitegate-arbitrator")
        until("everybody votes", lambda: all(self.votes(m) for m in (self.paris, self.lyon)))
        self.says("installed as the README says; the units are up (Type=notify), and all members vote")

    @staticmethod
    def votes(machine):
        shown = machine.run("sitegate", "status", "--json", check=False)
        return shown.returncode == 0 and json.loads(shown.stdout)["standing"] == "voting"

    # What must hold.

    def grants(self):
        for ticket in ("db", "job"):
            self.paris.run("sitegate", "grant", ticket, "--site", "paris")
        until("mydb runs at paris", lambda: self.paris.is_active("mydb"))
        until("the job runs at paris", self.paris.job)
        if self.lyon.is_active("mydb") or self.lyon.job():
            raise Failed("lyon runs something too")
        self.says("db and job are granted to paris, and run there alone")

    def what_runs(self):
        return (self.paris.main_pid("mydb"), self.paris.job(), self.paris.main_pid("app"),
                *(self.paris.ticket(ticket).get("token") for ticket in ("db", "job", "app")))

    # Units of systemd that a ticket gates.

    def verifies(self):
        for machine in self.machines.values():
            ours = [u.name for u in (ROOT / "conf/systemd").iterdir() if machine.has_program_of(u)]
            said = machine.run("systemd-analyze", "verify", "--man=no", *(f"/etc/systemd/system/{u}" for u in ours))
            if said.stderr.strip():
                raise Failed(f"{machine.name}: systemd-analyze verify: {said.stderr}")
        exposed = {}
        for machine, unit, most in ((self.tiebreak, "sitegate-arbitrator", 25), (self.paris, "sitegated", 55)):
            said = machine.run("systemd-analyze", "security", "--no-pager", f"--threshold={most}", unit, check=False)
            exposed[unit] = re.search(r"exposure level for .*: (\S+)", said.stdout)[1]
            if said.returncode != 0:
                raise Failed(f"{unit} is exposed more than {most / 10}: {exposed[unit]}")
        self.says(f"systemd-analyze verify finds nothing, and security says: {exposed}")

    def is_gated(self, machine):
        """Nobody starts what a ticket gates where it is not held; what that has started all the same is found."""
        for unit in (TARGET, "app"):
            told = self.at_receipt(machine)
            if machine.run("systemctl", "start", unit, check=False).returncode == 0:
                raise Failed(f"{unit} was started at {machine.name} without its ticket")
            said = told()
            if said["reason"] != "runs-without-ticket":
                raise Failed(f"what ran at {machine.name} without its ticket was fenced because of {said['reason']}")
        self.says(f"{machine.name} without the ticket: systemd starts neither its target nor what is bound to it; what only app wants it "
                  "does start, and that was found by `status` and fenced")

    def gives_up_a_start(self):
        """A start that is under way when its ticket goes, in the hook and in systemd's queue, starts nothing afterwards."""
        paris = self.paris
        paris.run("touch", "/run/slow")
        paris.run("sitegate", "grant", "app", "--site", "paris", "--no-wait")
        until("app is being started", lambda: paris.out("systemctl", "show", "--value", "-p", "ActiveState", "app") == "activating")
        told = self.at_receipt(paris)
        paris.run("sitegate", "revoke", "app", "--no-wait")
        told()
        paris.run("rm", "/run/slow")
        queued = paris.out("systemctl", "list-jobs", "--no-legend")
        if any(unit in queued for unit in (TARGET, *MEMBERS)):
            raise Failed(f"app was receipted, and something of it is still queued: {queued}")
        until("app is free", lambda: paris.ticket("app").get("holder") is None)
        self.says("revoked while app was being started: given up, and nothing of it is queued or started afterwards")

    def grants_units(self):
        paris = self.paris
        paris.run("sitegate", "grant", "app", "--site", "paris")
        until("all of app is up", lambda: all(paris.is_active(u) for u in (TARGET, *MEMBERS)))
        token = str(paris.ticket("app")["token"])
        if paris.out("cat", "/run/app.token") != token:
            raise Failed(f"app was not told its token {token}")
        if any(self.lyon.is_active(u) for u in (TARGET, *MEMBERS)):
            raise Failed("something of app runs at lyon too")
        self.says(f"{TARGET} was started with the ticket, and with it {', '.join(MEMBERS)}: app (Type=notify) got token {token}")
        for what, signal_name in (("killed", "KILL"), ("frozen, so that WatchdogSec killed it", "STOP")):
            before = paris.main_pid("app")
            paris.run("systemctl", "kill", "--kill-who=main", "-s", signal_name, "app")
            until(f"app {what}: back", lambda: paris.is_active("app") and paris.main_pid("app") not in (0, before))
            if paris.out("cat", "/run/app.token") != token:
                raise Failed("app came back without its token")
            self.says(f"app was {what}: systemd has started it again, under the same token")

    def warns(self):
        paris = self.paris
        for quiet in (("sitegate", "fence", "test", "app"), ("sitegate", "check")):
            said = paris.out(*quiet)
            if "started by" in said:
                raise Failed(f"{quiet} warns of units that are as they should be: {said}")
        said = paris.out("sitegate", "fence", "test", "app")
        if not all(unit in said for unit in (TARGET, *MEMBERS)) or "mydb" in said:
            raise Failed(f"sitegate fence test does not say which units would be stopped: {said}")
        paris.run("systemctl", "add-wants", "multi-user.target", "app")
        for loud in (("sitegate", "fence", "test", "app"), ("sitegate", "check")):
            said = paris.run(*loud)
            if "app.service is started by multi-user.target too" not in " ".join((said.stdout + said.stderr).split()):
                raise Failed(f"{loud} does not warn of a gated unit that is enabled at boot: {said.stdout} {said.stderr}")
        paris.run("rm", "/etc/systemd/system/multi-user.target.wants/app.service")
        paris.run("systemctl", "daemon-reload")
        self.says("fence test names what it would stop; it and check warn of a gated unit that is enabled at boot")

    def at_receipt(self, machine):
        """Begins to watch for app's next receipt; gives what tells how it was then."""
        enter = ["nsenter", "-t", str(machine.init), "-m", "-p", "-i", "-u", "-C"]
        watcher = subprocess.Popen(
            [*enter, "python3", "-c", AT_RECEIPT, *MEMBERS], stdout=subprocess.PIPE, text=True, start_new_session=True)
        self.watchers.append(watcher)
        said = lambda: select.select([watcher.stdout], [], [], 0)[0] and watcher.stdout.readline()
        if until(f"{machine.name}'s fence daemon is watched", said) != "watching\n":
            raise Failed("the fence daemon does not let us watch")

        def told():
            then = json.loads(until(f"app is receipted at {machine.name}", said))
            if then["full"] or then["level"] != 1:
                raise Failed(f"{machine.name}: when app was receipted: {then}")
            if any(machine.is_active(u) for u in (TARGET, *MEMBERS)):
                raise Failed(f"{machine.name}: app was receipted, and runs")
            if machine.run("test", "-e", "/run/sitegate/tickets/app.env", check=False).returncode == 0:
                raise Failed(f"{machine.name}: app was receipted, and its token is still there")
            return then

        return told

    def survives(self, what, hurt, units):
        before = self.what_runs()
        old = {unit: self.paris.main_pid(unit) for unit in units}
        hurt()
        until(f"{what}: back", lambda: all(
            self.paris.is_active(u) and self.paris.main_pid(u) not in (0, old[u]) for u in units))
        until(f"{what}: held again", lambda: self.is_held_by(self.paris, "db") and self.is_held_by(self.paris, "job"))
        after = self.what_runs()
        if before != after or None in after:
            raise Failed(f"{what}: mydb, job and their tokens were {before}, and are {after}")
        self.says(f"{what}: the same processes run on under the same tokens")

    @staticmethod
    def is_held_by(machine, ticket):
        shown = machine.ticket(ticket)
        return shown.get("holder") == machine.name and shown["local"]["state"] == "held"

    def restarts(self):
        paris = self.paris
        self.survives("sitegated restarted", lambda: paris.run("systemctl", "restart", "sitegated"), ["sitegated"])
        self.survives("sitegate-fenced restarted", lambda: paris.run("systemctl", "restart", "sitegate-fenced"),
                      ["sitegate-fenced"])
        self.survives(
            "both killed with SIGKILL",
            lambda: paris.run("systemctl", "kill", "--kill-who=main", "-s", "KILL", "sitegated", "sitegate-fenced"),
            ["sitegated", "sitegate-fenced"])
        self.survives(
            "sitegated frozen with SIGSTOP, until WatchdogSec killed it",
            lambda: paris.run("systemctl", "kill", "--kill-who=main", "-s", "STOP", "sitegated"), ["sitegated"])
        self.survives(
            "sitegate-fenced frozen with SIGSTOP, until WatchdogSec killed it",
            lambda: paris.run("systemctl", "kill", "--kill-who=main", "-s", "STOP", "sitegate-fenced"),
            ["sitegate-fenced"])

    def reloads(self):
        before = self.what_runs()
        pid = self.paris.main_pid("sitegated")
        self.paris.run("systemctl", "reload", "sitegated")
        until("the reload is logged", lambda: "reload" in self.paris.out("journalctl", "-u", "sitegated", "-o", "cat"))
        if self.paris.main_pid("sitegated") != pid or self.what_runs() != before:
            raise Failed("a reload restarted something")
        self.says("systemctl reload sitegated: the same process, the same tenures")

    def looks_at_the_host(self):
        status = self.paris.out("cat", f"/proc/{self.paris.main_pid('sitegate-fenced')}/status")
        locked = int(re.search(r"VmLck:\s+(\d+) kB", status)[1])
        if locked == 0:
            raise Failed("sitegate-fenced has locked no memory")
        resident = int(re.search(r"VmRSS:\s+(\d+) kB", status)[1])
        self.says(f"sitegate-fenced has {locked} kB of addresses locked, {resident} kB of memory behind them")
        entries = self.tiebreak.out("journalctl", "-u", "sitegate-arbitrator", "-o", "json").splitlines()
        said = [e for e in map(json.loads, entries) if e.get("_COMM", "").startswith("sitegate-arb")]
        if not said or any(e["MESSAGE"].startswith("<") for e in said):
            raise Failed("journald has not understood the priorities of the arbitrator's log")
        if not any("paris" in e["MESSAGE"] for e in said):
            raise Failed("the arbitrator's log does not say of whom it speaks")
        self.says(f"{len(said)} entries of the arbitrator stand in the journal, with their priorities")
        control_group = self.paris.out("cat", f"/proc/{self.paris.job()}/cgroup")
        if "sitegate-fenced.service/" not in control_group:
            raise Failed(f"the job is not in a control group below sitegate-fenced.service: {control_group}")
        self.says(f"the job has a control group of its own: {control_group.split('::')[-1]}")

    def moves(self):
        self.paris.run("sitegate", "move", "db", "--to", "lyon")
        until("mydb runs at lyon", lambda: self.lyon.is_active("mydb"))
        if self.paris.is_active("mydb"):
            raise Failed("mydb runs at paris too")
        self.says("db moved: mydb runs at lyon, and at paris no more")
        told = self.at_receipt(self.paris)
        self.paris.run("sitegate", "move", "app", "--to", "lyon")
        said = told()
        until("all of app is up at lyon", lambda: all(self.lyon.is_active(u) for u in (TARGET, *MEMBERS)))
        self.says(f"app moved, although it ignores SIGTERM: at paris {said['what']}")

    def loses(self):
        told = self.at_receipt(self.lyon)
        self.lyon.run("systemctl", "stop", "sitegated")
        if not self.lyon.is_active("mydb"):
            raise Failed("stopping sitegated stopped mydb")
        self.says("systemctl stop sitegated at lyon: mydb runs on, stopping is not losing")

        def stopped_first():
            at_lyon, at_paris = self.lyon.is_active("mydb"), self.paris.is_active("mydb")
            if at_lyon and at_paris:
                raise Failed("mydb runs at both sites")
            return not at_lyon

        def app_runs(machine):
            return any(machine.is_active(u) for u in MEMBERS)

        until("lyon fences", stopped_first)
        self.says("its deadline passed: sitegate-fenced has ended mydb at lyon")
        until("mydb runs at paris", lambda: self.paris.is_active("mydb"))
        self.says("paris has taken db over, and runs mydb")
        said = told()
        self.says(f"app was lost at lyon ({said['reason']}): its control groups were empty at the receipt; {said['what']}")
        until("app runs at paris", lambda: app_runs(self.paris))
        if app_runs(self.lyon):
            raise Failed("app runs at lyon too")
        self.says("paris has taken app over, and lyon runs nothing of it")
        self.is_gated(self.lyon)
        self.lyon.run("systemctl", "start", "sitegated")
        until("lyon votes", lambda: self.votes(self.lyon))

    def reboots(self):
        self.paris.run("sitegate", "grant", "stubborn", "--site", "lyon")
        until("lyon holds stubborn", lambda: self.is_held_by(self.lyon, "stubborn"))
        until("stuck.mount is mounted", lambda: self.lyon.is_active("stuck.mount"))
        # Of no unit: somebody's shell.
        self.lyon.run("sh", "-c", "cd /stuck || exit 1; sleep 100000 >/dev/null 2>&1 &")
        self.lyon.run("systemctl", "stop", "sitegated")
        until("lyon's machine ends", lambda: not self.lyon.is_running())
        self.says("first level `systemd` failed, as a mount was in use; second level `reboot`: reboot(2) has ended the machine lyon")
        until("paris takes stubborn", lambda: self.is_held_by(self.paris, "stubborn"))
        self.says("paris has taken stubborn over")
        self.lyon.end()
        self.lyon.boot()
        until("lyon votes again", lambda: self.votes(self.lyon))
        if self.lyon.is_active("mydb") or self.lyon.job():
            raise Failed("lyon came back and runs what it does not hold")
        self.says("lyon has booted again: enabled units came up, it has recovered, votes, and runs nothing")

    def shuts_down(self):
        """The machine stops what is gated itself; the daemons give nothing up."""
        self.paris.run("sitegate", "standby", "paris", timeout=PATIENCE_S)
        until("everything runs at lyon", lambda: self.lyon.is_active("mydb") and self.lyon.job())
        if self.paris.is_active("mydb") or self.paris.job():
            raise Failed("paris is on standby and runs something")
        self.paris.run("systemctl", "poweroff", check=False)
        until("paris is off", lambda: not self.paris.is_running())
        self.says("standby emptied paris, and it shut down")

    def loses_the_bus(self):
        until("all of app is up at lyon", lambda: all(self.lyon.is_active(u) for u in (TARGET, *MEMBERS)))
        self.lyon.run("systemctl", "kill", "-s", "STOP", "dbus")
        began = time.monotonic()
        self.lyon.run("sitegate", "revoke", "app", "--no-wait")
        until("lyon's machine ends", lambda: not self.lyon.is_running(), 20)
        self.says(f"the message bus of lyon hung: `stop` and the level `systemd` failed at their limits, and `reboot` ended the machine "
                  f"within {time.monotonic() - began:.1f} s")

    def judge(self):
        self.install()
        self.boot()
        self.verifies()
        self.grants()
        self.is_gated(self.paris)
        self.gives_up_a_start()
        self.grants_units()
        self.warns()
        self.restarts()
        self.reloads()
        self.looks_at_the_host()
        self.moves()
        self.loses()
        self.reboots()
        self.shuts_down()
        self.loses_the_bus()

    def end(self):
        for watcher in self.watchers:
            watcher.kill()
        for machine in self.machines.values():
            machine.end()

    def logs(self):
        for machine in self.machines.values():
            if machine.is_running():
                print(f"--- {machine.name}", file=sys.stderr)
                for unit in ("sitegated", "sitegate-fenced", "sitegate-arbitrator"):
                    shown = machine.run("journalctl", "-u", unit, "-n", "40", "--no-pager", "-o", "short-monotonic",
                                        check=False)
                    print(shown.stdout, file=sys.stderr)


def apart(arguments):
    """This very program again, in a network of its own and with mounts that nobody else sees."""
    return subprocess.call(["unshare", "--net", "--mount", sys.executable, __file__, "--apart", *arguments])


def loopback_up():
    import fcntl
    import socket
    import struct

    SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        request = struct.pack("16sH14x", b"lo", 0)
        flags = struct.unpack("16sH14x", fcntl.ioctl(s, SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(s, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags | IFF_UP))


def mount_cgroups(scratch):
    """The second version of control groups, wherever this machine has it mounted."""
    cgroups = scratch / "cgroups"
    cgroups.mkdir()
    subprocess.run(["mount", "-t", "cgroup2", "cgroup2", cgroups], check=True)
    return cgroups


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--programs", type=Path, default=ROOT / "target/release", help="where the programs lie")
    parser.add_argument("--apart", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("error: units are tried with a systemd of their own, which needs root")
    if not Path("/lib/systemd/systemd").exists():
        sys.exit("error: no systemd here: apt-get install systemd")
    if not Path("/usr/bin/dbus-daemon").exists():
        sys.exit("error: no message bus here: apt-get install dbus")
    if not arguments.apart:
        sys.exit(apart(sys.argv[1:]))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    loopback_up()
    scratch = Path("/mnt")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", scratch], check=True)
    lab = Lab(arguments.programs.resolve(), scratch, mount_cgroups(scratch))
    try:
        lab.judge()
    except (Failed, subprocess.SubprocessError) as failure:
        print(f"error: {failure}", file=sys.stderr)
        lab.logs()
        sys.exit(1)
    finally:
        lab.end()
    print("units: all held")


if __name__ == "__main__":
    main()
