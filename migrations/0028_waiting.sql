-- The outcome waiting: an attempt that ended because what its processor needs is not to be had now. The job is put back, and
-- no attempt is burned.
-- Expand only: an older program goes on with this schema while it drains.

ALTER TABLE vidqueue.jobs
    ADD COLUMN waiting_for text CHECK (waiting_for ~ '^[a-z][a-z0-9_]{0,63}$'),
    ADD COLUMN waited_s double precision NOT NULL DEFAULT 0;
COMMENT ON COLUMN vidqueue.jobs.waiting_for IS 'Why the last attempt put the job back, in one word; NULL unless it did.';
COMMENT ON COLUMN vidqueue.jobs.waited_s IS 'How long the job has waited because its attempts put it back, one after the other, in seconds.';

ALTER TABLE vidqueue.attempts DROP CONSTRAINT attempts_outcome_check;
ALTER TABLE vidqueue.attempts ADD CONSTRAINT attempts_outcome_check
    CHECK (outcome IN ('succeeded', 'failed', 'canceled', 'interrupted', 'waiting')) NOT VALID;
ALTER TABLE vidqueue.attempts ADD CONSTRAINT waiting_has_reason
    CHECK (outcome IS DISTINCT FROM 'waiting' OR reason IS NOT NULL) NOT VALID;

-- Why a queued job is not running yet, in one stable word.
CREATE OR REPLACE FUNCTION vidqueue.wait_reason(j vidqueue.jobs) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT CASE
        WHEN j.unmet > 0 THEN 'dependency'
        WHEN j.run_at > greatest(now(), j.queued_at) AND j.attempt > 0 THEN coalesce(j.waiting_for, 'backoff')
        WHEN j.run_at > greatest(now(), j.queued_at) THEN 'scheduled'
        WHEN vidqueue.paused_processors() && ARRAY['', j.processor] THEN 'paused'
        WHEN EXISTS (SELECT FROM vidqueue.limits_of(j.owner) l WHERE l.max_running <= (
                  SELECT count(*) FROM vidqueue.jobs r WHERE r.owner = j.owner AND r.state = 'running')) THEN 'owner_limit'
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
    'file_elsewhere (no lane online reads the inputs'' bytes) | no_space (the disk is full) | gpu_lost | paused | '
    'owner_limit (as many of its owner run as may) | busy (waits for its turn); or a word of the processor that put it back, such as endpoint_busy, peer_busy, peer_starting '
    'and peer_unavailable';

-- End an attempt behind its fence. No state: the fence was outdated, and nothing was written.
--
-- `ending` has: outcome, reason, error {code, message, hint, detail}, metrics; what the verdict over it says of the job: state,
-- burned, crashed, lost, delay_s, message, job_error, and of an attempt that put the job back waiting_for and
-- waited_s; outputs [{name, id, filename, media_type, size, sha256, node, facts}].
-- A cancel that was accepted wins over all of it: whoever was told "canceled" shall not find the job succeeded.
CREATE OR REPLACE FUNCTION vidqueue.finish(job uuid, attempt integer, fence bigint, ending jsonb) RETURNS text LANGUAGE plpgsql AS $$
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
        waiting_for = ending ->> 'waiting_for',
        -- An attempt that was interrupted does not tell whether the next one has to wait.
        waited_s = CASE ending ->> 'outcome' WHEN 'waiting' THEN (ending ->> 'waited_s')::double precision
                   WHEN 'interrupted' THEN j.waited_s ELSE 0 END,
        error_code = ending #>> '{job_error,code}', error_message = ending #>> '{job_error,message}',
        error_hint = ending #>> '{job_error,hint}',
        finished_at = CASE WHEN target <> 'queued' THEN ended END
    WHERE j.id = finish.job;
    RETURN target;
END $$;
