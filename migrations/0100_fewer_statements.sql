-- A change of a job's state runs fewer statements: each trigger with a condition costs PostgreSQL the parsing of that condition at
-- every update, whether or not it fires.
-- Expand only: an older program goes on with this schema while it drains.

-- As in 0013, with one INSERT for a change.
CREATE OR REPLACE FUNCTION vidqueue.count_job() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(30321, 1);
    IF TG_OP = 'UPDATE' THEN
        INSERT INTO vidqueue.job_changes (owner, processor, device, state, hour, jobs)
        VALUES (OLD.owner, OLD.processor, OLD.device, CASE WHEN OLD.state = 'queued' AND NOT OLD.ready THEN 'later' ELSE OLD.state END,
                vidqueue.hour_of(OLD.finished_at), -1),
               (NEW.owner, NEW.processor, NEW.device, CASE WHEN NEW.state = 'queued' AND NOT NEW.ready THEN 'later' ELSE NEW.state END,
                vidqueue.hour_of(NEW.finished_at), 1);
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO vidqueue.job_changes (owner, processor, device, state, hour, jobs)
        VALUES (OLD.owner, OLD.processor, OLD.device, CASE WHEN OLD.state = 'queued' AND NOT OLD.ready THEN 'later' ELSE OLD.state END,
                vidqueue.hour_of(OLD.finished_at), -1);
    ELSE
        INSERT INTO vidqueue.job_changes (owner, processor, device, state, hour, jobs)
        VALUES (NEW.owner, NEW.processor, NEW.device, CASE WHEN NEW.state = 'queued' AND NOT NEW.ready THEN 'later' ELSE NEW.state END,
                vidqueue.hour_of(NEW.finished_at), 1);
    END IF;
    -- One call takes one number or two, so no multiple is missed.
    IF currval('vidqueue.job_changes_number_seq') % 512 < 2 THEN
        PERFORM vidqueue.fold_job_changes();
    END IF;
    RETURN NULL;
END $$;

-- As in 0011, with labels and what was learned of the memory that a job needs (jobs with one hash fit the same lanes), and with the
-- end of a suspension. stamp_kept_until (0038) is part of it now.
CREATE OR REPLACE FUNCTION vidqueue.stamp_job() RETURNS trigger LANGUAGE plpgsql AS $$
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
    RETURN NEW;
END $$;
DROP TRIGGER stamp_kept_until ON vidqueue.jobs;
DROP FUNCTION vidqueue.stamp_kept_until();

-- As in 0024, with one question.
CREATE OR REPLACE FUNCTION vidqueue.tell_receivers_output() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    job  vidqueue.jobs;
BEGIN
    SELECT j.* INTO job FROM vidqueue.jobs j
    WHERE j.id = NEW.job_id
      AND (j.webhook IS NOT NULL OR EXISTS (SELECT FROM vidqueue.webhooks w WHERE w.owner = j.owner));
    IF FOUND THEN
        PERFORM vidqueue.write_deliveries(job, 'output', jsonb_build_object('output', NEW.name), interval '0');
    END IF;
    RETURN NULL;
END $$;
