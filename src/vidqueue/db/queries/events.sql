-- name: latest
SELECT coalesce(max(number), 0) AS number FROM vidqueue.events

-- name: after
SELECT number, job_id, owner, kind, at, data FROM vidqueue.events
WHERE number > %(number)s
  AND (%(job_id)s::uuid IS NULL OR job_id = %(job_id)s)
  AND (%(owner)s::text IS NULL OR owner = %(owner)s)
ORDER BY number LIMIT %(limit)s
