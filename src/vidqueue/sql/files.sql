-- name: add
INSERT INTO vidqueue.files (id, owner, name, media_type, size, sha256, facts)
VALUES (%(id)s, %(owner)s, %(name)s, %(media_type)s, %(size)s, %(sha256)s, %(facts)s)

-- name: get
SELECT id, owner, name, media_type, size, sha256, facts, created_at FROM vidqueue.files
WHERE id = %(id)s AND (%(owner)s::text IS NULL OR owner = %(owner)s)

-- name: output
SELECT f.id, f.owner, f.name, f.media_type, f.size, f.sha256, f.facts, f.created_at
FROM vidqueue.outputs o JOIN vidqueue.files f ON f.id = o.file_id JOIN vidqueue.jobs j ON j.id = o.job_id
WHERE o.job_id = %(job_id)s AND o.name = %(name)s AND (%(owner)s::text IS NULL OR j.owner = %(owner)s)

-- name: publish
INSERT INTO vidqueue.outputs (job_id, name, attempt, file_id) VALUES (%(job_id)s, %(name)s, %(attempt)s, %(file_id)s)

-- name: delete_unused
-- Nothing that a job published, or that a job still has to read, is ever deleted.
DELETE FROM vidqueue.files f
WHERE f.id = %(id)s AND (%(owner)s::text IS NULL OR f.owner = %(owner)s)
  AND NOT EXISTS (SELECT FROM vidqueue.outputs o WHERE o.file_id = f.id)
  AND NOT EXISTS (SELECT FROM vidqueue.jobs j WHERE j.state IN ('queued', 'running')
                  AND jsonb_path_exists(j.input, 'strict $.** ? (@ == $ref)',
                                        jsonb_build_object('ref', 'vq:files/' || f.id), true))
RETURNING f.id

-- name: of_job
SELECT f.id FROM vidqueue.outputs o JOIN vidqueue.files f ON f.id = o.file_id WHERE o.job_id = %(job_id)s

-- name: delete_many
DELETE FROM vidqueue.files WHERE id = ANY (%(ids)s)

-- name: which_exist
SELECT id FROM vidqueue.files WHERE id = ANY (%(ids)s)
