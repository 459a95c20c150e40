-- Reports: views that need no parameters. Whoever names some hours reads only those, along an index.
-- Expand only: an older program goes on with this schema while it drains.

ALTER TABLE vidqueue.attempt_usage ADD COLUMN wait_s double precision;
COMMENT ON COLUMN vidqueue.attempt_usage.wait_s IS 'Of a job''s first attempt: time from which the job might run until it was dispatched.';

-- One row: what using lanes costs, as the configuration of the daemon says that was started last.
CREATE TABLE vidqueue.prices (
    only_row       boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    currency       text NOT NULL DEFAULT 'EUR' CHECK (length(currency) <= 10),
    cpu_lane_hour  double precision NOT NULL DEFAULT 0,
    gpu_lane_hour  double precision NOT NULL DEFAULT 0,
    video_hour     double precision NOT NULL DEFAULT 0,
    output_gib     double precision NOT NULL DEFAULT 0
);
INSERT INTO vidqueue.prices DEFAULT VALUES;

-- As in 0035_usage, with what reports need. `hour` is that of the end, in UTC.
CREATE OR REPLACE VIEW vidqueue_report.attempts AS
SELECT a.job_id, j.processor, j.owner, a.number, a.host, a.lane, l.device, l.gpu_name, a.outcome, a.reason,
       a.error_code, a.error_message, a.dispatched_at, a.started_at, a.ended_at,
       extract(epoch FROM coalesce(a.ended_at, now()) - a.started_at)::numeric(12,3) AS lane_s,
       CASE l.device WHEN 'gpu' THEN extract(epoch FROM coalesce(a.ended_at, now()) - a.started_at)::numeric(12,3) ELSE 0 END AS gpu_s,
       u.cpu_s::numeric(12,2) AS cpu_s, u.input_bytes, u.video_s::numeric(12,3) AS video_s, j.source,
       vidqueue.hour_of(a.ended_at) AS hour, u.wait_s::numeric(12,3) AS wait_s, j.title,
       a.ended_at IS NOT NULL AND a.number = j.attempt AND j.finished_at IS NOT NULL AS was_last,
       j.state AS job_state,
       (SELECT sum(f.size) FROM vidqueue.outputs o JOIN vidqueue.files f ON f.id = o.file_id
        WHERE o.job_id = a.job_id AND o.attempt = a.number) AS output_bytes
FROM vidqueue.attempts a
JOIN vidqueue.jobs j ON j.id = a.job_id
JOIN vidqueue.lanes l ON l.id = a.lane_id
LEFT JOIN vidqueue.attempt_usage u ON u.job_id = a.job_id AND u.attempt = a.number;
COMMENT ON VIEW vidqueue_report.attempts IS 'Each try of a job. `hour` is that in which it ended: a condition on it reads only these.';

CREATE VIEW vidqueue_report.usage_hourly AS
SELECT hour, owner, processor, count(*) FILTER (WHERE was_last) AS jobs, count(*) AS attempts,
       coalesce(sum(lane_s), 0) AS lane_s, coalesce(sum(gpu_s), 0) AS gpu_s, coalesce(sum(cpu_s), 0) AS cpu_s,
       coalesce(sum(video_s) FILTER (WHERE was_last), 0) AS video_s,
       coalesce(sum(input_bytes) FILTER (WHERE was_last), 0)::bigint AS input_bytes,
       coalesce(sum(output_bytes) FILTER (WHERE was_last), 0)::bigint AS output_bytes
FROM vidqueue_report.attempts WHERE hour IS NOT NULL GROUP BY 1, 2, 3;
COMMENT ON VIEW vidqueue_report.usage_hourly IS
    'What the attempts used that ended in each hour. A job counts, with its video and its bytes, when its last attempt ends.';

CREATE VIEW vidqueue_report.waits_hourly AS
SELECT hour, processor, count(*) AS jobs,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY wait_s)::numeric(12,3) AS p50_s,
       percentile_cont(0.95) WITHIN GROUP (ORDER BY wait_s)::numeric(12,3) AS p95_s,
       percentile_cont(0.99) WITHIN GROUP (ORDER BY wait_s)::numeric(12,3) AS p99_s
FROM vidqueue_report.attempts WHERE wait_s IS NOT NULL AND hour IS NOT NULL GROUP BY 1, 2;
COMMENT ON VIEW vidqueue_report.waits_hourly IS 'How long the jobs had waited whose first attempt ended in each hour.';

CREATE VIEW vidqueue_report.failures_hourly AS
SELECT hour, error_code, processor, owner, count(*) AS attempts, count(*) FILTER (WHERE was_last AND job_state = 'failed') AS jobs_failed,
       max(ended_at) AS last_at
FROM vidqueue_report.attempts WHERE outcome = 'failed' AND hour IS NOT NULL GROUP BY 1, 2, 3, 4;
COMMENT ON VIEW vidqueue_report.failures_hourly IS 'Attempts that failed in each hour, by error code, and how many jobs failed with them.';

-- Each hour in which an attempt was on its lane; one that is there still counts until now.
CREATE VIEW vidqueue_report.lane_work AS
SELECT a.host, a.lane, a.device, h.hour, a.ended_hour,
       extract(epoch FROM least(a.until, h.hour + interval '1 hour') - greatest(a.since, h.hour))::numeric(12,3) AS busy_s
FROM (SELECT a.host, a.lane, l.device, a.started_at AS since, a.ended_at AS until, vidqueue.hour_of(a.ended_at) AS ended_hour
      FROM vidqueue.attempts a JOIN vidqueue.lanes l ON l.id = a.lane_id WHERE a.ended_at IS NOT NULL AND a.started_at IS NOT NULL
      UNION ALL
      SELECT a.host, a.lane, l.device, a.started_at, now(), vidqueue.hour_of(now())
      FROM vidqueue.attempts a JOIN vidqueue.lanes l ON l.id = a.lane_id WHERE a.ended_at IS NULL AND a.started_at IS NOT NULL) a
CROSS JOIN LATERAL generate_series(vidqueue.hour_of(a.since), a.until, interval '1 hour') AS h (hour);
COMMENT ON VIEW vidqueue_report.lane_work IS
    'Seconds of each hour in which a lane was at work. A condition on ended_hour, the hour in which the attempt ended, reads only these.';

CREATE VIEW vidqueue_report.lane_hours AS
SELECT host, lane, device, hour, sum(busy_s) AS busy_s,
       round(sum(busy_s) / greatest(1, least(3600, extract(epoch FROM now() - hour)))::numeric, 4) AS share
FROM vidqueue_report.lane_work WHERE ended_hour >= now() - interval '31 days' GROUP BY 1, 2, 3, 4;
COMMENT ON VIEW vidqueue_report.lane_hours IS 'Share of each hour in which a lane was at work, of the last 31 days.';

CREATE VIEW vidqueue_report.cost_hourly AS
SELECT u.hour, u.owner, u.processor, p.currency,
       ((u.lane_s - u.gpu_s) / 3600 * p.cpu_lane_hour::numeric + u.gpu_s / 3600 * p.gpu_lane_hour::numeric
        + u.video_s / 3600 * p.video_hour::numeric + u.output_bytes / 1073741824.0 * p.output_gib::numeric)::numeric(14,4) AS cost
FROM vidqueue_report.usage_hourly u CROSS JOIN vidqueue.prices p;
COMMENT ON VIEW vidqueue_report.cost_hourly IS 'What the usage of each hour costs by the prices of the configuration, also that of the past.';
