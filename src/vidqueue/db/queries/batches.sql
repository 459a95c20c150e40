-- name: new_ids
-- Ids in ascending order, so that the jobs of a batch are in the order of the request in lists that are sorted by id.
SELECT array_agg(n.id ORDER BY n.id) AS ids
FROM (SELECT vidqueue.new_id() AS id FROM generate_series(1, %(count)s)) n

-- name: of_key
-- The batch that was created with an idempotency key.
SELECT id, request_hash FROM vidqueue.batches WHERE owner = %(owner)s AND idempotency_key = %(key)s

-- name: create
-- A concurrent request with the same key waits here until the other one has committed, and gets no row.
INSERT INTO vidqueue.batches (id, owner, title, size, idempotency_key, request_hash)
VALUES (%(id)s, %(owner)s, %(title)s, %(size)s, %(idempotency_key)s, %(request_hash)s)
ON CONFLICT (owner, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
RETURNING id

-- name: add_jobs
-- The same defaults as vidqueue.accept(), for all jobs in one statement.
INSERT INTO vidqueue.jobs (id, batch_id, owner, processor, input, title, tags, priority, device, vram_mb, wanted_lane,
                           run_at, expires_at, max_attempts, timeout_s, stall_timeout_s, webhook, keep_s, cache, labels)
SELECT m.id, %(batch_id)s, %(owner)s, m.processor, m.input, m.title, m.tags, m.priority, m.device, m.vram_mb, m.lane,
       coalesce(m.run_at, now()), m.expires_at, coalesce(m.max_attempts, p.max_attempts, 3),
       coalesce(m.timeout_s, p.timeout_s, 86400), coalesce(m.stall_timeout_s, p.stall_timeout_s, 300),
       m.webhook, m.keep_s, m.cache, coalesce(m.labels, '{}')
FROM jsonb_to_recordset(%(members)s) AS m (
    id uuid, processor text, input jsonb, title text, tags text[], priority integer, device text, vram_mb integer,
    lane text, run_at timestamptz, expires_at timestamptz, max_attempts integer, timeout_s double precision,
    stall_timeout_s double precision, webhook jsonb, keep_s double precision, cache boolean, labels text[])
LEFT JOIN vidqueue.processors p ON p.name = m.processor
ORDER BY m.id

-- name: forget_uploads
SELECT vidqueue.forget_uploads(VARIADIC %(job_ids)s::uuid[]) AS forgotten

-- name: add_owner
INSERT INTO vidqueue.owners (name) VALUES (%(owner)s) ON CONFLICT DO NOTHING

-- name: add_dependencies
INSERT INTO vidqueue.job_dependencies (job_id, depends_on, reads)
SELECT job_id, depends_on, %(reads)s FROM unnest(%(job_ids)s::uuid[], %(depends_on)s::uuid[]) AS n (job_id, depends_on)

-- name: lock_dependencies
-- Locked until the new jobs are committed, so that a job that fails meanwhile sees that they depend on it.
-- IS NOT DISTINCT FROM is no condition of an index, so they are looked up by id and not among all jobs of the owner.
SELECT id, state FROM vidqueue.jobs WHERE id = ANY (%(ids)s) AND owner IS NOT DISTINCT FROM %(owner)s ORDER BY id FOR SHARE

-- name: get
SELECT b.id, b.owner, b.title, b.jobs AS size, b.queued, b.running, b.succeeded, b.failed, b.canceled, b.deleted,
       b.progress, b.created_at, b.started_at, b.finished_at,
       ARRAY(SELECT j.id FROM vidqueue.jobs j WHERE j.batch_id = b.id AND j.state = 'failed' ORDER BY j.id) AS failed_jobs
FROM vidqueue_report.batches b
WHERE b.id = %(id)s AND (%(owner)s::text IS NULL OR b.owner = %(owner)s)

-- name: jobs
SELECT id FROM vidqueue.jobs WHERE batch_id = %(id)s ORDER BY id

-- name: lock_jobs
-- In the order of their ids, so that two concurrent sessions do not deadlock.
SELECT id FROM vidqueue.jobs WHERE batch_id = %(id)s AND state = ANY (%(states)s) ORDER BY id FOR UPDATE

-- name: not_retryable
-- Those of these locked jobs that depend on a failed or canceled job, directly or through another of these jobs.
WITH RECURSIVE outside AS MATERIALIZED (
    SELECT d.job_id, p.state FROM vidqueue.job_dependencies d JOIN vidqueue.jobs p ON p.id = d.depends_on
    WHERE d.job_id = ANY (%(ids)s) AND p.id <> ALL (%(ids)s)
    ORDER BY p.id
    FOR SHARE OF p
), blocked (id) AS (
    SELECT job_id FROM outside WHERE state IN ('failed', 'canceled')
    UNION
    SELECT d.job_id FROM blocked JOIN vidqueue.job_dependencies d ON d.depends_on = blocked.id
    WHERE d.job_id = ANY (%(ids)s)
)
SELECT id FROM blocked

-- name: lock
SELECT id FROM vidqueue.batches WHERE id = ANY (%(ids)s) ORDER BY id FOR UPDATE

-- name: delete_empty
DELETE FROM vidqueue.batches b
WHERE b.id = ANY (%(ids)s) AND NOT EXISTS (SELECT FROM vidqueue.jobs j WHERE j.batch_id = b.id)

-- name: page
-- Newest first, by keyset. The counts read the jobs of each batch of the page.
SELECT b.id, b.owner, b.title, b.jobs AS size, b.queued, b.running, b.succeeded, b.failed, b.canceled, b.deleted,
       b.progress, b.created_at, b.started_at, b.finished_at, '{}'::uuid[] AS failed_jobs
FROM (SELECT found.id
      FROM unnest(CASE WHEN %(owner)s::text IS NULL THEN ARRAY(SELECT name FROM vidqueue.owners) ELSE ARRAY[%(owner)s::text] END)
           AS o (name) CROSS JOIN LATERAL (
          SELECT b.id FROM vidqueue.batches b WHERE b.owner = o.name AND b.id < %(before)s
          ORDER BY b.id DESC LIMIT %(limit)s) found
      ORDER BY found.id DESC LIMIT %(limit)s) picked
JOIN vidqueue_report.batches b ON b.id = picked.id
ORDER BY picked.id DESC
