-- part: period
hour >= vidqueue.hour_of(%(since)s) AND hour < %(until)s AND (%(owner)s::text IS NULL OR owner = %(owner)s)

-- name: usage
-- What each owner used of each processor.
SELECT owner, processor, sum(jobs)::bigint AS jobs, sum(attempts)::bigint AS attempts, sum(lane_s)::float8 AS lane_s,
       sum(gpu_s)::float8 AS gpu_s, sum(cpu_s)::float8 AS cpu_s, sum(video_s)::float8 AS video_s,
       sum(input_bytes)::bigint AS input_bytes, sum(output_bytes)::bigint AS output_bytes
FROM vidqueue_report.usage_hourly WHERE
-- include: period
GROUP BY owner, processor ORDER BY lane_s DESC, owner, processor LIMIT %(limit)s

-- name: cost
-- What the usage of each owner costs, by the prices of the configuration.
SELECT owner, processor, currency, sum(cost)::float8 AS cost FROM vidqueue_report.cost_hourly WHERE
-- include: period
GROUP BY owner, processor, currency ORDER BY cost DESC, owner, processor LIMIT %(limit)s

-- name: waits
-- How long jobs had waited whose first attempt ended in each hour.
SELECT hour, processor, jobs, p50_s, p95_s, p99_s FROM vidqueue.waits_by_hour
WHERE hour >= vidqueue.hour_of(%(since)s) AND hour < %(until)s AND owner IS NOT DISTINCT FROM %(owner)s::text
ORDER BY hour DESC, processor LIMIT %(limit)s

-- name: failures
-- Attempts that failed, by error code.
SELECT error_code, processor, count(*) AS attempts, count(*) FILTER (WHERE was_last AND job_state = 'failed') AS jobs_failed,
       max(ended_at) AS last_at, (array_agg(job_id ORDER BY ended_at DESC))[1] AS last_job,
       (array_agg(error_message ORDER BY ended_at DESC))[1] AS last_message
FROM vidqueue_report.attempts WHERE outcome = 'failed' AND
-- include: period
GROUP BY error_code, processor ORDER BY attempts DESC, error_code, processor LIMIT %(limit)s

-- part: hours_of_lanes
SELECT hour, host, lane, sum(busy_s) AS busy_s FROM vidqueue.lane_work_by_hour
WHERE ended_hour >= vidqueue.hour_of(%(since)s) AND hour >= vidqueue.hour_of(%(since)s) AND hour < %(until)s
GROUP BY hour, host, lane

-- part: with_share
SELECT h.hour, h.host, h.lane, h.busy_s,
       round((h.busy_s / greatest(1, least(3600, extract(epoch FROM now() - h.hour))))::numeric, 4)::float8 AS share

-- name: lanes
-- Share of each hour in which a lane was at work, whoever's job it had. It is told of those hours that are shown.
-- include: with_share
FROM (
-- include: hours_of_lanes
ORDER BY hour DESC, host, lane LIMIT %(limit)s) h
ORDER BY h.hour DESC, h.host, h.lane

-- name: lanes_with_busiest
-- The first rows of `lanes`, and then every hour of those lanes that had the most work in the period: `is_first` tells them apart.
-- One count of the hours serves both.
WITH hours AS MATERIALIZED (
-- include: hours_of_lanes
), busiest AS (SELECT host, lane FROM hours GROUP BY host, lane ORDER BY sum(busy_s) DESC, host, lane LIMIT %(lanes)s
), h AS (
    (SELECT h.*, true AS is_first FROM hours h ORDER BY h.hour DESC, h.host, h.lane LIMIT %(limit)s)
    UNION ALL
    SELECT h.*, false FROM hours h JOIN busiest b ON b.host = h.host AND b.lane = h.lane
)
-- include: with_share
, h.is_first
FROM h ORDER BY h.hour DESC, h.host, h.lane

-- part: attempts_by_length
SELECT t.job_id, t.number, t.ended_at - t.started_at AS took FROM vidqueue.attempts t
WHERE vidqueue.hour_of(t.ended_at) >= vidqueue.hour_of(%(since)s) AND vidqueue.hour_of(t.ended_at) < %(until)s
  AND t.ended_at IS NOT NULL AND t.started_at IS NOT NULL
ORDER BY took DESC, t.job_id

-- part: shown_of
JOIN vidqueue.jobs j ON j.id = a.job_id
WHERE (%(owner)s::text IS NULL OR j.owner = %(owner)s) AND a.number = j.attempt AND j.finished_at IS NOT NULL
ORDER BY a.took DESC, a.job_id LIMIT %(limit)s

-- name: slowest
-- Jobs whose last attempt took longest; `speed` is seconds of video for each second. Only those that are shown are looked up.
-- To find the first ones costs much less than to put all attempts in order. Where all owners are asked for and few jobs were tried
-- more than once, they are enough.
WITH first AS MATERIALIZED (
-- include: attempts_by_length
LIMIT CASE WHEN %(owner)s::text IS NULL THEN 2 * %(limit)s::bigint + 100 ELSE 0 END
), of_first AS MATERIALIZED (
SELECT a.job_id, a.number, a.took FROM first a
-- include: shown_of
), enough AS MATERIALIZED (
SELECT %(owner)s::text IS NULL AND (count(*) = %(limit)s::bigint OR (SELECT count(*) FROM first) < 2 * %(limit)s::bigint + 100) AS are
FROM of_first
), longest AS (
SELECT o.job_id, o.number FROM of_first o WHERE (SELECT are FROM enough)
UNION ALL
SELECT o.job_id, o.number FROM (
SELECT a.job_id, a.number, a.took FROM (
-- include: attempts_by_length
-- OFFSET, so that jobs are looked up in this order until there are enough.
OFFSET 0) a
-- include: shown_of
) o WHERE NOT (SELECT are FROM enough)
)
SELECT a.job_id, a.processor, a.owner, a.source, a.title, a.job_state AS state, a.host, a.lane, a.ended_at, a.lane_s::float8 AS lane_s,
       a.video_s::float8 AS video_s, round(a.video_s / NULLIF(a.lane_s, 0), 3)::float8 AS speed
FROM longest l JOIN vidqueue_report.attempts a ON a.job_id = l.job_id AND a.number = l.number
ORDER BY a.lane_s DESC, a.job_id

-- name: eta
-- How far the expected times of attempts were off, as a share of what they took.
SELECT hour, processor, attempts, median_error::float8 AS median_error, within_a_quarter::float8 AS within_a_quarter
FROM vidqueue_report.eta_calibration WHERE hour >= vidqueue.hour_of(%(since)s) AND hour < %(until)s
ORDER BY hour DESC, processor LIMIT %(limit)s

-- name: settle_usage
-- Count the usage of one hour that is over.
SELECT vidqueue.settle_usage() AS settled

-- name: set_prices
UPDATE vidqueue.prices SET currency = %(currency)s, cpu_lane_hour = %(cpu_lane_hour)s, gpu_lane_hour = %(gpu_lane_hour)s,
                           video_hour = %(video_hour)s, output_gib = %(output_gib)s
WHERE (currency, cpu_lane_hour, gpu_lane_hour, video_hour, output_gib)
      IS DISTINCT FROM (%(currency)s, %(cpu_lane_hour)s::float8, %(gpu_lane_hour)s::float8, %(video_hour)s::float8, %(output_gib)s::float8)
