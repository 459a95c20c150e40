-- PostgreSQL parses every CHECK of a table anew at every statement that writes to it, which was a quarter of the CPU that a job takes
-- there. A function of PL/pgSQL is parsed once a session.
-- Expand only: an older program goes on with this schema while it drains.

-- As in 0100. The limits of single columns are enforced here now, under the names that their constraints had; this trigger runs at
-- every INSERT and UPDATE, and after all others that change the row. What the states of a job mean stays a constraint of the table.
CREATE OR REPLACE FUNCTION vidqueue.stamp_job() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    broken  text;
BEGIN
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
ALTER TABLE vidqueue.jobs
    DROP CONSTRAINT jobs_state_check, DROP CONSTRAINT jobs_device_check, DROP CONSTRAINT jobs_progress_check,
    DROP CONSTRAINT jobs_priority_check, DROP CONSTRAINT jobs_max_attempts_check, DROP CONSTRAINT jobs_vram_mb_check,
    DROP CONSTRAINT jobs_timeout_s_check, DROP CONSTRAINT jobs_stall_timeout_s_check, DROP CONSTRAINT jobs_run_at_check,
    DROP CONSTRAINT jobs_expires_at_check, DROP CONSTRAINT jobs_input_check, DROP CONSTRAINT jobs_title_check,
    DROP CONSTRAINT jobs_source_check, DROP CONSTRAINT jobs_idempotency_key_check, DROP CONSTRAINT jobs_tags_check,
    DROP CONSTRAINT jobs_waiting_for_check, DROP CONSTRAINT jobs_suspended_by_check;

-- One constraint for the six of an attempt. Its rows were checked by those: they need not be read.
CREATE FUNCTION vidqueue.is_sound_attempt(number integer, ended_at timestamptz, outcome text, reason text, error_code text)
    RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RETURN number >= 1
       AND (ended_at IS NULL) = (outcome IS NULL)
       AND (outcome IS NULL OR outcome IN ('succeeded', 'failed', 'canceled', 'interrupted', 'waiting'))
       AND (outcome IS NOT DISTINCT FROM 'failed') = (error_code IS NOT NULL)
       AND (outcome IS NULL OR outcome NOT IN ('interrupted', 'waiting') OR reason IS NOT NULL);
END $$;
ALTER TABLE vidqueue.attempts
    DROP CONSTRAINT attempts_number_check, DROP CONSTRAINT ended_iff_outcome, DROP CONSTRAINT attempts_outcome_check,
    DROP CONSTRAINT failed_iff_code, DROP CONSTRAINT interrupted_has_reason, DROP CONSTRAINT waiting_has_reason,
    ADD CONSTRAINT attempt_is_sound CHECK (vidqueue.is_sound_attempt(number, ended_at, outcome, reason, error_code)) NOT VALID;

-- The kinds as in 0050.
CREATE FUNCTION vidqueue.is_event_kind(kind text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RETURN kind IN ('queued', 'running', 'progress', 'output', 'interrupted', 'cancel_requested', 'updated', 'succeeded', 'failed',
                    'canceled', 'paused', 'resumed', 'schedule', 'suspended', 'windows', 'free_requested');
END $$;
ALTER TABLE vidqueue.events
    DROP CONSTRAINT events_kind_check,
    ADD CONSTRAINT events_kind_check CHECK (vidqueue.is_event_kind(kind)) NOT VALID;

-- As in 0088; the function asks by itself whether the attempt has ended.
DROP TRIGGER mark_usage ON vidqueue.attempts;
CREATE TRIGGER mark_usage AFTER INSERT ON vidqueue.attempts FOR EACH ROW EXECUTE FUNCTION vidqueue.mark_usage_of_attempt();
