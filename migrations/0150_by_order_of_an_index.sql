-- The line of jobs is read in the order of an index, whatever the statistics of the table say.
-- Expand only: an older program goes on with this schema while it drains.

-- As in 0120, without sorting. Statistics that were taken while nothing waited say that nothing waits: to read the whole line
-- and to sort it then seems as cheap as to take the first job from the index that has it in front, until the table is analyzed
-- again.
CREATE OR REPLACE FUNCTION vidqueue.choose(lane uuid, lease_s double precision, begins boolean)
    RETURNS TABLE (job_id uuid, attempt integer, fence bigint, queue text, processor text, input jsonb, owner text, device text,
                   timeout_s double precision, stall_timeout_s double precision, cancel_requested boolean)
    -- A plan that was made while the table was small is kept when it has grown: it must not read all of it.
    LANGUAGE plpgsql SET enable_seqscan = off SET enable_sort = off SET jit = off AS $$
#variable_conflict use_column
DECLARE
    -- The lane, and whether anybody has paused a processor, set a limit, or submitted a job whose time has come.
    facts      record;
    taker      vidqueue.lanes;
    -- The first job of all lines.
    foremost   record;
    candidate  uuid;
    chosen     uuid;
    its_owner      text;
    its_processor  text;
    -- Processors of which nothing may begin: paused ones, and those that have reached a limit.
    paused     text[] := '{}';
    weighted   boolean := false;
    refused    boolean := false;
BEGIN
    SELECT l AS lane, EXISTS (SELECT FROM vidqueue.pauses) AS pauses, EXISTS (SELECT FROM vidqueue.owner_limits) AS by_owner,
           EXISTS (SELECT FROM vidqueue.processor_limits) AS by_processor,
           (SELECT true FROM vidqueue.jobs j WHERE j.state = 'queued' AND NOT j.ready AND j.unmet = 0 AND j.run_at <= now()
            ORDER BY j.run_at LIMIT 1) IS NOT NULL AS due
    INTO facts FROM vidqueue.lanes l
    WHERE l.id = choose.lane AND l.state = 'online' AND NOT vidqueue.is_paused(l) AND l.blocked_by IS NULL
      AND NOT EXISTS (SELECT FROM vidqueue.attempts a WHERE a.lane_id = l.id AND a.ended_at IS NULL);
    IF NOT FOUND THEN
        RETURN;
    END IF;
    taker := facts.lane;
    IF facts.pauses THEN
        paused := vidqueue.paused_processors();
        IF '' = ANY (paused) THEN
            RETURN;
        END IF;
    END IF;
    IF facts.by_owner THEN
        weighted := EXISTS (SELECT FROM vidqueue.owner_limits l WHERE l.weight IS NOT NULL);
    END IF;
    IF facts.by_processor THEN
        paused := paused || vidqueue.full_processors(taker.device);
    END IF;
    -- Jobs whose time has come since somebody last looked; their trigger makes them ready.
    IF facts.due THEN
        UPDATE vidqueue.jobs SET ready = true WHERE id IN (
            SELECT id FROM vidqueue.jobs WHERE state = 'queued' AND NOT ready AND unmet = 0 AND run_at <= now()
            ORDER BY run_at LIMIT 1000 FOR UPDATE SKIP LOCKED);
    END IF;

    SELECT j.demand, j.owner,
           j.processor <> ALL (paused) AND vidqueue.fits(taker, j) AND vidqueue.has_room(taker, j) AS fits,
           (SELECT true FROM vidqueue.jobs o WHERE o.ready AND (o.demand, o.owner) > (j.demand, j.owner)
            ORDER BY o.demand, o.owner LIMIT 1) IS NOT NULL AS has_others
    INTO foremost FROM vidqueue.jobs j WHERE j.ready ORDER BY j.demand, j.owner, j.rank, j.id LIMIT 1;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    -- As a rule one owner has work for the same lanes, and nobody has a limit: then the line needs no comparison.
    IF NOT (facts.by_owner OR facts.by_processor OR foremost.has_others) THEN
        IF foremost.fits THEN
            SELECT j.id INTO chosen FROM vidqueue.jobs j
            WHERE j.ready AND j.demand = foremost.demand AND j.owner = foremost.owner AND j.state = 'queued' AND vidqueue.has_room(taker, j)
              AND (j.expires_at IS NULL OR j.expires_at > now() OR j.attempt > 0)
            ORDER BY j.rank, j.id LIMIT 1 FOR UPDATE SKIP LOCKED;
        END IF;
    ELSE
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
            SELECT j.id, j.owner, j.processor INTO chosen, its_owner, its_processor FROM vidqueue.jobs j
            WHERE j.id = candidate AND j.state = 'queued' AND vidqueue.fits(taker, j) AND vidqueue.has_room(taker, j)
              AND j.processor <> ALL (paused)
            FOR UPDATE SKIP LOCKED;
            EXIT WHEN FOUND AND (NOT facts.by_owner OR vidqueue.may_run_one_more(its_owner))
                  AND (NOT facts.by_processor OR vidqueue.may_run_one_more_of(its_processor));
            refused := refused OR FOUND;
            chosen := NULL;
        END LOOP;
        -- Where a limit refused one, another daemon is beginning the last one that may run; the next look leaves its line out.
        IF chosen IS NULL AND candidate IS NOT NULL AND NOT refused THEN
            -- Others hold the first ones of every line, perhaps for long; as a rule this walk is not needed.
            SELECT j.id INTO chosen FROM vidqueue.jobs j
            WHERE j.ready AND j.state = 'queued' AND vidqueue.fits(taker, j) AND vidqueue.has_room(taker, j)
              AND j.processor <> ALL (paused)
              AND (j.expires_at IS NULL OR j.expires_at > now() OR j.attempt > 0)
              AND NOT EXISTS (SELECT FROM vidqueue.limits_of(j.owner) WHERE max_running IS NOT NULL OR max_gpu_s_per_day IS NOT NULL)
              AND NOT EXISTS (SELECT FROM vidqueue.processor_limits l WHERE l.processor = j.processor AND l.max_running IS NOT NULL)
            ORDER BY j.rank, j.id LIMIT 1 FOR UPDATE SKIP LOCKED;
        END IF;
    END IF;
    IF chosen IS NULL THEN
        RETURN;
    END IF;

    UPDATE vidqueue.jobs j SET
        state = 'running', attempt = j.attempt + 1, fence = nextval('vidqueue.fences'), lane = taker.name,
        started_at = clock_timestamp(), progress = 0, stage = NULL, message = NULL, fps = NULL, speed = NULL, eta_s = NULL
    WHERE j.id = chosen
    RETURNING j.id, j.attempt, j.fence, taker.queue, j.processor, j.input, j.owner, j.device, j.timeout_s, j.stall_timeout_s,
              j.cancel_requested_at IS NOT NULL
    INTO job_id, attempt, fence, queue, processor, input, owner, device, timeout_s, stall_timeout_s, cancel_requested;
    -- Whoever holds the owner's lock serves a job of that owner at this moment too: no lane waits for another one here.
    UPDATE vidqueue.owners o SET served_at = clock_timestamp()
    WHERE o.name IN (SELECT name FROM vidqueue.owners WHERE name = choose.owner FOR NO KEY UPDATE SKIP LOCKED);
    INSERT INTO vidqueue.attempts (job_id, number, fence, lane_id, lane, host, started_at, lease_expires_at)
        VALUES (choose.job_id, choose.attempt, choose.fence, taker.id, taker.name, taker.host,
                CASE WHEN begins THEN clock_timestamp() END, clock_timestamp() + make_interval(secs => lease_s));
    RETURN NEXT;
END $$;

-- The first ready job of each demand, of a hundred demands at most, found by hops in the index.
CREATE FUNCTION vidqueue.first_of_demands() RETURNS SETOF vidqueue.jobs
    LANGUAGE sql STABLE SET enable_seqscan = off SET enable_sort = off AS $$
    WITH RECURSIVE demands (demand, place) AS (
        (SELECT j.demand, 1 FROM vidqueue.jobs j WHERE j.ready ORDER BY j.demand LIMIT 1)
        UNION ALL
        SELECT (SELECT j.demand FROM vidqueue.jobs j WHERE j.ready AND j.demand > d.demand ORDER BY j.demand LIMIT 1), d.place + 1
        FROM demands d WHERE d.demand IS NOT NULL AND d.place < 100
    )
    SELECT one.* FROM demands d CROSS JOIN LATERAL (
        SELECT j.* FROM vidqueue.jobs j WHERE j.ready AND j.demand = d.demand ORDER BY j.owner, j.rank, j.id LIMIT 1) one
    WHERE d.demand IS NOT NULL
$$;

-- Since when the ready job of a processor waits that waits longest.
CREATE FUNCTION vidqueue.oldest_ready(processor text) RETURNS timestamptz
    LANGUAGE sql STABLE SET enable_seqscan = off SET enable_sort = off AS $$
    SELECT j.waits_since FROM vidqueue.jobs j WHERE j.ready AND j.processor = oldest_ready.processor ORDER BY j.waits_since LIMIT 1
$$;
