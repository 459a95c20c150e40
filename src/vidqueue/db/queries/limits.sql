-- name: every
-- What owners may have, with what they have at present.
SELECT l.owner, l.max_queued, l.max_running, l.max_per_minute, l.max_stored_bytes, l.max_gpu_s_per_day, l.weight, l.changed_at
FROM vidqueue.owner_limits l ORDER BY l.owner = '*' DESC, l.owner

-- name: set
INSERT INTO vidqueue.owner_limits AS l (owner, max_queued, max_running, max_per_minute, max_stored_bytes, max_gpu_s_per_day, weight)
VALUES (%(owner)s, %(max_queued)s, %(max_running)s, %(max_per_minute)s, %(max_stored_bytes)s, %(max_gpu_s_per_day)s, %(weight)s)
ON CONFLICT (owner) DO UPDATE SET
    max_queued = excluded.max_queued, max_running = excluded.max_running, max_per_minute = excluded.max_per_minute,
    max_stored_bytes = excluded.max_stored_bytes, max_gpu_s_per_day = excluded.max_gpu_s_per_day,
    weight = excluded.weight, changed_at = now()
RETURNING owner, max_queued, max_running, max_per_minute, max_stored_bytes, max_gpu_s_per_day, weight, changed_at

-- name: remove
DELETE FROM vidqueue.owner_limits WHERE owner = %(owner)s

-- name: of_processors
-- What all jobs of a processor together may have.
SELECT processor, max_queued, max_running, max_per_minute, max_gpu_s_per_day, changed_at FROM vidqueue.processor_limits ORDER BY processor

-- name: set_of_processor
INSERT INTO vidqueue.processor_limits AS l (processor, max_queued, max_running, max_per_minute, max_gpu_s_per_day)
VALUES (%(processor)s, %(max_queued)s, %(max_running)s, %(max_per_minute)s, %(max_gpu_s_per_day)s)
ON CONFLICT (processor) DO UPDATE SET
    max_queued = excluded.max_queued, max_running = excluded.max_running, max_per_minute = excluded.max_per_minute,
    max_gpu_s_per_day = excluded.max_gpu_s_per_day, changed_at = now()
RETURNING processor, max_queued, max_running, max_per_minute, max_gpu_s_per_day, changed_at

-- name: remove_of_processor
DELETE FROM vidqueue.processor_limits WHERE processor = %(processor)s

-- name: storage_left
-- How many more bytes an owner may store; NULL without a limit.
SELECT greatest(l.max_stored_bytes - vidqueue.stored_bytes(%(owner)s), 0) AS bytes FROM vidqueue.limits_of(%(owner)s) l
WHERE l.max_stored_bytes IS NOT NULL
