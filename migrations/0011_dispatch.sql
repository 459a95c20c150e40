-- What dispatch needs to give a lane only what it can do, without walking the line: what a lane can do, since when a job
-- may run, where the bytes of its inputs lie; and the two acts of the hot path, each as one function.
-- Expand only: an older program goes on with this schema while it drains. What stood here for the release before goes.

DROP FUNCTION vidqueue.enqueue;

ALTER TABLE vidqueue.lanes
    ADD COLUMN processors jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(processors) = 'object'),
    ADD COLUMN blocked_by text CHECK (blocked_by IN ('no_space', 'gpu_lost'));
COMMENT ON COLUMN vidqueue.lanes.processors IS 'Versions of the processors that the lane''s daemon has installed, by name.';
COMMENT ON COLUMN vidqueue.lanes.blocked_by IS 'Why the daemon has blocked this lane; NULL if it has not.';
-- A pause of one lane stands in its row.
ALTER TABLE vidqueue.lanes
    ADD COLUMN paused_until timestamptz,
    ADD COLUMN pause_reason text CHECK (length(pause_reason) <= 500),
    ADD COLUMN draining boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN vidqueue.lanes.paused_until IS 'When the pause ends by itself; NULL if somebody must end it.';
COMMENT ON COLUMN vidqueue.lanes.draining IS 'The lane is paused, and its executor is stopped once the running job has ended.';
CREATE FUNCTION vidqueue.is_paused(l vidqueue.lanes) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT l.paused AND (l.paused_until IS NULL OR l.paused_until > clock_timestamp())
$$;
-- A pause of a processor on all lanes; that of the empty name is a pause of everything.
CREATE TABLE vidqueue.pauses (
    processor  text PRIMARY KEY,
    until      timestamptz,
    reason     text CHECK (length(reason) <= 500),
    since      timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE vidqueue.pauses IS 'Processors of which no job begins; the empty name stands for all of them.';
CREATE FUNCTION vidqueue.paused_processors() RETURNS text[] LANGUAGE sql STABLE AS $$
    SELECT coalesce(array_agg(processor), '{}') FROM vidqueue.pauses WHERE until IS NULL OR until > clock_timestamp()
$$;
COMMENT ON COLUMN vidqueue.lanes.held IS 'Replaced by blocked_by; the next release drops it.';

ALTER TABLE vidqueue.jobs
    ADD COLUMN unmet integer NOT NULL DEFAULT 0,
    ADD COLUMN ready boolean NOT NULL DEFAULT false,
    ADD COLUMN waits_since timestamptz,
    ADD COLUMN node uuid,
    ADD COLUMN demand bigint;
COMMENT ON COLUMN vidqueue.jobs.unmet IS 'How many of the jobs that this one depends on have not succeeded yet.';
COMMENT ON COLUMN vidqueue.jobs.ready IS 'The job is queued, depends on nothing unmet, and its run_at had come when dispatch last looked.';
COMMENT ON COLUMN vidqueue.jobs.waits_since IS 'From when the job''s waiting counts: time in which it might not run does not.';
COMMENT ON COLUMN vidqueue.jobs.node IS 'The data folder that holds the bytes of the job''s inputs; NULL if any lane can read them, all zeros if they lie in several.';
COMMENT ON COLUMN vidqueue.jobs.demand IS 'Hash of everything that decides which lanes can run the job: jobs with the same hash fit the same lanes.';

-- True if a lane can do what a job demands, whether or not the lane is free.
CREATE FUNCTION vidqueue.fits(l vidqueue.lanes, j vidqueue.jobs) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT j.device = ANY (l.takes)
       AND (j.wanted_lane IS NULL OR j.wanted_lane = l.name)
       AND (l.device = 'cpu' OR j.vram_mb <= l.vram_mb)
       AND l.processors ? j.processor
       AND (j.node IS NULL OR j.node = l.node)
$$;

-- Order of waiting, readiness, and a version for ETags. Rank is a number, so that the index serves it without arithmetic.
CREATE OR REPLACE FUNCTION vidqueue.stamp_job() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' OR NEW.queued_at <> OLD.queued_at OR NEW.waits_since IS NULL THEN
        NEW.waits_since := CASE WHEN NEW.run_at > greatest(now(), NEW.queued_at) THEN NEW.run_at ELSE NEW.queued_at END;
    END IF;
    NEW.rank := extract(epoch FROM NEW.waits_since) - 60 * NEW.priority;
    -- A job without a time of its own may run since it was queued, also where the server's clock was set back meanwhile.
    NEW.ready := NEW.state = 'queued' AND NEW.unmet = 0 AND NEW.run_at <= greatest(now(), NEW.queued_at);
    IF NEW.state = 'queued' THEN
        NEW.demand := hashtextextended(concat_ws(E'\x1f', NEW.processor, NEW.device, NEW.vram_mb,
                                                 coalesce(NEW.wanted_lane, ''), coalesce(NEW.node::text, '')), 0);
    END IF;
    IF TG_OP = 'UPDATE' THEN
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
    RETURN NEW;
END $$;

-- The data folder on which all inputs of a job lie, as far as the database knows.
CREATE FUNCTION vidqueue.node_of_inputs(job uuid) RETURNS uuid LANGUAGE sql STABLE AS $$
    SELECT CASE count(DISTINCT f.node) WHEN 0 THEN NULL WHEN 1 THEN min(f.node::text)::uuid
           ELSE '00000000-0000-0000-0000-000000000000' END
    FROM vidqueue.files f WHERE f.node IS NOT NULL AND f.id IN (
        SELECT u.file_id FROM vidqueue.job_files u WHERE u.job_id = job
        UNION ALL
        SELECT o.file_id FROM vidqueue.job_dependencies d JOIN vidqueue.outputs o ON o.job_id = d.depends_on WHERE d.job_id = job)
$$;

-- As before, and now the job knows where its files lie. A retried job has its files noted already, or notes them here.
CREATE OR REPLACE FUNCTION vidqueue.note_files() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    place uuid;
BEGIN
    INSERT INTO vidqueue.job_files (file_id, job_id)
    SELECT f.id, NEW.id FROM vidqueue.files f WHERE f.id IN (
        SELECT substring(leaf #>> '{}' FROM 10)::uuid FROM jsonb_path_query(NEW.input,
            'strict $.** ? (@ like_regex "^vq:files/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")') AS leaf)
    FOR KEY SHARE
    ON CONFLICT DO NOTHING;
    place := vidqueue.node_of_inputs(NEW.id);
    IF place IS DISTINCT FROM NEW.node THEN
        UPDATE vidqueue.jobs SET node = place WHERE id = NEW.id;
    END IF;
    RETURN NULL;
END $$;

-- Dependencies are counted in the row of the job that waits for them, so that dispatch need not look them up.
CREATE FUNCTION vidqueue.count_unmet(waiting uuid) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    -- Locked in a statement of its own: the count must see what others have committed while this one waited for the lock.
    PERFORM FROM vidqueue.jobs j WHERE j.id = waiting FOR NO KEY UPDATE;
    UPDATE vidqueue.jobs j SET
        unmet = now_unmet.jobs,
        -- What it waited for its dependencies is no waiting for its turn.
        waits_since = CASE WHEN now_unmet.jobs = 0 AND j.unmet > 0 THEN greatest(j.waits_since, clock_timestamp()) ELSE j.waits_since END,
        node = vidqueue.node_of_inputs(j.id)
    FROM (SELECT count(*)::integer AS jobs FROM vidqueue.job_dependencies d JOIN vidqueue.jobs p ON p.id = d.depends_on
          WHERE d.job_id = waiting AND p.state <> 'succeeded') now_unmet
    WHERE j.id = waiting AND (j.unmet <> now_unmet.jobs OR j.state = 'queued');
END $$;
CREATE FUNCTION vidqueue.note_dependency() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM vidqueue.count_unmet(CASE TG_OP WHEN 'DELETE' THEN OLD.job_id ELSE NEW.job_id END);
    RETURN NULL;
END $$;
CREATE TRIGGER note_dependency AFTER INSERT OR DELETE ON vidqueue.job_dependencies
    FOR EACH ROW EXECUTE FUNCTION vidqueue.note_dependency();
CREATE FUNCTION vidqueue.meet_dependents() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM vidqueue.count_unmet(d.job_id) FROM vidqueue.job_dependencies d WHERE d.depends_on = NEW.id ORDER BY d.job_id;
    RETURN NULL;
END $$;
CREATE TRIGGER meet_dependents AFTER UPDATE OF state ON vidqueue.jobs
    FOR EACH ROW WHEN (NEW.state = 'succeeded' AND OLD.state <> NEW.state) EXECUTE FUNCTION vidqueue.meet_dependents();

-- Why a queued job is not running yet, in one stable word.
CREATE OR REPLACE FUNCTION vidqueue.wait_reason(j vidqueue.jobs) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT CASE
        WHEN j.unmet > 0 THEN 'dependency'
        WHEN j.run_at > greatest(now(), j.queued_at) AND j.attempt > 0 THEN 'backoff'
        WHEN j.run_at > greatest(now(), j.queued_at) THEN 'scheduled'
        WHEN vidqueue.paused_processors() && ARRAY['', j.processor] THEN 'paused'
        ELSE (SELECT CASE
                  WHEN count(*) = 0 THEN 'no_lane'
                  WHEN NOT bool_or(l.processors ? j.processor) THEN 'no_processor'
                  WHEN NOT bool_or(vidqueue.fits(l, j)) THEN 'file_elsewhere'
                  WHEN bool_or(NOT vidqueue.is_paused(l) AND l.blocked_by IS NULL) FILTER (WHERE vidqueue.fits(l, j)) THEN 'busy'
                  -- A pause is somebody's will; what blocks a lane that would work otherwise is the better news.
                  ELSE coalesce(min(l.blocked_by) FILTER (WHERE NOT vidqueue.is_paused(l) AND vidqueue.fits(l, j)), 'paused') END
              FROM vidqueue.lanes l
              WHERE l.state = 'online' AND j.device = ANY (l.takes)
                AND (j.wanted_lane IS NULL OR j.wanted_lane = l.name)
                AND (l.device = 'cpu' OR j.vram_mb <= l.vram_mb))
    END
$$;
COMMENT ON FUNCTION vidqueue.wait_reason IS
    'dependency | backoff | scheduled | no_lane (none online fits) | no_processor (no such lane has the processor) | '
    'file_elsewhere (no lane online reads the inputs'' bytes) | no_space (the disk is full) | gpu_lost | paused | busy (waits for its turn)';

-- Choose the next job of a lane that is free, open the attempt, and move the job. No row: the lane is not free, or nothing
-- fits it.
--
-- Inside one owner jobs stand in the order of rank (priority, aged by waiting). Between owners the line's head with the
-- higher priority goes first, aged by the time since that owner was last served; then the owner with fewer jobs running;
-- then the one served longest ago. A job whose processor is warm on this lane may pass others of its owner that are up to
-- 30 s older.
--
-- The line is never walked. Jobs of the same demand fit the same lanes, so the distinct demands are found by hops in the
-- index, then the owners of each demand that fits, then the first jobs of each.
-- `begins` says that the lane takes the attempt in hand at once; else its delivery does so later.
CREATE FUNCTION vidqueue.choose(lane uuid, lease_s double precision, begins boolean)
    RETURNS TABLE (job_id uuid, attempt integer, fence bigint, queue text, processor text, input jsonb, owner text, device text,
                   timeout_s double precision, stall_timeout_s double precision, cancel_requested boolean)
    -- A plan that was made while the table was small is kept when it has grown: it must not read all of it.
    LANGUAGE plpgsql SET enable_seqscan = off SET jit = off AS $$
#variable_conflict use_column
DECLARE
    taker      vidqueue.lanes;
    candidate  uuid;
    chosen     vidqueue.jobs;
    paused     text[] := vidqueue.paused_processors();
BEGIN
    SELECT l.* INTO taker FROM vidqueue.lanes l
    WHERE l.id = choose.lane AND l.state = 'online' AND NOT vidqueue.is_paused(l) AND l.blocked_by IS NULL
      AND NOT EXISTS (SELECT FROM vidqueue.attempts a WHERE a.lane_id = l.id AND a.ended_at IS NULL);
    IF NOT FOUND OR '' = ANY (paused) THEN
        RETURN;
    END IF;

    -- Jobs whose time has come since somebody last looked; their trigger makes them ready.
    UPDATE vidqueue.jobs SET ready = true WHERE id IN (
        SELECT id FROM vidqueue.jobs WHERE state = 'queued' AND NOT ready AND unmet = 0 AND run_at <= now()
        ORDER BY run_at LIMIT 1000 FOR UPDATE SKIP LOCKED);

    FOR candidate IN
        WITH RECURSIVE demands (demand) AS (
            (SELECT j.demand FROM vidqueue.jobs j WHERE j.ready ORDER BY j.demand LIMIT 1)
            UNION ALL
            SELECT (SELECT j.demand FROM vidqueue.jobs j WHERE j.ready AND j.demand > d.demand ORDER BY j.demand LIMIT 1)
            FROM demands d WHERE d.demand IS NOT NULL
        ), fitting AS (
            SELECT d.demand FROM demands d CROSS JOIN LATERAL (
                SELECT j FROM vidqueue.jobs j WHERE j.ready AND j.demand = d.demand ORDER BY j.owner, j.rank, j.id LIMIT 1) one
            WHERE d.demand IS NOT NULL AND vidqueue.fits(taker, one.j) AND (one.j).processor <> ALL (paused)
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
                   f.priority + floor(extract(epoch FROM now() - greatest(f.waits_since, o.served_at)) / 60) AS urgency
            FROM firsts f JOIN vidqueue.owners o ON o.name = f.owner
            LEFT JOIN (SELECT owner, count(*) AS jobs FROM vidqueue.jobs WHERE state = 'running' GROUP BY owner) r ON r.owner = f.owner
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
        SELECT j.* INTO chosen FROM vidqueue.jobs j
        WHERE j.id = candidate AND j.state = 'queued' AND vidqueue.fits(taker, j) AND j.processor <> ALL (paused)
        FOR UPDATE SKIP LOCKED;
        EXIT WHEN FOUND;
    END LOOP;
    IF chosen.id IS NULL AND candidate IS NOT NULL THEN
        -- Others hold the first ones of every line, perhaps for long; as a rule this walk is not needed.
        SELECT j.* INTO chosen FROM vidqueue.jobs j
        WHERE j.ready AND j.state = 'queued' AND vidqueue.fits(taker, j) AND j.processor <> ALL (paused)
          AND (j.expires_at IS NULL OR j.expires_at > now() OR j.attempt > 0)
        ORDER BY j.rank, j.id LIMIT 1 FOR UPDATE SKIP LOCKED;
    END IF;
    IF chosen.id IS NULL THEN
        RETURN;
    END IF;

    UPDATE vidqueue.jobs j SET
        state = 'running', attempt = j.attempt + 1, fence = nextval('vidqueue.fences'), lane = taker.name,
        started_at = clock_timestamp(), progress = 0, stage = NULL, message = NULL, fps = NULL, speed = NULL, eta_s = NULL
    WHERE j.id = chosen.id RETURNING j.* INTO chosen;
    -- Whoever holds the owner's lock serves a job of that owner at this moment too: no lane waits for another one here.
    UPDATE vidqueue.owners o SET served_at = clock_timestamp()
    WHERE o.name IN (SELECT name FROM vidqueue.owners WHERE name = chosen.owner FOR NO KEY UPDATE SKIP LOCKED);
    INSERT INTO vidqueue.attempts (job_id, number, fence, lane_id, lane, host, started_at, lease_expires_at)
        VALUES (chosen.id, chosen.attempt, chosen.fence, taker.id, taker.name, taker.host,
                CASE WHEN begins THEN clock_timestamp() END, clock_timestamp() + make_interval(secs => lease_s));
    RETURN QUERY SELECT chosen.id, chosen.attempt, chosen.fence, taker.queue, chosen.processor, chosen.input, chosen.owner,
                        chosen.device, chosen.timeout_s, chosen.stall_timeout_s, chosen.cancel_requested_at IS NOT NULL;
END $$;
-- Put an attempt into a lane's queue: procrastinate delivers it when the caller's transaction commits.
CREATE FUNCTION vidqueue.deliver(queue text, job_id uuid, attempt integer, fence bigint) RETURNS void LANGUAGE sql AS $$
    INSERT INTO procrastinate.procrastinate_jobs (queue_name, task_name, args)
    VALUES (deliver.queue, 'vidqueue.run_attempt',
            jsonb_build_object('job_id', deliver.job_id, 'attempt', deliver.attempt, 'fence', deliver.fence))
$$;

COMMENT ON FUNCTION vidqueue.choose IS 'Gives a free lane its next job and opens the attempt; the caller delivers it.';

-- End an attempt: what it came to becomes what the job is, and its outputs become public with it. Returns the state that
-- the job came to; NULL if the fence is not the caller's any more, and then nothing was written.
--
-- `ending` has: outcome, reason, error {code, message, hint, detail}, metrics; what the verdict over it says of the job: state,
-- burned, crashed, lost, delay_s, message, job_error; outputs [{name, id, filename, media_type, size, sha256, node, facts}].
-- A cancel that was accepted wins over all of it: whoever was told "canceled" shall not find the job succeeded.
CREATE FUNCTION vidqueue.finish(job uuid, attempt integer, fence bigint, ending jsonb) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    held    record;
    ended   timestamptz := clock_timestamp();
    target  text := ending ->> 'state';
BEGIN
    SELECT j.owner, j.cancel_requested_at IS NOT NULL AS canceled INTO held
    FROM vidqueue.jobs j JOIN vidqueue.attempts a ON a.job_id = j.id AND a.fence = j.fence
    WHERE j.id = finish.job AND j.fence = finish.fence AND j.state = 'running' AND a.number = finish.attempt AND a.ended_at IS NULL
    FOR UPDATE OF j, a;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    IF held.canceled THEN
        ending := '{"outcome": "canceled", "state": "canceled"}';
        target := 'canceled';
    END IF;

    UPDATE vidqueue.attempts a SET
        ended_at = ended, outcome = ending ->> 'outcome', reason = ending ->> 'reason',
        error_code = ending #>> '{error,code}', error_message = ending #>> '{error,message}',
        error_hint = ending #>> '{error,hint}', error_detail = ending #>> '{error,detail}',
        metrics = coalesce(ending -> 'metrics', '{}')
    WHERE a.job_id = finish.job AND a.number = finish.attempt;

    IF target = 'succeeded' THEN
        INSERT INTO vidqueue.files (id, owner, name, media_type, size, sha256, facts, node, published)
        SELECT o.id, held.owner, o.filename, o.media_type, o.size, o.sha256, o.facts, o.node, true
        FROM jsonb_to_recordset(ending -> 'outputs')
            AS o (id uuid, filename text, media_type text, size bigint, sha256 text, facts jsonb, node uuid);
        INSERT INTO vidqueue.outputs (job_id, name, attempt, file_id)
        SELECT finish.job, o.name, finish.attempt, o.id FROM jsonb_to_recordset(ending -> 'outputs') AS o (name text, id uuid);
    END IF;

    -- queued_at stays: an interrupted job keeps its place at the front. The time of a backoff is no waiting.
    UPDATE vidqueue.jobs j SET
        state = target, fence = NULL,
        lane = CASE WHEN target = 'queued' THEN NULL ELSE j.lane END,
        failures = j.failures + coalesce((ending ->> 'burned')::integer, 0),
        crashes = j.crashes + coalesce((ending ->> 'crashed')::integer, 0),
        losses = CASE WHEN (ending ->> 'lost')::boolean THEN j.losses + 1 ELSE 0 END,
        progress = CASE target WHEN 'succeeded' THEN 1 WHEN 'queued' THEN 0 ELSE j.progress END,
        stage = NULL, fps = NULL, speed = NULL, eta_s = NULL, message = ending ->> 'message',
        run_at = CASE WHEN target <> 'queued' THEN j.run_at WHEN coalesce((ending ->> 'delay_s')::double precision, 0) = 0 THEN j.queued_at
                      ELSE ended + make_interval(secs => (ending ->> 'delay_s')::double precision) END,
        waits_since = j.waits_since + make_interval(secs => coalesce((ending ->> 'delay_s')::double precision, 0)),
        error_code = ending #>> '{job_error,code}', error_message = ending #>> '{job_error,message}',
        error_hint = ending #>> '{job_error,hint}',
        finished_at = CASE WHEN target <> 'queued' THEN ended END
    WHERE j.id = finish.job;
    RETURN target;
END $$;
COMMENT ON FUNCTION vidqueue.finish IS 'Ends an attempt behind its fence; the only way an attempt ends.';
