-- name: add
INSERT INTO vidqueue.webhooks (owner, url, events) VALUES (%(owner)s, %(url)s, %(events)s)
RETURNING id, owner, url, events, created_at, disabled_at

-- name: list
SELECT id, owner, url, events, created_at, disabled_at FROM vidqueue.webhooks WHERE owner = %(owner)s ORDER BY id LIMIT 1000

-- name: count
SELECT count(*) AS webhooks FROM vidqueue.webhooks WHERE owner = %(owner)s

-- name: get
SELECT id, owner, url, events, created_at, disabled_at FROM vidqueue.webhooks WHERE id = %(id)s AND owner = %(owner)s

-- name: remove
DELETE FROM vidqueue.webhooks WHERE id = %(id)s AND owner = %(owner)s

-- name: disable
UPDATE vidqueue.webhooks SET disabled_at = clock_timestamp() WHERE id = %(id)s AND disabled_at IS NULL

-- name: claim
-- Take deliveries that are due, a few of each receiver, so that no receiver keeps the others waiting: receivers are found
-- by hops in the index. A sender that dies leaves them to be sent again after the lease.
WITH RECURSIVE receivers (receiver) AS (
    (SELECT d.receiver FROM vidqueue.webhook_deliveries d WHERE d.state = 'pending' ORDER BY d.receiver LIMIT 1)
    UNION ALL
    SELECT (SELECT d.receiver FROM vidqueue.webhook_deliveries d WHERE d.state = 'pending' AND d.receiver > r.receiver
            ORDER BY d.receiver LIMIT 1)
    FROM receivers r WHERE r.receiver IS NOT NULL
), due AS MATERIALIZED (
    SELECT one.id, one.next_at FROM receivers r CROSS JOIN LATERAL (
        SELECT d.id, d.next_at FROM vidqueue.webhook_deliveries d
        WHERE d.state = 'pending' AND d.receiver = r.receiver AND d.next_at <= statement_timestamp()
        ORDER BY d.next_at LIMIT %(each)s FOR UPDATE SKIP LOCKED) one
    WHERE r.receiver IS NOT NULL AND r.receiver <> ALL (%(busy)s)
), chosen AS (
    SELECT id FROM due ORDER BY next_at LIMIT %(limit)s
)
UPDATE vidqueue.webhook_deliveries d
SET tries = d.tries + 1, next_at = clock_timestamp() + make_interval(secs => %(lease_s)s)
FROM chosen WHERE d.id = chosen.id AND d.state = 'pending'
RETURNING d.id, d.job_id, d.webhook_id, d.url, d.receiver, d.kind, d.data, d.tries, d.created_at,
          CASE WHEN d.webhook_id IS NULL
               THEN (SELECT j.webhook ->> 'prediction_base' FROM vidqueue.jobs j WHERE j.id = d.job_id) END AS prediction_base

-- name: delivered
UPDATE vidqueue.webhook_deliveries SET state = 'delivered', ended_at = clock_timestamp(), status = %(status)s, error = NULL
WHERE id = %(id)s AND state = 'pending'

-- name: failed
-- Try again later, unless it is final or a day has passed.
UPDATE vidqueue.webhook_deliveries SET
    status = %(status)s, error = %(error)s,
    state = CASE WHEN %(final)s OR clock_timestamp() > until THEN 'dead' ELSE 'pending' END,
    ended_at = CASE WHEN %(final)s OR clock_timestamp() > until THEN clock_timestamp() END,
    next_at = clock_timestamp() + make_interval(secs => %(delay_s)s)
WHERE id = %(id)s AND state = 'pending'
RETURNING state

-- name: drop
DELETE FROM vidqueue.webhook_deliveries WHERE id = %(id)s

-- part: shown
SELECT id, job_id, webhook_id, url, kind, attempt, state, tries, status, error, created_at,
       CASE WHEN state = 'pending' THEN next_at END AS next_at, ended_at
FROM vidqueue.webhook_deliveries

-- name: of_job
-- include: shown
WHERE job_id = %(job_id)s ORDER BY id DESC LIMIT 1000

-- name: page
-- include: shown
WHERE owner = %(owner)s AND state = %(state)s AND id < %(before)s ORDER BY id DESC LIMIT %(limit)s

-- name: resend
UPDATE vidqueue.webhook_deliveries SET
    state = 'pending', ended_at = NULL, next_at = clock_timestamp(), until = clock_timestamp() + interval '24 hours'
WHERE id = %(id)s AND (%(owner)s::text IS NULL OR owner = %(owner)s)
RETURNING id, job_id, webhook_id, url, kind, attempt, state, tries, status, error, created_at, next_at, ended_at
