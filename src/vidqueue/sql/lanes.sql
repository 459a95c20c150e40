-- name: register
INSERT INTO vidqueue.lanes AS l (node, host, name, device, takes, gpu_uuid, gpu_name, vram_mb, queue, state)
VALUES (%(node)s, %(host)s, %(name)s, %(device)s, %(takes)s, %(gpu_uuid)s, %(gpu_name)s, %(vram_mb)s, %(queue)s, 'online')
ON CONFLICT (node, name) DO UPDATE SET
    host = excluded.host, device = excluded.device, takes = excluded.takes, gpu_uuid = excluded.gpu_uuid,
    gpu_name = excluded.gpu_name, vram_mb = excluded.vram_mb, queue = excluded.queue, state = 'online',
    warm = '{}', seen_at = now()
RETURNING id

-- name: node_offline
UPDATE vidqueue.lanes SET state = 'offline' WHERE node = %(node)s

-- name: warmed
UPDATE vidqueue.lanes SET warm = %(warm)s WHERE id = %(id)s

-- name: page
SELECT l.id, l.name, l.host, l.device, l.takes, l.gpu_name, l.vram_mb, l.state, l.paused, l.warm,
       a.job_id, a.number AS attempt, a.started_at, j.processor, j.title, j.owner, j.progress, j.stage, j.fps, j.eta_s
FROM vidqueue.lanes l
LEFT JOIN vidqueue.attempts a ON a.lane_id = l.id AND a.ended_at IS NULL
LEFT JOIN vidqueue.jobs j ON j.id = a.job_id
WHERE %(with_offline)s OR l.state = 'online'
ORDER BY l.host, l.device DESC, l.name

-- name: register_processor
INSERT INTO vidqueue.processors (name, device, description) VALUES (%(name)s, %(device)s, %(description)s)
ON CONFLICT (name) DO UPDATE SET device = excluded.device, description = excluded.description, seen_at = now()
