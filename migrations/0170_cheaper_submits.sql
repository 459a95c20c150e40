-- A submit writes the row of its job once, and looks for files only in an input that may name some. In PL/pgSQL an assignment of an
-- expression runs no statement, and PERFORM does.
-- Expand only: an older program goes on with this schema while it drains. No table is locked.

-- Where the stored files lie that an input names: NULL if there are none, the zero UUID if they lie in several data folders.
CREATE FUNCTION vidqueue.node_of_files(input jsonb) RETURNS uuid LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN (
        SELECT CASE count(DISTINCT f.node) WHEN 0 THEN NULL WHEN 1 THEN min(f.node::text)::uuid
               ELSE '00000000-0000-0000-0000-000000000000' END
        -- An array, because a join might be planned to read all files.
        FROM vidqueue.files f WHERE f.node IS NOT NULL AND f.id = ANY (ARRAY(
            SELECT substring(leaf #>> '{}' FROM 10)::uuid FROM jsonb_path_query(input,
                'strict $.** ? (@ like_regex "^vq:files/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")') AS leaf)));
END $$;

-- As in 0095, and where the files of a new job lie. follow_new_job() looks once more when they are locked, and as a rule finds
-- nothing to change.
CREATE OR REPLACE FUNCTION vidqueue.name_source() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.input::text !~* '"(/|vq:|https?://)' THEN
        RETURN NEW;
    END IF;
    NEW.source := (
        SELECT name FROM (
            SELECT place, vidqueue.name_of_reference(reference, NEW.owner) AS name
            FROM (SELECT 0 AS place, NEW.input ->> 'video' AS reference
                  UNION ALL
                  SELECT place, leaf #>> '{}' FROM jsonb_path_query(NEW.input,
                      'strict $.** ? (@ like_regex "^(/|vq:|https?://)" flag "i")') WITH ORDINALITY AS l (leaf, place)) found
            WHERE length(reference) <= 4096 ORDER BY place LIMIT 20) named
        WHERE name IS NOT NULL ORDER BY place LIMIT 1);
    IF NEW.input::text LIKE '%"vq:files/%' THEN
        NEW.node := vidqueue.node_of_files(NEW.input);
    END IF;
    RETURN NEW;
END $$;

-- As in 0120.
CREATE OR REPLACE FUNCTION vidqueue.record_event(job uuid, owner text, kind text, data jsonb) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    assigned  bigint;
    done      text;
BEGIN
    done := pg_advisory_xact_lock(30321, 1)::text;
    -- A session does not outlive its server: it looks once.
    IF current_setting('vidqueue.knows_epoch', true) IS DISTINCT FROM 'yes' THEN
        UPDATE vidqueue.event_epoch SET server_started = pg_postmaster_start_time() WHERE server_started <> pg_postmaster_start_time();
        IF FOUND THEN
            PERFORM setval('vidqueue.events_number_seq', nextval('vidqueue.events_number_seq') + 10000);
        END IF;
        PERFORM set_config('vidqueue.knows_epoch', 'yes', false);
    END IF;
    INSERT INTO vidqueue.events (job_id, owner, kind, data)
        VALUES (job, record_event.owner, record_event.kind, record_event.data)
        RETURNING number INTO assigned;
    -- Equal payloads of one transaction arrive once: a batch of a thousand jobs wakes each listener once.
    done := pg_notify('vidqueue', record_event.kind)::text;
    RETURN assigned;
END $$;

-- As in 0120, with a short way for new jobs.
CREATE OR REPLACE FUNCTION vidqueue.record_job() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    what      text;
    assigned  bigint;
    done      text;
BEGIN
    IF TG_OP = 'INSERT' THEN
        done := pg_advisory_xact_lock(30321, 1)::text;
        INSERT INTO vidqueue.job_changes (owner, processor, device, state, hour, jobs)
        VALUES (NEW.owner, NEW.processor, NEW.device, CASE WHEN NEW.state = 'queued' AND NOT NEW.ready THEN 'later' ELSE NEW.state END,
                vidqueue.hour_of(NEW.finished_at), 1);
        -- As below; this takes one number.
        IF currval('vidqueue.job_changes_number_seq') % 512 = 0 THEN
            PERFORM vidqueue.fold_job_changes();
        END IF;
        -- Jobs of a batch begin with the event of the batch.
        IF NEW.batch_id IS NULL THEN
            assigned := vidqueue.record_event(NEW.id, NEW.owner, 'queued', jsonb_strip_nulls(jsonb_build_object(
                'state', NEW.state, 'processor', NEW.processor, 'title', NEW.title, 'source', NEW.source, 'priority', NEW.priority,
                'attempt', NULLIF(NEW.attempt, 0), 'lane', NEW.lane, 'progress', NEW.progress, 'message', NEW.message,
                'error', CASE WHEN NEW.error_code IS NOT NULL THEN jsonb_build_object(
                    'code', NEW.error_code, 'message', NEW.error_message, 'hint', NEW.error_hint) END)));
        END IF;
        RETURN NULL;
    END IF;
    IF TG_OP = 'DELETE' OR (OLD.owner, OLD.processor, OLD.device, OLD.state, OLD.ready, OLD.finished_at)
           IS DISTINCT FROM (NEW.owner, NEW.processor, NEW.device, NEW.state, NEW.ready, NEW.finished_at) THEN
        done := pg_advisory_xact_lock(30321, 1)::text;
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
        WHEN NEW.state <> OLD.state AND OLD.state = 'running' AND NEW.state = 'queued' THEN 'interrupted'
        WHEN NEW.state <> OLD.state THEN NEW.state
        WHEN NEW.cancel_requested_at IS DISTINCT FROM OLD.cancel_requested_at THEN 'cancel_requested'
        WHEN (NEW.priority, NEW.title, NEW.tags) IS DISTINCT FROM (OLD.priority, OLD.title, OLD.tags) THEN 'updated'
    END;
    IF what IS NOT NULL THEN
        assigned := vidqueue.record_event(NEW.id, NEW.owner, what, jsonb_strip_nulls(jsonb_build_object(
            'state', NEW.state, 'processor', NEW.processor, 'title', NEW.title, 'source', NEW.source, 'priority', NEW.priority,
            'attempt', NULLIF(NEW.attempt, 0), 'lane', NEW.lane, 'progress', NEW.progress,
            'message', NEW.message,
            'suspension_ended', CASE WHEN what = 'interrupted' AND OLD.suspended_at IS NOT NULL THEN true END,
            'error', CASE WHEN NEW.error_code IS NOT NULL THEN jsonb_build_object(
                'code', NEW.error_code, 'message', NEW.error_message, 'hint', NEW.error_hint) END)));
    END IF;
    IF TG_OP = 'UPDATE' AND NEW.state = 'running' AND OLD.state = 'running'
       AND (OLD.suspended_at IS NULL) <> (NEW.suspended_at IS NULL) THEN
        assigned := vidqueue.record_event(NEW.id, NEW.owner, CASE WHEN NEW.suspended_at IS NULL THEN 'resumed' ELSE 'suspended' END,
            jsonb_strip_nulls(jsonb_build_object('state', NEW.state, 'processor', NEW.processor, 'title', NEW.title,
                'attempt', NEW.attempt, 'lane', NEW.lane, 'progress', NEW.progress, 'by', NEW.suspended_by)));
    END IF;
    RETURN NULL;
END $$;
