-- Events of a job's state have its source too, so that a client that follows many jobs can display their names.
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
        'error', CASE WHEN NEW.error_code IS NOT NULL THEN jsonb_build_object(
            'code', NEW.error_code, 'message', NEW.error_message, 'hint', NEW.error_hint) END)));
    RETURN NULL;
END $$;
