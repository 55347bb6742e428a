"""Two sitegate-fenced that run the manual's start hook against a database: for tests/postgres.py."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import tempfile
from pathlib import Path

from postgres_server import PATIENCE_S, Failed, holds, manual, until

HOOKS = """
[resource.db]
start = {{ command = ["/bin/sh", "{directory}/start"], within = "30s" }}
stop = {{ command = ["/bin/sh", "{directory}/app"], within = "30s" }}
fence = [{{ driver = "command", command = ["/bin/true"], within = "1s" }}]
last-level-may-fail = true
"""
# Plays the application: writes once when it is started, and once more when it is stopped.
APP = """
export PGOPTIONS="-c sitegate.token=$SITEGATE_TOKEN"
exec psql --no-psqlrc --set SHOW_CONTEXT=never --host {host} --username app --dbname {database} \\
    --command "INSERT INTO accounts VALUES ($SITEGATE_TOKEN, '$SITEGATE_SITE $SITEGATE_REASON')"
"""


class Site:
    """A sitegate-fenced whose hooks write to the database."""

    def __init__(self, program, name, db, directory):
        self.directory = directory / name
        self.directory.mkdir()
        host = db.server.directory
        _, hook = manual()
        for old, new in (("db.example.com", str(host)), ("shop", db.name), ("/usr/local/bin/app", f"sh {self.directory}/app")):
            if old not in hook:
                raise Failed(f"the manual's start hook has no {old}")
            hook = hook.replace(old, new)
        (self.directory / "start").write_text(hook)
        (self.directory / "app").write_text(APP.format(host=host, database=db.name))
        config = self.directory / "fenced.toml"
        config.write_text(f'site = "{name}"\nstate-dir = "{self.directory}/state"\nruntime-dir = "{self.directory}/run"\n'
                          + HOOKS.format(directory=self.directory))
        self.log = self.directory / "log"
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [program, "--config", config], stdin=subprocess.DEVNULL, stderr=log,
                env={**os.environ, "PATH": f"{db.server.binaries}:{os.environ['PATH']}"},
            )

    def is_up(self):
        if self.process.poll() is not None:
            raise Failed(f"sitegate-fenced does not start:\n{self.log.read_text()}")
        return (self.directory / "run/fenced.sock").exists()

    def ask(self, request):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(PATIENCE_S)
            connection.connect(str(self.directory / "run/fenced.sock"))
            connection.sendall(json.dumps(request).encode() + b"\n")
            reply = json.loads(connection.makefile().readline())
        if reply["reply"] in ("refused", "error"):
            raise Failed(f"{request}: {reply}")
        return reply

    def arm(self, token):
        now = self.ask({"op": "hello"})["now"]
        deadline = {clock: value + 300 * 10**9 for clock, value in now.items()}
        self.ask({"op": "arm", "resource": "db", "token": token, "deadline": deadline})

    def hook(self, which, token):
        """What became of it: nothing, or why it failed."""
        return self.ask({"op": which, "resource": "db", "token": token})["failed"]

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(PATIENCE_S)


def hooks(db, program):
    """Tokens as the fence daemon hands them to programs."""
    db.reset()
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sitegate-postgres.")))
        sites = []
        for name in ("paris", "lyon"):
            sites.append(Site(program, name, db, directory))
            stack.callback(sites[-1].end)
        paris, lyon = sites
        until("both fence daemons are up", lambda: paris.is_up() and lyon.is_up())
        paris.arm(257)
        why = paris.hook("start", 257)
        holds("the start hook at paris announces its token", why is None and db.known() == "257", why)
        holds("and its application writes", until("a row of paris", db.writers) == "paris start")
        lyon.arm(514)
        why = lyon.hook("start", 514)
        holds("the one at lyon announces a greater", why is None and db.known() == "514", why)
        why = paris.hook("stop", 257)
        holds("what paris still writes then is refused", why and "fencing token 257" in why, why)
        until("a row of lyon", lambda: "lyon" in db.writers())
        why = lyon.hook("stop", 514)
        holds("and what lyon writes is not", why is None, why)
        holds("so that all is in order", db.writers() == "paris start lyon start lyon stop", db.writers())
