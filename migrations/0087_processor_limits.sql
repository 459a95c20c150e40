-- Limits of processors, beside those of owners: how many jobs of one may wait, run, and be submitted, and its GPU time a day.
-- Expand only: an older program goes on with this schema while it drains, and keeps these limits too.

CREATE TABLE vidqueue.processor_limits (
    processor          text PRIMARY KEY CHECK (length(processor) BETWEEN 1 AND 64),
    max_queued         integer CHECK (max_queued >= 0),
    max_running        integer CHECK (max_running >= 0),
    max_per_minute     integer CHECK (max_per_minute BETWEEN 0 AND 100000),
    max_gpu_s_per_day  bigint CHECK (max_gpu_s_per_day >= 0),
    changed_at         timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE vidqueue.processor_limits IS 'Limits of all jobs of a processor together, whoever owns them. NULL is no limit.';
COMMENT ON COLUMN vidqueue.processor_limits.max_queued IS 'Jobs that wait: submits beyond it are refused.';
COMMENT ON COLUMN vidqueue.processor_limits.max_running IS 'Jobs that run: others of the processor wait, with processor_limit as their reason.';
COMMENT ON COLUMN vidqueue.processor_limits.max_per_minute IS 'Jobs submitted within the last 60 seconds.';
COMMENT ON COLUMN vidqueue.processor_limits.max_gpu_s_per_day IS 'Seconds on GPU lanes within 24 hours: jobs beyond it wait, with processor_limit as their reason.';
CREATE VIEW vidqueue_report.processor_limits AS
SELECT processor, max_queued, max_running, max_per_minute, max_gpu_s_per_day, changed_at FROM vidqueue.processor_limits;
COMMENT ON VIEW vidqueue_report.processor_limits IS 'Limits of all jobs of a processor together.';

CREATE TABLE vidqueue.processor_gpu_hours (
    processor  text NOT NULL,
    hour       timestamptz NOT NULL,
    gpu_s      double precision NOT NULL,
    PRIMARY KEY (processor, hour)
);
COMMENT ON TABLE vidqueue.processor_gpu_hours IS 'Seconds on GPU lanes by the hour in which the attempt ended; only of processors with max_gpu_s_per_day.';

-- Processors of which a lane may begin nothing, because of their limits. There is a row only for a processor with a limit, so
-- this costs a look at an empty table where nobody has set one.
CREATE FUNCTION vidqueue.full_processors(device text) RETURNS text[] LANGUAGE sql STABLE AS $$
    SELECT coalesce(array_agg(l.processor), '{}') FROM vidqueue.processor_limits l
    WHERE l.max_running <= (SELECT count(*) FROM vidqueue.jobs j WHERE j.state = 'running' AND j.processor = l.processor)
       OR full_processors.device = 'gpu' AND l.max_gpu_s_per_day <= (
              SELECT coalesce(sum(h.gpu_s), 0) FROM vidqueue.processor_gpu_hours h
              WHERE h.processor = l.processor AND h.hour > now() - interval '24 hours')
$$;

-- True if one more job of the processor may run. As in may_run_one_more, one transaction at a time begins jobs of a limited one.
CREATE FUNCTION vidqueue.may_run_one_more_of(processor text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    most integer := (SELECT l.max_running FROM vidqueue.processor_limits l WHERE l.processor = may_run_one_more_of.processor);
BEGIN
    RETURN most IS NULL OR (pg_try_advisory_xact_lock(30326, hashtext(processor))
        AND (SELECT count(*) FROM vidqueue.jobs j WHERE j.processor = may_run_one_more_of.processor AND j.state = 'running') < most);
END $$;

-- Refuse jobs beyond the limits of their processor, whoever inserts them; as keep_limits does for owners.
CREATE FUNCTION vidqueue.keep_processor_limits() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    asked   record;
    has     bigint;
BEGIN
    IF NOT EXISTS (SELECT FROM vidqueue.processor_limits) THEN
        RETURN NULL;
    END IF;
    FOR asked IN SELECT l.processor, l.max_queued, l.max_per_minute, count(*) AS jobs
                 FROM fresh f JOIN vidqueue.processor_limits l ON l.processor = f.processor GROUP BY l.processor ORDER BY l.processor LOOP
        CONTINUE WHEN asked.max_queued IS NULL AND asked.max_per_minute IS NULL;
        -- One at a time, until the commit: what others have just submitted counts.
        PERFORM pg_advisory_xact_lock(30327, hashtext(asked.processor));
        IF asked.max_queued IS NOT NULL THEN
            -- The counters have what is committed; the jobs of this statement are not in them yet.
            SELECT coalesce(sum(c.jobs), 0) INTO has FROM vidqueue.jobs_counted c
                WHERE c.processor = asked.processor AND c.state IN ('queued', 'later');
            IF has + asked.jobs > asked.max_queued THEN
                RAISE EXCEPTION 'limit_reached: % jobs of the processor % may wait, and % do', asked.max_queued, asked.processor, has
                    USING ERRCODE = 'VQ006', DETAIL = '10';
            END IF;
        END IF;
        IF asked.max_per_minute IS NOT NULL THEN
            SELECT count(*) INTO has FROM (SELECT FROM vidqueue.jobs j
                WHERE j.id >= vidqueue.first_id(clock_timestamp() - interval '1 minute') AND j.processor = asked.processor
                LIMIT asked.max_per_minute + 1) recent;
            IF has > asked.max_per_minute THEN
                RAISE EXCEPTION 'limit_reached: % jobs of the processor % may be submitted a minute', asked.max_per_minute, asked.processor
                    USING ERRCODE = 'VQ006', DETAIL = '20';
            END IF;
        END IF;
    END LOOP;
    RETURN NULL;
END $$;
CREATE TRIGGER keep_processor_limits AFTER INSERT ON vidqueue.jobs REFERENCING NEW TABLE AS fresh
    FOR EACH STATEMENT EXECUTE FUNCTION vidqueue.keep_processor_limits();

-- Charge an attempt to its owner and to its processor. It costs a look at two small tables while nobody has a weight or a limit.
CREATE FUNCTION vidqueue.charge() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    took_s   double precision := greatest(0, extract(epoch FROM NEW.ended_at - NEW.started_at) - NEW.suspended_s);
    of_owner      boolean;
    of_processor  boolean;
    on_gpu   boolean;
    job      record;
BEGIN
    SELECT EXISTS (SELECT FROM vidqueue.owner_limits WHERE weight IS NOT NULL OR max_gpu_s_per_day IS NOT NULL),
           EXISTS (SELECT FROM vidqueue.processor_limits WHERE max_gpu_s_per_day IS NOT NULL) INTO of_owner, of_processor;
    IF NOT (of_owner OR of_processor) THEN
        RETURN NULL;
    END IF;
    SELECT j.owner, j.processor INTO job FROM vidqueue.jobs j WHERE j.id = NEW.job_id;
    on_gpu := EXISTS (SELECT FROM vidqueue.lanes l WHERE l.id = NEW.lane_id AND l.device = 'gpu');
    IF of_owner THEN
        UPDATE vidqueue.owners o SET
            charged_s = o.charged_s * 0.5 ^ (greatest(0, extract(epoch FROM now() - o.charged_at)) / 3600) + took_s, charged_at = now()
        WHERE o.name = job.owner;
    END IF;
    IF on_gpu AND EXISTS (SELECT FROM vidqueue.limits_of(job.owner) WHERE max_gpu_s_per_day IS NOT NULL) THEN
        INSERT INTO vidqueue.owner_gpu_hours AS h (owner, hour, gpu_s) VALUES (job.owner, date_trunc('hour', NEW.ended_at), took_s)
        ON CONFLICT ON CONSTRAINT owner_gpu_hours_pkey DO UPDATE SET gpu_s = h.gpu_s + excluded.gpu_s;
        DELETE FROM vidqueue.owner_gpu_hours h WHERE h.owner = job.owner AND h.hour < now() - interval '2 days';
    END IF;
    IF on_gpu AND EXISTS (SELECT FROM vidqueue.processor_limits l WHERE l.processor = job.processor AND l.max_gpu_s_per_day IS NOT NULL) THEN
        INSERT INTO vidqueue.processor_gpu_hours AS h (processor, hour, gpu_s) VALUES (job.processor, date_trunc('hour', NEW.ended_at), took_s)
        ON CONFLICT ON CONSTRAINT processor_gpu_hours_pkey DO UPDATE SET gpu_s = h.gpu_s + excluded.gpu_s;
        DELETE FROM vidqueue.processor_gpu_hours h WHERE h.processor = job.processor AND h.hour < now() - interval '2 days';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER charge AFTER UPDATE OF ended_at ON vidqueue.attempts FOR EACH ROW
    WHEN (OLD.ended_at IS NULL AND NEW.ended_at IS NOT NULL AND NEW.started_at IS NOT NULL)
    EXECUTE FUNCTION vidqueue.charge();

-- As in 0026, with the memory of the GPU that others leave, shares by weight, GPU time a day, and the limits of processors:
-- those that have reached one are left out like paused ones, so a lane looks at as many jobs as before. While no owner has a
-- weight, owners take turns as before. Else the owner goes first who has had the least time of lanes for his weight; a point of
-- priority counts as a minute of it.
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
    -- Processors of which nothing may begin: paused ones, and below those that have reached a limit.
    paused     text[] := vidqueue.paused_processors();
    weighted   boolean;
    -- Whether anybody has set a limit: without one a lane looks for none.
    by_owner      boolean;
    by_processor  boolean;
    refused    boolean := false;
BEGIN
    SELECT l.* INTO taker FROM vidqueue.lanes l
    WHERE l.id = choose.lane AND l.state = 'online' AND NOT vidqueue.is_paused(l) AND l.blocked_by IS NULL
      AND NOT EXISTS (SELECT FROM vidqueue.attempts a WHERE a.lane_id = l.id AND a.ended_at IS NULL);
    IF NOT FOUND OR '' = ANY (paused) THEN
        RETURN;
    END IF;
    SELECT coalesce(bool_or(l.weight IS NOT NULL), false), count(*) > 0, EXISTS (SELECT FROM vidqueue.processor_limits)
    INTO weighted, by_owner, by_processor FROM vidqueue.owner_limits l;
    IF by_processor THEN
        paused := paused || vidqueue.full_processors(taker.device);
    END IF;

    -- Jobs whose time has come since somebody last looked; their trigger makes them ready. To begin an UPDATE of this table
    -- costs much more than to look.
    IF EXISTS (SELECT FROM vidqueue.jobs WHERE state = 'queued' AND NOT ready AND unmet = 0 AND run_at <= now()) THEN
        UPDATE vidqueue.jobs SET ready = true WHERE id IN (
            SELECT id FROM vidqueue.jobs WHERE state = 'queued' AND NOT ready AND unmet = 0 AND run_at <= now()
            ORDER BY run_at LIMIT 1000 FOR UPDATE SKIP LOCKED);
    END IF;

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
        EXIT WHEN FOUND AND (NOT by_owner OR vidqueue.may_run_one_more(chosen.owner))
              AND (NOT by_processor OR vidqueue.may_run_one_more_of(chosen.processor));
        refused := refused OR FOUND;
        chosen := NULL;
    END LOOP;
    -- Where a limit refused one, another daemon is beginning the last one that may run; the next look leaves its line out.
    IF chosen.id IS NULL AND candidate IS NOT NULL AND NOT refused THEN
        -- Others hold the first ones of every line, perhaps for long; as a rule this walk is not needed.
        SELECT j.* INTO chosen FROM vidqueue.jobs j
        WHERE j.ready AND j.state = 'queued' AND vidqueue.fits(taker, j) AND vidqueue.has_room(taker, j)
          AND j.processor <> ALL (paused)
          AND (j.expires_at IS NULL OR j.expires_at > now() OR j.attempt > 0)
          AND NOT EXISTS (SELECT FROM vidqueue.limits_of(j.owner) WHERE max_running IS NOT NULL OR max_gpu_s_per_day IS NOT NULL)
          AND NOT EXISTS (SELECT FROM vidqueue.processor_limits l WHERE l.processor = j.processor AND l.max_running IS NOT NULL)
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
    job_id := chosen.id;
    attempt := chosen.attempt;
    fence := chosen.fence;
    queue := taker.queue;
    processor := chosen.processor;
    input := chosen.input;
    owner := chosen.owner;
    device := chosen.device;
    timeout_s := chosen.timeout_s;
    stall_timeout_s := chosen.stall_timeout_s;
    cancel_requested := chosen.cancel_requested_at IS NOT NULL;
    RETURN NEXT;
END $$;

-- As in 0028, with time windows, shares, labels and the limits of processors: why a queued job is not running yet, in one stable word.
CREATE OR REPLACE FUNCTION vidqueue.wait_reason(j vidqueue.jobs) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT CASE
        WHEN j.unmet > 0 THEN 'dependency'
        WHEN j.run_at > greatest(now(), j.queued_at) AND j.attempt > 0 THEN coalesce(j.waiting_for, 'backoff')
        WHEN j.run_at > greatest(now(), j.queued_at) THEN 'scheduled'
        WHEN vidqueue.paused_processors() && ARRAY['', j.processor] THEN 'paused'
        WHEN EXISTS (SELECT FROM vidqueue.limits_of(j.owner) l WHERE l.max_running <= (
                  SELECT count(*) FROM vidqueue.jobs r WHERE r.owner = j.owner AND r.state = 'running')) THEN 'owner_limit'
        WHEN j.device = 'gpu' AND vidqueue.has_used_up_gpu(j.owner) THEN 'owner_limit'
        WHEN j.processor = ANY (vidqueue.full_processors(j.device)) THEN 'processor_limit'
        ELSE (SELECT CASE
                  WHEN count(*) = 0 THEN 'no_lane'
                  WHEN NOT bool_or(l.processors ? j.processor) THEN 'no_processor'
                  WHEN NOT bool_or(vidqueue.fits(l, j)) THEN 'file_elsewhere'
                  WHEN bool_or(NOT vidqueue.is_paused(l) AND l.blocked_by IS NULL AND vidqueue.has_room(l, j))
                      FILTER (WHERE vidqueue.fits(l, j)) THEN 'busy'
                  WHEN bool_or(NOT vidqueue.is_paused(l) AND l.blocked_by IS NULL) FILTER (WHERE vidqueue.fits(l, j)) THEN 'gpu_memory'
                  -- A pause is somebody's will; what blocks a lane that would work otherwise is the better news.
                  ELSE coalesce(min(l.blocked_by) FILTER (WHERE NOT vidqueue.is_paused(l) AND vidqueue.fits(l, j)), 'paused') END
              FROM vidqueue.lanes l
              WHERE l.state = 'online' AND j.device = ANY (l.takes)
                AND (j.wanted_lane IS NULL OR j.wanted_lane = l.name)
                AND (l.device = 'cpu' OR j.vram_mb <= l.vram_mb) AND l.labels @> j.labels)
    END
$$;
COMMENT ON FUNCTION vidqueue.wait_reason IS
    'dependency | backoff | scheduled | no_lane (none online fits) | no_processor (no such lane has the processor) | '
    'file_elsewhere (no lane online reads the inputs'' bytes) | no_space (the disk is full) | gpu_lost | '
    'gpu_busy (others keep the GPU busy) | gpu_memory (others hold the memory it needs) | '
    'program_runs (a program that lanes yield to) | outside_window (see opens_at of its lanes) | paused | '
    'owner_limit (as many of its owner run as may) | processor_limit (as many of its processor run as may) | '
    'busy (waits for its turn); or a word of the processor that put it back, such as endpoint_busy, peer_busy, peer_starting '
    'and peer_unavailable';

-- When the GPU time of the hours before is a day ago, as far as a job of these must wait for that; NULL if it need not, or if
-- the limit is zero.
CREATE FUNCTION vidqueue.gpu_again_at(owner text, processor text) RETURNS timestamptz LANGUAGE sql STABLE AS $$
    SELECT max(again) FROM (
        SELECT min(h.hour) + interval '24 hours' AS again
        FROM vidqueue.limits_of(gpu_again_at.owner) l,
             (SELECT u.hour, sum(u.gpu_s) OVER (ORDER BY u.hour DESC) - u.gpu_s AS later_s FROM vidqueue.owner_gpu_hours u
              WHERE u.owner = gpu_again_at.owner AND u.hour > now() - interval '24 hours') h
        WHERE h.later_s < l.max_gpu_s_per_day AND vidqueue.has_used_up_gpu(gpu_again_at.owner)
        UNION ALL
        SELECT min(h.hour) + interval '24 hours'
        FROM vidqueue.processor_limits l,
             (SELECT u.hour, sum(u.gpu_s) OVER (ORDER BY u.hour DESC) - u.gpu_s AS later_s, sum(u.gpu_s) OVER () AS all_s
              FROM vidqueue.processor_gpu_hours u
              WHERE u.processor = gpu_again_at.processor AND u.hour > now() - interval '24 hours') h
        WHERE l.processor = gpu_again_at.processor AND h.later_s < l.max_gpu_s_per_day AND l.max_gpu_s_per_day <= h.all_s) limits
$$;

-- When a waiting job may run again at the earliest: the GPU time of a day that it waits for is free again, or the first of its
-- lanes opens; NULL if it waits for neither.
CREATE FUNCTION vidqueue.opens_at(j vidqueue.jobs) RETURNS timestamptz LANGUAGE sql STABLE AS $$
    SELECT coalesce(
        CASE WHEN j.device = 'gpu' AND j.unmet = 0 THEN vidqueue.gpu_again_at(j.owner, j.processor) END,
        (SELECT CASE WHEN bool_and(l.blocked_by = 'outside_window') THEN min(l.opens_at) END
         FROM vidqueue.lanes l WHERE l.state = 'online' AND NOT vidqueue.is_paused(l) AND vidqueue.fits(l, j)))
$$;
