-- name: put
-- The newest upload of a name takes the place of an earlier one.
INSERT INTO vidqueue.library_files (owner, kind, name, file_id)
VALUES (%(owner)s, %(kind)s, %(name)s, %(file_id)s)
ON CONFLICT (owner, kind, name) DO UPDATE SET file_id = EXCLUDED.file_id

-- name: page
SELECT l.name, l.file_id, f.size, f.media_type
FROM vidqueue.library_files l JOIN vidqueue.files f ON f.id = l.file_id
WHERE l.owner = %(owner)s AND l.kind = %(kind)s
ORDER BY l.name LIMIT %(limit)s

-- name: find
SELECT l.name, l.kind, l.file_id
FROM vidqueue.library_files l
WHERE l.owner = %(owner)s AND l.kind = ANY (%(kinds)s) AND l.name = ANY (%(names)s)
