-- name: add
INSERT INTO vidqueue.files (id, owner, name, media_type, size, sha256, blake3, facts, node, published)
VALUES (%(id)s, %(owner)s, %(name)s, %(media_type)s, %(size)s, %(sha256)s, %(blake3)s, %(facts)s, %(node)s, %(published)s)

-- name: set_facts
-- Write facts that were found after the row was inserted.
UPDATE vidqueue.files SET facts = %(facts)s WHERE id = %(id)s

-- name: get
SELECT id, owner, name, media_type, size, sha256, blake3, facts, created_at, node, missing_at FROM vidqueue.files
WHERE id = %(id)s AND (%(owner)s::text IS NULL OR owner = %(owner)s)

-- name: by_sha256
-- A file with these bytes in this data folder, of one owner or of anybody.
SELECT id, owner, name, media_type, size, sha256, blake3, facts, created_at, node, missing_at FROM vidqueue.files
WHERE sha256 = %(hash)s AND (%(owner)s::text IS NULL OR owner = %(owner)s) AND node = %(node)s AND missing_at IS NULL LIMIT 1

-- name: renew_by_sha256
-- Begin the age of an upload anew, so that retention does not take what somebody has just asked for. A row that retention has
-- locked is passed over.
UPDATE vidqueue.files SET created_at = clock_timestamp(), expires_with_jobs = false WHERE id = (
    SELECT id FROM vidqueue.files
    WHERE sha256 = %(hash)s AND owner = %(owner)s AND NOT published AND node = %(node)s AND missing_at IS NULL
      AND (%(name)s::text IS NULL OR name = %(name)s) LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED)
RETURNING id, owner, name, media_type, size, sha256, blake3, facts, created_at, node, missing_at

-- name: by_blake3
-- A file with these bytes in this data folder, of one owner or of anybody.
SELECT id, owner, name, media_type, size, sha256, blake3, facts, created_at, node, missing_at FROM vidqueue.files
WHERE blake3 = %(hash)s AND (%(owner)s::text IS NULL OR owner = %(owner)s) AND node = %(node)s AND missing_at IS NULL LIMIT 1

-- name: renew_by_blake3
-- Begin the age of an upload anew, so that retention does not take what somebody has just asked for. A row that retention has
-- locked is passed over.
UPDATE vidqueue.files SET created_at = clock_timestamp(), expires_with_jobs = false WHERE id = (
    SELECT id FROM vidqueue.files
    WHERE blake3 = %(hash)s AND owner = %(owner)s AND NOT published AND node = %(node)s AND missing_at IS NULL
      AND (%(name)s::text IS NULL OR name = %(name)s) LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED)
RETURNING id, owner, name, media_type, size, sha256, blake3, facts, created_at, node, missing_at
-- name: uploads
-- Uploads, newest first: their ids begin with the time.
SELECT id, owner, name, media_type, size, sha256, blake3, facts, created_at, node, missing_at FROM vidqueue.files
WHERE NOT published AND id < %(before)s
ORDER BY id DESC LIMIT %(limit)s

-- name: uploads_of_owner
SELECT id, owner, name, media_type, size, sha256, blake3, facts, created_at, node, missing_at FROM vidqueue.files
WHERE NOT published AND owner = %(owner)s AND id < %(before)s
ORDER BY id DESC LIMIT %(limit)s

-- name: usage
SELECT owner, CASE WHEN published THEN 'outputs' ELSE 'uploads' END AS kind, count(*) AS files, sum(size)::bigint AS bytes
FROM vidqueue.files WHERE %(owner)s::text IS NULL OR owner = %(owner)s
GROUP BY owner, kind ORDER BY owner, kind

-- name: uploads_of_jobs
SELECT DISTINCT f.id FROM vidqueue.job_files u JOIN vidqueue.files f ON f.id = u.file_id
WHERE u.job_id = ANY (%(ids)s) AND NOT f.published

-- name: unread
-- Those that no job names, finished or not, and no schedule; asked after the lock.
SELECT f.id FROM vidqueue.files f
WHERE f.id = ANY (%(ids)s) AND NOT EXISTS (SELECT FROM vidqueue.outputs o WHERE o.file_id = f.id)
  AND NOT EXISTS (SELECT FROM vidqueue.job_files u WHERE u.file_id = f.id)
  AND NOT EXISTS (SELECT FROM vidqueue.schedules s WHERE f.id = ANY (s.files))

-- name: output
SELECT f.id, f.owner, f.name, f.media_type, f.size, f.sha256, f.blake3, f.facts, f.created_at, f.node, f.missing_at
FROM vidqueue.outputs o JOIN vidqueue.files f ON f.id = o.file_id JOIN vidqueue.jobs j ON j.id = o.job_id
WHERE o.job_id = %(job_id)s AND o.name = %(name)s AND (%(owner)s::text IS NULL OR j.owner = %(owner)s)

-- name: get_many
SELECT found.* FROM (SELECT DISTINCT unnest(%(ids)s::uuid[]) AS id) AS wanted CROSS JOIN LATERAL (
    SELECT id, owner, name, media_type, size, sha256, blake3, facts, created_at, node, missing_at FROM vidqueue.files f
    -- One look into the index for each, not one at all files of the owner.
    WHERE f.id = wanted.id OFFSET 0) found
WHERE found.owner = %(owner)s

-- name: outputs
-- The files behind many references to outputs, each with the job and the name of the reference.
SELECT found.* FROM unnest(%(job_ids)s::uuid[], %(names)s::text[]) AS wanted (job_id, name) CROSS JOIN LATERAL (
    SELECT o.job_id, o.name AS output, f.id, f.owner, f.name, f.media_type, f.size, f.sha256, f.blake3, f.facts, f.created_at, f.node, f.missing_at
    FROM vidqueue.outputs o JOIN vidqueue.files f ON f.id = o.file_id JOIN vidqueue.jobs j ON j.id = o.job_id
    WHERE o.job_id = wanted.job_id AND o.name = wanted.name AND j.owner = %(owner)s
    -- A few looks into indexes for each; a join might be planned to read all that the owner has.
    OFFSET 0) found

-- name: publish
INSERT INTO vidqueue.outputs (job_id, name, attempt, file_id) VALUES (%(job_id)s, %(name)s, %(attempt)s, %(file_id)s)

-- name: lock
-- Lock files; skip a file for which a job is being queued right now.
SELECT id FROM vidqueue.files WHERE id = ANY (%(ids)s) FOR UPDATE SKIP LOCKED

-- name: unused
-- Those that no job published, no unfinished job reads, no job has read since a time, and no schedule names. As with jobs.unneeded, this is a
-- separate statement after the lock.
SELECT f.id FROM vidqueue.files f
WHERE f.id = ANY (%(ids)s)
  AND NOT EXISTS (SELECT FROM vidqueue.outputs o WHERE o.file_id = f.id)
  AND NOT EXISTS (SELECT FROM vidqueue.job_files u JOIN vidqueue.jobs j ON j.id = u.job_id
                  WHERE u.file_id = f.id AND (j.finished_at IS NULL OR j.finished_at > %(since)s::timestamptz))
  AND NOT EXISTS (SELECT FROM vidqueue.schedules s WHERE f.id = ANY (s.files))

-- name: left
-- Those that are to leave, and that no job needs any more: one that has succeeded is never run again. Asked after the lock.
SELECT f.id FROM vidqueue.files f
WHERE f.id = ANY (%(ids)s) AND f.expires_with_jobs
  AND NOT EXISTS (SELECT FROM vidqueue.outputs o WHERE o.file_id = f.id)
  AND NOT EXISTS (SELECT FROM vidqueue.job_files u JOIN vidqueue.jobs j ON j.id = u.job_id
                  WHERE u.file_id = f.id AND j.state <> 'succeeded')
  AND NOT EXISTS (SELECT FROM vidqueue.schedules s WHERE f.id = ANY (s.files))

-- name: tell_published
-- Set the column for outputs published by a program from before it existed, so that they leave the index of uploads.
UPDATE vidqueue.files f SET published = true
WHERE f.id = ANY (%(ids)s) AND EXISTS (SELECT FROM vidqueue.outputs o WHERE o.file_id = f.id)

-- name: of_jobs
SELECT job_id, file_id FROM vidqueue.outputs WHERE job_id = ANY (%(ids)s)

-- name: delete_many
DELETE FROM vidqueue.files WHERE id = ANY (%(ids)s)

-- name: which_exist
SELECT id FROM vidqueue.files WHERE id = ANY (%(ids)s)

-- name: claim
-- Set the node of rows from before data folders had ids, whose bytes are in this one.
UPDATE vidqueue.files SET node = %(node)s WHERE id = ANY (%(ids)s) AND node IS NULL

-- name: claim_jobs
-- Waiting jobs that read such files go to the node of their inputs from now on.
UPDATE vidqueue.jobs j SET node = vidqueue.node_of_inputs(j.id)
WHERE j.id = ANY (ARRAY(SELECT u.job_id FROM vidqueue.job_files u WHERE u.file_id = ANY (%(ids)s)))
  -- No condition of an index, so that not all waiting jobs are looked at.
  AND j.state IS NOT DISTINCT FROM 'queued'

-- name: promised
SELECT id, sha256 FROM vidqueue.files WHERE node = %(node)s AND id > %(after)s ORDER BY id LIMIT %(limit)s

-- name: of_node
SELECT id, size FROM vidqueue.files WHERE node = %(node)s AND id > %(after)s ORDER BY id LIMIT %(limit)s

-- name: count_of_node
SELECT count(*) AS files FROM vidqueue.files WHERE node = %(node)s

-- name: mark
UPDATE vidqueue.files SET missing_at = CASE WHEN id = ANY (%(missing)s) THEN now() END
WHERE id = ANY (%(ids)s) AND (missing_at IS NOT NULL) <> (id = ANY (%(missing)s))

-- name: lost
SELECT count(*) AS files FROM vidqueue.files WHERE missing_at IS NOT NULL

-- name: host_of
SELECT host FROM vidqueue.lanes WHERE node = %(node)s ORDER BY seen_at DESC LIMIT 1
