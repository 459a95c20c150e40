-- Views for people and dashboards: no parameters, no secrets. Grant a role USAGE and SELECT on this schema alone.

CREATE SCHEMA vidqueue_report;

CREATE VIEW vidqueue_report.jobs AS
SELECT j.id, j.processor, j.state, j.owner, j.title, j.tags, j.priority, j.device, j.lane, j.progress, j.stage,
       j.attempt AS attempts, j.failures, j.error_code, j.error_message,
       j.created_at, j.started_at, j.finished_at,
       extract(epoch FROM coalesce(j.started_at, j.finished_at, now()) - j.created_at)::numeric(12,3) AS waited_s,
       extract(epoch FROM coalesce(j.finished_at, now()) - j.started_at)::numeric(12,3) AS ran_s,
       (SELECT sum(f.size) FROM vidqueue.outputs o JOIN vidqueue.files f ON f.id = o.file_id WHERE o.job_id = j.id) AS output_bytes
FROM vidqueue.jobs j;

CREATE VIEW vidqueue_report.attempts AS
SELECT a.job_id, j.processor, j.owner, a.number, a.host, a.lane, l.device, l.gpu_name, a.outcome, a.reason,
       a.error_code, a.error_message, a.dispatched_at, a.started_at, a.ended_at,
       extract(epoch FROM coalesce(a.ended_at, now()) - a.started_at)::numeric(12,3) AS lane_s
FROM vidqueue.attempts a
JOIN vidqueue.jobs j ON j.id = a.job_id
JOIN vidqueue.lanes l ON l.id = a.lane_id;

CREATE VIEW vidqueue_report.throughput_hourly AS
SELECT date_trunc('hour', j.finished_at) AS hour, j.processor, j.owner,
       count(*) AS jobs,
       count(*) FILTER (WHERE j.state = 'succeeded') AS succeeded,
       count(*) FILTER (WHERE j.state = 'failed') AS failed,
       count(*) FILTER (WHERE j.state = 'canceled') AS canceled,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM j.started_at - j.created_at))::numeric(12,3) AS median_wait_s,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM j.finished_at - j.started_at))::numeric(12,3) AS median_run_s
FROM vidqueue.jobs j
WHERE j.finished_at IS NOT NULL
GROUP BY 1, 2, 3;

CREATE VIEW vidqueue_report.failures AS
SELECT a.error_code, j.processor, count(*) AS attempts, count(DISTINCT a.job_id) AS jobs,
       count(DISTINCT a.job_id) FILTER (WHERE j.state = 'failed') AS jobs_failed,
       max(a.ended_at) AS last_at,
       (array_agg(a.error_message ORDER BY a.ended_at DESC))[1] AS last_message,
       (array_agg(a.job_id ORDER BY a.ended_at DESC))[1] AS last_job
FROM vidqueue.attempts a JOIN vidqueue.jobs j ON j.id = a.job_id
WHERE a.outcome = 'failed'
GROUP BY 1, 2;

-- Zero rows as long as vidqueue keeps its promises.
CREATE VIEW vidqueue_report.invariant_violations AS
SELECT 'running job has exactly one open attempt' AS invariant, j.id AS job_id,
       format('state %s, open attempts %s', j.state, count(a.*)) AS detail
FROM vidqueue.jobs j LEFT JOIN vidqueue.attempts a ON a.job_id = j.id AND a.ended_at IS NULL
GROUP BY j.id HAVING (j.state = 'running') <> (count(a.*) = 1)
UNION ALL
SELECT 'open attempt carries the fence of its job', a.job_id, format('attempt %s', a.number)
FROM vidqueue.attempts a JOIN vidqueue.jobs j ON j.id = a.job_id
WHERE a.ended_at IS NULL AND (j.fence IS DISTINCT FROM a.fence OR j.attempt <> a.number)
UNION ALL
SELECT 'attempts burned are counted', j.id, format('failures %s, burned %s', j.failures, count(a.*))
FROM vidqueue.jobs j LEFT JOIN vidqueue.attempts a ON a.job_id = j.id AND a.outcome = 'failed'
GROUP BY j.id HAVING j.failures > count(a.*)
UNION ALL
SELECT 'attempt numbers are contiguous and fences rise', x.job_id, format('attempt %s', x.number)
FROM (SELECT a.job_id, a.number, a.fence, lag(a.number, 1, 0) OVER w AS before, lag(a.fence, 1, -1::bigint) OVER w AS fence_before
      FROM vidqueue.attempts a WINDOW w AS (PARTITION BY a.job_id ORDER BY a.number)) x
WHERE x.number <> x.before + 1 OR x.fence <= x.fence_before
UNION ALL
SELECT 'attempts of a job do not overlap', b.job_id, format('attempt %s', b.number)
FROM vidqueue.attempts a JOIN vidqueue.attempts b ON b.job_id = a.job_id AND b.number = a.number + 1
WHERE a.ended_at IS NULL OR b.dispatched_at < a.ended_at
UNION ALL
SELECT 'the last state event tells the state', j.id, format('state %s, last event %s', j.state, e.kind)
FROM vidqueue.jobs j CROSS JOIN LATERAL (
    SELECT e.kind FROM vidqueue.events e
    WHERE e.job_id = j.id AND e.kind IN ('queued', 'running', 'interrupted', 'succeeded', 'failed', 'canceled')
    ORDER BY e.number DESC LIMIT 1) e
WHERE j.state <> CASE e.kind WHEN 'interrupted' THEN 'queued' ELSE e.kind END
UNION ALL
SELECT 'progress of an attempt never falls', x.job_id, format('event %s', x.number)
FROM (SELECT e.job_id, e.number, (e.data->>'progress')::real AS progress,
             lag((e.data->>'progress')::real) OVER (PARTITION BY e.job_id, e.data->>'attempt' ORDER BY e.number) AS before
      FROM vidqueue.events e WHERE e.kind = 'progress') x
WHERE x.progress < x.before
UNION ALL
SELECT 'succeeded job published by its winning attempt', j.id, 'no output of a succeeded attempt'
FROM vidqueue.jobs j
WHERE j.state = 'succeeded' AND NOT EXISTS (
    SELECT FROM vidqueue.outputs o JOIN vidqueue.attempts a ON a.job_id = o.job_id AND a.number = o.attempt
    WHERE o.job_id = j.id AND a.outcome = 'succeeded')
UNION ALL
SELECT 'failed or canceled job publishes nothing', j.id, o.name
FROM vidqueue.jobs j JOIN vidqueue.outputs o ON o.job_id = j.id
WHERE j.state IN ('failed', 'canceled')
UNION ALL
SELECT 'an expired lease is rescued', a.job_id, format('attempt %s, expired %s', a.number, a.lease_expires_at)
FROM vidqueue.attempts a WHERE a.ended_at IS NULL AND a.lease_expires_at < clock_timestamp() - interval '60 s'
UNION ALL
SELECT 'cancel takes effect within 30 s', j.id, format('asked %s', j.cancel_requested_at)
FROM vidqueue.jobs j WHERE j.state = 'running' AND j.cancel_requested_at < clock_timestamp() - interval '30 s'
UNION ALL
SELECT 'no job waits for one that cannot come', d.job_id, format('depends on %s', d.depends_on)
FROM vidqueue.job_dependencies d JOIN vidqueue.jobs j ON j.id = d.job_id JOIN vidqueue.jobs p ON p.id = d.depends_on
WHERE j.state = 'queued' AND p.state IN ('failed', 'canceled');
