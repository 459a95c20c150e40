-- name: dispatch
-- Give the best waiting job to a lane that is free: choose, open the attempt, move the job, in one statement.
--
-- Inside one owner jobs stand in the order of rank (priority, aged by waiting). Between owners the line's head
-- with the higher priority goes first, aged by the time since that owner was last served; then the owner with
-- fewer jobs running; then the one served longest ago. A job whose processor is warm on this lane may pass
-- others of its owner that are up to 30 s older. A job without a time of its own may run since it was queued, also
-- where the server's clock was set back meanwhile.
WITH lane AS MATERIALIZED (
    SELECT l.id, l.name, l.host, l.device, l.takes, l.vram_mb, l.warm, l.queue
    FROM vidqueue.lanes l
    WHERE l.id = %(lane_id)s AND l.state = 'online' AND NOT l.paused AND l.held IS NULL
      AND NOT EXISTS (SELECT FROM vidqueue.attempts a WHERE a.lane_id = l.id AND a.ended_at IS NULL)
), heads AS (
    SELECT head.id, head.rank - CASE WHEN head.processor = ANY (lane.warm) THEN 30 ELSE 0 END AS rank,
           o.name AS owner, o.served_at,
           first_value(head.priority + floor(extract(epoch FROM now() - greatest(head.queued_at, o.served_at)) / 60))
               OVER (PARTITION BY o.name ORDER BY head.rank, head.id) AS urgency,
           (SELECT count(*) FROM vidqueue.jobs r WHERE r.state = 'running' AND r.owner = o.name) AS running
    FROM lane CROSS JOIN vidqueue.owners o CROSS JOIN LATERAL (
        SELECT j.id, j.rank, j.priority, j.queued_at, j.processor
        FROM vidqueue.jobs j
        WHERE j.owner = o.name AND j.state = 'queued' AND j.run_at <= greatest(now(), j.queued_at) AND (j.expires_at IS NULL OR j.expires_at > now() OR j.attempt > 0)
          AND (j.wanted_lane IS NULL OR j.wanted_lane = lane.name)
          AND j.device = ANY (lane.takes)
          AND (lane.device = 'cpu' OR j.vram_mb <= lane.vram_mb)
          AND NOT EXISTS (SELECT FROM vidqueue.job_dependencies d JOIN vidqueue.jobs p ON p.id = d.depends_on
                          WHERE d.job_id = j.id AND p.state <> 'succeeded')
        ORDER BY j.rank, j.id
        -- More than one, so that another daemon's lock on the first does not leave this lane idle.
        LIMIT 4) head
), chosen AS (
    SELECT j.id FROM vidqueue.jobs j JOIN heads h ON h.id = j.id
    WHERE j.state = 'queued'
    ORDER BY h.urgency DESC, h.running, h.served_at, h.owner, h.rank, j.id
    LIMIT 1
    FOR UPDATE OF j SKIP LOCKED
), moved AS (
    UPDATE vidqueue.jobs j SET
        state = 'running', attempt = j.attempt + 1, fence = nextval('vidqueue.fences'), lane = lane.name,
        started_at = clock_timestamp(), progress = 0, stage = NULL, message = NULL, fps = NULL, speed = NULL, eta_s = NULL
    FROM chosen, lane WHERE j.id = chosen.id
    RETURNING j.id, j.owner, j.attempt, j.fence
), served AS (
    UPDATE vidqueue.owners o SET served_at = clock_timestamp() FROM moved WHERE o.name = moved.owner
)
INSERT INTO vidqueue.attempts (job_id, number, fence, lane_id, lane, host, lease_expires_at)
SELECT moved.id, moved.attempt, moved.fence, lane.id, lane.name, lane.host,
       clock_timestamp() + make_interval(secs => %(lease_s)s)
FROM moved, lane
RETURNING job_id, number AS attempt, fence, (SELECT queue FROM lane) AS queue

-- name: begin
-- The lane takes the attempt in hand. No row: it was given away meanwhile.
UPDATE vidqueue.attempts a SET
    started_at = coalesce(a.started_at, clock_timestamp()), lease_expires_at = clock_timestamp() + make_interval(secs => %(lease_s)s)
FROM vidqueue.jobs j
WHERE a.job_id = %(job_id)s AND a.number = %(attempt)s AND a.fence = %(fence)s
  AND a.ended_at IS NULL
  AND j.id = a.job_id AND j.fence = a.fence
RETURNING j.id, j.processor, j.input, j.owner, j.device, j.timeout_s, j.stall_timeout_s,
          j.cancel_requested_at IS NOT NULL AS cancel_requested

-- name: renew
-- Keep the lease, and learn in passing whether someone wants the job to stop. No row: the attempt is not ours any more.
UPDATE vidqueue.attempts a SET lease_expires_at = clock_timestamp() + make_interval(secs => %(lease_s)s)
FROM vidqueue.jobs j
WHERE a.job_id = %(job_id)s AND a.fence = %(fence)s AND a.ended_at IS NULL AND j.id = a.job_id
RETURNING j.cancel_requested_at IS NOT NULL AS cancel_requested

-- name: progress
-- The row and its event in one statement; nothing happens when the fence is not ours any more.
WITH seen AS (
    UPDATE vidqueue.jobs SET
        progress = greatest(progress, %(fraction)s::real), stage = %(stage)s, message = %(message)s,
        fps = %(fps)s, speed = %(speed)s, eta_s = %(eta_s)s
    WHERE id = %(job_id)s AND fence = %(fence)s AND state = 'running'
    RETURNING id, owner, progress, stage, message, fps, speed, eta_s, attempt
)
SELECT vidqueue.record_event(id, owner, 'progress', jsonb_strip_nulls(jsonb_build_object(
    'attempt', attempt, 'progress', progress, 'stage', stage, 'message', message,
    'fps', fps, 'speed', speed, 'eta_s', eta_s))) AS event FROM seen

-- name: hold
-- Lock the job for its end. No row: the fence is not ours, the writer is too late.
SELECT j.failures, j.crashes, j.losses, j.max_attempts, j.processor, j.owner,
       j.cancel_requested_at IS NOT NULL AS cancel_requested,
       coalesce(p.backoff_base_s, 1) AS backoff_base_s, coalesce(p.backoff_cap_s, 300) AS backoff_cap_s
FROM vidqueue.jobs j JOIN vidqueue.attempts a ON a.job_id = j.id AND a.fence = j.fence
LEFT JOIN vidqueue.processors p ON p.name = j.processor
WHERE j.id = %(job_id)s AND j.fence = %(fence)s AND j.state = 'running' AND a.number = %(attempt)s AND a.ended_at IS NULL
FOR UPDATE OF j, a

-- name: end
UPDATE vidqueue.attempts SET
    ended_at = clock_timestamp(), outcome = %(outcome)s, reason = %(reason)s, error_code = %(error_code)s,
    error_message = %(error_message)s, error_hint = %(error_hint)s, error_detail = %(error_detail)s, metrics = %(metrics)s
WHERE job_id = %(job_id)s AND number = %(attempt)s AND fence = %(fence)s

-- name: settle
-- Where the job goes after its attempt. queued_at stays: an interrupted job keeps its place at the front.
UPDATE vidqueue.jobs SET
    state = %(state)s, fence = NULL,
    lane = CASE WHEN %(state)s = 'queued' THEN NULL ELSE lane END,
    failures = failures + %(burned)s, crashes = crashes + %(crashed)s,
    losses = CASE WHEN %(lost)s THEN losses + 1 WHEN %(burned)s > 0 THEN 0 ELSE losses END,
    progress = CASE %(state)s WHEN 'succeeded' THEN 1 WHEN 'queued' THEN 0 ELSE progress END,
    stage = NULL, fps = NULL, speed = NULL, eta_s = NULL, message = %(message)s,
    run_at = CASE WHEN %(state)s <> 'queued' THEN run_at WHEN %(delay_s)s = 0 THEN queued_at
                  ELSE clock_timestamp() + make_interval(secs => %(delay_s)s) END,
    error_code = %(error_code)s, error_message = %(error_message)s, error_hint = %(error_hint)s,
    finished_at = CASE WHEN %(state)s <> 'queued' THEN clock_timestamp() END
WHERE id = %(job_id)s AND fence = %(fence)s

-- name: of_job
SELECT a.number, a.lane, a.host, a.outcome, a.reason, a.error_code, a.error_message, a.error_hint, a.error_detail,
       a.dispatched_at, a.started_at, a.ended_at, a.metrics
FROM vidqueue.attempts a JOIN vidqueue.jobs j ON j.id = a.job_id
WHERE a.job_id = %(job_id)s AND (%(owner)s::text IS NULL OR j.owner = %(owner)s)
ORDER BY a.number

-- name: open_of_node
-- What the last daemon on this data folder left in hand.
SELECT a.job_id, a.number AS attempt, a.fence FROM vidqueue.attempts a JOIN vidqueue.lanes l ON l.id = a.lane_id
WHERE l.node = %(node)s AND a.ended_at IS NULL

-- name: expired
-- Attempts whose lane has not renewed them: given back by whoever sees them first. While the server was away nobody
-- could renew, so after its start every lease holds anew.
SELECT a.job_id, a.number AS attempt, a.fence FROM vidqueue.attempts a
WHERE a.ended_at IS NULL AND a.lease_expires_at < clock_timestamp()
  AND pg_postmaster_start_time() < clock_timestamp() - make_interval(secs => %(lease_s)s)

-- name: open_on_machine
-- What other processes of this machine have in hand; whether they still live is for the caller to find out.
SELECT a.job_id, a.number AS attempt, a.fence, l.process
FROM vidqueue.attempts a JOIN vidqueue.lanes l ON l.id = a.lane_id
WHERE a.ended_at IS NULL AND starts_with(l.process, %(machine)s) AND l.node <> %(node)s

-- name: append_log
INSERT INTO vidqueue.attempt_logs (job_id, attempt, level, text)
SELECT %(job_id)s, %(attempt)s, l.level, l.text
FROM unnest(%(levels)s::text[], %(texts)s::text[]) AS l (level, text)

-- name: read_log
SELECT l.attempt, l.number, l.at, l.level, l.text
FROM vidqueue.attempt_logs l
WHERE l.job_id = %(job_id)s AND l.attempt = %(attempt)s AND l.number > %(after)s
ORDER BY l.number LIMIT %(limit)s
