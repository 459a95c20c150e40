-- name: all
SELECT scope, name, host, since, until, reason, draining FROM vidqueue_report.pauses ORDER BY scope, name, host

-- name: pause
SELECT vidqueue.pause(%(processor)s, %(for_s)s, %(reason)s)

-- name: resume
SELECT vidqueue.resume(%(processor)s)

-- name: lanes_named
-- The lanes of a name, on one host or on all.
SELECT id, host FROM vidqueue.lanes
WHERE name = %(name)s AND (%(host)s::text IS NULL OR host = %(host)s) AND (state = 'online' OR paused)
ORDER BY host

-- name: online
SELECT id FROM vidqueue.lanes WHERE state = 'online'

-- name: pause_lane
SELECT vidqueue.pause_lane(%(id)s, %(for_s)s, %(reason)s, %(drain)s)

-- name: resume_lane
SELECT vidqueue.resume_lane(%(id)s)

-- name: draining
-- Those of these lanes that shall give back what their executors hold.
SELECT l.id FROM vidqueue.lanes l WHERE l.id = ANY (%(ids)s) AND l.draining AND vidqueue.is_paused(l)
