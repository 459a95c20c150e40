-- A job that asks for the lane with the empty name asks for none.

-- As in 0121, with the first condition. Jobs with equal needs (`demand`) wait as one line, of which a lane looks at the first. The empty
-- name made the demand of a job that asks for no lane, and no lane could take it: all jobs behind it waited for ever.
CREATE OR REPLACE FUNCTION vidqueue.stamp_job() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    broken  text;
BEGIN
    IF NEW.wanted_lane = '' THEN
        NEW.wanted_lane := NULL;
    END IF;
    IF TG_OP = 'INSERT' OR NEW.queued_at <> OLD.queued_at OR NEW.waits_since IS NULL THEN
        NEW.waits_since := CASE WHEN NEW.run_at > greatest(now(), NEW.queued_at) THEN NEW.run_at ELSE NEW.queued_at END;
    END IF;
    NEW.rank := extract(epoch FROM NEW.waits_since) - 60 * NEW.priority;
    -- A job without a time of its own may run since it was queued, also where the server's clock was set back meanwhile.
    NEW.ready := NEW.state = 'queued' AND NEW.unmet = 0 AND NEW.run_at <= greatest(now(), NEW.queued_at);
    IF TG_OP = 'UPDATE' THEN
        -- A suspension ends with the attempt.
        IF OLD.suspended_at IS NOT NULL AND (NEW.state <> 'running' OR NEW.attempt <> OLD.attempt) THEN
            NEW.suspended_at := NULL;
            NEW.suspended_by := NULL;
        END IF;
        IF NEW.state = 'queued' AND OLD.state <> 'queued' AND NEW.device = 'gpu' AND NEW.vram_mb = 0 THEN
            NEW.learned_mb := vidqueue.expected_memory(NEW);
        END IF;
        IF (NEW.finished_at, NEW.keep_s) IS DISTINCT FROM (OLD.finished_at, OLD.keep_s) THEN
            NEW.kept_until := NEW.finished_at + make_interval(secs => coalesce(NEW.keep_s,
                (SELECT p.keep_s FROM vidqueue.processors p WHERE p.name = NEW.processor)));
        END IF;
        -- Progress is no change that anyone could overwrite.
        IF (NEW.state, NEW.priority, NEW.title, NEW.tags, NEW.cancel_requested_at, NEW.attempt)
           IS DISTINCT FROM (OLD.state, OLD.priority, OLD.title, OLD.tags, OLD.cancel_requested_at, OLD.attempt) THEN
            NEW.version := OLD.version + 1;
        END IF;
        -- What is final stays so, unless a person asks for the job once more.
        IF OLD.state = 'succeeded' AND NEW.state <> OLD.state
           OR OLD.state IN ('failed', 'canceled') AND NEW.state NOT IN (OLD.state, 'queued')
           OR OLD.state = 'queued' AND NEW.state = 'succeeded' THEN
            RAISE EXCEPTION 'job % cannot go from % to %', OLD.id, OLD.state, NEW.state
                USING ERRCODE = 'integrity_constraint_violation';
        END IF;
    END IF;
    IF NEW.state = 'queued' THEN
        NEW.demand := hashtextextended(concat_ws(E'\x1f', NEW.processor, NEW.device, NEW.vram_mb,
                                                 coalesce(NEW.wanted_lane, ''), coalesce(NEW.node::text, ''),
                                                 CASE WHEN NEW.labels <> '{}' THEN array_to_string(NEW.labels, E'\x1e') END,
                                                 E'\x1d' || NEW.learned_mb), 0);
    END IF;
    broken := CASE
        WHEN NOT NEW.state IN ('queued', 'running', 'succeeded', 'failed', 'canceled') THEN 'jobs_state_check'
        WHEN NOT NEW.device IN ('cpu', 'gpu') THEN 'jobs_device_check'
        WHEN NOT NEW.progress BETWEEN 0 AND 1 THEN 'jobs_progress_check'
        WHEN NOT NEW.priority BETWEEN -1000 AND 1000 THEN 'jobs_priority_check'
        WHEN NOT NEW.max_attempts BETWEEN 1 AND 100 THEN 'jobs_max_attempts_check'
        WHEN NOT NEW.vram_mb >= 0 THEN 'jobs_vram_mb_check'
        WHEN NOT (NEW.timeout_s > 0 AND NEW.timeout_s <= 31536000) THEN 'jobs_timeout_s_check'
        WHEN NOT (NEW.stall_timeout_s > 0 AND NEW.stall_timeout_s <= 31536000) THEN 'jobs_stall_timeout_s_check'
        WHEN NOT NEW.run_at BETWEEN '1970-01-01 UTC' AND '9000-01-01 UTC' THEN 'jobs_run_at_check'
        WHEN NOT NEW.expires_at BETWEEN '1970-01-01 UTC' AND '9000-01-01 UTC' THEN 'jobs_expires_at_check'
        WHEN NOT jsonb_typeof(NEW.input) = 'object' THEN 'jobs_input_check'
        WHEN NOT length(NEW.title) <= 500 THEN 'jobs_title_check'
        WHEN NOT length(NEW.source) <= 255 THEN 'jobs_source_check'
        WHEN NOT length(NEW.idempotency_key) BETWEEN 1 AND 255 THEN 'jobs_idempotency_key_check'
        WHEN array_position(NEW.tags, NULL) IS NOT NULL THEN 'jobs_tags_check'
        WHEN NOT NEW.waiting_for ~ '^[a-z][a-z0-9_]{0,63}$' THEN 'jobs_waiting_for_check'
        WHEN NOT NEW.suspended_by IN ('person', 'window') THEN 'jobs_suspended_by_check'
    END;
    IF broken IS NOT NULL THEN
        RAISE EXCEPTION 'new row for relation "jobs" violates check constraint "%"', broken
            USING ERRCODE = 'check_violation', SCHEMA = 'vidqueue', TABLE = 'jobs', CONSTRAINT = broken;
    END IF;
    RETURN NEW;
END $$;

UPDATE vidqueue.jobs SET wanted_lane = NULL WHERE state = 'queued' AND wanted_lane = '';
