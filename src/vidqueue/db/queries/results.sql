-- name: known
-- The outputs of the newest jobs of this owner that have done the same work in this data folder, newest first. None for a job
-- that must run, and none of which an output is elsewhere or gone.
SELECT r.job_id, o.name, f.id AS file_id, f.name AS filename, f.media_type, f.size, f.sha256, f.facts
FROM (SELECT r.job_id, r.at FROM vidqueue.results r JOIN vidqueue.jobs j ON j.id = r.job_id
      WHERE r.key = %(key)s AND j.owner = %(owner)s AND j.state = 'succeeded'
        AND (SELECT mine.cache FROM vidqueue.jobs mine WHERE mine.id = %(job_id)s)
      ORDER BY r.at DESC LIMIT %(limit)s) r
JOIN vidqueue.outputs o ON o.job_id = r.job_id JOIN vidqueue.files f ON f.id = o.file_id
WHERE NOT EXISTS (SELECT FROM vidqueue.outputs p JOIN vidqueue.files g ON g.id = p.file_id
                  WHERE p.job_id = r.job_id AND (g.node IS DISTINCT FROM %(node)s OR g.missing_at IS NOT NULL))
ORDER BY r.at DESC, r.job_id, o.name
