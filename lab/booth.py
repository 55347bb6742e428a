"""Debian's booth in the lab, under the same faults and the same checker.

boothd runs on each machine with the real `crm_ticket`, which writes a CIB file. What a cluster would do with it stands in
`cluster.py`, and is as good as a cluster can be: it follows the CIB within a hundredth of a second.
"""

import json
import pwd
import re
import subprocess

from formation import COMMAND_S_MAX, PORT, ROLES, TICKETS
from machine import HERE, PYTHON, Machine, until
from network import address, run

USER = "hacluster"
RETRIES = 3
RENEWALS = 2


class BoothFormation:
    name = "booth"
    port = PORT
    has_commands = True
    tickets = TICKETS

    def __init__(self, options, network, ground, logs, writes, clock):
        self.programs, self.ground, self.writes, self.clock = options.booth, ground, writes, clock
        self.times, self.key = options.times, not options.no_key
        self.takeover_s = self.times.expire_s + self.times.acquire_after_s
        self.roles = ROLES[options.members]
        self.sites = [name for name, role in self.roles.items() if role == "site"]
        self.machines = {name: Machine(name, node, network, ground, logs)
                         for node, name in enumerate(self.roles, 1)}

    # Laying out.

    def prepare(self):
        user = pwd.getpwnam(USER)
        (self.ground / "booth.conf").write_text(self.configuration())
        if self.key:
            key = self.ground / "key"
            key.write_text("lab-shared-secret-0123456789\n")
            key.chmod(0o400)
            subprocess.run(["chown", USER, str(key)], check=True)
        for name in self.sites:
            machine = self.machines[name]
            cib = machine.directory / "cib.xml"
            cib.write_text(run(["cibadmin", "--empty"]))
            subprocess.run(["chown", f"{user.pw_uid}:{user.pw_gid}", str(cib)], check=True)
            (machine.directory / "cluster.json").write_text(json.dumps({
                "cib": str(cib), "writer": str(HERE / "writer.py"), "writes": str(self.writes), "site": name,
                "clock": str(self.clock), "tickets": TICKETS}))
            (machine.directory / "bin").mkdir()
            slow = machine.directory / "bin/crm_ticket"
            slow.write_text(f"#!/bin/sh\nif [ -e {machine.writers}/slow ]; then sleep 3; fi\nexec /usr/sbin/crm_ticket \"$@\"\n")
            slow.chmod(0o755)

    def configuration(self):
        """The longest time-out that `timeout * (retries + 1) < renewal-freq` lets one have."""
        expire_ms = round(self.times.expire_s * 1000)
        timeout_ms = (expire_ms // RENEWALS - 1) // (RETRIES + 1) // 10 * 10
        lines = [f'{role}="{address(node)}"' for node, role in enumerate(self.roles.values(), 1)]
        lines += [f'authfile="{self.ground}/key"'] if self.key else []
        for ticket in TICKETS:
            lines += [f'ticket="{ticket}"', f"  expire={expire_ms // 1000}", f"  timeout={timeout_ms}ms",
                      f"  retries={RETRIES}", f"  acquire-after={round(self.times.acquire_after_s)}"]
        return "\n".join(lines) + "\n"

    # Life.

    def start(self, offsets):
        for name, machine in self.machines.items():
            machine.boot(offsets())
            env = {"CIB_file": str(machine.directory / "cib.xml"),
                   "PATH": f"{machine.directory}/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
            machine.order("boothd", [f"{self.programs}/boothd", "daemon", "-S", "-c", self.ground / "booth.conf",
                                     "-l", machine.directory / "run/boothd.pid"], env=env)
            if name in self.sites:
                machine.order("cluster", [*PYTHON, HERE / "cluster.py", machine.directory / "cluster.json"])
        until("booth answers everywhere", lambda: all(map(self.is_well, self.machines)), COMMAND_S_MAX)

    @staticmethod
    def daemon(_member):
        """The one that holds tickets or votes."""
        return "boothd"

    def client(self, name, *arguments, ticket=None, timeout=COMMAND_S_MAX):
        line = [f"{self.programs}/booth", *arguments, "-c", self.ground / "booth.conf", *([ticket] if ticket else [])]
        return self.machines[name].run(*line, timeout=timeout)

    def is_well(self, name):
        try:
            return self.client(name, "list", timeout=5).returncode == 0
        except subprocess.TimeoutExpired:
            return False

    def grant(self, ticket, site):
        return self.wish(site, "grant", "-C", "-s", address(self.machines[site].node), ticket=ticket)

    def revoke(self, ticket, site):
        return self.wish(site, "revoke", "-w", "-s", address(self.machines[site].node), ticket=ticket)

    def wish(self, site, *arguments, ticket):
        try:
            done = self.client(site, *arguments, ticket=ticket)
        except subprocess.TimeoutExpired:
            return False, "the command does not return"
        return done.returncode == 0, (done.stdout + done.stderr).strip()


TICKET_STATE = re.compile(r"<ticket_state\b([^>]*)/?>")
ATTRIBUTE = re.compile(r'([\w-]+)="([^"]*)"')


def tickets_in(cib):
    """{ticket: (granted, term)}, or None for a file that is being written."""
    if "</cib>" not in cib:
        return None
    states = [dict(ATTRIBUTE.findall(match.group(1))) for match in TICKET_STATE.finditer(cib)]
    return {state["id"]: (state.get("granted") == "true", int(state.get("term", 0))) for state in states if "id" in state}
