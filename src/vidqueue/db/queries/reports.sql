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
SELECT hour, processor, count(*) AS jobs,
       round(percentile_cont(0.5) WITHIN GROUP (ORDER BY wait_s)::numeric, 3)::float8 AS p50_s,
       round(percentile_cont(0.95) WITHIN GROUP (ORDER BY wait_s)::numeric, 3)::float8 AS p95_s,
       round(percentile_cont(0.99) WITHIN GROUP (ORDER BY wait_s)::numeric, 3)::float8 AS p99_s
FROM vidqueue_report.attempts WHERE wait_s IS NOT NULL AND
-- include: period
GROUP BY hour, processor ORDER BY hour DESC, processor LIMIT %(limit)s

-- name: failures
-- Attempts that failed, by error code.
SELECT error_code, processor, count(*) AS attempts, count(*) FILTER (WHERE was_last AND job_state = 'failed') AS jobs_failed,
       max(ended_at) AS last_at, (array_agg(job_id ORDER BY ended_at DESC))[1] AS last_job,
       (array_agg(error_message ORDER BY ended_at DESC))[1] AS last_message
FROM vidqueue_report.attempts WHERE outcome = 'failed' AND
-- include: period
GROUP BY error_code, processor ORDER BY attempts DESC, error_code, processor LIMIT %(limit)s

-- name: lanes
-- Share of each hour in which a lane was at work, whoever's job it had.
SELECT hour, host, lane, sum(busy_s)::float8 AS busy_s,
       round(sum(busy_s) / greatest(1, least(3600, extract(epoch FROM now() - hour)))::numeric, 4)::float8 AS share
FROM vidqueue_report.lane_work
WHERE ended_hour >= vidqueue.hour_of(%(since)s) AND hour >= vidqueue.hour_of(%(since)s) AND hour < %(until)s
GROUP BY hour, host, lane ORDER BY hour DESC, host, lane LIMIT %(limit)s

-- name: slowest
-- Jobs whose last attempt took longest; `speed` is seconds of video for each second.
SELECT job_id, processor, owner, source, title, job_state AS state, host, lane, ended_at, lane_s::float8 AS lane_s,
       video_s::float8 AS video_s, round(video_s / NULLIF(lane_s, 0), 3)::float8 AS speed
FROM vidqueue_report.attempts WHERE was_last AND lane_s IS NOT NULL AND
-- include: period
ORDER BY lane_s DESC, job_id LIMIT %(limit)s

-- name: eta
-- How far the expected times of attempts were off, as a share of what they took.
SELECT hour, processor, attempts, median_error::float8 AS median_error, within_a_quarter::float8 AS within_a_quarter
FROM vidqueue_report.eta_calibration WHERE hour >= vidqueue.hour_of(%(since)s) AND hour < %(until)s
ORDER BY hour DESC, processor LIMIT %(limit)s

-- name: set_prices
UPDATE vidqueue.prices SET currency = %(currency)s, cpu_lane_hour = %(cpu_lane_hour)s, gpu_lane_hour = %(gpu_lane_hour)s,
                           video_hour = %(video_hour)s, output_gib = %(output_gib)s
WHERE (currency, cpu_lane_hour, gpu_lane_hour, video_hour, output_gib)
      IS DISTINCT FROM (%(currency)s, %(cpu_lane_hour)s::float8, %(gpu_lane_hour)s::float8, %(video_hour)s::float8, %(output_gib)s::float8)
