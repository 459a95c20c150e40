-- name: cutoffs
-- By the clock of the database; NULL where something is kept for ever.
SELECT now() - make_interval(secs => 86400 * %(jobs_days)s::double precision) AS jobs,
       now() - make_interval(secs => 86400 * %(logs_days)s::double precision) AS logs,
       now() - make_interval(secs => 86400 * %(events_days)s::double precision) AS events,
       now() - make_interval(secs => 86400 * %(uploads_days)s::double precision) AS uploads

-- name: beyond_count
-- The end of the newest job that is one too many. Nobody has had the time to look at what ended within the last hour.
SELECT least((SELECT finished_at FROM vidqueue.jobs WHERE finished_at IS NOT NULL
              ORDER BY finished_at DESC OFFSET %(keep)s LIMIT 1), now() - interval '1 hour') AS before
WHERE (SELECT count(*) FROM vidqueue.jobs WHERE finished_at IS NOT NULL) > %(keep)s

-- name: bytes_here
SELECT coalesce(sum(size), 0)::bigint AS bytes FROM vidqueue.files WHERE node = %(node)s

-- name: beyond_size
-- Files by the time they were last of use, newest first: where their sum passes what may stay is the time to cut at.
-- What an unfinished job names, and what is younger than an hour, counts and stays.
WITH uses AS (
    SELECT f.id, f.size, CASE
        WHEN o.file_id IS NOT NULL THEN p.finished_at
        WHEN bool_or(w.id IS NOT NULL AND w.finished_at IS NULL) THEN 'infinity'
        ELSE greatest(f.created_at, max(w.finished_at)) END AS since
    FROM vidqueue.files f
    LEFT JOIN vidqueue.outputs o ON o.file_id = f.id
    LEFT JOIN vidqueue.jobs p ON p.id = o.job_id
    LEFT JOIN vidqueue.job_files u ON u.file_id = f.id
    LEFT JOIN vidqueue.jobs w ON w.id = u.job_id
    WHERE f.node = %(node)s
    GROUP BY f.id, f.size, f.created_at, o.file_id, p.finished_at
), sums AS (
    SELECT since, sum(size) OVER (ORDER BY since DESC) AS newer FROM uses
)
SELECT max(since) AS before FROM sums WHERE newer > %(keep)s AND since < now() - interval '1 hour'

-- name: hold_with_logs
SELECT id FROM vidqueue.jobs
WHERE finished_at IS NOT NULL AND (logs_pruned_at IS NULL OR logs_pruned_at < finished_at) AND finished_at <= %(before)s
ORDER BY finished_at LIMIT %(limit)s
FOR NO KEY UPDATE SKIP LOCKED

-- name: hold_with_events
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
-- Job by job, oldest first: the event that tells the end of a job is the last to go.
DELETE FROM vidqueue.events WHERE number = ANY (ARRAY(
    SELECT e.number FROM unnest(%(ids)s::uuid[]) job (id)
    CROSS JOIN LATERAL (SELECT number FROM vidqueue.events WHERE job_id = job.id ORDER BY number LIMIT %(limit)s) e
    LIMIT %(limit)s))

-- name: hold_jobs
-- The oldest finished jobs above a place in the line. Bytes in a folder whose own daemon runs are left to that daemon:
-- only it can remove them. OFFSET 0 keeps the looks inside the walk, which ends at the limit; a join would read all outputs.
SELECT j.id, j.finished_at FROM vidqueue.jobs j
WHERE j.finished_at <= %(before)s AND (j.finished_at, j.id) > (%(after)s, %(after_id)s)
  AND NOT EXISTS (SELECT FROM vidqueue.outputs o JOIN vidqueue.files f ON f.id = o.file_id
                  JOIN vidqueue.lanes l ON l.node = f.node AND l.state = 'online'
                  WHERE o.job_id = j.id AND f.node <> %(node)s OFFSET 0)
  AND (NOT %(only_here)s OR EXISTS (SELECT FROM vidqueue.outputs o JOIN vidqueue.files f ON f.id = o.file_id
                                    WHERE o.job_id = j.id AND f.node = %(node)s OFFSET 0))
ORDER BY j.finished_at, j.id LIMIT %(limit)s
FOR UPDATE OF j SKIP LOCKED

-- name: hold_uploads
SELECT f.id, f.created_at FROM vidqueue.files f
WHERE NOT f.published AND f.created_at <= %(before)s AND (f.created_at, f.id) > (%(after)s, %(after_id)s)
  AND NOT EXISTS (SELECT FROM vidqueue.lanes l WHERE l.node = f.node AND l.state = 'online' AND f.node <> %(node)s)
  AND (NOT %(only_here)s OR f.node = %(node)s)
ORDER BY f.created_at, f.id LIMIT %(limit)s
FOR UPDATE OF f SKIP LOCKED
