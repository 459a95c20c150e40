-- name: learned
-- The successes among the newest attempts, with the time on their lane and the size of their inputs. Each job and each usage
-- is looked up for itself: a join might be planned for all attempts that there are. A result that was known took no time, which says
-- nothing of the work.
SELECT (SELECT j.processor FROM vidqueue.jobs j WHERE j.id = a.job_id) AS processor,
       greatest(0, extract(epoch FROM a.ended_at - a.started_at)::float8 - a.suspended_s) AS run_s,
       (SELECT u.input_bytes FROM vidqueue.attempt_usage u WHERE u.job_id = a.job_id AND u.attempt = a.number) AS input_bytes,
       extract(epoch FROM now() - a.ended_at)::float8 AS ago_s
FROM (SELECT job_id, number, outcome, started_at, ended_at, suspended_s, metrics FROM vidqueue.attempts
      WHERE ended_at IS NOT NULL ORDER BY ended_at DESC LIMIT %(limit)s) a
WHERE a.outcome = 'succeeded' AND a.started_at IS NOT NULL AND NOT a.metrics ? 'cached_from'
ORDER BY a.ended_at DESC

-- name: line
-- The first jobs of the line of each kind of lane, with the size of their stored inputs.
SELECT w.id, w.processor, w.device, w.wanted_lane, w.labels,
       (SELECT sum(f.size)::bigint FROM vidqueue.job_files u JOIN vidqueue.files f ON f.id = u.file_id WHERE u.job_id = w.id) AS input_bytes
FROM (VALUES ('cpu'), ('gpu')) d (device) CROSS JOIN LATERAL (
    SELECT j.id, j.processor, j.device, j.wanted_lane, j.labels, j.rank FROM vidqueue.jobs j
    WHERE j.ready AND j.device = d.device ORDER BY j.rank, j.id LIMIT %(limit)s) w
ORDER BY w.rank, w.id
