-- GPU memory of attempts: what each held at most, and what a job of the same kind is therefore expected to need.
-- Expand only: an older program goes on with this schema while it drains, and measures nothing.

ALTER TABLE vidqueue.attempt_usage ADD COLUMN device_mb integer;
COMMENT ON COLUMN vidqueue.attempt_usage.device_mb IS
    'Most GPU memory that the attempt held, in MiB: as torch counts it, otherwise as NVML reports it for the processes of its lane.';

ALTER TABLE vidqueue.jobs ADD COLUMN learned_mb integer;
COMMENT ON COLUMN vidqueue.jobs.learned_mb IS
    'GPU memory in MiB that attempts of this kind have needed; only where nothing is declared (vram_mb is 0). See has_room().';

CREATE TABLE vidqueue.device_memory (
    processor    text NOT NULL,
    model        text NOT NULL,
    size_class   integer NOT NULL,
    samples_mb   integer[] NOT NULL,
    measured_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (processor, model, size_class)
);
COMMENT ON TABLE vidqueue.device_memory IS 'GPU memory of the newest attempts of each kind of job, newest first.';
COMMENT ON COLUMN vidqueue.device_memory.model IS 'See vidqueue.memory_model().';
COMMENT ON COLUMN vidqueue.device_memory.size_class IS 'Power of four of the bytes of the inputs; -1 for attempts of all sizes.';

-- The parameters that decide how much memory a processor needs: what it works with, and how large its pictures are, in powers of two.
CREATE FUNCTION vidqueue.memory_model(input jsonb) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    WITH given AS (
        SELECT p.key, p.value FROM jsonb_each(
            CASE jsonb_typeof(input -> 'inputs') WHEN 'object' THEN input -> 'inputs' ELSE '{}' END
            || CASE jsonb_typeof(input -> 'input') WHEN 'object' THEN input -> 'input' ELSE '{}' END
            || CASE jsonb_typeof(input) WHEN 'object' THEN input ELSE '{}' END) p
    )
    SELECT left(concat_ws(' ',
        (SELECT string_agg(g.key || '=' || left(g.value #>> '{}', 80), ' ' ORDER BY g.key) FROM given g
         WHERE g.key IN ('model', 'workflow', 'endpoint', 'server', 'dtype', 'offload', 'tiling', 'scale')
           AND jsonb_typeof(g.value) IN ('string', 'number', 'boolean')),
        (SELECT 'size=' || ceil(sum(log(2.0, (g.value #>> '{}')::numeric))) FROM given g
         WHERE g.key IN ('width', 'height', 'frames', 'num_frames', 'min_resolution')
           AND CASE jsonb_typeof(g.value) WHEN 'number' THEN (g.value #>> '{}')::numeric BETWEEN 1 AND 1000000 END)), 300)
$$;

CREATE FUNCTION vidqueue.size_class(bytes bigint) RETURNS integer LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN bytes > 0 THEN floor(log(4.0, bytes::numeric))::integer END
$$;

-- Note what an attempt held. An attempt that ran out of memory has told what it needs at least.
CREATE FUNCTION vidqueue.learn_memory() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    done  record;
BEGIN
    SELECT j.processor, vidqueue.memory_model(j.input) AS model INTO done
    FROM vidqueue.attempts a JOIN vidqueue.jobs j ON j.id = a.job_id
    WHERE a.job_id = NEW.job_id AND a.number = NEW.attempt
      AND (a.outcome = 'succeeded' OR a.error_code = 'gpu_out_of_memory');
    -- No attempt waits to learn: where another one of the processor does so at this moment, this one is left out.
    IF NOT FOUND OR NOT pg_try_advisory_xact_lock(30326, hashtext(done.processor)) THEN
        RETURN NULL;
    END IF;
    INSERT INTO vidqueue.device_memory AS m (processor, model, size_class, samples_mb)
    SELECT done.processor, done.model, of_size, ARRAY[NEW.device_mb]
    FROM unnest(ARRAY[-1, vidqueue.size_class(NEW.input_bytes)]) AS of_size WHERE of_size IS NOT NULL
    ON CONFLICT ON CONSTRAINT device_memory_pkey DO UPDATE SET
        samples_mb = (excluded.samples_mb || m.samples_mb)[1:20], measured_at = now();
    DELETE FROM vidqueue.device_memory m WHERE m.processor = done.processor AND m.measured_at < now() - interval '90 days';
    RETURN NULL;
END $$;
CREATE TRIGGER learn_memory AFTER INSERT OR UPDATE OF device_mb ON vidqueue.attempt_usage
    FOR EACH ROW WHEN (NEW.device_mb > 0) EXECUTE FUNCTION vidqueue.learn_memory();

-- What nine of ten attempts of a kind needed, and a tenth more; NULL if fewer than three are known. In steps, so that there
-- are not as many demands as jobs.
CREATE FUNCTION vidqueue.need_of(samples_mb integer[]) RETURNS integer LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN cardinality(samples_mb) >= 3 THEN
        (SELECT ceil(percentile_disc(0.9) WITHIN GROUP (ORDER BY s) * 1.1 / 256)::integer * 256 FROM unnest(samples_mb) s) END
$$;

-- The memory that a job is expected to need: as attempts of about its size did, or else those of all sizes. Never more than nine
-- tenths of the largest GPU that it could run on, because nobody has all of a card.
CREATE FUNCTION vidqueue.expected_memory(j vidqueue.jobs) RETURNS integer LANGUAGE plpgsql STABLE AS $$
DECLARE
    kind   text;
    need   integer;
    bytes  bigint;
BEGIN
    IF j.device <> 'gpu' OR j.vram_mb > 0 OR NOT EXISTS (SELECT FROM vidqueue.device_memory m WHERE m.processor = j.processor) THEN
        RETURN NULL;
    END IF;
    kind := vidqueue.memory_model(j.input);
    SELECT sum(f.size) INTO bytes FROM vidqueue.files f WHERE f.id IN (
        SELECT substring(leaf #>> '{}' FROM 10)::uuid FROM jsonb_path_query(j.input,
            'strict $.** ? (@ like_regex "^vq:files/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")') AS leaf);
    SELECT vidqueue.need_of(m.samples_mb) INTO need FROM vidqueue.device_memory m
    WHERE m.processor = j.processor AND m.model = kind
      AND (m.size_class = -1 OR abs(m.size_class - vidqueue.size_class(bytes)) <= 1) AND vidqueue.need_of(m.samples_mb) IS NOT NULL
    ORDER BY m.size_class = -1, abs(m.size_class - vidqueue.size_class(bytes)), m.size_class DESC LIMIT 1;
    RETURN CASE WHEN need IS NOT NULL THEN
        least(need, (SELECT max(l.vram_mb) * 9 / 10 FROM vidqueue.lanes l
                     WHERE l.state = 'online' AND l.device = 'gpu' AND vidqueue.fits(l, j))) END;
END $$;

CREATE FUNCTION vidqueue.expect_memory() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.learned_mb := vidqueue.expected_memory(NEW);
    RETURN NEW;
END $$;
-- Before `stamp`, which hashes it.
CREATE TRIGGER expect_memory BEFORE INSERT ON vidqueue.jobs
    FOR EACH ROW WHEN (NEW.device = 'gpu' AND NEW.vram_mb = 0) EXECUTE FUNCTION vidqueue.expect_memory();

-- True if the GPU of a lane has the memory that a job needs or has been learned to need, besides what other programs hold. What was
-- learned is a guess: it keeps no job waiting for more than ten minutes, whatever becomes of the lanes.
CREATE FUNCTION vidqueue.has_room(l vidqueue.lanes, j vidqueue.jobs) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT l.device = 'cpu' OR greatest(j.vram_mb, CASE WHEN j.waits_since < now() - interval '10 minutes' THEN 0 ELSE j.learned_mb END)
                               <= greatest(0, l.vram_mb - l.others_mb)
$$;

-- As in 0035, with the GPU memory.
CREATE OR REPLACE VIEW vidqueue_report.attempts AS
SELECT a.job_id, j.processor, j.owner, a.number, a.host, a.lane, l.device, l.gpu_name, a.outcome, a.reason,
       a.error_code, a.error_message, a.dispatched_at, a.started_at, a.ended_at,
       extract(epoch FROM coalesce(a.ended_at, now()) - a.started_at)::numeric(12,3) AS lane_s,
       CASE l.device WHEN 'gpu' THEN extract(epoch FROM coalesce(a.ended_at, now()) - a.started_at)::numeric(12,3) ELSE 0 END AS gpu_s,
       u.cpu_s::numeric(12,2) AS cpu_s, u.input_bytes, u.video_s::numeric(12,3) AS video_s, j.source,
       vidqueue.hour_of(a.ended_at) AS hour, u.wait_s::numeric(12,3) AS wait_s, j.title,
       a.ended_at IS NOT NULL AND a.number = j.attempt AND j.finished_at IS NOT NULL AS was_last,
       j.state AS job_state,
       (SELECT sum(f.size) FROM vidqueue.outputs o JOIN vidqueue.files f ON f.id = o.file_id
        WHERE o.job_id = a.job_id AND o.attempt = a.number) AS output_bytes,
       u.device_mb
FROM vidqueue.attempts a
JOIN vidqueue.jobs j ON j.id = a.job_id
JOIN vidqueue.lanes l ON l.id = a.lane_id
LEFT JOIN vidqueue.attempt_usage u ON u.job_id = a.job_id AND u.attempt = a.number;

CREATE VIEW vidqueue_report.device_memory AS
SELECT processor, model, NULLIF(size_class, -1) AS size_class, vidqueue.need_of(samples_mb) AS need_mb,
       (SELECT max(s) FROM unnest(samples_mb) s) AS most_mb, cardinality(samples_mb) AS samples, measured_at
FROM vidqueue.device_memory;
COMMENT ON VIEW vidqueue_report.device_memory IS
    'GPU memory of attempts by processor, model and size of their inputs, and the expected need of the next job, in MiB.';
