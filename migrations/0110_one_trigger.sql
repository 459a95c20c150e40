-- PostgreSQL parses the condition of a trigger anew at every statement, which costs more than to call a function that returns at once.
-- So an update of a job or of an attempt runs one trigger without a condition, and one more at commit, instead of eight and three.
-- Expand only: an older program goes on with this schema while it drains.

DROP TRIGGER fail_dependents ON vidqueue.jobs;
DROP TRIGGER mark_usage ON vidqueue.jobs;
DROP TRIGGER meet_dependents ON vidqueue.jobs;
DROP TRIGGER note_files ON vidqueue.jobs;
DROP TRIGGER note_files_again ON vidqueue.jobs;
DROP TRIGGER note_suspension ON vidqueue.jobs;
DROP TRIGGER note_tags_insert ON vidqueue.jobs;
DROP TRIGGER note_tags_update ON vidqueue.jobs;
DROP TRIGGER note_tags_delete ON vidqueue.jobs;
DROP TRIGGER tell_receivers ON vidqueue.jobs;
DROP TRIGGER tell_receivers_progress ON vidqueue.jobs;
DROP TRIGGER count_insert ON vidqueue.jobs;
DROP TRIGGER count_update ON vidqueue.jobs;
DROP TRIGGER count_delete ON vidqueue.jobs;
DROP TRIGGER tell_insert ON vidqueue.jobs;
DROP TRIGGER tell_suspension ON vidqueue.jobs;
DROP TRIGGER tell_update ON vidqueue.jobs;
DROP TRIGGER charge ON vidqueue.attempts;
DROP TRIGGER mark_usage_changed ON vidqueue.attempts;
DROP TRIGGER take_back_outputs ON vidqueue.attempts;
DROP FUNCTION vidqueue.fail_dependents(), vidqueue.mark_usage_of_job(), vidqueue.meet_dependents(), vidqueue.note_files(),
    vidqueue.note_suspension(), vidqueue.note_tags(), vidqueue.tell_receivers(), vidqueue.count_job(), vidqueue.tell_job_change(),
    vidqueue.tell_suspension(), vidqueue.charge(), vidqueue.take_back_outputs();

-- As in 0008: a job that waits for an output which will never come fails at once, and so does everything that waits for it.
CREATE FUNCTION vidqueue.fail_dependents(job vidqueue.jobs) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    LOOP
        WITH RECURSIVE doomed (id) AS (
            SELECT job_id FROM vidqueue.job_dependencies WHERE depends_on = job.id
            UNION
            SELECT d.job_id FROM doomed JOIN vidqueue.job_dependencies d ON d.depends_on = doomed.id
        )
        UPDATE vidqueue.jobs j SET
            state = 'failed', finished_at = clock_timestamp(), error_code = 'dependency_failed',
            error_message = format('The job %s, whose output this job or one before it needs, ended as %s.', job.id, job.state),
            error_hint = 'Retry that job first, then this one.'
        FROM doomed WHERE j.id = doomed.id AND j.state = 'queued';
        EXIT WHEN NOT FOUND;
    END LOOP;
END $$;

-- As in 0011: note the stored files that a job names, and the data folder that has them.
CREATE FUNCTION vidqueue.note_files(job vidqueue.jobs) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    place uuid;
BEGIN
    INSERT INTO vidqueue.job_files (file_id, job_id)
    SELECT f.id, job.id FROM vidqueue.files f WHERE f.id IN (
        SELECT substring(leaf #>> '{}' FROM 10)::uuid FROM jsonb_path_query(job.input,
            'strict $.** ? (@ like_regex "^vq:files/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")') AS leaf)
    FOR KEY SHARE
    ON CONFLICT DO NOTHING;
    place := vidqueue.node_of_inputs(job.id);
    IF place IS DISTINCT FROM job.node THEN
        UPDATE vidqueue.jobs SET node = place WHERE id = job.id;
    END IF;
END $$;

-- As in 0013: note the tags of a job by its owner and state. `was` is NULL for a new job, `job` for one that is removed.
CREATE FUNCTION vidqueue.note_tags(was vidqueue.jobs, job vidqueue.jobs) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM vidqueue.job_tags t
    WHERE t.owner = was.owner AND t.tag = ANY (was.tags) AND t.state = was.state AND t.job_id = was.id;
    INSERT INTO vidqueue.job_tags (owner, tag, state, job_id)
    SELECT job.owner, tag, job.state, job.id FROM unnest(job.tags) AS tag
    -- One from before tags were bounded fits no index; a job must not fail for that at each change of its state.
    WHERE octet_length(tag) <= 1000 ON CONFLICT DO NOTHING;
END $$;

-- As in 0024: write what the receivers of webhooks are to be told of a job that runs, or has ended.
CREATE FUNCTION vidqueue.tell_receivers(was vidqueue.jobs, job vidqueue.jobs) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF job.webhook IS NULL AND NOT EXISTS (SELECT FROM vidqueue.webhooks w WHERE w.owner = job.owner) THEN
        RETURN;
    END IF;
    IF job.state = 'running' AND was.state = 'running' THEN
        -- One at a time, and not at once: it tells the newest progress when it is sent.
        PERFORM vidqueue.write_deliveries(job, 'progress', '{}', interval '2 s');
    ELSIF job.state = 'running' THEN
        PERFORM vidqueue.write_deliveries(job, 'started', jsonb_build_object(
            'state', job.state, 'attempt', job.attempt, 'lane', job.lane, 'started_at', vidqueue.rfc3339(job.started_at)), interval '0');
    ELSE
        DELETE FROM vidqueue.webhook_deliveries d WHERE d.job_id = job.id AND d.kind = 'progress' AND d.state = 'pending';
        PERFORM vidqueue.write_deliveries(job, 'completed', jsonb_build_object(
            'state', job.state, 'attempt', job.attempt, 'progress', job.progress, 'finished_at', vidqueue.rfc3339(job.finished_at),
            'error', CASE WHEN job.error_code IS NOT NULL THEN jsonb_build_object('code', job.error_code,
                'message', job.error_message, 'hint', coalesce(job.error_hint, '')) END), interval '0');
    END IF;
END $$;

-- What an update of a job causes at once.
CREATE FUNCTION vidqueue.follow_job() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- Not for the dependents that fail_dependents() itself updates: it follows them to the end of the chain.
    IF NEW.state <> OLD.state AND NEW.state IN ('failed', 'canceled') AND pg_trigger_depth() = 1 THEN
        PERFORM vidqueue.fail_dependents(NEW);
    END IF;
    -- A job that did not run has ended, or one that had ended has not: an earlier attempt is its last one now, or no more. The
    -- end of a job that runs is the end of its attempt.
    IF OLD.finished_at IS DISTINCT FROM NEW.finished_at AND OLD.state <> 'running' AND NEW.attempt > 0 THEN
        PERFORM vidqueue.mark_usage(a.ended_at) FROM vidqueue.attempts a WHERE a.job_id = NEW.id AND a.ended_at IS NOT NULL;
    END IF;
    IF NEW.state <> OLD.state AND NEW.state = 'succeeded' THEN
        PERFORM vidqueue.count_unmet(d.job_id) FROM vidqueue.job_dependencies d WHERE d.depends_on = NEW.id ORDER BY d.job_id;
    END IF;
    -- The files of a job that has ended may have been removed, and were not if it waits again.
    IF OLD.finished_at IS NOT NULL AND NEW.finished_at IS NULL THEN
        PERFORM vidqueue.note_files(NEW);
    END IF;
    IF OLD.suspended_at IS NOT NULL AND NEW.suspended_at IS NULL THEN
        UPDATE vidqueue.attempts a SET suspended_s = a.suspended_s + extract(epoch FROM clock_timestamp() - OLD.suspended_at)
        WHERE a.job_id = OLD.id AND a.number = OLD.attempt;
    END IF;
    IF (OLD.tags <> '{}' OR NEW.tags <> '{}') AND (OLD.tags, OLD.state, OLD.owner) IS DISTINCT FROM (NEW.tags, NEW.state, NEW.owner) THEN
        PERFORM vidqueue.note_tags(OLD, NEW);
    END IF;
    IF NEW.state <> 'queued' AND NEW.state <> OLD.state
       OR NEW.state = 'running' AND (NEW.progress, NEW.stage) IS DISTINCT FROM (OLD.progress, OLD.stage) THEN
        PERFORM vidqueue.tell_receivers(OLD, NEW);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER follow AFTER UPDATE ON vidqueue.jobs FOR EACH ROW EXECUTE FUNCTION vidqueue.follow_job();

-- What a new job causes at once, and the removal of one.
CREATE FUNCTION vidqueue.follow_new_job() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.input::text LIKE '%"vq:files/%' THEN
        PERFORM vidqueue.note_files(NEW);
    END IF;
    IF NEW.tags <> '{}' THEN
        PERFORM vidqueue.note_tags(NULL, NEW);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER follow_new AFTER INSERT ON vidqueue.jobs FOR EACH ROW EXECUTE FUNCTION vidqueue.follow_new_job();
CREATE FUNCTION vidqueue.follow_removed_job() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM vidqueue.note_tags(OLD, NULL);
    RETURN NULL;
END $$;
CREATE TRIGGER follow_removed AFTER DELETE ON vidqueue.jobs FOR EACH ROW
    WHEN (OLD.tags <> '{}') EXECUTE FUNCTION vidqueue.follow_removed_job();

-- As in 0001, and it looks before it updates.
CREATE OR REPLACE FUNCTION vidqueue.record_event(job uuid, owner text, kind text, data jsonb) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    assigned bigint;
BEGIN
    PERFORM pg_advisory_xact_lock(30321, 1);
    IF (SELECT server_started FROM vidqueue.event_epoch) <> pg_postmaster_start_time() THEN
        UPDATE vidqueue.event_epoch SET server_started = pg_postmaster_start_time();
        PERFORM setval('vidqueue.events_number_seq', nextval('vidqueue.events_number_seq') + 10000);
    END IF;
    INSERT INTO vidqueue.events (job_id, owner, kind, data)
        VALUES (job, record_event.owner, record_event.kind, record_event.data)
        RETURNING number INTO assigned;
    -- Equal payloads of one transaction arrive once: a batch of a thousand jobs wakes each listener once.
    PERFORM pg_notify('vidqueue', record_event.kind);
    RETURN assigned;
END $$;

-- As in 0013 and 0095, at commit: count what became of a job, and write its event. Jobs of a batch begin with the event of the batch.
CREATE FUNCTION vidqueue.record_job() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    what  text;
BEGIN
    IF TG_OP <> 'UPDATE' OR (OLD.owner, OLD.processor, OLD.device, OLD.state, OLD.ready, OLD.finished_at)
           IS DISTINCT FROM (NEW.owner, NEW.processor, NEW.device, NEW.state, NEW.ready, NEW.finished_at) THEN
        PERFORM pg_advisory_xact_lock(30321, 1);
        INSERT INTO vidqueue.job_changes (owner, processor, device, state, hour, jobs)
        SELECT j.owner, j.processor, j.device, CASE WHEN j.state = 'queued' AND NOT j.ready THEN 'later' ELSE j.state END,
               vidqueue.hour_of(j.finished_at), j.jobs
        FROM (VALUES (OLD.owner, OLD.processor, OLD.device, OLD.state, OLD.ready, OLD.finished_at, -1),
                     (NEW.owner, NEW.processor, NEW.device, NEW.state, NEW.ready, NEW.finished_at, 1))
             AS j (owner, processor, device, state, ready, finished_at, jobs)
        WHERE j.owner IS NOT NULL;
        -- One call takes one number or two, so no multiple is missed.
        IF currval('vidqueue.job_changes_number_seq') % 512 < 2 THEN
            PERFORM vidqueue.fold_job_changes();
        END IF;
    END IF;
    what := CASE
        WHEN TG_OP = 'DELETE' THEN NULL
        WHEN TG_OP = 'INSERT' THEN CASE WHEN NEW.batch_id IS NULL THEN 'queued' END
        WHEN NEW.state <> OLD.state AND OLD.state = 'running' AND NEW.state = 'queued' THEN 'interrupted'
        WHEN NEW.state <> OLD.state THEN NEW.state
        WHEN NEW.cancel_requested_at IS DISTINCT FROM OLD.cancel_requested_at THEN 'cancel_requested'
        WHEN (NEW.priority, NEW.title, NEW.tags) IS DISTINCT FROM (OLD.priority, OLD.title, OLD.tags) THEN 'updated'
    END;
    IF what IS NOT NULL THEN
        PERFORM vidqueue.record_event(NEW.id, NEW.owner, what, jsonb_strip_nulls(jsonb_build_object(
            'state', NEW.state, 'processor', NEW.processor, 'title', NEW.title, 'source', NEW.source, 'priority', NEW.priority,
            'attempt', NULLIF(NEW.attempt, 0), 'lane', NEW.lane, 'progress', NEW.progress,
            'message', NEW.message,
            'suspension_ended', CASE WHEN what = 'interrupted' AND OLD.suspended_at IS NOT NULL THEN true END,
            'error', CASE WHEN NEW.error_code IS NOT NULL THEN jsonb_build_object(
                'code', NEW.error_code, 'message', NEW.error_message, 'hint', NEW.error_hint) END)));
    END IF;
    IF TG_OP = 'UPDATE' AND NEW.state = 'running' AND OLD.state = 'running'
       AND (OLD.suspended_at IS NULL) <> (NEW.suspended_at IS NULL) THEN
        PERFORM vidqueue.record_event(NEW.id, NEW.owner, CASE WHEN NEW.suspended_at IS NULL THEN 'resumed' ELSE 'suspended' END,
            jsonb_strip_nulls(jsonb_build_object('state', NEW.state, 'processor', NEW.processor, 'title', NEW.title,
                'attempt', NEW.attempt, 'lane', NEW.lane, 'progress', NEW.progress, 'by', NEW.suspended_by)));
    END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER record AFTER INSERT OR UPDATE OR DELETE ON vidqueue.jobs
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION vidqueue.record_job();

-- As in 0030: withdraw what an attempt had published that did not succeed.
CREATE FUNCTION vidqueue.take_back_outputs(ended vidqueue.attempts) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    taken_back  uuid[];
BEGIN
    DELETE FROM vidqueue.previews p WHERE p.job_id = ended.job_id;
    WITH gone AS (DELETE FROM vidqueue.outputs o WHERE o.job_id = ended.job_id AND o.attempt = ended.number RETURNING o.file_id)
    SELECT array_agg(g.file_id) INTO taken_back FROM gone g;
    IF taken_back IS NOT NULL THEN
        WITH gone AS (DELETE FROM vidqueue.files f WHERE f.id = ANY (taken_back) RETURNING f.id, f.node)
        INSERT INTO vidqueue.discarded_files (id, node) SELECT g.id, g.node FROM gone g;
    END IF;
END $$;

-- As in 0087: charge the owner and the processor with the time of an attempt, where limits or weights ask for it.
CREATE FUNCTION vidqueue.charge(ended vidqueue.attempts) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    took_s   double precision := greatest(0, extract(epoch FROM ended.ended_at - ended.started_at) - ended.suspended_s);
    of_owner      boolean;
    of_processor  boolean;
    on_gpu   boolean;
    job      record;
BEGIN
    SELECT EXISTS (SELECT FROM vidqueue.owner_limits WHERE weight IS NOT NULL OR max_gpu_s_per_day IS NOT NULL),
           EXISTS (SELECT FROM vidqueue.processor_limits WHERE max_gpu_s_per_day IS NOT NULL) INTO of_owner, of_processor;
    IF NOT (of_owner OR of_processor) THEN
        RETURN;
    END IF;
    SELECT j.owner, j.processor INTO job FROM vidqueue.jobs j WHERE j.id = ended.job_id;
    on_gpu := EXISTS (SELECT FROM vidqueue.lanes l WHERE l.id = ended.lane_id AND l.device = 'gpu');
    IF of_owner THEN
        UPDATE vidqueue.owners o SET
            charged_s = o.charged_s * 0.5 ^ (greatest(0, extract(epoch FROM now() - o.charged_at)) / 3600) + took_s, charged_at = now()
        WHERE o.name = job.owner;
    END IF;
    IF on_gpu AND EXISTS (SELECT FROM vidqueue.limits_of(job.owner) WHERE max_gpu_s_per_day IS NOT NULL) THEN
        INSERT INTO vidqueue.owner_gpu_hours AS h (owner, hour, gpu_s) VALUES (job.owner, date_trunc('hour', ended.ended_at), took_s)
        ON CONFLICT ON CONSTRAINT owner_gpu_hours_pkey DO UPDATE SET gpu_s = h.gpu_s + excluded.gpu_s;
        DELETE FROM vidqueue.owner_gpu_hours h WHERE h.owner = job.owner AND h.hour < now() - interval '2 days';
    END IF;
    IF on_gpu AND EXISTS (SELECT FROM vidqueue.processor_limits l WHERE l.processor = job.processor AND l.max_gpu_s_per_day IS NOT NULL) THEN
        INSERT INTO vidqueue.processor_gpu_hours AS h (processor, hour, gpu_s) VALUES (job.processor, date_trunc('hour', ended.ended_at), took_s)
        ON CONFLICT ON CONSTRAINT processor_gpu_hours_pkey DO UPDATE SET gpu_s = h.gpu_s + excluded.gpu_s;
        DELETE FROM vidqueue.processor_gpu_hours h WHERE h.processor = job.processor AND h.hour < now() - interval '2 days';
    END IF;
END $$;

-- What an update of an attempt causes.
CREATE FUNCTION vidqueue.follow_attempt() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.ended_at IS NULL AND NEW.ended_at IS NOT NULL THEN
        IF NEW.started_at IS NOT NULL THEN
            PERFORM vidqueue.charge(NEW);
        END IF;
        IF NEW.outcome <> 'succeeded' THEN
            PERFORM vidqueue.take_back_outputs(NEW);
        END IF;
    END IF;
    -- An attempt that ended in the past has changed.
    IF OLD.ended_at IS NOT NULL THEN
        PERFORM vidqueue.mark_usage(OLD.ended_at);
    END IF;
    IF OLD.ended_at IS NOT NULL OR NEW.ended_at < now() THEN
        PERFORM vidqueue.mark_usage(NEW.ended_at) WHERE NEW.ended_at IS NOT NULL;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER follow AFTER UPDATE ON vidqueue.attempts FOR EACH ROW EXECUTE FUNCTION vidqueue.follow_attempt();
