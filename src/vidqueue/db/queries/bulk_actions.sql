-- name: add
-- What has ended long ago goes when a new one comes.
WITH forgotten AS (
    DELETE FROM vidqueue.bulk_actions WHERE id IN (
        SELECT id FROM vidqueue.bulk_actions WHERE id < vidqueue.first_id(now() - interval '30 days') AND ended_at IS NOT NULL
        ORDER BY id LIMIT 100)
)
INSERT INTO vidqueue.bulk_actions (owner, scope, verb, priority, selection, states, begins_at)
SELECT %(owner)s, %(scope)s, %(verb)s, %(priority)s, %(selection)s, %(states)s, clock_timestamp() + make_interval(secs => %(delay_s)s)
WHERE (SELECT count(*) FROM vidqueue.bulk_actions WHERE ended_at IS NULL) < 100
RETURNING id

-- name: get
SELECT id, owner, verb, priority, selection, states, state, matched, looked, changed, begins_at, created_at, ended_at, error
FROM vidqueue_report.bulk_actions
WHERE id = %(id)s AND (%(owner)s::text IS NULL OR owner = %(owner)s)

-- name: newest
SELECT id, owner, verb, priority, selection, states, state, matched, looked, changed, begins_at, created_at, ended_at, error
FROM vidqueue_report.bulk_actions
WHERE %(owner)s::text IS NULL OR owner = %(owner)s
ORDER BY id DESC LIMIT %(limit)s

-- name: undo
-- Waits for the transaction in which a step is being done.
UPDATE vidqueue.bulk_actions SET ended_at = clock_timestamp(), undone = true
WHERE id = %(id)s AND ended_at IS NULL AND (%(owner)s::text IS NULL OR owner = %(owner)s)
RETURNING id

-- name: open
-- Those that have not ended, and how long until each begins.
SELECT id, matched IS NULL AND looked = 0 AS uncounted, extract(epoch FROM begins_at - clock_timestamp())::double precision AS begins_in_s
FROM vidqueue.bulk_actions WHERE ended_at IS NULL ORDER BY begins_at LIMIT 100

-- name: work_of
-- What a bulk action does to which jobs.
SELECT id, scope, verb, priority, selection, states, created_at, reached FROM vidqueue.bulk_actions WHERE id = %(id)s

-- name: lock
-- Lock a bulk action for its next step; no row if another daemon does it, or it has ended or not begun.
SELECT id, scope, verb, priority, selection, states, created_at, reached FROM vidqueue.bulk_actions
WHERE id = %(id)s AND ended_at IS NULL AND begins_at <= clock_timestamp()
FOR UPDATE SKIP LOCKED

-- name: counted
UPDATE vidqueue.bulk_actions SET matched = %(matched)s WHERE id = %(id)s AND ended_at IS NULL

-- name: advance
UPDATE vidqueue.bulk_actions SET
    looked = looked + %(looked)s, changed = changed + %(changed)s, reached = coalesce(%(reached)s, reached),
    ended_at = CASE WHEN %(ends)s THEN clock_timestamp() END
WHERE id = %(id)s

-- name: fail
UPDATE vidqueue.bulk_actions SET ended_at = clock_timestamp(), error = %(error)s WHERE id = %(id)s AND ended_at IS NULL

-- name: lock_jobs
-- Lock those of these jobs that are in one of the states, in the order of their ids, so that two sessions do not deadlock.
SELECT id FROM vidqueue.jobs
WHERE id = ANY (%(ids)s) AND state = ANY (%(states)s) AND (%(owner)s::text IS NULL OR owner = %(owner)s)
ORDER BY id FOR UPDATE

-- name: set_priority
UPDATE vidqueue.jobs SET priority = %(priority)s WHERE id = ANY (%(ids)s) AND priority <> %(priority)s RETURNING id
