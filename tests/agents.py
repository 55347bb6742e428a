#!/usr/bin/env python3
"""Levels with the fence agents that Debian ships: python3 tests/agents.py [--programs DIR]

Runs sitegate-fenced in a directory of its own, and has it fence with the real fence_dummy, and with the real fence_ipmilan on an
ipmitool that plays management controllers: honest ones, one that lies, one that hangs. Looks at receipts, at what the controllers
were told, and at what --check says of the descriptions of the agents that are installed.

Needs root and Debian's package fence-agents (apt-get install --no-install-recommends fence-agents); installs nothing. Prints one line for
each thing that holds; the exit code is 0 only if all do, and 2 if something is missing that it needs.
"""

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NEEDED = {"/usr/sbin/fence_dummy": "fence-agents", "/usr/sbin/fence_ipmilan": "fence-agents"}
# Longest wait for the end of a level, or for the daemon.
PATIENCE_S = 60.0
# Descriptions that --check has to understand, of agents of all kinds; which of them a Debian has is printed.
DESCRIBED = ("apc", "apc_snmp", "aws", "dummy", "ipmilan", "kdump", "mpath", "redfish", "scsi", "sbd", "virsh", "vmware_rest")
PASSWORD = "correct horse battery"

# Plays ipmitool: a controller is a file with `on` or `off`.
IPMITOOL = """#!/bin/sh
D={directory}
printf '%s\\n' "$*" >>"$D/commands"
while [ $# -gt 0 ]; do
    case $1 in -H) host=$2; shift ;; -P) password=$2; shift ;; power) action=$2 ;; esac
    shift
done
[ "$password" = '{password}' ] || {{ echo 'Error: Unable to establish LAN session' >&2; exit 1; }}
case $action in
status) echo "Chassis Power is $(cat "$D/$host")" ;;
off)
    case $host in
    liar) ;;
    sleepy) [ -e "$D/slept" ] || {{ touch "$D/slept"; sleep 1000; }}; echo off >"$D/$host" ;;
    *) echo off >"$D/$host" ;;
    esac
    echo "Chassis Power Control: Down/Off"
    ;;
esac
"""


class Failed(Exception):
    """Something that should hold does not."""


def holds(what, truth, otherwise=""):
    """Says what holds, or fails."""
    if not truth:
        raise Failed(f"{what}: it does not hold{': ' if otherwise else ''}{otherwise}")
    print(f"ok: {what}", flush=True)


class Daemon:
    """sitegate-fenced with a configuration, in its directory."""

    def __init__(self, program, directory):
        self.program = program
        self.directory = directory
        self.config = directory / "fenced.toml"
        self.log = directory / "log"
        self.process = None

    def configure(self, resources):
        d = self.directory
        self.config.write_text(
            f'state-dir = "{d}/state"\nruntime-dir = "{d}/run"\n'
            + "".join(
                f"[resource.{name}]\nlast-level-may-fail = true\nfence = [\n  {{ driver = \"agent\", {level} }},\n]\n"
                for name, level in resources.items()
            )
        )

    def check(self):
        """Exit code and all that --check says."""
        done = subprocess.run(
            [self.program, "--config", self.config, "--check"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=PATIENCE_S, check=False,
        )
        return done.returncode, done.stdout

    def start(self):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen([self.program, "--config", self.config], stdin=subprocess.DEVNULL, stderr=log)
        end = time.monotonic() + PATIENCE_S
        while not (self.directory / "run/fenced.sock").exists():
            if self.process.poll() is not None or time.monotonic() > end:
                raise Failed(f"the daemon does not start:\n{self.log.read_text()}")
            time.sleep(0.02)

    def fence(self, *resources):
        """Has these fenced at once; gives for each its receipt, or why its level failed, whichever comes first."""
        ends = {}
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(PATIENCE_S)
            connection.connect(str(self.directory / "run/fenced.sock"))
            said = [{"op": "hello", "watch": True}]
            said += [{"op": "fence", "resource": resource, "token": 1, "reason": "test"} for resource in resources]
            connection.sendall(b"".join(json.dumps(line).encode() + b"\n" for line in said))
            lines = connection.makefile()
            while len(ends) < len(resources):
                heard = json.loads(lines.readline())
                if heard.get("reply") in ("refused", "error"):
                    raise Failed(f"the daemon does not fence: {heard}")
                if heard.get("event") in ("receipt", "level-failed") and heard["resource"] in resources:
                    ends.setdefault(heard["resource"], heard)
        return [ends[resource] for resource in resources]

    def stop(self):
        """Ends it and all that it has left running."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(PATIENCE_S)


def ipmi(daemon, plugs, more=""):
    """A level with fence_ipmilan for these controllers."""
    return (
        f'agent = "fence_ipmilan", plugs = {json.dumps(plugs)}, options-file = "{daemon.directory}/secrets", options = {{ '
        f'port_as_ip = true, lanplus = true, username = "fence", ipmitool_path = "{daemon.directory}/ipmitool", '
        f'power_timeout = 2, power_wait = 0 }}, retry-after = "200ms"{more}'
    )


def proof(end):
    """What a receipt says; nothing if it is none."""
    return end.get("proof", {}).get("what", "")


def descriptions(daemon):
    """--check understands what real agents say of themselves."""
    agents = [f"fence_{name}" for name in DESCRIBED if Path(f"/usr/sbin/fence_{name}").exists()]
    daemon.configure({name: f'agent = "{name}", options = {{ ipp = 1 }}, within = "10s"' for name in agents})
    code, said = daemon.check()
    for name in agents:
        holds(f"{name}'s description is understood", f"{name} does not know the option `ipp`" in said, said)
    holds("and an option that none of them knows is an error", code == 3, said)
    holds("with a proposal where there is one", "did you mean `ip`?" in said, said)
    holds("a PDU needs a plug", "fence_apc needs the option `plug`" in said, said)


def fencing(daemon):
    """Receipts come when status says off, and only then."""
    d = daemon.directory
    (d / "ipmitool").write_text(IPMITOOL.format(directory=d, password=PASSWORD))
    (d / "ipmitool").chmod(0o755)
    (d / "secrets").touch(0o600)
    (d / "secrets").write_text(f"password={PASSWORD}\n")
    (d / "wrong").touch(0o600)
    (d / "wrong").write_text("password=tr0ub4dor\n")
    for host in ("bmc1", "bmc2", "bmc3", "liar", "sleepy"):
        (d / host).write_text("on\n")
    (d / "dummy").write_text("on")
    daemon.configure({
        "dummy": f'agent = "fence_dummy", options = {{ status_file = "{d}/dummy" }}, within = "30s"',
        "two": ipmi(daemon, ["bmc1", "bmc2"], ', within = "30s"'),
        "locked": ipmi(daemon, ["bmc3"], ', within = "4s"').replace("/secrets", "/wrong"),
        "liar": ipmi(daemon, ["liar"], ', within = "5s"'),
        "sleepy": ipmi(daemon, ["sleepy"], ', attempt-within = "1500ms", within = "30s"'),
    })
    code, said = daemon.check()
    holds("--check finds nothing wrong", code == 0 and "warning" not in said, said)
    daemon.start()

    [receipt] = daemon.fence("dummy")
    holds("fence_dummy is believed", "fence_dummy succeeded with off" in proof(receipt), receipt)
    holds("and has switched off", (d / "dummy").read_text() == "off")
    [receipt] = daemon.fence("two")
    holds("both controllers are in the proof", "bmc1, bmc2" in proof(receipt), receipt)
    holds("and off", all((d / host).read_text() == "off\n" for host in ("bmc1", "bmc2")))
    holds("they were asked for the status after off", (d / "commands").read_text().rstrip().endswith("power status"))
    [receipt] = daemon.fence("sleepy")
    holds("a controller that hangs at first is off at last", proof(receipt) and (d / "sleepy").read_text() == "off\n", receipt)
    holds("and its first run was killed", "took longer than its limit of 1500 ms" in daemon.log.read_text())
    liar, locked = daemon.fence("liar", "locked")
    holds("a controller that lies gets no receipt", not proof(liar) and "liar" in liar["why"], liar)
    holds("and neither does a wrong password", not proof(locked) and "exited with code 1" in locked["why"], locked)
    holds("whose controller is on", (d / "bmc3").read_text() == "on\n")
    log = daemon.log.read_text()
    holds("and shows no password", PASSWORD not in log and "tr0ub4dor" not in log)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--programs", type=Path, default=ROOT / "target/release", help="where the programs lie")
    arguments = parser.parse_args()
    missing = [f"{path} is missing: apt-get install --no-install-recommends {package}"
               for path, package in NEEDED.items() if not os.access(path, os.X_OK)]
    program = arguments.programs.resolve() / "sitegate-fenced"
    if not program.exists():
        missing.append(f"{program} is missing: cargo build --release --package sitegate-fence")
    if os.geteuid() != 0:
        missing.append("fence agents are run as root")
    if missing:
        print("\n".join(f"error: {what}" for what in missing), file=sys.stderr)
        return 2
    began = time.monotonic()
    directory = Path(tempfile.mkdtemp(prefix="sitegate-agents."))
    daemon = Daemon(program, directory)
    try:
        descriptions(daemon)
        fencing(daemon)
    except Failed as failure:
        print(f"error: {failure}", file=sys.stderr)
        if daemon.log.exists():
            print(daemon.log.read_text()[-5000:], file=sys.stderr)
        return 1
    finally:
        daemon.stop()
        shutil.rmtree(directory, ignore_errors=True)
    print(f"all of it holds ({time.monotonic() - began:.0f} s)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
