-- A PostgreSQL database that refuses whoever has lost the ticket: docs/fencing.md, "Storage that checks tokens".
--
--     psql --no-psqlrc --set ON_ERROR_STOP=1 --dbname DATABASE --file token_gate.sql
--
-- As a superuser, once in each database. All of it is made, or nothing. Then, still as a superuser: each ticket that is checked
-- here, and each table that only its holder may write.
--
--     INSERT INTO sitegate.ticket (ticket) VALUES ('db');
--     CREATE TRIGGER token BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON accounts
--         FOR EACH STATEMENT EXECUTE FUNCTION sitegate.check_session_token('db');

BEGIN;

-- Roles belong to all databases of a server, and may be there from another one.
DO $$
BEGIN
    -- Owns everything here. Nobody logs in as it.
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'sitegate_gate') THEN
        CREATE ROLE sitegate_gate NOLOGIN;
    END IF;
    -- What is granted to applications, so that they can check tokens themselves. Those that only write to tables with the trigger
    -- need nothing.
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'sitegate_writer') THEN
        CREATE ROLE sitegate_writer NOLOGIN;
    END IF;
END
$$;

CREATE SCHEMA sitegate AUTHORIZATION sitegate_gate;
SET LOCAL ROLE sitegate_gate;
GRANT USAGE ON SCHEMA sitegate TO sitegate_writer;

-- What hooks find in SITEGATE_TOKEN: a number of 64 bits without a sign, for which bigint is one bit too short.
CREATE DOMAIN sitegate.token AS numeric
    CONSTRAINT whole_and_of_64_bits CHECK (VALUE >= 0 AND VALUE < 18446744073709551616 AND VALUE = pg_catalog.trunc(VALUE));

-- Made by an administrator and never by a check: a check that misspells the ticket has to fail, not to begin another one.
CREATE TABLE sitegate.ticket (
    ticket text COLLATE "C" PRIMARY KEY CHECK (ticket ~ '^[A-Za-z0-9._/-]{1,64}$'),
    -- The greatest that was accepted; 0, which no tenure has, before the first.
    token sitegate.token NOT NULL DEFAULT 0,
    raised timestamptz
);
GRANT SELECT ON sitegate.ticket TO sitegate_writer;

-- Refuses a token smaller than the greatest, accepts that one, and remembers a greater one. What it answers holds until the end
-- of the transaction: while a transaction that was let in is open, no greater token is accepted, so none of its writes comes
-- after the first under a greater token.
--
-- SG001: the token is too old. Trying again is of no use, so it is none of the SQLSTATEs for which libraries do.
-- SG002: there is no token.
-- SG003: there is no such ticket.
CREATE FUNCTION sitegate.check_token(ticket text, token sitegate.token) RETURNS void
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    queue CONSTANT bigint := hashtextextended('sitegate ticket ' || check_token.ticket, 0);
    known sitegate.token;
BEGIN
    IF check_token.token IS NULL OR check_token.token = 0 THEN
        RAISE EXCEPTION USING ERRCODE = 'SG002',
            MESSAGE = format('no fencing token for ticket "%s"', check_token.ticket),
            HINT = 'Pass on what the start hook finds in SITEGATE_TOKEN: SET sitegate.token = ''257'', or as an argument. 0 is '
                'the token of a test, not of a tenure.';
    END IF;

    -- Without a lock, to know which one to take: two that shared it, and then both wanted it for themselves, would wait for
    -- each other. Tokens only grow, so a greater one found here is answer enough.
    SELECT t.token INTO known FROM sitegate.ticket t WHERE t.ticket = check_token.ticket;
    -- Each branch takes two locks, and keeps them until the transaction ends.
    -- The advisory one is a fair queue: the row lock alone would let those of the old token in as long as one of them is inside,
    -- before a greater one that waits for the last of them to leave.
    -- The lock on the row does not rest on anybody's snapshot: it shows the newest row, or, from REPEATABLE READ on, fails
    -- (40001) if the snapshot is older than that. It is FOR SHARE, as FOR KEY SHARE would let the token be raised meanwhile.
    IF known < check_token.token THEN
        PERFORM pg_advisory_xact_lock(queue);
        SELECT t.token INTO known FROM sitegate.ticket t WHERE t.ticket = check_token.ticket FOR UPDATE;
    ELSIF known = check_token.token THEN
        PERFORM pg_advisory_xact_lock_shared(queue);
        SELECT t.token INTO known FROM sitegate.ticket t WHERE t.ticket = check_token.ticket FOR SHARE;
    END IF;

    IF known IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'SG003',
            MESSAGE = format('no ticket "%s" is checked in this database', check_token.ticket),
            HINT = 'An administrator adds one: INSERT INTO sitegate.ticket (ticket) VALUES (''db'').';
    END IF;
    IF known > check_token.token THEN
        RAISE EXCEPTION USING ERRCODE = 'SG001',
            MESSAGE = format('fencing token %s of ticket "%s" is too old: the greatest is %s', check_token.token,
                check_token.ticket, known),
            HINT = 'The ticket is or was held by somebody else since. This process should have been fenced: end it, and do not '
                'try again.';
    END IF;
    IF known < check_token.token THEN
        UPDATE sitegate.ticket t SET token = check_token.token, raised = clock_timestamp() WHERE t.ticket = check_token.ticket;
        -- A crash must not forget it, nor must a synchronous standby, whatever the application thinks of its own writes.
        IF current_setting('synchronous_commit') IN ('off', 'local') THEN
            PERFORM set_config('synchronous_commit', 'on', true);
        END IF;
    END IF;
END
$$;
REVOKE ALL ON FUNCTION sitegate.check_token FROM PUBLIC;
GRANT EXECUTE ON FUNCTION sitegate.check_token TO sitegate_writer;

-- The same as a trigger, whose argument is the ticket. The token is the session's setting sitegate.token.
CREATE FUNCTION sitegate.check_session_token() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- For each row, what is returned here would have it left out of the write, silently.
    IF TG_LEVEL <> 'STATEMENT' OR TG_NARGS <> 1 THEN
        RAISE EXCEPTION USING ERRCODE = 'trigger_protocol_violated',
            MESSAGE = format('the trigger %I is FOR EACH STATEMENT, and has one argument, the ticket', TG_NAME);
    END IF;
    PERFORM sitegate.check_token(TG_ARGV[0], nullif(current_setting('sitegate.token', true), '')::sitegate.token);
    RETURN NULL;
END
$$;
REVOKE ALL ON FUNCTION sitegate.check_session_token FROM PUBLIC;
GRANT EXECUTE ON FUNCTION sitegate.check_session_token TO sitegate_writer;

COMMIT;
