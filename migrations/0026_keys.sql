-- API keys: who may ask over HTTP, as which owner and in which role; and what an owner may have at most.

CREATE TABLE vidqueue.api_keys (
    id          uuid PRIMARY KEY DEFAULT vidqueue.new_id(),
    owner       text NOT NULL CHECK (length(owner) BETWEEN 1 AND 200),
    role        text NOT NULL CHECK (role IN ('read', 'submit', 'operate', 'admin')),
    name        text NOT NULL DEFAULT '' CHECK (length(name) <= 200),
    prefix      text NOT NULL,
    hash        bytea NOT NULL UNIQUE CHECK (length(hash) = 32),
    created_at  timestamptz NOT NULL DEFAULT now(),
    expires_at  timestamptz,
    used_at     timestamptz,
    revoked_at  timestamptz
);
COMMENT ON TABLE vidqueue.api_keys IS
    'While there is a row, every request needs a key. Revoked keys keep their row, so that revoking the last one opens nothing.';
COMMENT ON COLUMN vidqueue.api_keys.hash IS 'SHA-256 of the key. A key is 256 random bits, so a slow hash would add nothing.';
COMMENT ON COLUMN vidqueue.api_keys.prefix IS 'The first characters of the key, by which people recognise it.';
COMMENT ON COLUMN vidqueue.api_keys.used_at IS 'When a request last used it, to the minute.';

CREATE VIEW vidqueue_report.api_keys AS
SELECT id, owner, role, name, prefix, created_at, expires_at, used_at, revoked_at FROM vidqueue.api_keys;
COMMENT ON VIEW vidqueue_report.api_keys IS 'API keys without their hashes.';

-- What an owner may have at most. A NULL is no limit; the row '*' is for owners without one of their own.
CREATE TABLE vidqueue.owner_limits (
    owner             text PRIMARY KEY CHECK (length(owner) BETWEEN 1 AND 200),
    max_queued        integer CHECK (max_queued >= 0),
    max_running       integer CHECK (max_running >= 0),
    max_per_minute    integer CHECK (max_per_minute BETWEEN 0 AND 100000),
    max_stored_bytes  bigint CHECK (max_stored_bytes >= 0),
    changed_at        timestamptz NOT NULL DEFAULT now()
);
COMMENT ON COLUMN vidqueue.owner_limits.max_queued IS 'Jobs that wait: submits beyond it are refused.';
COMMENT ON COLUMN vidqueue.owner_limits.max_running IS 'Jobs that run: others of the owner wait, with owner_limit as their reason.';
COMMENT ON COLUMN vidqueue.owner_limits.max_per_minute IS 'Jobs submitted within the last 60 seconds.';
COMMENT ON COLUMN vidqueue.owner_limits.max_stored_bytes IS 'Bytes of uploads and outputs: submits and uploads beyond it are refused; outputs are kept.';

CREATE FUNCTION vidqueue.limits_of(owner text) RETURNS SETOF vidqueue.owner_limits LANGUAGE sql STABLE ROWS 1 AS $$
    SELECT * FROM vidqueue.owner_limits l WHERE l.owner IN (limits_of.owner, '*') ORDER BY l.owner = '*' LIMIT 1
$$;

-- True if one more job of the owner may run. Where there is a limit, one transaction at a time may begin jobs of the owner;
-- another one passes the owner over, which its next look makes good.
CREATE FUNCTION vidqueue.may_run_one_more(owner text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    most integer := (SELECT max_running FROM vidqueue.limits_of(owner));
BEGIN
    RETURN most IS NULL OR (pg_try_advisory_xact_lock(30324, hashtext(owner))
        AND (SELECT count(*) FROM vidqueue.jobs j WHERE j.owner = may_run_one_more.owner AND j.state = 'running') < most);
END $$;

-- Bytes that an owner has stored: counted only where there is a limit, from an index of its own.
CREATE FUNCTION vidqueue.stored_bytes(owner text) RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT coalesce(sum(f.size), 0)::bigint FROM vidqueue.files f WHERE f.owner = stored_bytes.owner
$$;

-- The lowest id that a job of this moment may have: a UUIDv7 begins with its milliseconds.
CREATE FUNCTION vidqueue.first_id(moment timestamptz) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$
    SELECT (lpad(to_hex((extract(epoch FROM moment) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid
$$;

-- Refuse jobs beyond the limits of their owner, whoever inserts them. Without a limit it costs one look at an empty table.
-- `limit_reached: <sentence>`, with the seconds after which to come back as the detail.
CREATE FUNCTION vidqueue.keep_limits() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    asked   record;
    most    vidqueue.owner_limits;
    has     bigint;
BEGIN
    IF NOT EXISTS (SELECT FROM vidqueue.owner_limits) THEN
        RETURN NULL;
    END IF;
    FOR asked IN SELECT f.owner, count(*) AS jobs FROM fresh f GROUP BY f.owner ORDER BY f.owner LOOP
        SELECT * INTO most FROM vidqueue.limits_of(asked.owner);
        CONTINUE WHEN NOT FOUND;
        -- One at a time, until the commit: what others have just submitted counts.
        PERFORM pg_advisory_xact_lock(30325, hashtext(asked.owner));
        IF most.max_queued IS NOT NULL THEN
            -- The counters have what is committed; the jobs of this statement are not in them yet.
            SELECT coalesce(sum(c.jobs), 0) INTO has FROM vidqueue.jobs_counted c
                WHERE c.owner = asked.owner AND c.state IN ('queued', 'later');
            IF has + asked.jobs > most.max_queued THEN
                RAISE EXCEPTION 'limit_reached: % may have % jobs waiting, and has %', asked.owner, most.max_queued, has
                    USING ERRCODE = 'VQ006', DETAIL = '10';
            END IF;
        END IF;
        IF most.max_per_minute IS NOT NULL THEN
            SELECT count(*) INTO has FROM (SELECT FROM vidqueue.jobs j
                WHERE j.owner = asked.owner AND j.id >= vidqueue.first_id(clock_timestamp() - interval '1 minute')
                LIMIT most.max_per_minute + 1) recent;
            IF has > most.max_per_minute THEN
                RAISE EXCEPTION 'limit_reached: % may submit % jobs a minute', asked.owner, most.max_per_minute
                    USING ERRCODE = 'VQ006', DETAIL = '20';
            END IF;
        END IF;
        IF most.max_stored_bytes IS NOT NULL AND vidqueue.stored_bytes(asked.owner) > most.max_stored_bytes THEN
            RAISE EXCEPTION 'limit_reached: % may store % bytes and has more', asked.owner, most.max_stored_bytes
                USING ERRCODE = 'VQ006', DETAIL = '60';
        END IF;
    END LOOP;
    RETURN NULL;
END $$;
CREATE TRIGGER keep_limits AFTER INSERT ON vidqueue.jobs REFERENCING NEW TABLE AS fresh
    FOR EACH STATEMENT EXECUTE FUNCTION vidqueue.keep_limits();

CREATE VIEW vidqueue_report.owner_limits AS
SELECT owner, max_queued, max_running, max_per_minute, max_stored_bytes, changed_at FROM vidqueue.owner_limits;
COMMENT ON VIEW vidqueue_report.owner_limits IS 'What owners may have at most; * is everybody without a row.';

-- As in 0011, with the limit on running jobs of an owner.
CREATE OR REPLACE FUNCTION vidqueue.choose(lane uuid, lease_s double precision, begins boolean)
    RETURNS TABLE (job_id uuid, attempt integer, fence bigint, queue text, processor text, input jsonb, owner text, device text,
                   timeout_s double precision, stall_timeout_s double precision, cancel_requested boolean)
    -- A plan that was made while the table was small is kept when it has grown: it must not read all of it.
    LANGUAGE plpgsql SET enable_seqscan = off SET jit = off AS $$
#variable_conflict use_column
DECLARE
    taker      vidqueue.lanes;
    candidate  uuid;
    chosen     vidqueue.jobs;
    paused     text[] := vidqueue.paused_processors();
BEGIN
    SELECT l.* INTO taker FROM vidqueue.lanes l
    WHERE l.id = choose.lane AND l.state = 'online' AND NOT vidqueue.is_paused(l) AND l.blocked_by IS NULL
      AND NOT EXISTS (SELECT FROM vidqueue.attempts a WHERE a.lane_id = l.id AND a.ended_at IS NULL);
    IF NOT FOUND OR '' = ANY (paused) THEN
        RETURN;
    END IF;

    -- Jobs whose time has come since somebody last looked; their trigger makes them ready.
    UPDATE vidqueue.jobs SET ready = true WHERE id IN (
        SELECT id FROM vidqueue.jobs WHERE state = 'queued' AND NOT ready AND unmet = 0 AND run_at <= now()
        ORDER BY run_at LIMIT 1000 FOR UPDATE SKIP LOCKED);

    FOR candidate IN
        WITH RECURSIVE demands (demand) AS (
            (SELECT j.demand FROM vidqueue.jobs j WHERE j.ready ORDER BY j.demand LIMIT 1)
            UNION ALL
            SELECT (SELECT j.demand FROM vidqueue.jobs j WHERE j.ready AND j.demand > d.demand ORDER BY j.demand LIMIT 1)
            FROM demands d WHERE d.demand IS NOT NULL
        ), fitting AS (
            SELECT d.demand FROM demands d CROSS JOIN LATERAL (
                SELECT j FROM vidqueue.jobs j WHERE j.ready AND j.demand = d.demand ORDER BY j.owner, j.rank, j.id LIMIT 1) one
            WHERE d.demand IS NOT NULL AND vidqueue.fits(taker, one.j) AND (one.j).processor <> ALL (paused)
        ), lines (demand, owner) AS (
            SELECT f.demand, o.owner FROM fitting f CROSS JOIN LATERAL (
                WITH RECURSIVE owners (owner) AS (
                    (SELECT j.owner FROM vidqueue.jobs j WHERE j.ready AND j.demand = f.demand ORDER BY j.owner LIMIT 1)
                    UNION ALL
                    SELECT (SELECT j.owner FROM vidqueue.jobs j WHERE j.ready AND j.demand = f.demand AND j.owner > o.owner
                            ORDER BY j.owner LIMIT 1)
                    FROM owners o WHERE o.owner IS NOT NULL
                ) SELECT owner FROM owners WHERE owner IS NOT NULL) o
        ), firsts AS (
            SELECT DISTINCT ON (l.owner) l.owner, first.priority, first.waits_since
            FROM lines l CROSS JOIN LATERAL (
                SELECT j.id, j.rank, j.priority, j.waits_since FROM vidqueue.jobs j
                WHERE j.ready AND j.demand = l.demand AND j.owner = l.owner
                  AND (j.expires_at IS NULL OR j.expires_at > now() OR j.attempt > 0)
                ORDER BY j.rank, j.id LIMIT 1) first
            ORDER BY l.owner, first.rank, first.id
        ), turns AS (
            SELECT f.owner, o.served_at, coalesce(r.jobs, 0) AS running,
                   f.priority + floor(extract(epoch FROM now() - greatest(f.waits_since, o.served_at)) / 60) AS urgency
            FROM firsts f JOIN vidqueue.owners o ON o.name = f.owner
            LEFT JOIN (SELECT owner, count(*) AS jobs FROM vidqueue.jobs WHERE state = 'running' GROUP BY owner) r ON r.owner = f.owner
            WHERE coalesce(r.jobs, 0) < coalesce((SELECT max_running FROM vidqueue.limits_of(f.owner)), 2147483647)
            -- More than one, here and below, so that another daemon's lock on the first does not leave this lane idle.
            ORDER BY urgency DESC, running, o.served_at, f.owner LIMIT 8
        ), heads AS (
            SELECT head.*, t.urgency, t.running, t.served_at, t.owner,
                   row_number() OVER (PARTITION BY t.owner ORDER BY head.rank, head.id) AS place
            FROM turns t JOIN lines l ON l.owner = t.owner CROSS JOIN LATERAL (
                SELECT j.id, j.rank, j.processor FROM vidqueue.jobs j
                WHERE j.ready AND j.demand = l.demand AND j.owner = l.owner
                  AND (j.expires_at IS NULL OR j.expires_at > now() OR j.attempt > 0)
                ORDER BY j.rank, j.id LIMIT 4) head
        )
        SELECT h.id FROM heads h WHERE h.place <= 4
        ORDER BY h.urgency DESC, h.running, h.served_at, h.owner,
                 h.rank - CASE WHEN h.processor = ANY (taker.warm) THEN 30 ELSE 0 END, h.id
    LOOP
        -- Another daemon may have taken it since, or hold its lock.
        SELECT j.* INTO chosen FROM vidqueue.jobs j
        WHERE j.id = candidate AND j.state = 'queued' AND vidqueue.fits(taker, j) AND j.processor <> ALL (paused)
        FOR UPDATE SKIP LOCKED;
        EXIT WHEN FOUND AND vidqueue.may_run_one_more(chosen.owner);
        chosen := NULL;
    END LOOP;
    IF chosen.id IS NULL AND candidate IS NOT NULL THEN
        -- Others hold the first ones of every line, perhaps for long; as a rule this walk is not needed.
        SELECT j.* INTO chosen FROM vidqueue.jobs j
        WHERE j.ready AND j.state = 'queued' AND vidqueue.fits(taker, j) AND j.processor <> ALL (paused)
          AND (j.expires_at IS NULL OR j.expires_at > now() OR j.attempt > 0)
          AND NOT EXISTS (SELECT FROM vidqueue.limits_of(j.owner) WHERE max_running IS NOT NULL)
        ORDER BY j.rank, j.id LIMIT 1 FOR UPDATE SKIP LOCKED;
    END IF;
    IF chosen.id IS NULL THEN
        RETURN;
    END IF;

    UPDATE vidqueue.jobs j SET
        state = 'running', attempt = j.attempt + 1, fence = nextval('vidqueue.fences'), lane = taker.name,
        started_at = clock_timestamp(), progress = 0, stage = NULL, message = NULL, fps = NULL, speed = NULL, eta_s = NULL
    WHERE j.id = chosen.id RETURNING j.* INTO chosen;
    -- Whoever holds the owner's lock serves a job of that owner at this moment too: no lane waits for another one here.
    UPDATE vidqueue.owners o SET served_at = clock_timestamp()
    WHERE o.name IN (SELECT name FROM vidqueue.owners WHERE name = chosen.owner FOR NO KEY UPDATE SKIP LOCKED);
    INSERT INTO vidqueue.attempts (job_id, number, fence, lane_id, lane, host, started_at, lease_expires_at)
        VALUES (chosen.id, chosen.attempt, chosen.fence, taker.id, taker.name, taker.host,
                CASE WHEN begins THEN clock_timestamp() END, clock_timestamp() + make_interval(secs => lease_s));
    RETURN QUERY SELECT chosen.id, chosen.attempt, chosen.fence, taker.queue, chosen.processor, chosen.input, chosen.owner,
                        chosen.device, chosen.timeout_s, chosen.stall_timeout_s, chosen.cancel_requested_at IS NOT NULL;
END $$;
