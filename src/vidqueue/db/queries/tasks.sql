-- name: count
-- How many jobs have a tag, of one owner or of all, counted up to a limit.
SELECT count(*)::int AS jobs FROM (
    SELECT FROM unnest(CASE WHEN %(owner)s::text IS NULL THEN ARRAY(SELECT name FROM vidqueue.owners) ELSE ARRAY[%(owner)s::text] END) AS o (name)
    CROSS JOIN LATERAL (
        SELECT FROM vidqueue.job_tags t WHERE t.owner = o.name AND t.tag = %(tag)s ORDER BY t.state, t.job_id LIMIT %(limit)s) found
    LIMIT %(limit)s) counted

-- name: furthest
-- The largest progress that any attempt of a job has told, among the newest events of the job.
SELECT coalesce(max((e.data->>'progress')::real), 0) AS progress
FROM (SELECT kind, data FROM vidqueue.events WHERE job_id = %(job_id)s ORDER BY number DESC LIMIT %(limit)s) e
WHERE e.kind = 'progress'
