-- name: add
-- Begin an upload; nothing where the owner has too many that are not whole.
INSERT INTO vidqueue.uploads (id, owner, length, name, media_type, metadata, sha256, node, expires_at)
SELECT %(id)s, %(owner)s, %(length)s, %(name)s, %(media_type)s, %(metadata)s, %(sha256)s, %(node)s,
       clock_timestamp() + make_interval(secs => %(keep_s)s)
WHERE (SELECT count(*) FROM vidqueue.uploads u WHERE u.owner = %(owner)s AND u.finished_at IS NULL) < %(most)s

-- name: get
SELECT id, owner, length, received, name, media_type, metadata, sha256, node, created_at, expires_at, finished_at
FROM vidqueue.uploads
WHERE id = %(id)s AND (%(owner)s::text IS NULL OR owner = %(owner)s) AND expires_at > clock_timestamp()

-- name: unfinished
SELECT id, owner, length, received, name, media_type, metadata, sha256, node, created_at, expires_at, finished_at
FROM vidqueue.uploads
WHERE owner = %(owner)s AND finished_at IS NULL AND expires_at > clock_timestamp()
  AND (%(sha256)s::text IS NULL OR sha256 = %(sha256)s)
ORDER BY id DESC LIMIT %(limit)s

-- name: received
-- Bytes that are on the disk; the time in which more must arrive begins anew.
UPDATE vidqueue.uploads SET received = %(received)s, expires_at = clock_timestamp() + make_interval(secs => %(keep_s)s)
WHERE id = %(id)s AND finished_at IS NULL

-- name: finish
UPDATE vidqueue.uploads SET received = length, finished_at = clock_timestamp() WHERE id = %(id)s AND finished_at IS NULL

-- name: remove
DELETE FROM vidqueue.uploads
WHERE id = %(id)s AND (%(owner)s::text IS NULL OR owner = %(owner)s) AND expires_at > clock_timestamp()

-- name: remove_expired
DELETE FROM vidqueue.uploads WHERE id = ANY (ARRAY(
    SELECT id FROM vidqueue.uploads WHERE node = %(node)s AND expires_at <= statement_timestamp()
    ORDER BY expires_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED))
RETURNING id

-- name: which_unfinished
SELECT id FROM vidqueue.uploads WHERE id = ANY (%(ids)s) AND finished_at IS NULL
