"""What the token gate promises, each a function that is given a database of its own: for tests/postgres.py."""

import signal

from postgres_server import LOST, OK, Failed, holds, until

LEVELS = ("READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE")

# SQLSTATEs.
TOO_OLD = "SG001"
NO_TOKEN = "SG002"
NO_TICKET = "SG003"
# Begun again, with a new snapshot, whoever gets this is refused or let in.
SERIALIZATION_FAILURE = "40001"
FORBIDDEN = "42501"

# One transaction of many: under the token of now, which changes ten times a second, or one of the two before; some are slow.
STORM = """
\\set behind random(0, 2)
\\set slow random(0, 3)
BEGIN;
DO $$
DECLARE
    mine numeric := 256 * (floor(extract(epoch FROM clock_timestamp()) * 10) - :behind) + 1;
BEGIN
    PERFORM sitegate.check_token('db', mine);
    INSERT INTO unguarded VALUES (mine, 'let in');
    PERFORM pg_sleep(0.02 * :slow);
EXCEPTION
    WHEN SQLSTATE 'SG001' THEN INSERT INTO unguarded VALUES (mine, 'refused');
    WHEN serialization_failure THEN INSERT INTO unguarded VALUES (mine, 'again');
END
$$;
COMMIT;
"""
# Whoever was let in under a smaller token had committed when the first under a greater one wrote.
DISORDER = """
WITH let_in AS (SELECT token, at, pg_xact_commit_timestamp(xmin) AS committed FROM unguarded WHERE writer = 'let in'),
     tenures AS (SELECT token, min(at) AS first FROM let_in GROUP BY token)
SELECT (SELECT count(*) FROM let_in old JOIN tenures new ON old.token < new.token AND old.committed > new.first),
       (SELECT count(*) FROM tenures), (SELECT count(*) FROM let_in), count(*) FILTER (WHERE writer = 'refused') FROM unguarded;
"""


def check(token, ticket="db"):
    return f"SELECT sitegate.check_token('{ticket}', {token});"


def write(writer):
    token = "coalesce(current_setting('sitegate.token', true), '0')::numeric"
    return f"INSERT INTO accounts (token, writer) VALUES ({token}, '{writer}');"


def begin(level):
    return f"BEGIN ISOLATION LEVEL {level};"


def comparing(db):
    """Smaller ones are refused, equal ones are not, greater ones are remembered."""
    app = db.session()
    holds("the first token is accepted", app.ask(check(257)) == OK and db.known() == "257")
    holds("the same again", app.ask(check(257)) == OK and db.known() == "257")
    holds("a greater one, which is remembered", app.ask(check(514)) == OK and db.known() == "514")
    app.send(check(257))
    state, said = app.answer()
    holds("a smaller one is refused", state == TOO_OLD, state)
    holds("with what is wrong, and what to do", all(part in said for part in ("257", '"db"', "514", "do not try again")), said)
    holds("and changes nothing", db.known() == "514")
    holds("they are compared as numbers", app.ask(check(1026)) == OK and app.ask(check(771)) == TOO_OLD, db.known())
    holds("a greater one that is rolled back does not count", app.ask("BEGIN;", check(1282), "ROLLBACK;") == OK
          and db.known() == "1026")


def tokens(db):
    """What is a token, and what is none."""
    app = db.session()
    greatest = 2**64 - 1
    holds("a token may have 64 bits", app.ask(check(f"'{greatest}'", "wide")) == OK and db.known("wide") == str(greatest))
    holds("and the one before is smaller", app.ask(check(f"'{greatest - 1}'", "wide")) == TOO_OLD)
    for what in ("'1.5'", "-1", f"'{greatest + 1}'", "'NaN'", "'Infinity'", "''", "'257x'"):
        state = app.ask(check(what))
        holds(f"{what} is no token", state in ("23514", "22P02"), state)
    holds("without a token nobody is let in", app.ask(check("NULL")) == NO_TOKEN)
    holds("nor with that of a test", app.ask(check(0)) == NO_TOKEN)
    holds("nor for a ticket that nobody has added", app.ask(check(257, "DB")) == NO_TICKET)
    holds("nor for none", app.ask("SELECT sitegate.check_token(NULL, 257);") == NO_TICKET)


def triggers(db):
    """A guarded table asks for the session's token."""
    bare, new, old = db.session("plain"), db.session("plain", 514), db.session("plain", 257)
    state = bare.ask(write("bare"))
    holds("a session without a token does not write to a guarded table", state == NO_TOKEN, state)
    holds("one with a token does", old.ask(write("old")) == OK and new.ask(write("new")) == OK and db.known() == "514")
    for statement in (
        write("late"), "INSERT INTO accounts SELECT * FROM accounts;", "UPDATE accounts SET writer = 'late';",
        "DELETE FROM accounts;", "TRUNCATE accounts;", "WITH gone AS (DELETE FROM accounts RETURNING *) SELECT * FROM gone;",
        "COPY accounts (token, writer) FROM STDIN;\n1\tlate\n\\.",
    ):
        state = old.ask(statement)
        holds(f"under a smaller one it does not: {statement.splitlines()[0].split('(')[0]}", state == TOO_OLD, state)
    holds("nothing of that is there", db.writers() == "old new", db.writers())
    state = bare.ask("BEGIN;", "SET LOCAL sitegate.token = '514';", write("once"), "COMMIT;")
    holds("a token for one transaction will do", state == OK, state)
    holds("and for no more", bare.ask(write("bare")) == NO_TOKEN)
    state = db.admin.ask(
        "CREATE TRIGGER wrong BEFORE INSERT ON unguarded FOR EACH ROW EXECUTE FUNCTION sitegate.check_session_token('db');",
        "SET sitegate.token = '514';", "INSERT INTO unguarded VALUES (1);",
    )
    db.admin.done("DROP TRIGGER wrong ON unguarded;", "RESET sitegate.token;")
    holds("a trigger for each row fails instead of leaving rows out", state == "39P01", state)


def privileges(db):
    """Who may write under a token can raise it, and nothing else."""
    app, plain = db.session(), db.session("plain", 514)
    app.done(check(514))
    for statement in (
        "UPDATE sitegate.ticket SET token = 1;", "DELETE FROM sitegate.ticket;", "TRUNCATE sitegate.ticket;",
        "INSERT INTO sitegate.ticket (ticket) VALUES ('own');", "SELECT * FROM sitegate.ticket FOR SHARE;",
        "DO 'BEGIN LOCK TABLE sitegate.ticket IN EXCLUSIVE MODE; END';", "SET ROLE sitegate_gate;",
        "CREATE TABLE sitegate.own ();", "ALTER TABLE accounts DISABLE TRIGGER USER;", "SET session_replication_role = replica;",
    ):
        state = app.ask(statement)
        holds(f"an application may not {statement}", state == FORBIDDEN, state)
    holds("it may look", app.value("SELECT token FROM sitegate.ticket WHERE ticket = 'db';") == "514")
    holds("who is not granted the check cannot call it", plain.ask(check(514)) == FORBIDDEN)
    holds("and writes to guarded tables all the same", plain.ask(write("plain")) == OK)


def search_path(db):
    """What is compared is what is meant, whatever the application's search_path says."""
    app = db.session()
    app.done(check(514))
    # As whoever may make operators in some schema, and sets search_path.
    db.admin.done(
        "CREATE SCHEMA evil;", "GRANT USAGE ON SCHEMA evil TO PUBLIC;",
        "CREATE FUNCTION evil.never(numeric, numeric) RETURNS boolean LANGUAGE sql AS 'SELECT false';",
        "CREATE OPERATOR evil.> (FUNCTION = evil.never, LEFTARG = numeric, RIGHTARG = numeric);",
    )
    state = app.ask("SET search_path = evil, pg_catalog;", check(257))
    holds("operators of the application's are not used", state == TOO_OLD, state)


def old_inside(db):
    """The old holder was let in and is still inside: the new one waits for it."""
    for level in LEVELS:
        for how in ("function", "trigger", "trigger, first of its token"):
            db.reset()
            old, new = db.session(token=257), db.session(token=514)
            if "first" not in how:
                new.done(check(257))
            old.done(begin(level), check(257) if how == "function" else write("first"), write("old"))
            new.send(check(514) if how == "function" else write("announces"))
            holds(f"{level}, {how}: the new holder waits for the old one's transaction", new.waits())
            old.done(write("more"))
            holds(f"{level}, {how}: which goes on until then", not new.poll())
            old.done("COMMIT;")
            holds(f"{level}, {how}: and then is let in", new.answer()[0] == OK)
            seen = new.value("SELECT count(*) FROM accounts WHERE token = 257;")
            holds(f"{level}, {how}: and sees all that the old one wrote", seen == ("2" if how == "function" else "3"), seen)
            holds(f"{level}, {how}: no transaction of the old one's is let in any more",
                  old.ask(begin(level), write("late"), "COMMIT;") == TOO_OLD)


def announcing(db):
    """Who has announced in a transaction of its own sees all that the old one wrote; later in the same, maybe not."""
    for level in LEVELS:
        db.reset()
        old, new = db.session(token=257), db.session(token=514)
        old.done(check(257), begin(level), write("old"))
        new.done(begin(level))
        new.send(check(514))
        holds(f"{level}: the new holder waits", new.waits())
        old.done("COMMIT;")
        holds(f"{level}: and is let in", new.answer()[0] == OK)
        new.send("SELECT writer FROM accounts;")
        state, said = new.answer()
        if level == "READ COMMITTED":
            holds(f"{level}: and sees the old one's last write in the same transaction", said == "old", said)
        elif level == "SERIALIZABLE":
            holds(f"{level}: and is told to begin again", state == SERIALIZATION_FAILURE, state)
        else:
            holds(f"{level}: and does not see the old one's last write in the same transaction", (state, said) == (OK, ""), said)
        new.ask("ROLLBACK;")
        new.done(check(514))
        new.done(begin(level))
        said = new.value("SELECT writer FROM accounts;")
        holds(f"{level}: who has announced before sees it", said == "old", said)


def old_began_before(db):
    """The old holder's transaction is older than the new one's token: it is not let in, whatever it has seen."""
    for level in LEVELS:
        for statement in (check(257), write("late"), "DELETE FROM accounts;"):
            db.reset()
            old, new = db.session(token=257), db.session(token=514)
            old.done(check(257), begin(level), "SELECT count(*) FROM accounts;")
            new.done(check(514), write("new"))
            state = old.ask(statement)
            wanted = TOO_OLD if level == "READ COMMITTED" else SERIALIZATION_FAILURE
            holds(f"{level}: a transaction that began before is refused: {statement.split('(')[0]}", state == wanted, state)
            old.ask("COMMIT;")
            holds(f"{level}: and if it tries again", old.ask(begin(level), statement, "COMMIT;") == TOO_OLD)
            holds(f"{level}: so that nothing of it is there", db.writers() == "new", db.writers())


def old_waits(db):
    """The new holder has checked and not committed: the old one waits, and loses if the new one commits."""
    for level in LEVELS:
        for end in ("COMMIT;", "ROLLBACK;"):
            db.reset()
            old, new = db.session(token=257), db.session(token=514)
            old.done(check(257), begin(level), "SELECT count(*) FROM accounts;")
            new.done("BEGIN;", check(514), write("new"))
            old.send(write("old"))
            holds(f"{level}: the old holder waits for the new one's first transaction", old.waits())
            new.done(end)
            state, _ = old.answer()
            wanted = OK if end == "ROLLBACK;" else TOO_OLD if level == "READ COMMITTED" else SERIALIZATION_FAILURE
            holds(f"{level}: and after {end} has {state}", state == wanted, state)


def equal_inside(db):
    """Writers with one token do not wait for each other."""
    db.session().done(check(514))
    for level in LEVELS:
        writers = [db.session(token=514) for _ in range(8)]
        for number, writer in enumerate(writers):
            writer.done("SET lock_timeout = '1s';", begin(level))
            state = writer.ask(check(514), write(f"w{number}"), check(514))
            holds(f"{level}: writer {number + 1} of one token waits for nobody", state == OK, state)
        for writer in writers:
            writer.done("COMMIT;")
            writer.close()


def raised_at_once(db):
    """Several begin a tenure at once: none dies of another."""
    db.session().done(check(257))
    old = db.session()
    old.done("BEGIN;", check(257))
    raising = [db.session() for _ in range(4)]
    for session in raising:
        session.done("BEGIN;")
        session.send(check(514))
    holds("all who bring a greater token wait", all(session.waits() for session in raising))
    old.done("COMMIT;")

    def one_more():
        for session in raising:
            if answer := session.poll():
                raising.remove(session)
                return session, answer[0]
        return None

    while raising:
        session, state = until("somebody is let in", one_more)
        holds("and are let in one after the other, without a deadlock", state == OK, state)
        session.done("COMMIT;")


def queue(db):
    """A stream of the old holder's transactions does not keep the new one out."""
    db.session().done(check(257))
    inside, late, new = db.session(token=257), db.session(token=257), db.session(token=514)
    inside.done("BEGIN;", write("inside"))
    new.send(check(514))
    holds("the new holder waits", new.waits())
    late.send(write("late"))
    holds("and who comes after it under the old token is not let in before it", late.waits())
    inside.done(write("inside"), "COMMIT;")
    holds("but when the last one before is out, it is", new.answer()[0] == OK)
    state, _ = late.answer()
    holds("and who came after it is refused", state == TOO_OLD, state)


def frozen(db):
    """A holder that is frozen inside a transaction holds the new one up for as long as the server lets it."""
    old, new = db.session(token=257), db.session(token=514)
    new.done(check(257))
    old.done("SET idle_in_transaction_session_timeout = '300ms';", "BEGIN;", write("frozen"))
    old.process.send_signal(signal.SIGSTOP)
    try:
        state = new.ask(write("new"))
        holds("a frozen holder is in the new one's way no longer than idle_in_transaction_session_timeout", state == OK, state)
    finally:
        old.process.send_signal(signal.SIGCONT)
    state = old.ask("COMMIT;")
    holds("thawed, it cannot commit", state in (LOST, "57P05", "25P03"), state)
    holds("and nothing of it is there", db.writers() == "new", db.writers())


def savepoints(db):
    """A check that is rolled back to a savepoint lets go of its lock; a guarded table checks again."""
    old, new = db.session(token=257), db.session(token=514)
    old.done(check(257), "BEGIN;", "SAVEPOINT s;", check(257), "ROLLBACK TO s;")
    holds("a check rolled back to a savepoint holds nobody up", new.ask(write("new")) == OK)
    state = old.ask(write("late"))
    holds("and the next write to a guarded table is refused", state == TOO_OLD, state)


def storm(db, level="READ COMMITTED"):
    """Many writers of three tokens at a time, judged by when they committed."""
    db.reset()
    script = db.server.directory / "storm.sql"
    script.write_text(STORM)
    isolation = level.lower().replace(" ", "\\ ")

    def round_of_it():
        """A second of it, and what all of it has come to so far, if that is enough."""
        db.server.run("pgbench", "--no-vacuum", "--client=12", "--jobs=2", "--time=1", "--file", script,
                      "-h", db.server.directory, "-U", "app", db.name, check=True,
                      env={**db.server.environment, "PGOPTIONS": f"-c default_transaction_isolation={isolation}"})
        wild, tenures, let_in, refused = map(int, db.admin.value(DISORDER).split("|"))
        met = f"{let_in} let in under {tenures} tokens, {refused} refused"
        if wild:
            raise Failed(f"{level}: of {met}, {wild} committed after a greater token's first write")
        return met if tenures >= 5 and refused >= 10 else None

    holds(f"{level}: of {until('tokens of all kinds', round_of_it)}, none committed after a greater token's first write", True)


def storms(db):
    for level in LEVELS:
        storm(db, level)


def restarts(db):
    """What is committed is known after restarts and crashes, and nothing else."""
    server = db.server
    db.session(token=257).done(write("old"))
    for what, how in (("a restart", signal.SIGINT), ("a crash", signal.SIGQUIT)):
        db.session().done(check(514))
        db.close()
        server.end(how)
        server.start()
        db.admin = db.session("admin")
        holds(f"{what} keeps the token", db.known() == "514", db.known())
        holds(f"and after {what} the old one is refused", db.session(token=257).ask(write("late")) == TOO_OLD)
    new = db.session(token=771)
    new.done("BEGIN;", write("uncommitted"))
    server.end(signal.SIGQUIT)
    db.close()
    server.start()
    db.admin = db.session("admin")
    holds("a crash keeps no token of what was not committed", db.known() == "514", db.known())
    holds("and no write of it", db.writers() == "old", db.writers())


def lazy_commits(db):
    """The first write of a token is on the disk when it is answered, however lazily the application commits."""
    db.session().done(check(257))
    lazy = db.session(token=514)
    lazy.done("SET synchronous_commit = off;", check(514))
    db.server.end(signal.SIGQUIT)
    db.close()
    db.server.start()
    db.admin = db.session("admin")
    holds("a crash keeps the token of a session that commits asynchronously", db.known() == "514", db.known())


CHECKS = (
    comparing, tokens, triggers, privileges, search_path, old_inside, announcing, old_began_before, old_waits, equal_inside,
    raised_at_once, queue, frozen, savepoints, storms, restarts, lazy_commits,
)
