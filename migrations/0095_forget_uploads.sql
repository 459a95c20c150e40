-- Uploads that expire with their jobs: removed once the last job that names them has succeeded or is removed, at the request of a job.
-- Expand only: an older program goes on with this schema while it drains; it keeps such uploads as it keeps all.

ALTER TABLE vidqueue.files ADD COLUMN expires_with_jobs boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN vidqueue.files.expires_with_jobs IS
    'True for an upload that is removed once every job that names it has succeeded or is removed, and no schedule names it.';

CREATE FUNCTION vidqueue.forget_uploads(VARIADIC job_ids uuid[]) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    marked bigint;
BEGIN
    -- Locked in the order of their ids, so that two batches that name the same files do not deadlock. A file of somebody else
    -- is not for this job's owner to remove.
    UPDATE vidqueue.files f SET expires_with_jobs = true
    FROM (SELECT g.id FROM vidqueue.files g
          WHERE g.id IN (SELECT u.file_id FROM vidqueue.job_files u JOIN vidqueue.jobs j ON j.id = u.job_id
                         WHERE u.job_id = ANY (job_ids) AND j.owner = g.owner)
            AND NOT g.published
          ORDER BY g.id FOR NO KEY UPDATE) asked
    WHERE f.id = asked.id AND NOT f.expires_with_jobs;
    GET DIAGNOSTICS marked = ROW_COUNT;
    RETURN marked;
END $$;
COMMENT ON FUNCTION vidqueue.forget_uploads IS
    'Let the uploads that these jobs name be removed once every job that names them has succeeded or is removed; returns how many.';

-- As in 0002, with the source of the job, so that a client that follows many jobs can display their names; the event of a job that is
-- given back says that nobody has suspended it any more.
CREATE OR REPLACE FUNCTION vidqueue.tell_job_change() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    what text;
BEGIN
    what := CASE
        WHEN TG_OP = 'INSERT' THEN 'queued'
        WHEN NEW.state <> OLD.state AND OLD.state = 'running' AND NEW.state = 'queued' THEN 'interrupted'
        WHEN NEW.state <> OLD.state THEN NEW.state
        WHEN NEW.cancel_requested_at IS DISTINCT FROM OLD.cancel_requested_at THEN 'cancel_requested'
        ELSE 'updated'
    END;
    PERFORM vidqueue.record_event(NEW.id, NEW.owner, what, jsonb_strip_nulls(jsonb_build_object(
        'state', NEW.state, 'processor', NEW.processor, 'title', NEW.title, 'source', NEW.source, 'priority', NEW.priority,
        'attempt', NULLIF(NEW.attempt, 0), 'lane', NEW.lane, 'progress', NEW.progress,
        'message', NEW.message,
        'suspension_ended', CASE WHEN what = 'interrupted' AND OLD.suspended_at IS NOT NULL THEN true END,
        'error', CASE WHEN NEW.error_code IS NOT NULL THEN jsonb_build_object(
            'code', NEW.error_code, 'message', NEW.error_message, 'hint', NEW.error_hint) END)));
    RETURN NULL;
END $$;
