-- name: dispatch
-- Give each of these lanes that is idle its next job, and queue the attempt for the lane. It begins at once. `is_open` is false for a
-- lane that takes no job, whatever waits: it is paused, or everything is, or it is blocked.
SELECT c.*, CASE WHEN c.job_id IS NOT NULL THEN vidqueue.deliver(c.queue, c.job_id, c.attempt, c.fence)::text END AS delivered,
       c.job_id IS NOT NULL OR EXISTS (
           SELECT FROM vidqueue.lanes o
           WHERE o.id = l.id AND o.state = 'online' AND o.blocked_by IS NULL AND NOT vidqueue.is_paused(o)
             AND NOT EXISTS (SELECT FROM vidqueue.pauses p WHERE p.processor = '' AND (p.until IS NULL OR p.until > clock_timestamp()))
       ) AS is_open
FROM unnest(%(lanes)s::uuid[]) AS l (id) LEFT JOIN LATERAL vidqueue.choose(l.id, %(lease_s)s, true) c ON true

-- name: begin
-- Take an attempt in hand that was only delivered, and renew its lease. No row: it was given back meanwhile.
UPDATE vidqueue.attempts a SET
    started_at = coalesce(a.started_at, clock_timestamp()), lease_expires_at = clock_timestamp() + make_interval(secs => %(lease_s)s)
FROM vidqueue.jobs j
WHERE a.job_id = %(job_id)s AND a.number = %(attempt)s AND a.fence = %(fence)s
  AND a.ended_at IS NULL
  AND j.id = a.job_id AND j.fence = a.fence
RETURNING j.id AS job_id, a.number AS attempt, a.fence, j.processor, j.input, j.owner, j.device, j.timeout_s, j.stall_timeout_s,
          j.cancel_requested_at IS NOT NULL AS cancel_requested

-- name: resume
-- Like begin, for the attempt that is open on a lane.
UPDATE vidqueue.attempts a SET
    started_at = coalesce(a.started_at, clock_timestamp()), lease_expires_at = clock_timestamp() + make_interval(secs => %(lease_s)s)
FROM vidqueue.jobs j
WHERE a.lane_id = %(lane)s AND a.ended_at IS NULL AND j.id = a.job_id AND j.fence = a.fence
RETURNING j.id AS job_id, a.number AS attempt, a.fence, j.processor, j.input, j.owner, j.device, j.timeout_s, j.stall_timeout_s,
          j.cancel_requested_at IS NOT NULL AS cancel_requested

-- name: renew
-- Renew these leases, and return what is wanted of each attempt. An attempt without a row has lost its fence.
UPDATE vidqueue.attempts a SET lease_expires_at = clock_timestamp() + make_interval(secs => %(lease_s)s)
FROM unnest(%(job_ids)s::uuid[], %(fences)s::bigint[]) AS ours (job_id, fence) JOIN vidqueue.jobs j ON j.id = ours.job_id
WHERE a.job_id = ours.job_id AND a.fence = ours.fence AND a.ended_at IS NULL
RETURNING a.fence, j.cancel_requested_at IS NOT NULL AS cancel_requested, j.suspended_at IS NOT NULL AS suspended

-- name: report
-- Write log lines, progress and its event in one statement that does not wait for the disk. The row is unchanged if the
-- fence is no longer valid. In doubt whether an earlier statement was committed, only the lines that are missing behind
-- the first %(written)s are inserted; nobody else writes lines of this attempt.
WITH unsynced AS MATERIALIZED (
    SELECT set_config('synchronous_commit', 'off', true)
), logged AS (
    INSERT INTO vidqueue.attempt_logs (job_id, attempt, level, text)
    SELECT %(job_id)s, %(attempt)s, l.level, l.text
    FROM unsynced, unnest(%(levels)s::text[], %(texts)s::text[]) WITH ORDINALITY AS l (level, text, place)
    WHERE NOT %(in_doubt)s OR l.place > (
        SELECT count(*) FROM vidqueue.attempt_logs WHERE job_id = %(job_id)s AND attempt = %(attempt)s) - %(written)s
    ORDER BY l.place
), seen AS (
    UPDATE vidqueue.jobs SET
        progress = greatest(progress, %(fraction)s::real), stage = %(stage)s, message = %(message)s,
        fps = %(fps)s, speed = %(speed)s, eta_s = %(eta_s)s
    FROM unsynced
    WHERE id = %(job_id)s AND fence = %(fence)s AND state = 'running' AND %(fraction)s::real IS NOT NULL
    RETURNING id, owner, progress, stage, message, fps, speed, eta_s, attempt
)
SELECT vidqueue.record_event(id, owner, 'progress', jsonb_strip_nulls(jsonb_build_object(
    'attempt', attempt, 'progress', progress, 'stage', stage, 'message', message,
    'fps', fps, 'speed', speed, 'eta_s', eta_s))) AS event FROM seen

-- name: move
-- Let a data folder that has not tried the job yet have it, where one is online with a lane for it. Not a job whose stored
-- inputs say where it must run. No row: there is no such folder.
UPDATE vidqueue.jobs j SET node = untried.node
FROM (SELECT w.id, (SELECT l.node FROM vidqueue.lanes l
                    WHERE l.state = 'online' AND w.device = ANY (l.takes) AND (w.wanted_lane IS NULL OR w.wanted_lane = l.name)
                      AND (l.device = 'cpu' OR w.vram_mb <= l.vram_mb) AND l.processors ? w.processor
                      AND l.node NOT IN (SELECT t.node FROM vidqueue.attempts a JOIN vidqueue.lanes t ON t.id = a.lane_id
                                         WHERE a.job_id = w.id)
                    ORDER BY l.node LIMIT 1) AS node
      FROM vidqueue.jobs w WHERE w.id = %(job_id)s AND w.fence = %(fence)s) untried
WHERE j.id = untried.id AND j.fence = %(fence)s AND untried.node IS NOT NULL AND vidqueue.node_of_inputs(j.id) IS NULL
RETURNING j.node

-- name: lock
-- Lock the job for its end. No row: the fence is no longer valid, and the writer is too late.
SELECT j.failures, j.crashes, j.losses, j.max_attempts, j.waited_s,
       coalesce(p.backoff_base_s, 1) AS backoff_base_s, coalesce(p.backoff_cap_s, 300) AS backoff_cap_s
FROM vidqueue.jobs j JOIN vidqueue.attempts a ON a.job_id = j.id AND a.fence = j.fence
LEFT JOIN vidqueue.processors p ON p.name = j.processor
WHERE j.id = %(job_id)s AND j.fence = %(fence)s AND j.state = 'running' AND a.number = %(attempt)s AND a.ended_at IS NULL
FOR UPDATE OF j, a

-- name: finish
-- End the attempt, and give the lane that ran it its next one. `state` is NULL if the fence was no longer valid; what the
-- attempt has used it has used all the same.
SELECT * FROM vidqueue.settle(%(job_id)s, %(attempt)s, %(fence)s, %(ending)s, %(lane)s::uuid, %(lease_s)s)

-- name: finish_together
-- Like finish, for several attempts at once. Those that must be finished alone have no row.
SELECT s.* FROM (
    SELECT array_agg(e.job_id) AS jobs, array_agg(e.attempt) AS numbers, array_agg(e.fence) AS fences, array_agg(e.ending) AS endings,
           array_agg(e.lane) AS lanes
    FROM jsonb_to_recordset(%(endings)s) AS e (job_id uuid, attempt integer, fence bigint, ending jsonb, lane uuid)) e
CROSS JOIN LATERAL vidqueue.settle_together(e.jobs, e.numbers, e.fences, e.endings, e.lanes, %(lease_s)s) s

-- name: of_job
SELECT a.number, a.lane, a.host, a.outcome, a.reason, a.error_code, a.error_message, a.error_hint, a.error_detail,
       a.dispatched_at, a.started_at, a.ended_at, a.metrics, u.device_mb
FROM vidqueue.attempts a JOIN vidqueue.jobs j ON j.id = a.job_id
LEFT JOIN vidqueue.attempt_usage u ON u.job_id = a.job_id AND u.attempt = a.number
WHERE a.job_id = %(job_id)s AND (%(owner)s::text IS NULL OR j.owner = %(owner)s)
ORDER BY a.number

-- name: open_of_node
-- Open attempts of the last daemon on this data folder.
SELECT a.job_id, a.number AS attempt, a.fence FROM vidqueue.attempts a JOIN vidqueue.lanes l ON l.id = a.lane_id
WHERE l.node = %(node)s AND a.ended_at IS NULL

-- name: expired
-- Attempts whose lease has expired. No lane can renew while the server is down, so each lease starts again when the
-- server does.
SELECT a.job_id, a.number AS attempt, a.fence FROM vidqueue.attempts a
WHERE a.ended_at IS NULL AND a.lease_expires_at < statement_timestamp()
  AND pg_postmaster_start_time() < clock_timestamp() - make_interval(secs => %(lease_s)s)

-- name: open_on_machine
-- Open attempts of other processes of this machine; the caller checks whether these processes are alive.
SELECT a.job_id, a.number AS attempt, a.fence, l.process
FROM vidqueue.attempts a JOIN vidqueue.lanes l ON l.id = a.lane_id
WHERE a.ended_at IS NULL AND starts_with(l.process, %(machine)s) AND l.node <> %(node)s

-- name: read_log
SELECT l.attempt, l.number, l.at, l.level, l.text
FROM vidqueue.attempt_logs l
WHERE l.job_id = %(job_id)s AND l.attempt = %(attempt)s AND l.number > %(after)s
ORDER BY l.number LIMIT %(limit)s

-- name: search_log
-- The lines of a log that contain a text; a log has as many lines as `running.max_log_lines` lets it.
SELECT l.attempt, l.number, l.at, l.level, l.text
FROM vidqueue.attempt_logs l
WHERE l.job_id = %(job_id)s AND l.attempt = %(attempt)s AND strpos(lower(l.text), lower(%(text)s)) > 0
ORDER BY l.number LIMIT %(limit)s

-- name: read_log_end
-- The last lines of a log, in their order.
SELECT t.attempt, t.number, t.at, t.level, t.text
FROM (SELECT l.attempt, l.number, l.at, l.level, l.text FROM vidqueue.attempt_logs l
      WHERE l.job_id = %(job_id)s AND l.attempt = %(attempt)s
      ORDER BY l.number DESC LIMIT %(limit)s) t
ORDER BY t.number
