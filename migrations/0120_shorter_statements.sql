-- Dispatch, the end of an attempt, and the events of both run fewer statements. In a function of PL/pgSQL each statement costs 10 to 30
-- microseconds of CPU before it reads a row, and a record of all columns of a job costs as much again; an expression without a
-- query costs next to nothing.
-- Expand only: an older program goes on with this schema while it drains. No table is locked.

-- As in 0111. It asks once whether anybody has paused a processor or set a limit, and reads only the columns that it needs.
CREATE OR REPLACE FUNCTION vidqueue.choose(lane uuid, lease_s double precision, begins boolean)
    RETURNS TABLE (job_id uuid, attempt integer, fence bigint, queue text, processor text, input jsonb, owner text, device text,
                   timeout_s double precision, stall_timeout_s double precision, cancel_requested boolean)
    -- A plan that was made while the table was small is kept when it has grown: it must not read all of it.
    LANGUAGE plpgsql SET enable_seqscan = off SET jit = off AS $$
#variable_conflict use_column
DECLARE
    -- The lane, and whether anybody has paused a processor, set a limit, or submitted a job whose time has come.
    facts      record;
    taker      vidqueue.lanes;
    -- The first job of all lines.
    foremost   record;
    candidate  uuid;
    chosen     uuid;
    its_owner      text;
    its_processor  text;
    -- Processors of which nothing may begin: paused ones, and those that have reached a limit.
    paused     text[] := '{}';
    weighted   boolean := false;
    refused    boolean := false;
BEGIN
    SELECT l AS lane, EXISTS (SELECT FROM vidqueue.pauses) AS pauses, EXISTS (SELECT FROM vidqueue.owner_limits) AS by_owner,
           EXISTS (SELECT FROM vidqueue.processor_limits) AS by_processor,
           EXISTS (SELECT FROM vidqueue.jobs j WHERE j.state = 'queued' AND NOT j.ready AND j.unmet = 0 AND j.run_at <= now()) AS due
    INTO facts FROM vidqueue.lanes l
    WHERE l.id = choose.lane AND l.state = 'online' AND NOT vidqueue.is_paused(l) AND l.blocked_by IS NULL
      AND NOT EXISTS (SELECT FROM vidqueue.attempts a WHERE a.lane_id = l.id AND a.ended_at IS NULL);
    IF NOT FOUND THEN
        RETURN;
    END IF;
    taker := facts.lane;
    IF facts.pauses THEN
        paused := vidqueue.paused_processors();
        IF '' = ANY (paused) THEN
            RETURN;
        END IF;
    END IF;
    IF facts.by_owner THEN
        weighted := EXISTS (SELECT FROM vidqueue.owner_limits l WHERE l.weight IS NOT NULL);
    END IF;
    IF facts.by_processor THEN
        paused := paused || vidqueue.full_processors(taker.device);
    END IF;
    -- Jobs whose time has come since somebody last looked; their trigger makes them ready.
    IF facts.due THEN
        UPDATE vidqueue.jobs SET ready = true WHERE id IN (
            SELECT id FROM vidqueue.jobs WHERE state = 'queued' AND NOT ready AND unmet = 0 AND run_at <= now()
            ORDER BY run_at LIMIT 1000 FOR UPDATE SKIP LOCKED);
    END IF;

    SELECT j.demand, j.owner,
           j.processor <> ALL (paused) AND vidqueue.fits(taker, j) AND vidqueue.has_room(taker, j) AS fits,
           EXISTS (SELECT FROM vidqueue.jobs o WHERE o.ready AND (o.demand, o.owner) > (j.demand, j.owner)) AS has_others
    INTO foremost FROM vidqueue.jobs j WHERE j.ready ORDER BY j.demand, j.owner, j.rank, j.id LIMIT 1;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    -- As a rule one owner has work for the same lanes, and nobody has a limit: then the line needs no comparison.
    IF NOT (facts.by_owner OR facts.by_processor OR foremost.has_others) THEN
        IF foremost.fits THEN
            SELECT j.id INTO chosen FROM vidqueue.jobs j
            WHERE j.ready AND j.demand = foremost.demand AND j.owner = foremost.owner AND j.state = 'queued' AND vidqueue.has_room(taker, j)
              AND (j.expires_at IS NULL OR j.expires_at > now() OR j.attempt > 0)
            ORDER BY j.rank, j.id LIMIT 1 FOR UPDATE SKIP LOCKED;
        END IF;
    ELSE
        FOR candidate IN
            WITH RECURSIVE demands (demand) AS (
                (SELECT j.demand FROM vidqueue.jobs j WHERE j.ready ORDER BY j.demand LIMIT 1)
                UNION ALL
                SELECT (SELECT j.demand FROM vidqueue.jobs j WHERE j.ready AND j.demand > d.demand ORDER BY j.demand LIMIT 1)
                FROM demands d WHERE d.demand IS NOT NULL
            ), fitting AS (
                SELECT d.demand FROM demands d CROSS JOIN LATERAL (
                    SELECT j FROM vidqueue.jobs j WHERE j.ready AND j.demand = d.demand ORDER BY j.owner, j.rank, j.id LIMIT 1) one
                WHERE d.demand IS NOT NULL AND vidqueue.fits(taker, one.j) AND vidqueue.has_room(taker, one.j)
                  AND (one.j).processor <> ALL (paused)
            ), lines (demand, owner) AS (
                SELECT f.demand, o.owner FROM fitting f CROSS JOIN LATERAL (
                    WITH RECURSIVE owners (owner) AS (
                        (SELECT j.owner FROM vidqueue.jobs j WHERE j.ready AND j.demand = f.demand ORDER BY j.owner LIMIT 1)
                        UNION ALL
                        SELECT (SELECT j.owner FROM vidqueue.jobs j WHERE j.ready AND j.demand = f.demand AND j.owner > o.owner
                                ORDER BY j.owner LIMIT 1)
                        FROM owners o WHERE o.owner IS NOT NULL
                    ) SELECT owner FROM owners WHERE owner IS NOT NULL) o
            ), firsts AS (
                SELECT DISTINCT ON (l.owner) l.owner, first.priority, first.waits_since
                FROM lines l CROSS JOIN LATERAL (
                    SELECT j.id, j.rank, j.priority, j.waits_since FROM vidqueue.jobs j
                    WHERE j.ready AND j.demand = l.demand AND j.owner = l.owner
                      AND (j.expires_at IS NULL OR j.expires_at > now() OR j.attempt > 0)
                    ORDER BY j.rank, j.id LIMIT 1) first
                ORDER BY l.owner, first.rank, first.id
            ), turns AS (
                SELECT f.owner, o.served_at, coalesce(r.jobs, 0) AS running,
                       CASE WHEN weighted THEN f.priority - vidqueue.had_s(o) / 60 / vidqueue.weight_of(f.owner)
                            ELSE f.priority + floor(extract(epoch FROM now() - greatest(f.waits_since, o.served_at)) / 60) END AS urgency
                FROM firsts f JOIN vidqueue.owners o ON o.name = f.owner
                LEFT JOIN (SELECT owner, count(*) AS jobs FROM vidqueue.jobs WHERE state = 'running' GROUP BY owner) r ON r.owner = f.owner
                WHERE coalesce(r.jobs, 0) < coalesce((SELECT max_running FROM vidqueue.limits_of(f.owner)), 2147483647)
                  AND (taker.device = 'cpu' OR NOT vidqueue.has_used_up_gpu(f.owner))
                -- More than one, here and below, so that another daemon's lock on the first does not leave this lane idle.
                ORDER BY urgency DESC, running, o.served_at, f.owner LIMIT 8
            ), heads AS (
                SELECT head.*, t.urgency, t.running, t.served_at, t.owner,
                       row_number() OVER (PARTITION BY t.owner ORDER BY head.rank, head.id) AS place
                FROM turns t JOIN lines l ON l.owner = t.owner CROSS JOIN LATERAL (
                    SELECT j.id, j.rank, j.processor FROM vidqueue.jobs j
                    WHERE j.ready AND j.demand = l.demand AND j.owner = l.owner
                      AND (j.expires_at IS NULL OR j.expires_at > now() OR j.attempt > 0)
                    ORDER BY j.rank, j.id LIMIT 4) head
            )
            SELECT h.id FROM heads h WHERE h.place <= 4
            ORDER BY h.urgency DESC, h.running, h.served_at, h.owner,
                     h.rank - CASE WHEN h.processor = ANY (taker.warm) THEN 30 ELSE 0 END, h.id
        LOOP
            -- Another daemon may have taken it since, or hold its lock.
            SELECT j.id, j.owner, j.processor INTO chosen, its_owner, its_processor FROM vidqueue.jobs j
            WHERE j.id = candidate AND j.state = 'queued' AND vidqueue.fits(taker, j) AND vidqueue.has_room(taker, j)
              AND j.processor <> ALL (paused)
            FOR UPDATE SKIP LOCKED;
            EXIT WHEN FOUND AND (NOT facts.by_owner OR vidqueue.may_run_one_more(its_owner))
                  AND (NOT facts.by_processor OR vidqueue.may_run_one_more_of(its_processor));
            refused := refused OR FOUND;
            chosen := NULL;
        END LOOP;
        -- Where a limit refused one, another daemon is beginning the last one that may run; the next look leaves its line out.
        IF chosen IS NULL AND candidate IS NOT NULL AND NOT refused THEN
            -- Others hold the first ones of every line, perhaps for long; as a rule this walk is not needed.
            SELECT j.id INTO chosen FROM vidqueue.jobs j
            WHERE j.ready AND j.state = 'queued' AND vidqueue.fits(taker, j) AND vidqueue.has_room(taker, j)
              AND j.processor <> ALL (paused)
              AND (j.expires_at IS NULL OR j.expires_at > now() OR j.attempt > 0)
              AND NOT EXISTS (SELECT FROM vidqueue.limits_of(j.owner) WHERE max_running IS NOT NULL OR max_gpu_s_per_day IS NOT NULL)
              AND NOT EXISTS (SELECT FROM vidqueue.processor_limits l WHERE l.processor = j.processor AND l.max_running IS NOT NULL)
            ORDER BY j.rank, j.id LIMIT 1 FOR UPDATE SKIP LOCKED;
        END IF;
    END IF;
    IF chosen IS NULL THEN
        RETURN;
    END IF;

    UPDATE vidqueue.jobs j SET
        state = 'running', attempt = j.attempt + 1, fence = nextval('vidqueue.fences'), lane = taker.name,
        started_at = clock_timestamp(), progress = 0, stage = NULL, message = NULL, fps = NULL, speed = NULL, eta_s = NULL
    WHERE j.id = chosen
    RETURNING j.id, j.attempt, j.fence, taker.queue, j.processor, j.input, j.owner, j.device, j.timeout_s, j.stall_timeout_s,
              j.cancel_requested_at IS NOT NULL
    INTO job_id, attempt, fence, queue, processor, input, owner, device, timeout_s, stall_timeout_s, cancel_requested;
    -- Whoever holds the owner's lock serves a job of that owner at this moment too: no lane waits for another one here.
    UPDATE vidqueue.owners o SET served_at = clock_timestamp()
    WHERE o.name IN (SELECT name FROM vidqueue.owners WHERE name = choose.owner FOR NO KEY UPDATE SKIP LOCKED);
    INSERT INTO vidqueue.attempts (job_id, number, fence, lane_id, lane, host, started_at, lease_expires_at)
        VALUES (choose.job_id, choose.attempt, choose.fence, taker.id, taker.name, taker.host,
                CASE WHEN begins THEN clock_timestamp() END, clock_timestamp() + make_interval(secs => lease_s));
    RETURN NEXT;
END $$;

-- As in 0110; who receives no webhooks is found without a call that takes both rows.
CREATE OR REPLACE FUNCTION vidqueue.follow_job() RETURNS trigger LANGUAGE plpgsql AS $$
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
        IF NEW.webhook IS NOT NULL OR EXISTS (SELECT FROM vidqueue.webhooks w WHERE w.owner = NEW.owner) THEN
            PERFORM vidqueue.tell_receivers(OLD, NEW);
        END IF;
    END IF;
    RETURN NULL;
END $$;

-- As in 0110; nothing is charged where nobody has set a limit or a weight.
CREATE OR REPLACE FUNCTION vidqueue.follow_attempt() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.ended_at IS NULL AND NEW.ended_at IS NOT NULL THEN
        IF NEW.started_at IS NOT NULL AND (EXISTS (SELECT FROM vidqueue.owner_limits) OR EXISTS (SELECT FROM vidqueue.processor_limits)) THEN
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

-- As in 0110, and a session looks once whether the server was started anew.
CREATE OR REPLACE FUNCTION vidqueue.record_event(job uuid, owner text, kind text, data jsonb) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    assigned bigint;
BEGIN
    PERFORM pg_advisory_xact_lock(30321, 1);
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
    PERFORM pg_notify('vidqueue', record_event.kind);
    RETURN assigned;
END $$;

-- As in 0110; the event is written by an expression, not by a statement.
CREATE OR REPLACE FUNCTION vidqueue.record_job() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    what      text;
    assigned  bigint;
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
        PERFORM vidqueue.record_event(NEW.id, NEW.owner, CASE WHEN NEW.suspended_at IS NULL THEN 'resumed' ELSE 'suspended' END,
            jsonb_strip_nulls(jsonb_build_object('state', NEW.state, 'processor', NEW.processor, 'title', NEW.title,
                'attempt', NEW.attempt, 'lane', NEW.lane, 'progress', NEW.progress, 'by', NEW.suspended_by)));
    END IF;
    RETURN NULL;
END $$;
