-- name: in_state
-- How many jobs of each processor wait, run, or cannot run yet (`later`).
SELECT processor, state, sum(jobs)::bigint AS jobs FROM vidqueue.jobs_counted
WHERE state IN ('queued', 'later', 'running') GROUP BY processor, state HAVING sum(jobs) > 0

-- name: ready
-- Why the jobs that could run wait. Jobs of one demand fit the same lanes, so they wait for the same reason. Only where jobs of
-- one processor wait for different reasons are some of them counted.
WITH reasons AS MATERIALIZED (
    SELECT j.demand, j.processor, vidqueue.wait_reason(j) AS reason FROM vidqueue.first_of_demands() j
), mixed AS (
    SELECT processor FROM reasons GROUP BY processor HAVING count(DISTINCT reason) > 1
)
SELECT r.processor, r.reason,
       CASE WHEN m.processor IS NOT NULL THEN
           (SELECT count(*) FROM (SELECT FROM vidqueue.jobs j WHERE j.ready AND j.demand = r.demand LIMIT %(limit)s) AS first) END AS jobs
FROM reasons r LEFT JOIN mixed m ON m.processor = r.processor

-- name: not_due
-- Why the first of the jobs wait that wait for a time.
SELECT w.processor, CASE WHEN w.due THEN 'busy' WHEN w.again THEN coalesce(w.waiting_for, 'backoff') ELSE 'scheduled' END AS reason,
       count(*) AS jobs
FROM (SELECT j.processor, j.attempt > 0 AS again, j.run_at <= now() AS due, j.waiting_for FROM vidqueue.jobs j
      WHERE j.state = 'queued' AND NOT j.ready AND j.unmet = 0 ORDER BY j.run_at LIMIT %(limit)s) w
GROUP BY 1, 2

-- name: oldest
-- How long the job has waited that waits longest, of each processor.
SELECT processor, extract(epoch FROM clock_timestamp() - since)::double precision AS wait_s
FROM (SELECT c.processor, vidqueue.oldest_ready(c.processor) AS since
      FROM vidqueue.jobs_counted c WHERE c.state = 'queued' GROUP BY 1 HAVING sum(c.jobs) > 0) oldest
WHERE since IS NOT NULL

-- name: lanes
-- Lanes that are online, or were within a day.
SELECT l.host, l.name, l.device, l.state = 'online' AS up, vidqueue.is_paused(l) AS paused, l.blocked_by, l.vram_mb,
       EXISTS (SELECT FROM vidqueue.attempts a WHERE a.lane_id = l.id AND a.ended_at IS NULL) AS busy,
       coalesce(g.executor_starts, 0) AS executor_starts, g.gpu_memory_used_mb, g.gpu_utilization, g.gpu_temperature_c, g.gpu_power_w
FROM vidqueue.lanes l LEFT JOIN vidqueue.lane_gauges g ON g.lane_id = l.id
WHERE l.state = 'online' OR l.seen_at > now() - interval '1 day'
ORDER BY l.host, l.name

-- name: webhooks
-- Deliveries that wait, at most %(limit)s of them, and since when the oldest does.
SELECT (SELECT count(*) FROM (SELECT FROM vidqueue.webhook_deliveries WHERE state = 'pending' LIMIT %(limit)s) AS first) AS pending,
       (SELECT extract(epoch FROM clock_timestamp() - min(eldest.created_at))::double precision
        FROM vidqueue.owners o CROSS JOIN LATERAL (
            SELECT d.created_at FROM vidqueue.webhook_deliveries d
            WHERE d.owner = o.name AND d.state = 'pending' ORDER BY d.id LIMIT 1) eldest) AS oldest_s

-- name: delay
-- How long the first event after this number has been there.
SELECT extract(epoch FROM clock_timestamp() - e.at)::double precision AS delay_s
FROM vidqueue.events e WHERE e.number > %(number)s ORDER BY e.number LIMIT 1

-- name: moves
-- The attempts that the events in a range of numbers began or ended. An event of a job says `attempt` also where it concerns
-- none: an attempt ended with an event of its own outcome, or just before the job was queued again or failed.
SELECT e.kind = 'running' AS began, j.processor, a.number, a.outcome, a.error_code, a.host, a.lane,
       extract(epoch FROM a.dispatched_at - j.waits_since)::double precision AS waited_s,
       extract(epoch FROM a.ended_at - a.started_at)::double precision AS ran_s
FROM vidqueue.events e
JOIN vidqueue.attempts a ON a.job_id = e.job_id AND a.number = (e.data ->> 'attempt')::integer
JOIN vidqueue.jobs j ON j.id = e.job_id
WHERE e.number > %(number)s AND e.number <= %(upto)s
  AND e.kind IN ('running', 'interrupted', 'succeeded', 'failed', 'canceled')
  AND (e.kind IN ('running', a.outcome)
       OR a.outcome NOT IN ('succeeded', 'canceled') AND e.kind IN ('interrupted', 'failed') AND a.ended_at > e.at - interval '1 minute')
