"""A formation of real daemons in the lab: sitegated, sitegate-fenced, sitegate-arbitrator, with configuration and certificates."""

import json
import signal
import subprocess
from pathlib import Path

from machine import HERE, PYTHON, Machine, until
from network import address, run
from times import RTT_MAX_S, ms
from watchdog import TIMEOUT_S

PORT = 9929
# Of the shipped units.
NICE = {"sitegated": -10, "sitegate-arbitrator": -10, "sitegate-fenced": -15}
# By number of members.
ROLES = {
    3: {"paris": "site", "lyon": "site", "tiebreak": "arbitrator"},
    4: {"paris": "site", "lyon": "site", "tiebreak": "arbitrator", "second": "arbitrator"},
    5: {"paris": "site", "lyon": "site", "rome": "site", "tiebreak": "arbitrator", "second": "arbitrator"},
}
TICKETS = ("db", "web", "mail", "jobs")
# These are started by the machine's init, as by `systemctl start`, where killing what the hook has started does not reach.
DELEGATED = ("web", "jobs")
# The scenario that loses a thousand: each has a small writer, and one level.
MANY = tuple(f"t{number}" for number in range(1000))
MANY_AT_ONCE = 100
COMMAND_S_MAX = 30


class Formation:
    """The system under test."""

    name = "sitegate"
    port = PORT
    has_commands = True

    def __init__(self, options, network, ground, logs, writes, clock):
        self.programs, self.pretend, self.levels = options.programs, options.pretend, bool(options.fencing)
        self.ground, self.writes, self.clock = ground, writes, clock
        self.roles = ROLES[options.members]
        self.sites = [name for name, role in self.roles.items() if role == "site"]
        self.machines = {name: Machine(name, node, network, ground, logs)
                         for node, name in enumerate(self.roles, 1)}
        self.times = options.times
        self.many, self.watched = options.many, options.watched
        self.tickets = MANY if self.many else TICKETS
        # A lost ticket is taken over so long after its last renewal.
        self.takeover_s = self.times.expire_s + self.times.acquire_after_s

    # Laying out.

    def prepare(self):
        for name in self.machines:
            (self.ground / name / "formation.toml").write_text(self.formation_toml())
        run([self.program("sitegate"), "pki", "init", "--formation", str(self.ground / "paris/formation.toml"),
             "--out", str(self.ground / "pki")])
        for name, machine in self.machines.items():
            (machine.directory / "member.toml").write_text(self.member_toml(name))
            if name in self.sites:
                (machine.directory / "fenced.toml").write_text(self.fenced_toml(machine))
                (machine.directory / "hook.json").write_text(json.dumps({
                    "writer": str(HERE / "writer.py"), "writes": str(self.writes), "site": name,
                    "clock": str(self.clock), "init": str(machine.control), "writers": str(machine.writers),
                    "delegated": self.tickets if self.pretend else DELEGATED}))

    def program(self, name):
        return str(Path(self.programs) / name)

    def formation_toml(self):
        text = f'formation = "lab"\nheartbeat = "{ms(self.times.heartbeat_s)}"\nrtt-max = "{ms(RTT_MAX_S)}"\n'
        for node, (name, role) in enumerate(self.roles.items(), 1):
            text += f'\n[[member]]\nid = {node}\nname = "{name}"\nrole = "{role}"\naddress = ["{address(node)}"]\n'
        # Takeovers without end: pausing a ticket that flaps would be the end of the run.
        text += (f'\n[ticket-defaults]\nexpire = "{ms(self.times.expire_s)}"\nacquire-after = "{ms(self.times.acquire_after_s)}"\n'
                 "takeover-limit = 1000000\n")
        for index, ticket in enumerate(self.tickets):
            order = [self.sites[(index + k) % len(self.sites)] for k in range(len(self.sites))]
            text += f"\n[ticket.{ticket}]\norder = {json.dumps(order)}\n"
        return text

    def member_toml(self, name):
        fence = 'fence-socket = "fenced-run/fenced.sock"\n' if name in self.sites else ""
        return (f'name = "{name}"\nstate-dir = "disk/state"\nruntime-dir = "run"\nsocket = "run/member.sock"\n{fence}'
                f'\n[tls]\nca = "../pki/{name}/ca.pem"\ncert = "../pki/{name}/{name}.pem"\n'
                f'key = "../pki/{name}/{name}.key"\n')

    def fenced_toml(self, machine):
        start = json.dumps([*PYTHON, str(HERE / "hook.py"), str(machine.directory / "hook.json")])
        if self.many:
            start = json.dumps(["/bin/bash", str(HERE / "start.sh"), str(machine.writers), str(self.writes), machine.name,
                                str(self.clock)])

        def hook(verb):
            return json.dumps(["/bin/sh", str(HERE / "hook.sh"), verb, str(machine.writers)])

        text = (f'site = "{machine.name}"\nstate-dir = "disk/fenced-state"\nruntime-dir = "fenced-run"\n'
                f'kill-within = "{"1s" if self.many else "200ms"}"\ncontainment = "{"auto" if self.many else "tree"}"\n')
        text += f"concurrency = {MANY_AT_ONCE}\n" if self.many else ""
        text += f'[watchdog]\ndevice = "watchdog"\ntimeout = "{TIMEOUT_S}s"\n' if self.watched else ""
        for ticket in self.tickets:
            # A plan that only pretends: nothing is stopped, nothing killed, and all of it reported as done.
            stop, level = ('["/bin/true"]', '["/bin/true"]') if self.pretend else (hook("stop"), hook("kill"))
            text += (f'\n[resource.{ticket}]\nstart = {{ command = {start}, within = "10s" }}\n'
                     f'stop = {{ command = {stop}, within = "5s" }}\n'
                     f"fence = [{self.plan(machine, level)}]\nlast-level-may-fail = true\n")
        return text

    def plan(self, machine, level):
        one = 'driver = "command", command = {}, within = "{}"'.format
        if self.many or self.watched or not self.levels or self.pretend:
            return "{ " + one(level, "2s" if self.many else "1s") + " }"
        # The suite `fencing`: levels that can be told to fail.
        commands = [json.dumps(["/bin/sh", str(HERE / "level.sh"), str(n), str(machine.writers)]) for n in (1, 2, 3)]
        return ", ".join("{ " + one(c, within) + " }" for c, within in zip(commands, ("500ms", "500ms", "2s")))

    # Life.

    def start(self, offsets):
        for name, machine in self.machines.items():
            machine.boot(offsets())
            directory = machine.directory
            program = "sitegate" if name in self.sites else "sitegate-arbitrator"
            made = machine.run(self.program(program), "init", "--config", directory)
            if made.returncode != 0:
                raise RuntimeError(f"init of {name}: {made.stderr}")
            if name in self.sites:
                self.order(machine, "sitegate-fenced", directory / "fenced.toml", self.times.watchdog_s)
                self.order(machine, "sitegated", directory)
            else:
                self.order(machine, "sitegate-arbitrator", directory)
        until("all members vote", lambda: all(map(self.is_well, self.machines)), COMMAND_S_MAX)

    def order(self, machine, program, configuration, watchdog_s=None):
        machine.order(program, [self.program(program), "--config", configuration], NICE[program], watchdog_s)

    def daemon(self, name):
        return self.daemons(name)[0]

    def daemons(self, name):
        """The member's, the one that votes first."""
        return ["sitegated", "sitegate-fenced"] if name in self.sites else ["sitegate-arbitrator"]

    def restart_after_disk(self, name):
        """A disk that works again is taken into use by a restart of both daemons (docs/fencing.md)."""
        for daemon in self.daemons(name):
            self.machines[name].signal(daemon, signal.SIGKILL)

    # Looking, and wishing.

    def ask(self, name, *arguments, timeout=COMMAND_S_MAX):
        machine = self.machines[name]
        return machine.run(self.program("sitegate"), *arguments, "--socket", machine.directory / "run/member.sock",
                           timeout=timeout)

    def is_well(self, name):
        """It answers, votes, and reaches everybody."""
        try:
            answer = self.ask(name, "status", "--json", timeout=5)
        except subprocess.TimeoutExpired:
            return False
        if answer.returncode != 0:
            return False
        status = json.loads(answer.stdout)
        return status["standing"] == "voting" and status["fence"] in ("up", "none")

    def grant(self, ticket, site):
        return self.wish(site, "grant", ticket, "--site", site)

    def move(self, ticket, site, through):
        return self.wish(through, "move", ticket, "--to", site)

    def revoke(self, ticket, through):
        return self.wish(through, "revoke", ticket)

    def wish(self, through, *arguments):
        """(whether it was done, what was said)"""
        try:
            done = self.ask(through, *arguments, "--timeout", f"{COMMAND_S_MAX - 5}s")
        except subprocess.TimeoutExpired:
            return False, "the command does not return"
        return done.returncode == 0, (done.stdout + done.stderr).strip()

