-- Jobs that are submitted by SQL have inputs that can be read over HTTP.

-- As in 0012, with a bound on how deeply the input is nested.
CREATE OR REPLACE FUNCTION vidqueue.accept(
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
    vram_mb          integer DEFAULT NULL,
    idempotency_key  text DEFAULT NULL,
    request_hash     text DEFAULT NULL,
    webhook          jsonb DEFAULT NULL,
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
    IF device IS NULL AND defaults.name IS NULL THEN
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
    -- What is nested deeper cannot be written as JSON for clients, so that every list with such a job would be refused.
    IF jsonb_path_exists(input, 'strict $.**{101 to last}') THEN
        RAISE EXCEPTION 'invalid_params: the input is nested in more than 100 levels' USING ERRCODE = 'VQ002';
    END IF;
    -- As over HTTP. A longer one fits no index: the job could be queued and never begun.
    IF cardinality(tags) > 32 OR EXISTS (SELECT FROM unnest(tags) AS tag WHERE length(tag) NOT BETWEEN 1 AND 64) THEN
        RAISE EXCEPTION 'invalid_params: a job has at most 32 tags of 1 to 64 characters' USING ERRCODE = 'VQ002';
    END IF;
    IF length(owner) NOT BETWEEN 1 AND 200 THEN
        RAISE EXCEPTION 'invalid_params: the name of an owner has 1 to 200 characters' USING ERRCODE = 'VQ002';
    END IF;
    IF webhook IS NOT NULL AND (jsonb_typeof(webhook) <> 'object' OR jsonb_typeof(webhook -> 'url') IS DISTINCT FROM 'string') THEN
        RAISE EXCEPTION 'invalid_params: webhook must be an object with a url' USING ERRCODE = 'VQ002';
    END IF;
    IF device IS NULL THEN
        device := defaults.device;
        IF EXISTS (SELECT FROM jsonb_each(defaults.gpu_when) w WHERE w.value @> (input -> w.key)) THEN
            device := 'gpu';
        END IF;
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
                                        expires_at, max_attempts, timeout_s, stall_timeout_s, idempotency_key, request_hash, webhook)
            VALUES (owner, processor, input, title, coalesce(tags, '{}'), priority, device,
                    coalesce(vram_mb, defaults.vram_mb, 0), lane,
                    coalesce(run_at, now()), expires_at, coalesce(max_attempts, defaults.max_attempts, 3),
                    coalesce(timeout_s, defaults.timeout_s, 86400), coalesce(stall_timeout_s, defaults.stall_timeout_s, 300),
                    idempotency_key, request_hash, webhook)
            ON CONFLICT DO NOTHING
            RETURNING j.id INTO job_id;
        EXIT WHEN job_id IS NOT NULL;
    END LOOP;
    created := true;
    IF NOT EXISTS (SELECT FROM vidqueue.owners o WHERE o.name = owner) THEN
        INSERT INTO vidqueue.owners (name) VALUES (owner) ON CONFLICT DO NOTHING;
    END IF;

    -- vq:jobs/<id>/<output> anywhere in the input is a dependency.
    IF input::text NOT LIKE '%"vq:jobs/%' THEN
        RETURN;
    END IF;
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
