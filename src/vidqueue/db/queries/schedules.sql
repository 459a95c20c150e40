-- part: columns
id, owner, name, cron, timezone, job, missed, one_at_a_time, paused, declared_by, next_at, created_at

-- name: add
-- No row if the owner has a schedule of this name, or a thousand of them.
INSERT INTO vidqueue.schedules (owner, name, cron, timezone, job, files, jobs, missed, one_at_a_time, paused, next_at)
SELECT %(owner)s, %(name)s, %(cron)s, %(timezone)s, %(job)s, %(files)s, %(jobs)s, %(missed)s, %(one_at_a_time)s, %(paused)s,
       %(next_at)s
WHERE (SELECT count(*) FROM vidqueue.schedules WHERE owner = %(owner)s) < 1000
ON CONFLICT (owner, name) DO NOTHING
RETURNING
-- include: columns

-- name: declare
-- Write a schedule of a configuration. Its next time stays unless its times have changed, so that those at which the daemon
-- was stopped are missed ones; a pause stays too.
INSERT INTO vidqueue.schedules AS s (owner, name, cron, timezone, job, files, jobs, missed, one_at_a_time, paused, next_at, declared_by)
VALUES (%(owner)s, %(name)s, %(cron)s, %(timezone)s, %(job)s, %(files)s, %(jobs)s, %(missed)s, %(one_at_a_time)s, false,
        %(next_at)s, %(node)s)
ON CONFLICT (owner, name) DO UPDATE SET
    cron = excluded.cron, timezone = excluded.timezone, job = excluded.job, files = excluded.files, jobs = excluded.jobs,
    missed = excluded.missed, one_at_a_time = excluded.one_at_a_time, declared_by = coalesce(s.declared_by, excluded.declared_by),
    next_at = CASE WHEN (s.cron, s.timezone) = (excluded.cron, excluded.timezone) THEN s.next_at ELSE excluded.next_at END

-- name: undeclare
-- Delete those that the configuration of a data folder had and has no more.
DELETE FROM vidqueue.schedules WHERE declared_by = %(node)s AND name <> ALL (%(names)s) RETURNING name

-- name: change
UPDATE vidqueue.schedules SET
    cron = %(cron)s, timezone = %(timezone)s, job = %(job)s, files = %(files)s, jobs = %(jobs)s, missed = %(missed)s,
    one_at_a_time = %(one_at_a_time)s, paused = %(paused)s, next_at = %(next_at)s
WHERE id = %(id)s AND owner = %(owner)s
RETURNING
-- include: columns

-- name: list
SELECT
-- include: columns
FROM vidqueue.schedules WHERE owner = %(owner)s ORDER BY name

-- name: every
SELECT
-- include: columns
FROM vidqueue.schedules WHERE %(owner)s::text IS NULL OR owner = %(owner)s ORDER BY name, owner LIMIT 1000

-- name: last_runs
SELECT s.id AS schedule_id, r.due_at, r.at, r.outcome, r.job_id, r.error, j.state
FROM unnest(%(ids)s::uuid[]) AS s (id) CROSS JOIN LATERAL (
    SELECT * FROM vidqueue.schedule_runs r WHERE r.schedule_id = s.id ORDER BY r.due_at DESC LIMIT %(limit)s) r
LEFT JOIN vidqueue.jobs j ON j.id = r.job_id
ORDER BY r.due_at DESC

-- name: get
SELECT
-- include: columns
FROM vidqueue.schedules WHERE id = %(id)s AND owner = %(owner)s

-- name: lock
SELECT
-- include: columns
FROM vidqueue.schedules WHERE id = %(id)s FOR UPDATE

-- name: remove
DELETE FROM vidqueue.schedules WHERE id = %(id)s AND owner = %(owner)s

-- name: due
SELECT
-- include: columns
FROM vidqueue.schedules WHERE NOT paused AND next_at <= %(now)s ORDER BY next_at LIMIT 50

-- name: next
SELECT min(next_at) AS next_at FROM vidqueue.schedules WHERE NOT paused

-- name: unfinished
-- True if a job of an earlier run has not ended.
SELECT EXISTS (SELECT FROM vidqueue.schedule_runs r JOIN vidqueue.jobs j ON j.id = r.job_id
               WHERE r.schedule_id = %(id)s AND j.state IN ('queued', 'running')) AS unfinished

-- name: advance
UPDATE vidqueue.schedules SET next_at = %(next_at)s, paused = %(paused)s WHERE id = %(id)s

-- name: ran
-- A time comes again where the clock of the daemon was set back and the schedule was changed: the newer run is kept.
INSERT INTO vidqueue.schedule_runs (schedule_id, due_at, outcome, job_id, error)
VALUES (%(id)s, %(due_at)s, %(outcome)s, %(job_id)s, %(error)s)
ON CONFLICT (schedule_id, due_at) DO UPDATE SET
    at = excluded.at, outcome = excluded.outcome, job_id = excluded.job_id, error = excluded.error

-- name: forget_oldest
DELETE FROM vidqueue.schedule_runs WHERE schedule_id = %(id)s AND due_at <= (
    SELECT due_at FROM vidqueue.schedule_runs WHERE schedule_id = %(id)s ORDER BY due_at DESC OFFSET 1000 LIMIT 1)

-- name: runs
SELECT r.due_at, r.at, r.outcome, r.job_id, r.error, j.state FROM vidqueue.schedule_runs r LEFT JOIN vidqueue.jobs j ON j.id = r.job_id
WHERE r.schedule_id = %(id)s ORDER BY r.due_at DESC LIMIT %(limit)s
