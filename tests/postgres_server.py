"""A PostgreSQL of its own, databases in it with the token gate, and sessions of psql: for tests/postgres.py."""

import contextlib
import os
import re
import select
import shutil
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MANUAL = ROOT / "docs/fencing.md"
# Longest wait for the server, for an answer, or for a session to wait.
PATIENCE_S = 60.0

# SQLSTATEs, and what stands for one where there is no connection any more.
OK = "00000"
LOST = "the connection"

# A lock is not waited for as long as an answer. What is committed asynchronously is written when somebody asks for it, and hardly
# otherwise.
CONFIGURATION = """
listen_addresses = ''
unix_socket_directories = '{directory}'
max_connections = 60
lock_timeout = '20s'
deadlock_timeout = '100ms'
track_commit_timestamp = on
wal_writer_delay = '10s'
autovacuum = off
fsync = off
logging_collector = off
"""

# `app` has what applications are granted that check tokens themselves, `plain` writes to guarded tables and has nothing.
ROLES = """
CREATE ROLE app LOGIN;
CREATE ROLE plain LOGIN;
"""
# With the ticket, the trigger and the rights that the manual gives.
TABLES = """
CREATE TABLE accounts (token numeric NOT NULL, writer text, at timestamptz NOT NULL DEFAULT clock_timestamp());
CREATE TABLE unguarded (LIKE accounts INCLUDING ALL);
{manual}
GRANT ALL ON accounts, unguarded TO app, plain;
INSERT INTO sitegate.ticket (ticket) VALUES ('wide');
ALTER ROLE app RESET idle_in_transaction_session_timeout;
"""


class Failed(Exception):
    """Something that should hold does not."""


def holds(what, truth, otherwise=""):
    """Says what holds, or fails."""
    if not truth:
        raise Failed(f"{what}: it does not hold{': ' if otherwise else ''}{otherwise}")
    print(f"ok: {what}", flush=True)


def until(what, condition):
    """Waits for a condition, with a bound; returns what it returned."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.01)
    raise Failed(f"{what}: not within {PATIENCE_S:.0f} s")


def manual():
    """The statements and the start hook that docs/fencing.md tells people to use."""
    section = MANUAL.read_text().split("\n### PostgreSQL\n")[1].split("\n### ")[0]
    console, hook = (re.search(rf"```{language}\n(.*?)```", section, re.DOTALL)[1] for language in ("console", "sh"))
    prompts = ("shop=# ", "shop-# ")
    return "\n".join(line[len(prompts[0]):] for line in console.splitlines() if line.startswith(prompts)), hook


class Server:
    """A PostgreSQL with a directory of its own."""

    def __init__(self, binaries, directory):
        self.binaries = binaries
        self.directory = directory
        self.process = None
        self.user = []
        if os.geteuid() == 0:
            shutil.chown(directory, "nobody", "nogroup")
            self.user = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "--no-new-privs", "--inh-caps=-all"]
        self.environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "HOME": str(directory)}
        self.run("initdb", "--no-sync", "--no-locale", "--encoding=UTF8", "--auth=trust", "--username=admin", "-D", self.data(),
                 check=True)
        # Whoever can reach the socket is trusted: nobody else can enter the directory.
        with open(self.data() / "postgresql.conf", "a") as configuration:
            configuration.write(CONFIGURATION.format(directory=directory))

    def data(self):
        return self.directory / "data"

    def program(self, name):
        return str(self.binaries / name)

    def run(self, name, *arguments, check=False, env=None):
        done = subprocess.run(
            [*self.user, self.program(name), *map(str, arguments)], cwd=self.directory, env=env or self.environment,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=PATIENCE_S,
        )
        if check and done.returncode != 0:
            raise Failed(f"{name}: exit {done.returncode}: {done.stdout}")
        return done

    def start(self):
        with open(self.directory / "log", "ab") as log:
            self.process = subprocess.Popen(
                [*self.user, self.program("postgres"), "-D", str(self.data())], cwd=self.directory, env=self.environment,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )
        until("PostgreSQL starts", self.is_ready)

    def is_ready(self):
        if self.process.poll() is not None:
            raise Failed(f"PostgreSQL does not start:\n{(self.directory / 'log').read_text()[-3000:]}")
        return self.run("pg_isready", "-h", self.directory, "-d", "postgres").returncode == 0

    def end(self, how):
        """SIGINT: fast shutdown. SIGQUIT: at once, without writing anything more, as in a crash."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(how)
            self.process.wait(PATIENCE_S)

    def install(self, name, sql, into="postgres"):
        """Runs a script as the head of the SQL says."""
        script = self.directory / name
        script.write_text(sql)
        script.chmod(0o644)
        self.run("psql", "--no-psqlrc", "--quiet", "--set", "ON_ERROR_STOP=1", "--host", self.directory, "--username", "admin",
                 "--dbname", into, "--file", script, check=True)


class Database:
    """A database with the gate, and all sessions in it."""

    def __init__(self, server, name, sql):
        self.server = server
        self.name = name
        self.sessions = []
        server.install("create.sql", f"CREATE DATABASE {name};")
        server.install("gate.sql", sql, name)
        statements, _ = manual()
        server.install("tables.sql", TABLES.format(manual=statements), name)
        self.admin = self.session("admin")

    def session(self, user="app", token=None):
        session = Session(self, user, token)
        self.sessions.append(session)
        return session

    def known(self, ticket="db"):
        """The greatest token, as anybody sees it."""
        return self.admin.value(f"SELECT token FROM sitegate.ticket WHERE ticket = '{ticket}';")

    def writers(self):
        return self.admin.value("SELECT coalesce(string_agg(writer, ' ' ORDER BY at), '') FROM accounts;")

    def reset(self):
        """As before the first tenure. What an administrator may do, nobody else."""
        self.close()
        self.admin = self.session("admin")
        self.admin.done("UPDATE sitegate.ticket SET token = 0;", "ALTER TABLE accounts DISABLE TRIGGER USER;",
                        "TRUNCATE accounts, unguarded;", "ALTER TABLE accounts ENABLE TRIGGER USER;")

    def close(self):
        for session in self.sessions:
            session.close()
        self.sessions = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Session:
    """A psql, and what it is asked. Statements that wait are sent and looked at later."""

    def __init__(self, database, user, token):
        self.database = database
        server = database.server
        environment = dict(server.environment)
        if token is not None:
            environment["PGOPTIONS"] = f"-c sitegate.token={token}"
        self.process = subprocess.Popen(
            [server.program("psql"), "--no-psqlrc", "--quiet", "--no-align", "--tuples-only",
             "--host", str(server.directory), "--username", user, "--dbname", database.name],
            env=environment, cwd="/", stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )
        os.set_blocking(self.process.stdout.fileno(), False)
        self.heard = b""
        self.asked = 0
        self.pid = self.value("SELECT pg_backend_pid();")

    def send(self, statement):
        """Asks; the answer is for `answer`."""
        self.asked += 1
        try:
            self.process.stdin.write(f"{statement}\n\\echo [{self.asked} :SQLSTATE]\n".encode())
            self.process.stdin.flush()
        except BrokenPipeError:
            pass

    def poll(self, wait_s=0.0):
        """The SQLSTATE and what was said, if there is an answer."""
        mark = f"[{self.asked} ".encode()
        while mark not in self.heard or not self.heard.endswith(b"]\n"):
            if not select.select([self.process.stdout], [], [], wait_s)[0]:
                return None
            more = os.read(self.process.stdout.fileno(), 65536)
            if not more:
                return LOST, self.heard.decode()
            self.heard += more
        text, _, state = self.heard.decode().rpartition(mark.decode())
        self.heard = b""
        return state.strip("]\n"), text.strip()

    def answer(self):
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            if answer := self.poll(wait_s=0.1):
                return answer
        raise Failed(f"no answer within {PATIENCE_S:.0f} s")

    def ask(self, *statements):
        """The SQLSTATE of the first that fails, or that all are well."""
        state = OK
        for statement in statements:
            self.send(statement)
            answered, _ = self.answer()
            state = answered if state == OK else state
        return state

    def done(self, *statements):
        state = self.ask(*statements)
        if state != OK:
            raise Failed(f"{statements}: {state}")

    def value(self, query):
        self.send(query)
        state, text = self.answer()
        if state != OK:
            raise Failed(f"{query}: {state}: {text}")
        return text

    def waits(self):
        """Whether what was sent waits for a lock; false as soon as it is answered."""
        query = f"SELECT coalesce(wait_event_type, '') = 'Lock' FROM pg_stat_activity WHERE pid = {self.pid};"
        return until("an answer, or that it waits", lambda: (
            "answered" if select.select([self.process.stdout], [], [], 0)[0]
            else "waits" if self.database.admin.value(query) == "t" else None
        )) == "waits"

    def close(self):
        self.process.terminate()
        self.process.wait(PATIENCE_S)
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.stdout.close()


