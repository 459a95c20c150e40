-- The result cache: a job of a deterministic processor whose work was done before gets the earlier outputs.
-- Expand only: an older program goes on with this schema while it drains.

ALTER TABLE vidqueue.jobs ADD COLUMN cache boolean NOT NULL DEFAULT true;
COMMENT ON COLUMN vidqueue.jobs.cache IS 'True if the job may reuse the outputs of an earlier one; false if it must run.';

-- A table of its own, so that a job of any other processor pays for no column and no index of it.
CREATE TABLE vidqueue.results (
    job_id     uuid PRIMARY KEY REFERENCES vidqueue.jobs ON DELETE CASCADE,
    key        text NOT NULL CHECK (key ~ '^[0-9a-f]{64}$'),
    source_id  uuid,
    at         timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX results_by_key ON vidqueue.results (key, at);
COMMENT ON TABLE vidqueue.results IS 'The result cache: succeeded jobs whose outputs may be reused by jobs with the same processor, parameters and input bytes.';
COMMENT ON COLUMN vidqueue.results.key IS 'A sha256 of the processor, its version, the parameters and the sha256 of every input.';
COMMENT ON COLUMN vidqueue.results.source_id IS 'The job whose outputs this one reused; it may have been deleted. NULL if this one did the work.';

-- Exclude a new job from the result cache.
--   SELECT vidqueue.run_anew(vidqueue.submit('transcode', '{"video": "/srv/b.mp4"}'));
CREATE FUNCTION vidqueue.run_anew(job uuid) RETURNS uuid LANGUAGE plpgsql AS $$
BEGIN
    UPDATE vidqueue.jobs SET cache = false WHERE id = job AND cache;
    RETURN job;
END $$;
COMMENT ON FUNCTION vidqueue.run_anew IS 'Make a job run even if its result is cached; returns its id.';

-- As in 0035, and whether the outputs are those of an earlier job.
CREATE OR REPLACE VIEW vidqueue_report.jobs AS
SELECT j.id, j.processor, j.state, j.owner, j.title, j.tags, j.priority, j.device, j.lane, j.progress, j.stage,
       j.attempt AS attempts, j.failures, j.error_code, j.error_message,
       j.created_at, j.started_at, j.finished_at,
       extract(epoch FROM coalesce(j.started_at, j.finished_at, now()) - j.created_at)::numeric(12,3) AS waited_s,
       extract(epoch FROM coalesce(j.finished_at, now()) - j.started_at)::numeric(12,3) AS ran_s,
       (SELECT sum(f.size) FROM vidqueue.outputs o JOIN vidqueue.files f ON f.id = o.file_id WHERE o.job_id = j.id) AS output_bytes,
       j.source, u.input_bytes, u.video_s, u.cpu_s, u.lane_s, u.gpu_s,
       EXISTS (SELECT FROM vidqueue.results r WHERE r.job_id = j.id AND r.source_id IS NOT NULL) AS cached
FROM vidqueue.jobs j
LEFT JOIN LATERAL (
    SELECT max(a.input_bytes) AS input_bytes, max(a.video_s) AS video_s, sum(a.cpu_s) AS cpu_s, sum(a.lane_s) AS lane_s, sum(a.gpu_s) AS gpu_s
    FROM vidqueue_report.attempts a WHERE a.job_id = j.id) u ON true;
COMMENT ON VIEW vidqueue_report.jobs IS
    'Every job: input_bytes and video_s are of its inputs, cpu_s, lane_s and gpu_s of all its attempts together.';
