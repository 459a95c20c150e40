-- name: every
-- What owners may have, with what they have at present.
SELECT l.owner, l.max_queued, l.max_running, l.max_per_minute, l.max_stored_bytes, l.changed_at
FROM vidqueue.owner_limits l ORDER BY l.owner = '*' DESC, l.owner

-- name: set
INSERT INTO vidqueue.owner_limits AS l (owner, max_queued, max_running, max_per_minute, max_stored_bytes)
VALUES (%(owner)s, %(max_queued)s, %(max_running)s, %(max_per_minute)s, %(max_stored_bytes)s)
ON CONFLICT (owner) DO UPDATE SET
    max_queued = excluded.max_queued, max_running = excluded.max_running, max_per_minute = excluded.max_per_minute,
    max_stored_bytes = excluded.max_stored_bytes, changed_at = now()
RETURNING owner, max_queued, max_running, max_per_minute, max_stored_bytes, changed_at

-- name: remove
DELETE FROM vidqueue.owner_limits WHERE owner = %(owner)s

-- name: storage_left
-- How many more bytes an owner may store; NULL without a limit.
SELECT greatest(l.max_stored_bytes - vidqueue.stored_bytes(%(owner)s), 0) AS bytes FROM vidqueue.limits_of(%(owner)s) l
WHERE l.max_stored_bytes IS NOT NULL
