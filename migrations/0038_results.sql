-- Jobs that begin after others without reading from them, and results that are kept for a time of their own.
-- Expand only: an older program goes on with this schema while it drains.

ALTER TABLE vidqueue.job_dependencies ADD COLUMN reads boolean NOT NULL DEFAULT true;
COMMENT ON COLUMN vidqueue.job_dependencies.reads IS 'The job reads an output of the other one; otherwise it only begins after it.';

-- As in 0011, without the outputs of jobs that this one only comes after: it may run where those are not.
CREATE OR REPLACE FUNCTION vidqueue.node_of_inputs(job uuid) RETURNS uuid LANGUAGE sql STABLE AS $$
    SELECT CASE count(DISTINCT f.node) WHEN 0 THEN NULL WHEN 1 THEN min(f.node::text)::uuid
           ELSE '00000000-0000-0000-0000-000000000000' END
    FROM vidqueue.files f WHERE f.node IS NOT NULL AND f.id IN (
        SELECT u.file_id FROM vidqueue.job_files u WHERE u.job_id = job
        UNION ALL
        SELECT o.file_id FROM vidqueue.job_dependencies d JOIN vidqueue.outputs o ON o.job_id = d.depends_on
        WHERE d.job_id = job AND d.reads)
$$;

-- Let a new job begin only after others have succeeded; it fails if one of them fails.
--   SELECT vidqueue.run_after(vidqueue.submit('transcode', '{"video": "/srv/b.mp4"}'), '<id of a job>');
CREATE FUNCTION vidqueue.run_after(job uuid, VARIADIC others uuid[]) RETURNS uuid LANGUAGE plpgsql AS $$
DECLARE
    waiting     vidqueue.jobs;
    dependency  uuid;
    bad_state   text;
BEGIN
    IF cardinality(others) IS NOT DISTINCT FROM 0 OR others IS NULL THEN
        RETURN job;
    END IF;
    SELECT j.* INTO waiting FROM vidqueue.jobs j WHERE j.id = job FOR NO KEY UPDATE;
    IF waiting.id IS NULL THEN
        RAISE EXCEPTION 'not_found: there is no job %', job USING ERRCODE = 'VQ006';
    END IF;
    -- No job may wait for itself through others, so one that others depend on gets no more dependencies.
    IF waiting.state <> 'queued' OR waiting.attempt > 0
            OR EXISTS (SELECT FROM vidqueue.job_dependencies d WHERE d.depends_on = job) THEN
        RAISE EXCEPTION 'conflict: job % has begun, or others depend on it', job USING ERRCODE = 'VQ007';
    END IF;
    FOR dependency IN SELECT DISTINCT u.id FROM unnest(others) AS u (id) ORDER BY 1 LOOP
        SELECT j.state INTO bad_state FROM vidqueue.jobs j
            WHERE j.id = dependency AND j.owner = waiting.owner AND j.id <> job FOR SHARE;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'input_not_found: there is no job %', dependency USING ERRCODE = 'VQ004';
        END IF;
        IF bad_state IN ('failed', 'canceled') THEN
            RAISE EXCEPTION 'dependency_failed: job % ended as %', dependency, bad_state USING ERRCODE = 'VQ005';
        END IF;
        INSERT INTO vidqueue.job_dependencies (job_id, depends_on, reads) VALUES (job, dependency, false) ON CONFLICT DO NOTHING;
    END LOOP;
    RETURN job;
END $$;
COMMENT ON FUNCTION vidqueue.run_after IS 'Let a job that has not begun wait until other jobs have succeeded; returns its id.';

-- When a finished job may be removed, if it or its processor says so.
ALTER TABLE vidqueue.processors ADD COLUMN keep_s double precision;
ALTER TABLE vidqueue.jobs ADD COLUMN keep_s double precision, ADD COLUMN kept_until timestamptz;
COMMENT ON COLUMN vidqueue.processors.keep_s IS 'Seconds for which jobs are kept that do not say so themselves; NULL for as long as retention keeps all.';
COMMENT ON COLUMN vidqueue.jobs.keep_s IS 'Seconds for which the job is kept after its end; NULL for what its processor says.';
COMMENT ON COLUMN vidqueue.jobs.kept_until IS 'When the finished job may be removed, if it or its processor says so.';

CREATE FUNCTION vidqueue.stamp_kept_until() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.kept_until := NEW.finished_at + make_interval(secs => coalesce(NEW.keep_s,
        (SELECT p.keep_s FROM vidqueue.processors p WHERE p.name = NEW.processor)));
    RETURN NEW;
END $$;
-- After `stamp` by its name.
CREATE TRIGGER stamp_kept_until BEFORE UPDATE OF finished_at, keep_s ON vidqueue.jobs FOR EACH ROW
    WHEN ((NEW.finished_at, NEW.keep_s) IS DISTINCT FROM (OLD.finished_at, OLD.keep_s))
    EXECUTE FUNCTION vidqueue.stamp_kept_until();

CREATE FUNCTION vidqueue.keep_for(job uuid, seconds double precision) RETURNS uuid LANGUAGE plpgsql AS $$
BEGIN
    IF seconds NOT BETWEEN 0 AND 3153600000 THEN
        RAISE EXCEPTION 'invalid_params: keep_s is between 0 and 3153600000' USING ERRCODE = 'VQ002';
    END IF;
    UPDATE vidqueue.jobs SET keep_s = seconds WHERE id = job AND keep_s IS DISTINCT FROM seconds;
    RETURN job;
END $$;
COMMENT ON FUNCTION vidqueue.keep_for IS 'Keep a job for some seconds after its end, at most as long as retention keeps all; returns its id.';
