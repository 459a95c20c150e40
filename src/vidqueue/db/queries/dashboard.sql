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

-- name: related
-- A job with those that it comes after and those that come after it, over several steps; so many of each, so that it costs the
-- same however wide a graph is.
WITH RECURSIVE before (id, steps) AS (
    SELECT %(id)s::uuid, 0
    UNION
    SELECT n.id, b.steps + 1 FROM before b CROSS JOIN LATERAL (
        (SELECT d.depends_on AS id FROM vidqueue.job_dependencies d WHERE d.job_id = b.id ORDER BY d.depends_on LIMIT 8)
        UNION (SELECT j.parent_id FROM vidqueue.jobs j WHERE j.id = b.id AND j.parent_id IS NOT NULL)) n
    WHERE b.steps < 3
), after (id, steps) AS (
    SELECT %(id)s::uuid, 0
    UNION
    SELECT n.id, a.steps + 1 FROM after a CROSS JOIN LATERAL (
        (SELECT d.job_id AS id FROM vidqueue.job_dependencies d WHERE d.depends_on = a.id ORDER BY d.job_id LIMIT 8)
        UNION (SELECT j.id FROM vidqueue.jobs j WHERE j.parent_id = a.id ORDER BY j.id LIMIT 8)) n
    WHERE a.steps < 3
), nearest AS (
    SELECT id, min(steps) AS steps FROM (SELECT * FROM before UNION SELECT * FROM after) every GROUP BY id
    ORDER BY steps, id LIMIT 40
)
SELECT j.id, j.processor, j.title, j.state, j.progress FROM nearest n JOIN vidqueue.jobs j ON j.id = n.id

-- name: edges
-- What comes before what among these jobs.
SELECT d.depends_on AS before, d.job_id AS after, false AS is_parent FROM vidqueue.job_dependencies d
WHERE d.job_id = ANY (%(ids)s) AND d.depends_on = ANY (%(ids)s)
UNION ALL
SELECT j.parent_id, j.id, true FROM vidqueue.jobs j WHERE j.id = ANY (%(ids)s) AND j.parent_id = ANY (%(ids)s)

-- name: gauges
-- How busy the GPUs of the online lanes are.
SELECT l.host || '/' || l.name AS lane, g.gpu_memory_used_mb AS memory_used_mb, g.gpu_utilization AS utilization,
       g.gpu_temperature_c AS temperature_c, g.gpu_power_w AS power_w
FROM vidqueue.lane_gauges g JOIN vidqueue.lanes l ON l.id = g.lane_id
WHERE l.state = 'online' AND g.gpu_memory_used_mb IS NOT NULL

-- name: previews
-- Which of these running jobs have a preview picture. The version changes with the picture.
SELECT p.job_id, p.xmin::text AS version FROM vidqueue.previews p JOIN vidqueue.jobs j ON j.id = p.job_id
WHERE p.job_id = ANY (%(ids)s) AND j.state = 'running' AND p.attempt = j.attempt
