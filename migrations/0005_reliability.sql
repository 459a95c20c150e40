-- What the promises need when things go wrong: deadlines for waiting, the processors' own defaults, lanes that are held
-- back, proof of a daemon's death, a bound on how often a job may take its daemon with it.
-- Expand only: an older program goes on with this schema while it drains.

ALTER TABLE vidqueue.jobs
    ADD COLUMN expires_at timestamptz CHECK (expires_at BETWEEN '1970-01-01 UTC' AND '9000-01-01 UTC'),
    ADD COLUMN losses integer NOT NULL DEFAULT 0;
COMMENT ON COLUMN vidqueue.jobs.expires_at IS 'A job that has not begun by then fails with expired.';
COMMENT ON COLUMN vidqueue.jobs.losses IS 'How many of the last attempts ended with the death of their daemon, one after the other.';
CREATE INDEX jobs_expiring ON vidqueue.jobs (expires_at) WHERE state = 'queued' AND attempt = 0 AND expires_at IS NOT NULL;

ALTER TABLE vidqueue.processors
    ADD COLUMN max_attempts integer NOT NULL DEFAULT 3,
    ADD COLUMN timeout_s double precision NOT NULL DEFAULT 86400,
    ADD COLUMN stall_timeout_s double precision NOT NULL DEFAULT 300,
    ADD COLUMN backoff_base_s double precision NOT NULL DEFAULT 1,
    ADD COLUMN backoff_cap_s double precision NOT NULL DEFAULT 300;
COMMENT ON COLUMN vidqueue.processors.max_attempts IS 'What a job gets that says nothing of its own; so with the other limits.';

ALTER TABLE vidqueue.lanes
    ADD COLUMN held text CHECK (held IN ('no_space', 'gpu_lost')),
    ADD COLUMN process text;
COMMENT ON COLUMN vidqueue.lanes.held IS 'Why this lane takes no work although it is online and not paused.';
COMMENT ON COLUMN vidqueue.lanes.process IS 'Which process of which machine serves the lane; another one there can tell when it is gone.';

-- The one way in, now with what a job may leave to its processor (NULL) and with a deadline.
CREATE FUNCTION vidqueue.accept(
    processor        text,
    input            jsonb,
    title            text DEFAULT NULL,
    tags             text[] DEFAULT '{}',
    priority         integer DEFAULT 0,
    run_at           timestamptz DEFAULT NULL,
    expires_at       timestamptz DEFAULT NULL,
    max_attempts     integer DEFAULT NULL,
    timeout_s        double precision DEFAULT NULL,
    stall_timeout_s  double precision DEFAULT NULL,
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
    defaults    vidqueue.processors;
    known       record;
    dependency  uuid;
    bad_state   text;
BEGIN
    SELECT p.* INTO defaults FROM vidqueue.processors p WHERE p.name = processor;
    device := coalesce(device, defaults.device);
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
        INSERT INTO vidqueue.jobs AS j (owner, processor, input, title, tags, priority, device, vram_mb, wanted_lane, run_at,
                                        expires_at, max_attempts, timeout_s, stall_timeout_s, idempotency_key, request_hash)
            VALUES (owner, processor, input, title, coalesce(tags, '{}'), priority, device, vram_mb, lane,
                    coalesce(run_at, now()), expires_at, coalesce(max_attempts, defaults.max_attempts, 3),
                    coalesce(timeout_s, defaults.timeout_s, 86400), coalesce(stall_timeout_s, defaults.stall_timeout_s, 300),
                    idempotency_key, request_hash)
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

-- An older program that drains still takes jobs by this name; the next release drops it.
CREATE OR REPLACE FUNCTION vidqueue.enqueue(
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
) LANGUAGE sql AS $$
    SELECT accepted.job_id, accepted.created FROM vidqueue.accept(
        processor => enqueue.processor, input => enqueue.input, title => enqueue.title, tags => enqueue.tags,
        priority => enqueue.priority, run_at => enqueue.run_at, max_attempts => enqueue.max_attempts,
        timeout_s => enqueue.timeout_s, stall_timeout_s => enqueue.stall_timeout_s, lane => enqueue.lane,
        owner => enqueue.owner, device => enqueue.device, vram_mb => enqueue.vram_mb,
        idempotency_key => enqueue.idempotency_key, request_hash => enqueue.request_hash) accepted
$$;

DROP FUNCTION vidqueue.submit;
CREATE FUNCTION vidqueue.submit(
    processor        text,
    input            jsonb,
    title            text DEFAULT NULL,
    tags             text[] DEFAULT '{}',
    priority         integer DEFAULT 0,
    run_at           timestamptz DEFAULT NULL,
    max_attempts     integer DEFAULT NULL,
    timeout_s        double precision DEFAULT NULL,
    stall_timeout_s  double precision DEFAULT NULL,
    lane             text DEFAULT NULL,
    owner            text DEFAULT 'local',
    idempotency_key  text DEFAULT NULL,
    expires_at       timestamptz DEFAULT NULL
) RETURNS uuid LANGUAGE sql AS $$
    SELECT job_id FROM vidqueue.accept(
        processor => submit.processor, input => submit.input, title => submit.title, tags => submit.tags,
        priority => submit.priority, run_at => submit.run_at, expires_at => submit.expires_at,
        max_attempts => submit.max_attempts, timeout_s => submit.timeout_s, stall_timeout_s => submit.stall_timeout_s,
        lane => submit.lane, owner => submit.owner, idempotency_key => submit.idempotency_key,
        request_hash => md5(submit.processor || submit.input::text))
$$;
COMMENT ON FUNCTION vidqueue.submit IS 'Queue a job in the caller''s own transaction and return its id.';

-- Why a queued job is not running yet, in one stable word.
CREATE OR REPLACE FUNCTION vidqueue.wait_reason(j vidqueue.jobs) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT CASE
        WHEN EXISTS (SELECT FROM vidqueue.job_dependencies d JOIN vidqueue.jobs p ON p.id = d.depends_on
                     WHERE d.job_id = j.id AND p.state <> 'succeeded') THEN 'dependency'
        WHEN j.run_at > greatest(now(), j.queued_at) AND j.attempt > 0 THEN 'backoff'
        WHEN j.run_at > greatest(now(), j.queued_at) THEN 'scheduled'
        ELSE (SELECT CASE
                  WHEN count(*) = 0 THEN 'no_lane'
                  WHEN bool_or(NOT l.paused AND l.held IS NULL) THEN 'busy'
                  -- A pause is somebody's will; what holds a lane that would work otherwise is the better news.
                  ELSE coalesce(min(l.held) FILTER (WHERE NOT l.paused), 'paused') END
              FROM vidqueue.lanes l
              WHERE l.state = 'online' AND j.device = ANY (l.takes)
                AND (j.wanted_lane IS NULL OR j.wanted_lane = l.name)
                AND (l.device = 'cpu' OR j.vram_mb <= l.vram_mb))
    END
$$;
COMMENT ON FUNCTION vidqueue.wait_reason IS
    'dependency | backoff | scheduled | no_lane (none online fits) | no_space (the disk is full) | gpu_lost | paused | busy (waits for its turn)';
