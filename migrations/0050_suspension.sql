-- Suspension of running jobs: the processes of the attempt are stopped, the lease is kept, the clocks of the attempt stand still.
-- Expand only: an older program goes on with this schema while it drains; its jobs are shown as suspended and run on.

ALTER TABLE vidqueue.jobs
    ADD COLUMN suspended_at timestamptz,
    ADD COLUMN suspended_by text CHECK (suspended_by IN ('person', 'window'));
ALTER TABLE vidqueue.jobs ADD CONSTRAINT suspended_iff_told
    CHECK ((suspended_at IS NULL) = (suspended_by IS NULL) AND (suspended_at IS NULL OR state = 'running')) NOT VALID;
COMMENT ON COLUMN vidqueue.jobs.suspended_at IS 'Time since which the running job is suspended. A suspension ends with the attempt.';
COMMENT ON COLUMN vidqueue.jobs.suspended_by IS 'person: until a user resumes it; window: until the time window of its lane opens.';

ALTER TABLE vidqueue.attempts ADD COLUMN suspended_s double precision NOT NULL DEFAULT 0;
COMMENT ON COLUMN vidqueue.attempts.suspended_s IS 'Time for which the attempt was suspended, in seconds, without the current suspension.';

ALTER TABLE vidqueue.events DROP CONSTRAINT events_kind_check;
ALTER TABLE vidqueue.events ADD CONSTRAINT events_kind_check CHECK (kind IN (
    'queued', 'running', 'progress', 'output', 'interrupted', 'cancel_requested', 'updated', 'succeeded', 'failed', 'canceled',
    'paused', 'resumed', 'schedule', 'suspended', 'windows', 'free_requested')) NOT VALID;

CREATE FUNCTION vidqueue.note_suspension() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE vidqueue.attempts a SET suspended_s = a.suspended_s + extract(epoch FROM clock_timestamp() - OLD.suspended_at)
    WHERE a.job_id = OLD.id AND a.number = OLD.attempt;
    RETURN NULL;
END $$;
CREATE TRIGGER note_suspension AFTER UPDATE ON vidqueue.jobs FOR EACH ROW
    WHEN (OLD.suspended_at IS NOT NULL AND NEW.suspended_at IS NULL)
    EXECUTE FUNCTION vidqueue.note_suspension();

CREATE FUNCTION vidqueue.tell_suspension() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM vidqueue.record_event(NEW.id, NEW.owner, CASE WHEN NEW.suspended_at IS NULL THEN 'resumed' ELSE 'suspended' END,
        jsonb_strip_nulls(jsonb_build_object('state', NEW.state, 'processor', NEW.processor, 'title', NEW.title,
            'attempt', NEW.attempt, 'lane', NEW.lane, 'progress', NEW.progress, 'by', NEW.suspended_by)));
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER tell_suspension AFTER UPDATE ON vidqueue.jobs
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN (NEW.state = 'running' AND OLD.state = 'running' AND (OLD.suspended_at IS NULL) <> (NEW.suspended_at IS NULL))
    EXECUTE FUNCTION vidqueue.tell_suspension();
