-- Batches: jobs that were submitted together. Expand only: an older program goes on with this schema while it drains.

CREATE TABLE vidqueue.batches (
    id               uuid PRIMARY KEY DEFAULT vidqueue.new_id(),
    owner            text NOT NULL DEFAULT 'local',
    title            text CHECK (length(title) <= 500),
    size             integer NOT NULL CHECK (size BETWEEN 1 AND 1000),
    idempotency_key  text CHECK (length(idempotency_key) BETWEEN 1 AND 255),
    request_hash     text,
    created_at       timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE UNIQUE INDEX batches_idempotency ON vidqueue.batches (owner, idempotency_key) WHERE idempotency_key IS NOT NULL;
COMMENT ON TABLE vidqueue.batches IS 'Jobs that were submitted together; removed with its last job.';
COMMENT ON COLUMN vidqueue.batches.size IS 'How many jobs were submitted; some may have been deleted since.';

-- Not checked here, because that looks at every row under a lock; 0015_online checks it while others write.
ALTER TABLE vidqueue.jobs
    ADD CONSTRAINT jobs_of_batch_exists FOREIGN KEY (batch_id) REFERENCES vidqueue.batches NOT VALID;

-- Whom to tell of the job by HTTP; accept() writes it. What it does is in 0024.
ALTER TABLE vidqueue.jobs ADD COLUMN webhook jsonb;
COMMENT ON COLUMN vidqueue.jobs.webhook IS 'The job''s own receiver: {"url": "https://...", "events": ["completed"]}; without events all are told.';

-- The members of a batch are told by their batch, in one statement at commit: a call of the trigger for each of a
-- thousand rows takes longer than everything else about them.
CREATE FUNCTION vidqueue.tell_batch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(30321, 1);
    UPDATE vidqueue.event_epoch SET server_started = pg_postmaster_start_time()
        WHERE server_started <> pg_postmaster_start_time();
    IF FOUND THEN
        PERFORM setval('vidqueue.events_number_seq', nextval('vidqueue.events_number_seq') + 10000);
    END IF;
    INSERT INTO vidqueue.events (job_id, owner, kind, data)
    SELECT j.id, j.owner, 'queued', jsonb_strip_nulls(jsonb_build_object(
        'state', j.state, 'processor', j.processor, 'title', j.title, 'priority', j.priority, 'progress', j.progress))
    FROM vidqueue.jobs j WHERE j.batch_id = NEW.id ORDER BY j.id;
    PERFORM pg_notify('vidqueue', 'queued');
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER tell_insert AFTER INSERT ON vidqueue.batches
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION vidqueue.tell_batch();
DROP TRIGGER tell_insert ON vidqueue.jobs;
CREATE CONSTRAINT TRIGGER tell_insert AFTER INSERT ON vidqueue.jobs
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.batch_id IS NULL) EXECUTE FUNCTION vidqueue.tell_job_change();

-- What a job needs of a lane, for those who submit by SQL: the database does not know the processors' parameters.
ALTER TABLE vidqueue.processors
    ADD COLUMN vram_mb integer NOT NULL DEFAULT 0 CHECK (vram_mb >= 0),
    ADD COLUMN gpu_when jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(gpu_when) = 'object');
COMMENT ON COLUMN vidqueue.processors.vram_mb IS 'GPU memory in MiB that a job needs which says nothing of its own.';
COMMENT ON COLUMN vidqueue.processors.gpu_when IS
    'Parameters whose value makes a job need a GPU lane: {"encoder": ["nvenc"]}. Otherwise the job needs `device`.';

-- As in 0005, with the device and the memory that the processor declares, and a webhook.
DROP FUNCTION vidqueue.accept;
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

CREATE VIEW vidqueue_report.batches AS
SELECT b.id, b.owner, b.title, b.size AS jobs, c.queued, c.running, c.succeeded, c.failed, c.canceled,
       b.size - c.present AS deleted, c.progress, b.created_at, c.started_at,
       CASE WHEN c.queued + c.running = 0 THEN c.finished_at END AS finished_at
FROM vidqueue.batches b
CROSS JOIN LATERAL (
    SELECT count(*) AS present,
           count(*) FILTER (WHERE j.state = 'queued') AS queued,
           count(*) FILTER (WHERE j.state = 'running') AS running,
           count(*) FILTER (WHERE j.state = 'succeeded') AS succeeded,
           count(*) FILTER (WHERE j.state = 'failed') AS failed,
           count(*) FILTER (WHERE j.state = 'canceled') AS canceled,
           avg(CASE WHEN j.finished_at IS NULL THEN j.progress ELSE 1 END) AS progress,
           min(j.started_at) AS started_at, max(j.finished_at) AS finished_at
    FROM vidqueue.jobs j WHERE j.batch_id = b.id) c;
