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
