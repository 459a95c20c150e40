-- The one way in, for every door: HTTP and CLI call enqueue(), people in psql call submit().

-- Insert a job, or find the one that this idempotency key already made.
-- Raises with SQLSTATE VQxxx; the MESSAGE starts with the stable code, so that every door can show it.
CREATE FUNCTION vidqueue.enqueue(
    processor        text,
    input            jsonb,
    title            text DEFAULT NULL,
    tags             text[] DEFAULT '{}',
    priority         integer DEFAULT 0,
    run_at           timestamptz DEFAULT NULL,
    max_attempts     integer DEFAULT 3,
    timeout_s        double precision DEFAULT 86400,
    stall_timeout_s  double precision DEFAULT 300,
    lane             text DEFAULT NULL,
    owner            text DEFAULT 'local',
    device           text DEFAULT NULL,
    vram_mb          integer DEFAULT 0,
    idempotency_key  text DEFAULT NULL,
    request_hash     text DEFAULT NULL,
    OUT job_id       uuid,
    OUT created      boolean
) LANGUAGE plpgsql AS $$
#variable_conflict use_variable
DECLARE
    known       record;
    dependency  uuid;
    bad_state   text;
BEGIN
    device := coalesce(device, (SELECT p.device FROM vidqueue.processors p WHERE p.name = processor));
    IF device IS NULL THEN
        RAISE EXCEPTION 'unknown_processor: there is no processor %', quote_nullable(processor)
            USING ERRCODE = 'VQ001', HINT = 'Known: ' ||
                coalesce((SELECT string_agg(p.name, ', ' ORDER BY p.name) FROM vidqueue.processors p), 'none yet; start a daemon');
    END IF;
    IF jsonb_typeof(input) IS DISTINCT FROM 'object' THEN
        RAISE EXCEPTION 'invalid_params: input must be a JSON object' USING ERRCODE = 'VQ002';
    END IF;

    IF jsonb_path_exists(input, 'strict $.** ? (@.type() == "number" && (@ > 1e300 || @ < -1e300))') THEN
        RAISE EXCEPTION 'invalid_params: a number in the input is too large' USING ERRCODE = 'VQ002';
    END IF;

    -- Twice at most: a racing submit with the same key may commit between the look and the insert.
    FOR round IN 1..2 LOOP
        IF idempotency_key IS NOT NULL THEN
            SELECT j.id, j.request_hash INTO known FROM vidqueue.jobs j
                WHERE j.owner = owner AND j.idempotency_key = idempotency_key;
            IF FOUND THEN
                IF known.request_hash IS DISTINCT FROM request_hash THEN
                    RAISE EXCEPTION 'idempotency_mismatch: key % was used for another request', quote_literal(idempotency_key)
                        USING ERRCODE = 'VQ003';
                END IF;
                job_id := known.id;
                created := false;
                RETURN;
            END IF;
        END IF;
        INSERT INTO vidqueue.jobs AS j (owner, processor, input, title, tags, priority, device, vram_mb, wanted_lane,
                                        run_at, max_attempts, timeout_s, stall_timeout_s, idempotency_key, request_hash)
            VALUES (owner, processor, input, title, coalesce(tags, '{}'), priority, device, vram_mb, lane,
                    coalesce(run_at, now()), max_attempts, timeout_s, stall_timeout_s, idempotency_key, request_hash)
            ON CONFLICT DO NOTHING
            RETURNING j.id INTO job_id;
        EXIT WHEN job_id IS NOT NULL;
    END LOOP;
    created := true;
    INSERT INTO vidqueue.owners (name) VALUES (owner) ON CONFLICT DO NOTHING;

    -- vq:jobs/<id>/<output> anywhere in the input is a dependency.
    FOR dependency IN
        SELECT DISTINCT (regexp_match(leaf #>> '{}', '^vq:jobs/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})/'))[1]::uuid
        FROM jsonb_path_query(input, 'strict $.** ? (@.type() == "string")') AS leaf
        WHERE leaf #>> '{}' ~ '^vq:jobs/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/'
    LOOP
        SELECT j.state INTO bad_state FROM vidqueue.jobs j WHERE j.id = dependency AND j.owner = owner FOR SHARE;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'input_not_found: there is no job %', dependency USING ERRCODE = 'VQ004';
        END IF;
        IF bad_state IN ('failed', 'canceled') THEN
            RAISE EXCEPTION 'dependency_failed: job % ended as %', dependency, bad_state USING ERRCODE = 'VQ005';
        END IF;
        INSERT INTO vidqueue.job_dependencies (job_id, depends_on) VALUES (job_id, dependency);
    END LOOP;
END $$;

-- For people and programs that speak SQL: part of the caller's own transaction, dispatched when that commits.
--   SELECT vidqueue.submit('transcode', '{"video": "/srv/in.mp4"}');
CREATE FUNCTION vidqueue.submit(
    processor        text,
    input            jsonb,
    title            text DEFAULT NULL,
    tags             text[] DEFAULT '{}',
    priority         integer DEFAULT 0,
    run_at           timestamptz DEFAULT NULL,
    max_attempts     integer DEFAULT 3,
    timeout_s        double precision DEFAULT 86400,
    stall_timeout_s  double precision DEFAULT 300,
    lane             text DEFAULT NULL,
    owner            text DEFAULT 'local',
    idempotency_key  text DEFAULT NULL
) RETURNS uuid LANGUAGE sql AS $$
    SELECT job_id FROM vidqueue.enqueue(
        processor => submit.processor, input => submit.input, title => submit.title, tags => submit.tags,
        priority => submit.priority, run_at => submit.run_at, max_attempts => submit.max_attempts,
        timeout_s => submit.timeout_s, stall_timeout_s => submit.stall_timeout_s, lane => submit.lane,
        owner => submit.owner, idempotency_key => submit.idempotency_key,
        request_hash => md5(submit.processor || submit.input::text))
$$;
COMMENT ON FUNCTION vidqueue.submit IS 'Queue a job in the caller''s own transaction and return its id.';

-- Why a queued job is not running yet, in one stable word.
CREATE FUNCTION vidqueue.wait_reason(j vidqueue.jobs) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT CASE
        WHEN EXISTS (SELECT FROM vidqueue.job_dependencies d JOIN vidqueue.jobs p ON p.id = d.depends_on
                     WHERE d.job_id = j.id AND p.state <> 'succeeded') THEN 'dependency'
        WHEN j.run_at > now() AND j.attempt > 0 THEN 'backoff'
        WHEN j.run_at > now() THEN 'scheduled'
        WHEN NOT EXISTS (SELECT FROM vidqueue.lanes l WHERE l.state = 'online' AND j.device = ANY (l.takes)
                         AND (j.wanted_lane IS NULL OR j.wanted_lane = l.name)
                         AND (l.device = 'cpu' OR j.vram_mb <= l.vram_mb)) THEN 'no_lane'
        WHEN NOT EXISTS (SELECT FROM vidqueue.lanes l WHERE l.state = 'online' AND NOT l.paused AND j.device = ANY (l.takes)
                         AND (j.wanted_lane IS NULL OR j.wanted_lane = l.name)
                         AND (l.device = 'cpu' OR j.vram_mb <= l.vram_mb)) THEN 'paused'
        ELSE 'busy'
    END
$$;
COMMENT ON FUNCTION vidqueue.wait_reason IS
    'dependency | backoff | scheduled | no_lane (none online fits) | paused | busy (waits for its turn)';
