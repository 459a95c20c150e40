-- name: paths
-- The files whose content is known, in the order of their names.
SELECT path, size, changed_ns FROM vidqueue.watched_paths
WHERE folder = %(folder)s AND path > %(after_path)s ORDER BY path LIMIT %(limit)s

-- name: know_path
INSERT INTO vidqueue.watched_paths (folder, path, size, changed_ns, sha256)
VALUES (%(folder)s, %(path)s, %(size)s, %(changed_ns)s, %(sha256)s)
ON CONFLICT (folder, path) DO UPDATE SET size = excluded.size, changed_ns = excluded.changed_ns, sha256 = excluded.sha256

-- name: forget_paths
-- Files that are not there any more; their content stays known.
DELETE FROM vidqueue.watched_paths WHERE folder = %(folder)s AND path = ANY (%(names)s)

-- name: take
-- No row if the content was taken before; a second daemon waits here until the first has committed.
INSERT INTO vidqueue.watched_files (folder, sha256, path, size) VALUES (%(folder)s, %(sha256)s, %(path)s, %(size)s)
ON CONFLICT (folder, sha256) DO NOTHING RETURNING folder

-- name: became
UPDATE vidqueue.watched_files SET job_id = %(job_id)s, error = %(error)s WHERE folder = %(folder)s AND sha256 = %(sha256)s

-- name: to_deliver
-- Files whose jobs have succeeded, and whose outputs lie in this data folder.
SELECT w.sha256, w.path, w.job_id,
       (SELECT jsonb_agg(jsonb_build_object('name', o.name, 'file', f.id, 'filename', f.name, 'sha256', f.sha256) ORDER BY o.name)
        FROM vidqueue.outputs o JOIN vidqueue.files f ON f.id = o.file_id WHERE o.job_id = w.job_id) AS outputs
FROM vidqueue.watched_files w JOIN vidqueue.jobs j ON j.id = w.job_id AND j.state = 'succeeded'
WHERE w.folder = %(folder)s AND w.job_id IS NOT NULL AND w.delivered_at IS NULL
  AND NOT EXISTS (SELECT FROM vidqueue.outputs o JOIN vidqueue.files f ON f.id = o.file_id
                  WHERE o.job_id = w.job_id AND f.node IS DISTINCT FROM %(node)s)
ORDER BY w.job_id LIMIT %(limit)s

-- name: delivered
UPDATE vidqueue.watched_files SET delivered_at = clock_timestamp() WHERE folder = %(folder)s AND sha256 = %(sha256)s

-- name: newest
SELECT folder, path, size, sha256, at, job_id, state, error, delivered_at FROM vidqueue_report.watched_files
WHERE folder = %(folder)s ORDER BY at DESC LIMIT %(limit)s
