"""etcd as the lock that people improvise with: `etcdctl lock` at each site, which starts the writer once it has the lock.

A member of etcd runs on each machine, from Debian's package. Each site has one `etcdctl lock` for each ticket, started again
whenever it ends, as by a service manager. It may ask any member, so losing the one beside it costs nothing. Nothing but itself
ends the writer, and it does not look at its lease while the writer runs. etcd's files lie beside the machine's disk, which is too
small for them: in memory, where a sync costs nothing.
"""

import subprocess
import time

from formation import COMMAND_S_MAX, ROLES, TICKETS
from machine import HERE, PYTHON, Machine, until
from network import address

PEERS, CLIENTS = 2380, 2379


class EtcdFormation:
    name = "etcd"
    port = CLIENTS
    # A grant is a process that is started: there is no command that returns when it is done.
    has_commands = False
    tickets = TICKETS

    def __init__(self, options, network, ground, _logs, writes, clock):
        self.writes, self.clock, self.times = writes, clock, options.times
        self.roles = ROLES[options.members]
        self.sites = [name for name, role in self.roles.items() if role == "site"]
        self.machines = {name: Machine(name, node, network, ground, _logs) for node, name in enumerate(self.roles, 1)}
        # Whoever waits gets the lock when its lease ends.
        self.takeover_s = self.times.expire_s

    def at(self, name, port):
        return f"http://{address(self.machines[name].node)}:{port}"

    def prepare(self):
        for name in self.sites:
            machine = self.machines[name]
            for ticket in TICKETS:
                script = machine.directory / f"hold-{ticket}"
                writer = " ".join([f"nsenter --time={self.clock} --", *PYTHON, str(HERE / "writer.py"), str(self.writes)])
                script.write_text(f'#!/bin/sh\nexec {writer} {ticket} {name} "$ETCD_LOCK_REV"\n')
                script.chmod(0o755)

    # Life.

    def start(self, offsets):
        cluster = ",".join(f"{name}={self.at(name, PEERS)}" for name in self.machines)
        for name, machine in self.machines.items():
            machine.boot(offsets())
            machine.order("etcd", [
                "etcd", "--name", name, "--data-dir", machine.directory / "etcd", "--initial-cluster", cluster,
                "--listen-peer-urls", self.at(name, PEERS), "--initial-advertise-peer-urls", self.at(name, PEERS),
                "--listen-client-urls", self.at(name, CLIENTS), "--advertise-client-urls", self.at(name, CLIENTS)])
        until("etcd answers everywhere", lambda: all(map(self.is_well, self.machines)), COMMAND_S_MAX)

    def client(self, *arguments, endpoints):
        return ["etcdctl", f"--endpoints={endpoints}", *arguments]

    def is_well(self, name):
        try:
            line = self.client("endpoint", "health", endpoints=self.at(name, CLIENTS))
            return self.machines[name].run(*line, timeout=5, env={"ETCDCTL_API": "3"}).returncode == 0
        except subprocess.TimeoutExpired:
            return False

    @staticmethod
    def daemon(_member):
        """What holds a ticket at a site: that of one ticket of four."""
        return f"lock-{TICKETS[0]}"

    # Wishes.

    def grant(self, ticket, site):
        """The site asks first; the others wait behind it."""
        self.ask_for(ticket, site)
        last = time.monotonic() + COMMAND_S_MAX
        while not self.is_locked(ticket, site):
            if time.monotonic() > last:
                return False, "nobody gets the lock"
            time.sleep(0.02)
        for other in self.sites:
            if other != site:
                self.ask_for(ticket, other)
        return True, ""

    def ask_for(self, ticket, site):
        machine = self.machines[site]
        everybody = ",".join(self.at(name, CLIENTS) for name in self.machines)
        lock = ["lock", f"--ttl={round(self.times.expire_s)}", ticket, str(machine.directory / f"hold-{ticket}")]
        machine.order(f"lock-{ticket}", self.client(*lock, endpoints=everybody), env={"ETCDCTL_API": "3"})

    def is_locked(self, ticket, site):
        line = self.client("get", "--prefix", "--keys-only", f"{ticket}/", endpoints=self.at(site, CLIENTS))
        return bool(self.machines[site].run(*line, env={"ETCDCTL_API": "3"}).stdout.strip())

    def revoke(self, ticket, _through):
        """Those that wait first, so that none of them gets it. A service manager ends what it has started with all of it."""
        for site in sorted(self.sites, key=lambda site: self.has_writer(ticket, site)):
            machine = self.machines[site]
            machine.signal(f"lock-{ticket}", 0, wanted=False)
            pid = machine.look()[f"lock-{ticket}"]["pid"]
            if pid:
                machine.run("kill", "-KILL", "--", f"-{pid}")
        line = self.client("del", "--prefix", f"{ticket}/", endpoints=self.at(self.sites[0], CLIENTS))
        return self.machines[self.sites[0]].run(*line, env={"ETCDCTL_API": "3"}).returncode == 0, ""

    def has_writer(self, ticket, site):
        return self.machines[site].run("pgrep", "-f", f"writer.py .* {ticket} {site} ").returncode == 0
