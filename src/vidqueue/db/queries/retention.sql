-- name: cutoffs
-- Cutoff times by the clock of the database; NULL if there is no limit.
SELECT now() AS now, now() - make_interval(secs => 86400 * %(jobs_days)s::double precision) AS jobs,
       now() - make_interval(secs => 86400 * %(logs_days)s::double precision) AS logs,
       now() - make_interval(secs => 86400 * %(events_days)s::double precision) AS events,
       now() - make_interval(secs => 86400 * %(uploads_days)s::double precision) AS uploads

-- name: beyond_count
-- The end of the newest job beyond the limit. It reads as many jobs as must be removed, from the oldest on. Jobs that ended
-- within the last hour are kept, so that somebody can fetch their outputs.
SELECT least((SELECT finished_at FROM vidqueue.jobs WHERE finished_at IS NOT NULL
              ORDER BY finished_at, id OFFSET excess.jobs - 1 LIMIT 1), now() - interval '1 hour') AS before
FROM (SELECT sum(jobs)::bigint - %(keep)s::bigint AS jobs FROM vidqueue.jobs_counted
      WHERE state IN ('succeeded', 'failed', 'canceled')) excess
WHERE excess.jobs > 0

-- name: bytes_here
SELECT coalesce(sum(size), 0)::bigint AS bytes FROM vidqueue.files WHERE node = %(node)s

-- name: oldest_jobs
-- The next finished jobs after a position, each with the size of its outputs in this data folder.
SELECT j.id, j.finished_at AS since,
       (SELECT coalesce(sum(f.size), 0) FROM vidqueue.outputs o JOIN vidqueue.files f ON f.id = o.file_id
        WHERE o.job_id = j.id AND f.node = %(node)s)::bigint AS size
FROM vidqueue.jobs j
WHERE (j.finished_at, j.id) > (%(after)s, %(after_id)s) AND j.finished_at < now() - interval '1 hour'
ORDER BY j.finished_at, j.id LIMIT %(limit)s

-- name: last_read_by
-- Uploads in this data folder that no unfinished job reads, and whose last reader is one of these jobs.
SELECT f.id, r.finished_at AS since, f.size
FROM vidqueue.job_files u JOIN vidqueue.jobs r ON r.id = u.job_id JOIN vidqueue.files f ON f.id = u.file_id
WHERE u.job_id = ANY (%(ids)s) AND r.finished_at >= f.created_at AND f.node = %(node)s AND NOT f.published
  AND NOT EXISTS (SELECT FROM vidqueue.job_files v JOIN vidqueue.jobs w ON w.id = v.job_id
                  WHERE v.file_id = u.file_id
                    AND (w.finished_at IS NULL OR (w.finished_at, w.id) > (r.finished_at, r.id)))

-- name: oldest_uploads
-- The next uploads after a position; `read` if a job has read them since they arrived, or still has to.
SELECT f.id, f.created_at AS since, f.size,
       EXISTS (SELECT FROM vidqueue.job_files u JOIN vidqueue.jobs j ON j.id = u.job_id
               WHERE u.file_id = f.id AND (j.finished_at IS NULL OR j.finished_at >= f.created_at)) AS read
FROM vidqueue.files f
WHERE NOT f.published AND f.node = %(node)s
  AND (f.created_at, f.id) > (%(after)s, %(after_id)s) AND f.created_at < now() - interval '1 hour'
ORDER BY f.created_at, f.id LIMIT %(limit)s

-- name: lock_listed
-- Those of these jobs that no other session has locked, and that have no bytes in the folder of another running daemon.
SELECT j.id, j.finished_at FROM vidqueue.jobs j
WHERE j.id = ANY (%(ids)s)
  AND NOT EXISTS (SELECT FROM vidqueue.outputs o JOIN vidqueue.files f ON f.id = o.file_id
                  JOIN vidqueue.lanes l ON l.node = f.node AND l.state = 'online'
                  WHERE o.job_id = j.id AND f.node <> %(node)s)
FOR UPDATE OF j SKIP LOCKED

-- name: lock_with_logs
SELECT id FROM vidqueue.jobs
WHERE finished_at IS NOT NULL AND (logs_pruned_at IS NULL OR logs_pruned_at < finished_at) AND finished_at <= %(before)s
ORDER BY finished_at LIMIT %(limit)s
FOR NO KEY UPDATE SKIP LOCKED

-- name: lock_with_events
SELECT id FROM vidqueue.jobs
WHERE finished_at IS NOT NULL AND (events_pruned_at IS NULL OR events_pruned_at < finished_at) AND finished_at <= %(before)s
ORDER BY finished_at LIMIT %(limit)s
FOR NO KEY UPDATE SKIP LOCKED

-- name: logs_pruned
UPDATE vidqueue.jobs SET logs_pruned_at = clock_timestamp() WHERE id = ANY (%(ids)s)

-- name: events_pruned
UPDATE vidqueue.jobs SET events_pruned_at = clock_timestamp() WHERE id = ANY (%(ids)s)

-- name: forget_logs
DELETE FROM vidqueue.attempt_logs WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM vidqueue.attempt_logs WHERE job_id = ANY (%(ids)s) LIMIT %(limit)s))

-- name: forget_events
-- Job by job, oldest first, so that the event of a job's end is deleted last.
DELETE FROM vidqueue.events WHERE number = ANY (ARRAY(
    SELECT e.number FROM unnest(%(ids)s::uuid[]) job (id)
    CROSS JOIN LATERAL (SELECT number FROM vidqueue.events WHERE job_id = job.id ORDER BY number LIMIT %(limit)s) e
    LIMIT %(limit)s))

-- name: forget_events_of_no_job
-- Events of the machine and of schedules.
DELETE FROM vidqueue.events WHERE number = ANY (ARRAY(
    SELECT number FROM vidqueue.events WHERE job_id IS NULL AND at <= %(before)s ORDER BY at LIMIT %(limit)s))

-- name: forget_schedule_runs
DELETE FROM vidqueue.schedule_runs WHERE (schedule_id, due_at) IN (
    SELECT schedule_id, due_at FROM vidqueue.schedule_runs WHERE at <= %(before)s ORDER BY at LIMIT %(limit)s)

-- name: forget_audit
DELETE FROM vidqueue.audit WHERE number IN (SELECT number FROM vidqueue.audit WHERE at <= %(before)s ORDER BY at LIMIT %(limit)s)

-- name: lock_jobs
-- The oldest finished jobs after a position. Jobs with bytes in a data folder whose own daemon runs are left to that daemon,
-- because only it can remove them. OFFSET 0 keeps the subqueries inside the index scan, which ends at the limit; a join
-- would read all outputs.
SELECT j.id, j.finished_at FROM vidqueue.jobs j
WHERE j.finished_at <= %(before)s AND (j.finished_at, j.id) > (%(after)s, %(after_id)s)
  AND NOT EXISTS (SELECT FROM vidqueue.outputs o JOIN vidqueue.files f ON f.id = o.file_id
                  JOIN vidqueue.lanes l ON l.node = f.node AND l.state = 'online'
                  WHERE o.job_id = j.id AND f.node <> %(node)s OFFSET 0)
ORDER BY j.finished_at, j.id LIMIT %(limit)s
FOR UPDATE OF j SKIP LOCKED

-- name: lock_kept_until
-- As lock_jobs, for jobs whose own time is over.
SELECT j.id, j.kept_until AS finished_at FROM vidqueue.jobs j
WHERE j.kept_until <= %(before)s AND (j.kept_until, j.id) > (%(after)s, %(after_id)s)
  AND NOT EXISTS (SELECT FROM vidqueue.outputs o JOIN vidqueue.files f ON f.id = o.file_id
                  JOIN vidqueue.lanes l ON l.node = f.node AND l.state = 'online'
                  WHERE o.job_id = j.id AND f.node <> %(node)s OFFSET 0)
ORDER BY j.kept_until, j.id LIMIT %(limit)s
FOR UPDATE OF j SKIP LOCKED

-- name: lock_expiring
-- The next uploads that expire with their jobs, whether those have ended or not.
SELECT f.id, f.created_at FROM vidqueue.files f
WHERE f.expires_with_jobs AND NOT f.published AND (f.created_at, f.id) > (%(after)s, %(after_id)s)
  AND NOT EXISTS (SELECT FROM vidqueue.lanes l WHERE l.node = f.node AND l.state = 'online' AND f.node <> %(node)s)
ORDER BY f.created_at, f.id LIMIT %(limit)s
FOR UPDATE OF f SKIP LOCKED

-- name: lock_uploads
SELECT f.id, f.created_at FROM vidqueue.files f
WHERE NOT f.published AND f.created_at <= %(before)s AND (f.created_at, f.id) > (%(after)s, %(after_id)s)
  AND NOT EXISTS (SELECT FROM vidqueue.lanes l WHERE l.node = f.node AND l.state = 'online' AND f.node <> %(node)s)
ORDER BY f.created_at, f.id LIMIT %(limit)s
FOR UPDATE OF f SKIP LOCKED
