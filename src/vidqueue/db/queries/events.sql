-- name: latest
SELECT coalesce(max(number), 0) AS number FROM vidqueue.events

-- name: after
SELECT number, job_id, owner, kind, at, data FROM vidqueue.events
WHERE number > %(number)s
ORDER BY number LIMIT %(limit)s

-- name: kinds_after
SELECT coalesce(max(e.number), %(number)s) AS latest, count(*) AS count, coalesce(array_agg(DISTINCT e.kind), '{}') AS kinds
FROM (SELECT number, kind FROM vidqueue.events WHERE number > %(number)s ORDER BY number LIMIT %(limit)s) e

-- name: of_owner_after
-- Events of the machine have no owner.
SELECT number, job_id, owner, kind, at, data
FROM ((SELECT * FROM vidqueue.events WHERE owner = %(owner)s AND number > %(number)s ORDER BY number LIMIT %(limit)s)
      UNION ALL
      (SELECT * FROM vidqueue.events WHERE owner = '' AND number > %(number)s ORDER BY number LIMIT %(limit)s)) e
ORDER BY number LIMIT %(limit)s

-- name: of_job_after
SELECT number, job_id, owner, kind, at, data FROM vidqueue.events
WHERE job_id = %(job_id)s AND number > %(number)s AND (%(owner)s::text IS NULL OR owner = %(owner)s)
ORDER BY number LIMIT %(limit)s
