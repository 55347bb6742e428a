#!/usr/bin/env python3
"""Fencing tokens in a real PostgreSQL: python3 tests/postgres.py [--programs DIR]

Starts a PostgreSQL of its own, in a temporary directory and on a Unix socket only, installs conf/postgresql/token_gate.sql,
and holds it to what docs/fencing.md says of it, with sessions of psql: what is refused, who waits for whom, under each isolation
level, and what restarts and crashes leave. Two sitegate-fenced hand tokens to the start hook of the manual. Then each part of the
SQL that something rests on is broken, one at a time, and a check has to notice.

Needs Debian's package postgresql; installs nothing, and runs it as `nobody` if started as root. Prints one line for each thing
that holds; the exit code is 0 only if all do, and 2 if something is missing that it needs.
"""

import argparse
import contextlib
import io
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import postgres_checks as checks
from postgres_hooks import hooks
from postgres_server import ROLES, ROOT, Database, Failed, Server, holds

SQL = ROOT / "conf/postgresql/token_gate.sql"
# A lazy commit is not lost in every crash, nor does every storm meet a gap.
ATTEMPTS = 3

QUEUES = ("PERFORM pg_advisory_xact_lock(queue);", "PERFORM pg_advisory_xact_lock_shared(queue);")
ROW_LOCKS = ("FOR UPDATE;", "FOR SHARE;")
NO_QUEUE = dict.fromkeys(QUEUES, "")
NO_ROW_LOCK = dict.fromkeys(ROW_LOCKS, ";")

# What is broken, what is written there instead, and the check that has to notice.
BROKEN = (
    ("a smaller token is accepted", {"IF known > check_token.token THEN": "IF false THEN"}, checks.comparing),
    ("a greater token is not remembered", {"SET token = check_token.token,": "SET token = known,"}, checks.comparing),
    ("tokens are compared as text", {"known > check_token.token": "known::text > check_token.token::text"}, checks.comparing),
    ("fractions and signs are tokens", {"CHECK (VALUE >= 0 AND": "CHECK (true OR"}, checks.tokens),
    ("an unknown ticket is let in", {"IF known IS NULL THEN": "IF false THEN"}, checks.tokens),
    ("no token is a token", {"IF check_token.token IS NULL OR check_token.token = 0 THEN": "IF false THEN"}, checks.triggers),
    ("a trigger for each row is taken", {"IF TG_LEVEL <> 'STATEMENT' OR TG_NARGS <> 1 THEN": "IF false THEN"}, checks.triggers),
    ("the application may write the table of tokens", {"GRANT SELECT ON": "GRANT ALL ON"}, checks.privileges),
    ("everybody may call the check", {
        "REVOKE ALL ON FUNCTION sitegate.check_token FROM PUBLIC;": "GRANT USAGE ON SCHEMA sitegate TO PUBLIC;",
    }, checks.privileges),
    ("the caller's search_path is used", {"SET search_path = pg_catalog, pg_temp": ""}, checks.search_path),
    ("there is no lock", NO_QUEUE | NO_ROW_LOCK, checks.old_inside),
    ("there is no lock, under load", NO_QUEUE | NO_ROW_LOCK, checks.storm),
    ("there is no lock on the row", NO_ROW_LOCK, checks.old_began_before),
    ("there is no queue", NO_QUEUE, checks.queue),
    ("the row lock is one that a raise does not heed", NO_QUEUE | {
        "FOR UPDATE;": "FOR NO KEY UPDATE;", "FOR SHARE;": "FOR KEY SHARE;",
    }, checks.old_inside),
    ("equal tokens lock the row for themselves", {"FOR SHARE;": "FOR UPDATE;"}, checks.equal_inside),
    ("equal tokens queue for themselves", {QUEUES[1]: QUEUES[0]}, checks.equal_inside),
    ("all share first, and then want more", {QUEUES[0]: QUEUES[1], "FOR UPDATE;": "FOR SHARE;"}, checks.raised_at_once),
    ("locks are the session's", {"pg_advisory_xact_lock": "pg_advisory_lock"}, checks.savepoints),
    ("the tokens are not logged", {"CREATE TABLE": "CREATE UNLOGGED TABLE"}, checks.restarts),
    ("a raise is committed lazily", {"IN ('off', 'local')": "IN ('local')"}, checks.lazy_commits),
)


def broken(server, sql):
    """Checks that cannot fail prove nothing."""
    for number, (what, changes, notices) in enumerate(BROKEN):
        text = sql
        for old, new in changes.items():
            if old not in text:
                raise Failed(f"{what}: there is no {old!r} to break")
            text = text.replace(old, new)
        found = None
        with Database(server, f"broken{number}", text) as db:
            # Whoever is in somebody's way by mistake need not be so for long.
            db.admin.done(f"ALTER DATABASE {db.name} SET lock_timeout = '1s';")
            for _ in range(ATTEMPTS):
                try:
                    with contextlib.redirect_stdout(io.StringIO()):
                        db.reset()
                        notices(db)
                except Failed as failure:
                    found = str(failure)
                    break
        holds(f"it is noticed if {what}: {found}", found)


class Missing(Exception):
    """Something is not there that this needs."""


def binaries():
    """Where the newest PostgreSQL of Debian lies, or the one in PATH."""
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name), reverse=True)
    if in_path := shutil.which("postgres"):
        places.append(Path(in_path).resolve().parent)
    for place in places:
        if all((place / name).exists() for name in ("postgres", "initdb", "psql", "pgbench", "pg_isready")):
            return place
    raise Missing("PostgreSQL is missing: apt-get install postgresql")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--programs", type=Path, default=ROOT / "target/release", help="where the programs lie")
    arguments = parser.parse_args()
    program = arguments.programs.resolve() / "sitegate-fenced"
    try:
        where = binaries()
        if not program.exists():
            raise Missing(f"{program} is missing: cargo build --release --package sitegate-fence")
    except Missing as missing:
        print(f"error: {missing}", file=sys.stderr)
        return 2
    began = time.monotonic()
    sql = SQL.read_text()
    directory = Path(tempfile.mkdtemp(prefix="sitegate-postgres."))
    server = None
    try:
        server = Server(where, directory)
        server.start()
        server.install("roles.sql", ROLES)
        with Database(server, "shop", sql) as db:
            print(db.admin.value("SELECT version();"))
            for each in checks.CHECKS:
                db.reset()
                each(db)
            hooks(db, program)
        broken(server, sql)
    except Failed as failure:
        print(f"error: {failure}", file=sys.stderr)
        return 1
    finally:
        if server is not None:
            server.end(signal.SIGQUIT)
        shutil.rmtree(directory, ignore_errors=True)
    print(f"all of it holds ({time.monotonic() - began:.0f} s)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
