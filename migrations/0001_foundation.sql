-- Ground for everything else: the schema, ids that sort by time, and the numbered event log.

CREATE SCHEMA IF NOT EXISTS vidqueue;
COMMENT ON SCHEMA vidqueue IS 'The truth about jobs. Read it through vidqueue_report; change it through the daemon or vidqueue.submit().';

-- Ids are UUIDv7 (RFC 9562): keyset pages and indexes follow the order of creation.
-- PostgreSQL 18 has uuidv7(); older servers get the same layout from random bits and the clock.
DO $$
BEGIN
    IF to_regprocedure('pg_catalog.uuidv7()') IS NOT NULL THEN
        CREATE FUNCTION vidqueue.new_id() RETURNS uuid
            LANGUAGE sql VOLATILE PARALLEL SAFE AS 'SELECT pg_catalog.uuidv7()';
    ELSE
        CREATE FUNCTION vidqueue.new_id() RETURNS uuid
            LANGUAGE sql VOLATILE PARALLEL SAFE AS $body$
            SELECT encode(
                set_bit(set_bit(
                    overlay(uuid_send(gen_random_uuid())
                        PLACING substring(int8send((extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3)
                        FROM 1 FOR 6),
                    52, 1), 53, 1), 'hex')::uuid
            $body$;
    END IF;
END $$;

CREATE TABLE vidqueue.events (
    number  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job_id  uuid NOT NULL,
    owner   text NOT NULL,
    kind    text NOT NULL CHECK (kind IN ('queued', 'running', 'progress', 'interrupted', 'cancel_requested',
                                          'updated', 'succeeded', 'failed', 'canceled')),
    at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    data    jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX events_of_job ON vidqueue.events (job_id, number);
COMMENT ON TABLE vidqueue.events IS 'Numbered facts about jobs. The numbers rise in commit order, so a reader that knows N has missed nothing below N.';

-- One row: the identity of this database. A data folder remembers it, so that a sweep against a wrong database cannot
-- take the files of the right one.
CREATE TABLE vidqueue.installation (
    only_row  boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    id        uuid NOT NULL DEFAULT gen_random_uuid()
);
INSERT INTO vidqueue.installation DEFAULT VALUES;

-- One row: which start of the server the event numbers belong to.
CREATE TABLE vidqueue.event_epoch (
    only_row         boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    server_started   timestamptz NOT NULL
);
INSERT INTO vidqueue.event_epoch (server_started) VALUES (pg_postmaster_start_time());

-- Append one event and wake the listeners. Call it last in a transaction: it serialises writers until commit.
-- That lock is what makes numbers rise in commit order; it costs nothing new, because PostgreSQL already
-- serialises every commit that carries a NOTIFY.
-- Progress commits do not wait for the disk, so a crash may take back numbers that a client has seen. The first
-- event after a start of the server therefore skips far ahead: a seen number is never used again.
CREATE FUNCTION vidqueue.record_event(job uuid, owner text, kind text, data jsonb) RETURNS bigint
    LANGUAGE plpgsql AS $$
DECLARE
    assigned bigint;
BEGIN
    PERFORM pg_advisory_xact_lock(30321, 1);
    UPDATE vidqueue.event_epoch SET server_started = pg_postmaster_start_time()
        WHERE server_started <> pg_postmaster_start_time();
    IF FOUND THEN
        PERFORM setval('vidqueue.events_number_seq', nextval('vidqueue.events_number_seq') + 10000);
    END IF;
    INSERT INTO vidqueue.events (job_id, owner, kind, data)
        VALUES (job, record_event.owner, record_event.kind, record_event.data)
        RETURNING number INTO assigned;
    -- Equal payloads of one transaction arrive once: a batch of a thousand jobs wakes each listener once.
    PERFORM pg_notify('vidqueue', record_event.kind);
    RETURN assigned;
END $$;
