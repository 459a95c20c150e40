-- name: add
INSERT INTO vidqueue.api_keys (owner, role, name, prefix, hash, expires_at)
VALUES (%(owner)s, %(role)s, %(name)s, %(prefix)s, %(hash)s, %(expires_at)s)
RETURNING id, owner, role, name, prefix, created_at, expires_at, used_at, revoked_at

-- name: every
-- All keys, newest first. There are as many as people and programs.
SELECT id, owner, role, name, prefix, created_at, expires_at, used_at, revoked_at FROM vidqueue.api_keys ORDER BY id DESC

-- name: usable
-- How many keys there are at all, and those that may be used, by hash.
SELECT k.id, k.owner, k.role, k.hash, k.expires_at, k.revoked_at IS NULL AND coalesce(k.expires_at > now(), true) AS usable
FROM vidqueue.api_keys k

-- name: revoke
UPDATE vidqueue.api_keys SET revoked_at = coalesce(revoked_at, now()) WHERE id = %(id)s
RETURNING id, owner, role, name, prefix, created_at, expires_at, used_at, revoked_at

-- name: remove
DELETE FROM vidqueue.api_keys WHERE id = %(id)s AND revoked_at IS NOT NULL

-- name: used
UPDATE vidqueue.api_keys SET used_at = now()
WHERE id = ANY (%(ids)s) AND coalesce(used_at < now() - interval '1 minute', true)
