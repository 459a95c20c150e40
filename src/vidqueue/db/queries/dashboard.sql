-- name: failures
-- Why the newest thousand failed jobs failed, those that ended within the last 24 hours.
SELECT f.error_code AS code, count(*)::bigint AS jobs, max(f.finished_at) AS last_at
FROM (SELECT found.error_code, found.finished_at
      FROM
      unnest(CASE WHEN %(owner)s::text IS NULL THEN ARRAY(SELECT name FROM vidqueue.owners) ELSE ARRAY[%(owner)s::text] END) AS o (name) CROSS JOIN LATERAL (
          SELECT j.id, j.error_code, j.finished_at FROM vidqueue.jobs j
          WHERE j.owner = o.name AND j.state = 'failed'
          ORDER BY j.id DESC LIMIT 1000) found
      ORDER BY found.id DESC LIMIT 1000) f
WHERE f.finished_at > now() - interval '24 hours'
GROUP BY f.error_code ORDER BY jobs DESC, code

-- name: relatives
-- The jobs that a job needs, those that need it, its parent, and its children; the first fifty of each.
(SELECT 'needs' AS relation, j.id, j.processor, j.title, j.state, j.progress
 FROM vidqueue.job_dependencies d JOIN vidqueue.jobs j ON j.id = d.depends_on WHERE d.job_id = %(id)s ORDER BY j.id LIMIT 50)
UNION ALL
(SELECT 'parent', p.id, p.processor, p.title, p.state, p.progress
 FROM vidqueue.jobs j JOIN vidqueue.jobs p ON p.id = j.parent_id WHERE j.id = %(id)s)
UNION ALL
(SELECT 'child', j.id, j.processor, j.title, j.state, j.progress
 FROM vidqueue.jobs j WHERE j.parent_id = %(id)s ORDER BY j.id LIMIT 50)
UNION ALL
(SELECT 'needed by', j.id, j.processor, j.title, j.state, j.progress
 FROM vidqueue.job_dependencies d JOIN vidqueue.jobs j ON j.id = d.job_id WHERE d.depends_on = %(id)s ORDER BY j.id LIMIT 50)

-- name: previews
-- Which of these running jobs have a preview picture. The version changes with the picture.
SELECT p.job_id, p.xmin::text AS version FROM vidqueue.previews p JOIN vidqueue.jobs j ON j.id = p.job_id
WHERE p.job_id = ANY (%(ids)s) AND j.state = 'running' AND p.attempt = j.attempt

-- name: lock_jobs
-- Lock those of these jobs that are in one of the states, in the order of their ids, so that two sessions do not deadlock.
SELECT id FROM vidqueue.jobs
WHERE id = ANY (%(ids)s) AND state = ANY (%(states)s) AND (%(owner)s::text IS NULL OR owner = %(owner)s)
ORDER BY id FOR UPDATE
