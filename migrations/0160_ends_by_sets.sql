-- The attempts of a daemon that succeed at one moment are ended by a few statements for all of them, and their lanes take their next
-- jobs by a few more, where each attempt took a dozen: most of what a statement costs is its beginning.
-- Expand only: an older program goes on with this schema while it drains.

-- Give each of these lanes its next job, which begins at once. `place` is that of the lane in `lanes`.
CREATE FUNCTION vidqueue.choose_together(lanes uuid[], lease_s double precision)
    RETURNS TABLE (place bigint, job_id uuid, attempt integer, fence bigint, processor text, input jsonb, owner text,
                   device text, timeout_s double precision, stall_timeout_s double precision, cancel_requested boolean)
    -- As for choose(): whatever the statistics say, the line is read in the order of an index, and a job by its id.
    LANGUAGE plpgsql SET enable_seqscan = off SET enable_sort = off SET jit = off AS $$
#variable_conflict use_column
DECLARE
    -- The line of the foremost job, the places of the lanes that are free, and whether each of them may take any job of it.
    line   record;
    taken  uuid[];
BEGIN
    SELECT j.demand, j.owner, free.places,
           free.fit
           AND (SELECT true FROM vidqueue.jobs o WHERE o.ready AND (o.demand, o.owner) > (j.demand, j.owner)
                ORDER BY o.demand, o.owner LIMIT 1) IS NULL
           AND (SELECT true FROM vidqueue.jobs w WHERE w.state = 'queued' AND NOT w.ready AND w.unmet = 0 AND w.run_at <= now()
                ORDER BY w.run_at LIMIT 1) IS NULL
           AND NOT EXISTS (SELECT FROM vidqueue.pauses)
           AND NOT EXISTS (SELECT FROM vidqueue.owner_limits) AND NOT EXISTS (SELECT FROM vidqueue.processor_limits) AS only_one
    INTO line
    FROM vidqueue.jobs j CROSS JOIN LATERAL (
        SELECT array_agg(p.place ORDER BY p.place) AS places, bool_and(l.device = 'cpu' AND vidqueue.fits(l, j)) AS fit
        FROM unnest(lanes) WITH ORDINALITY AS p (id, place) JOIN vidqueue.lanes l ON l.id = p.id
        WHERE l.state = 'online' AND NOT vidqueue.is_paused(l) AND l.blocked_by IS NULL
          AND NOT EXISTS (SELECT FROM vidqueue.attempts a WHERE a.lane_id = l.id AND a.ended_at IS NULL)) free
    WHERE j.ready ORDER BY j.demand, j.owner, j.rank, j.id LIMIT 1;
    IF line.only_one IS NOT TRUE THEN
        RETURN QUERY
        SELECT p.place, c.job_id, c.attempt, c.fence, c.processor, c.input, c.owner, c.device, c.timeout_s, c.stall_timeout_s,
               c.cancel_requested
        FROM unnest(lanes) WITH ORDINALITY AS p (id, place) CROSS JOIN LATERAL vidqueue.choose(p.id, lease_s, true) c;
        RETURN;
    END IF;

    -- With one line and no limits, what choose() would give to one lane after the other are the first jobs of the line.
    SELECT array_agg(h.id) INTO taken FROM (
        SELECT j.id FROM vidqueue.jobs j
        WHERE j.ready AND j.demand = line.demand AND j.owner = line.owner AND j.state = 'queued'
          AND (j.expires_at IS NULL OR j.expires_at > now() OR j.attempt > 0)
        ORDER BY j.rank, j.id LIMIT cardinality(line.places) FOR UPDATE SKIP LOCKED) h;
    IF taken IS NULL THEN
        RETURN;
    END IF;
    -- As in choose(): no lane waits for another one here.
    UPDATE vidqueue.owners o SET served_at = clock_timestamp()
    WHERE o.name IN (SELECT name FROM vidqueue.owners WHERE name = line.owner FOR NO KEY UPDATE SKIP LOCKED);
    RETURN QUERY
    WITH begun AS (
        UPDATE vidqueue.jobs j SET
            state = 'running', attempt = j.attempt + 1, fence = nextval('vidqueue.fences'), lane = l.name,
            started_at = clock_timestamp(), progress = 0, stage = NULL, message = NULL, fps = NULL, speed = NULL, eta_s = NULL
        FROM vidqueue.lanes l
        WHERE j.id = ANY (taken) AND l.id = lanes[line.places[array_position(taken, j.id)]]
        RETURNING line.places[array_position(taken, j.id)] AS place, l.id AS lane_id, l.host, j.id, j.attempt, j.fence, j.lane, j.processor, j.input, j.owner, j.device,
                  j.timeout_s, j.stall_timeout_s, j.cancel_requested_at IS NOT NULL AS cancel_requested
    ), opened AS (
        INSERT INTO vidqueue.attempts (job_id, number, fence, lane_id, lane, host, started_at, lease_expires_at)
        SELECT b.id, b.attempt, b.fence, b.lane_id, b.lane, b.host, clock_timestamp(), clock_timestamp() + make_interval(secs => lease_s)
        FROM begun b
    )
    SELECT b.place, b.id, b.attempt, b.fence, b.processor, b.input, b.owner, b.device, b.timeout_s, b.stall_timeout_s, b.cancel_requested
    FROM begun b;
END $$;

-- Settle several attempts that have succeeded. Those without a row must be settled alone: while one transaction waits for another one,
-- all its attempts would, and two of them might wait for each other. So it takes what nobody has locked, and nothing that touches
-- further rows of others.
CREATE OR REPLACE FUNCTION vidqueue.settle_together(jobs uuid[], numbers integer[], fences bigint[], endings jsonb[], lanes uuid[],
                                                    lease_s double precision)
    RETURNS TABLE (place bigint, state text, job_id uuid, attempt integer, fence bigint, processor text, input jsonb, owner text,
                   device text, timeout_s double precision, stall_timeout_s double precision, cancel_requested boolean)
    LANGUAGE plpgsql SET enable_seqscan = off SET jit = off AS $$
#variable_conflict use_column
DECLARE
    ended    timestamptz := clock_timestamp();
    -- Those that can be settled together: their places, ids and owners, and how long they waited for their first attempt.
    settled  bigint[];
    ids      uuid[];
    owners   text[];
    waits    double precision[];
    one      bigint;
BEGIN
    -- `= ANY` and the place in the array, here and below: a join with the array might be planned to read all jobs.
    SELECT array_agg(h.place), array_agg(h.id), array_agg(h.owner), array_agg(h.wait_s) INTO settled, ids, owners, waits FROM (
        SELECT e.place, j.id, j.owner,
               CASE WHEN a.number = 1 THEN greatest(0, extract(epoch FROM a.dispatched_at - j.waits_since)) END AS wait_s
        FROM vidqueue.jobs j JOIN vidqueue.attempts a ON a.job_id = j.id
        CROSS JOIN LATERAL (SELECT array_position(jobs, j.id)::bigint AS place) e
        WHERE j.id = ANY (jobs) AND a.job_id = ANY (jobs) AND a.number = numbers[e.place] AND endings[e.place] ->> 'state' = 'succeeded'
          AND j.fence = fences[e.place] AND a.fence = fences[e.place] AND a.ended_at IS NULL
          AND j.cancel_requested_at IS NULL AND j.webhook IS NULL
          AND NOT EXISTS (SELECT FROM vidqueue.job_dependencies d WHERE d.depends_on = j.id)
          AND NOT EXISTS (SELECT FROM vidqueue.owner_limits) AND NOT EXISTS (SELECT FROM vidqueue.processor_limits)
          AND NOT EXISTS (SELECT FROM vidqueue.webhooks)
        FOR UPDATE OF j, a SKIP LOCKED) h;
    IF settled IS NULL THEN
        RETURN;
    END IF;

    -- As finish() and settle() do for one attempt.
    UPDATE vidqueue.attempts a SET ended_at = ended, outcome = 'succeeded',
        metrics = coalesce(endings[array_position(jobs, a.job_id)] -> 'metrics', '{}')
    WHERE a.job_id = ANY (ids) AND a.number = numbers[array_position(jobs, a.job_id)];
    INSERT INTO vidqueue.files (id, owner, name, media_type, size, sha256, facts, node, published)
    SELECT o.id, s.owner, o.filename, o.media_type, o.size, o.sha256, o.facts, o.node, true
    FROM unnest(settled, owners) AS s (place, owner) CROSS JOIN LATERAL jsonb_to_recordset(endings[s.place] -> 'outputs')
        AS o (id uuid, filename text, media_type text, size bigint, sha256 text, facts jsonb, node uuid);
    INSERT INTO vidqueue.outputs (job_id, name, attempt, file_id)
    SELECT jobs[s.place], o.name, numbers[s.place], o.id
    FROM unnest(settled) AS s (place) CROSS JOIN LATERAL jsonb_to_recordset(endings[s.place] -> 'outputs') AS o (name text, id uuid);
    UPDATE vidqueue.jobs j SET
        state = 'succeeded', fence = NULL, losses = 0, progress = 1, stage = NULL, fps = NULL, speed = NULL, eta_s = NULL,
        message = NULL, waiting_for = NULL, waited_s = 0, error_code = NULL, error_message = NULL, error_hint = NULL,
        finished_at = ended
    WHERE j.id = ANY (ids);
    INSERT INTO vidqueue.attempt_usage (job_id, attempt, cpu_s, input_bytes, video_s, expected_s, device_mb, wait_s)
    SELECT jobs[s.place], numbers[s.place], u.cpu_s, u.input_bytes, u.video_s, u.expected_s, u.device_mb, s.wait_s
    FROM unnest(settled, waits) AS s (place, wait_s) CROSS JOIN LATERAL jsonb_to_record(endings[s.place] -> 'usage') AS u (
        cpu_s real, input_bytes bigint, video_s double precision, expected_s double precision, device_mb integer);
    FOREACH one IN ARRAY settled LOOP
        IF endings[one] ? 'result' THEN
            INSERT INTO vidqueue.results (job_id, key, source_id)
            VALUES (jobs[one], endings[one] #>> '{result,key}', (endings[one] #>> '{result,source_id}')::uuid);
        END IF;
    END LOOP;

    RETURN QUERY
    SELECT s.place, 'succeeded', c.job_id, c.attempt, c.fence, c.processor, c.input, c.owner, c.device, c.timeout_s, c.stall_timeout_s,
           c.cancel_requested
    FROM unnest(settled) AS s (place)
    LEFT JOIN vidqueue.choose_together(ARRAY(SELECT CASE WHEN p.place = ANY (settled) THEN p.lane END
                                             FROM unnest(lanes) WITH ORDINALITY AS p (lane, place) ORDER BY p.place), lease_s) c
        ON c.place = s.place;
END $$;
