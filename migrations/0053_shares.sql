-- Shares of the lanes by weight, and GPU time that an owner may use a day.
-- Expand only: an older program goes on with this schema while it drains.

ALTER TABLE vidqueue.owner_limits
    ADD COLUMN weight double precision CHECK (weight BETWEEN 0.001 AND 1000),
    ADD COLUMN max_gpu_s_per_day bigint CHECK (max_gpu_s_per_day >= 0);
COMMENT ON COLUMN vidqueue.owner_limits.weight IS 'Weight of the owner when lanes are shared with other owners; NULL is 1.';
COMMENT ON COLUMN vidqueue.owner_limits.max_gpu_s_per_day IS 'Seconds on GPU lanes within 24 hours: jobs beyond it wait, with owner_limit as their reason.';
CREATE OR REPLACE VIEW vidqueue_report.owner_limits AS
SELECT owner, max_queued, max_running, max_per_minute, max_stored_bytes, changed_at, weight, max_gpu_s_per_day FROM vidqueue.owner_limits;
COMMENT ON VIEW vidqueue_report.owner_limits IS 'Limits and weights of owners; * applies to owners without a row.';

ALTER TABLE vidqueue.owners
    ADD COLUMN charged_s double precision NOT NULL DEFAULT 0,
    ADD COLUMN charged_at timestamptz NOT NULL DEFAULT now();
COMMENT ON COLUMN vidqueue.owners.charged_s IS 'Lane time of the owner in seconds, decaying by half every hour; maintained only while there are weights.';

CREATE TABLE vidqueue.owner_gpu_hours (
    owner  text NOT NULL,
    hour   timestamptz NOT NULL,
    gpu_s  double precision NOT NULL,
    PRIMARY KEY (owner, hour)
);
COMMENT ON TABLE vidqueue.owner_gpu_hours IS 'Seconds on GPU lanes by the hour in which the attempt ended; only of owners with max_gpu_s_per_day.';

CREATE FUNCTION vidqueue.weight_of(owner text) RETURNS double precision LANGUAGE sql STABLE AS $$
    SELECT coalesce((SELECT weight FROM vidqueue.limits_of(owner)), 1)
$$;

-- The seconds of lanes that an owner has had lately, with those of the jobs that run.
CREATE FUNCTION vidqueue.had_s(o vidqueue.owners) RETURNS double precision LANGUAGE sql STABLE AS $$
    SELECT o.charged_s * 0.5 ^ (greatest(0, extract(epoch FROM now() - o.charged_at)) / 3600)
         + coalesce((SELECT sum(greatest(0, extract(epoch FROM now() - j.started_at))) FROM vidqueue.jobs j
                     WHERE j.owner = o.name AND j.state = 'running'), 0)
$$;

CREATE FUNCTION vidqueue.has_used_up_gpu(owner text) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT EXISTS (SELECT FROM vidqueue.limits_of(has_used_up_gpu.owner) l WHERE l.max_gpu_s_per_day <= (
        SELECT coalesce(sum(h.gpu_s), 0) FROM vidqueue.owner_gpu_hours h
        WHERE h.owner = has_used_up_gpu.owner AND h.hour > now() - interval '24 hours'))
$$;

-- Charge an attempt to its owner. It costs a look at a small table while nobody has a weight or a limit.
CREATE FUNCTION vidqueue.charge() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    took_s  double precision := greatest(0, extract(epoch FROM NEW.ended_at - NEW.started_at) - NEW.suspended_s);
    who     text;
BEGIN
    IF NOT EXISTS (SELECT FROM vidqueue.owner_limits WHERE weight IS NOT NULL OR max_gpu_s_per_day IS NOT NULL) THEN
        RETURN NULL;
    END IF;
    SELECT j.owner INTO who FROM vidqueue.jobs j WHERE j.id = NEW.job_id;
    UPDATE vidqueue.owners o SET
        charged_s = o.charged_s * 0.5 ^ (greatest(0, extract(epoch FROM now() - o.charged_at)) / 3600) + took_s, charged_at = now()
    WHERE o.name = who;
    IF EXISTS (SELECT FROM vidqueue.limits_of(who) WHERE max_gpu_s_per_day IS NOT NULL)
       AND EXISTS (SELECT FROM vidqueue.lanes l WHERE l.id = NEW.lane_id AND l.device = 'gpu') THEN
        INSERT INTO vidqueue.owner_gpu_hours AS h (owner, hour, gpu_s) VALUES (who, date_trunc('hour', NEW.ended_at), took_s)
        ON CONFLICT ON CONSTRAINT owner_gpu_hours_pkey DO UPDATE SET gpu_s = h.gpu_s + excluded.gpu_s;
        DELETE FROM vidqueue.owner_gpu_hours h WHERE h.owner = who AND h.hour < now() - interval '2 days';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER charge AFTER UPDATE OF ended_at ON vidqueue.attempts FOR EACH ROW
    WHEN (OLD.ended_at IS NULL AND NEW.ended_at IS NOT NULL AND NEW.started_at IS NOT NULL)
    EXECUTE FUNCTION vidqueue.charge();

-- As in 0026, with the memory of the GPU that others leave, shares by weight, and GPU time a day. While no owner has a weight, owners take turns as before. Else
-- the owner goes first who has had the least time of lanes for his weight; a point of priority counts as a minute of it.
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
    weighted   boolean := EXISTS (SELECT FROM vidqueue.owner_limits WHERE weight IS NOT NULL);
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
            WHERE d.demand IS NOT NULL AND vidqueue.fits(taker, one.j) AND vidqueue.has_room(taker, one.j)
              AND (one.j).processor <> ALL (paused)
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
                   CASE WHEN weighted THEN f.priority - vidqueue.had_s(o) / 60 / vidqueue.weight_of(f.owner)
                        ELSE f.priority + floor(extract(epoch FROM now() - greatest(f.waits_since, o.served_at)) / 60) END AS urgency
            FROM firsts f JOIN vidqueue.owners o ON o.name = f.owner
            LEFT JOIN (SELECT owner, count(*) AS jobs FROM vidqueue.jobs WHERE state = 'running' GROUP BY owner) r ON r.owner = f.owner
            WHERE coalesce(r.jobs, 0) < coalesce((SELECT max_running FROM vidqueue.limits_of(f.owner)), 2147483647)
              AND (taker.device = 'cpu' OR NOT vidqueue.has_used_up_gpu(f.owner))
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
        WHERE j.id = candidate AND j.state = 'queued' AND vidqueue.fits(taker, j) AND vidqueue.has_room(taker, j)
          AND j.processor <> ALL (paused)
        FOR UPDATE SKIP LOCKED;
        EXIT WHEN FOUND AND vidqueue.may_run_one_more(chosen.owner);
        chosen := NULL;
    END LOOP;
    IF chosen.id IS NULL AND candidate IS NOT NULL THEN
        -- Others hold the first ones of every line, perhaps for long; as a rule this walk is not needed.
        SELECT j.* INTO chosen FROM vidqueue.jobs j
        WHERE j.ready AND j.state = 'queued' AND vidqueue.fits(taker, j) AND vidqueue.has_room(taker, j)
          AND j.processor <> ALL (paused)
          AND (j.expires_at IS NULL OR j.expires_at > now() OR j.attempt > 0)
          AND NOT EXISTS (SELECT FROM vidqueue.limits_of(j.owner) WHERE max_running IS NOT NULL OR max_gpu_s_per_day IS NOT NULL)
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
