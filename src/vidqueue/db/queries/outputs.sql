-- name: publish
-- Publish one output of a running attempt; false if its fence is outdated, or a cancel was accepted.
SELECT vidqueue.publish_output(%(job_id)s, %(attempt)s, %(fence)s, %(output)s) AS published

-- name: discarded
-- Files of this data folder whose rows are gone and whose bytes are still to be removed.
SELECT id FROM vidqueue.discarded_files WHERE node = %(node)s LIMIT %(limit)s

-- name: forget_discarded
DELETE FROM vidqueue.discarded_files WHERE id = ANY (%(ids)s)

-- name: save_preview
-- Replace the preview of a running attempt; nothing happens if its fence is outdated. Does not wait for the disk.
WITH unsynced AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true))
INSERT INTO vidqueue.previews (job_id, attempt, picture)
SELECT j.id, j.attempt, %(picture)s FROM unsynced, vidqueue.jobs j
WHERE j.id = %(job_id)s AND j.fence = %(fence)s AND j.state = 'running'
ON CONFLICT (job_id) DO UPDATE SET attempt = excluded.attempt, picture = excluded.picture

-- name: preview
SELECT p.picture FROM vidqueue.previews p JOIN vidqueue.jobs j ON j.id = p.job_id
WHERE p.job_id = %(job_id)s AND j.state = 'running' AND p.attempt = j.attempt AND (%(owner)s::text IS NULL OR j.owner = %(owner)s)

-- name: forget_preview
DELETE FROM vidqueue.previews WHERE job_id = %(job_id)s AND attempt = %(attempt)s
