-- name: register
INSERT INTO vidqueue.lanes AS l (node, host, name, device, takes, processors, gpu_uuid, gpu_name, vram_mb, queue, process, labels, state)
VALUES (%(node)s, %(host)s, %(name)s, %(device)s, %(takes)s, %(processors)s, %(gpu_uuid)s, %(gpu_name)s, %(vram_mb)s, %(queue)s,
        %(process)s, %(labels)s, 'online')
ON CONFLICT (node, name) DO UPDATE SET
    host = excluded.host, device = excluded.device, takes = excluded.takes, processors = excluded.processors, gpu_uuid = excluded.gpu_uuid,
    gpu_name = excluded.gpu_name, vram_mb = excluded.vram_mb, queue = excluded.queue, state = 'online',
    process = excluded.process, labels = excluded.labels, blocked_by = NULL, warm = '{}', peers = '[]', seen_at = now()
RETURNING id

-- name: node_offline
UPDATE vidqueue.lanes SET state = 'offline' WHERE node = %(node)s

-- name: seen
-- Update seen_at of a daemon's lanes, and mark them online again if they were offline.
UPDATE vidqueue.lanes SET seen_at = clock_timestamp(), state = 'online' WHERE node = %(node)s AND process = %(process)s

-- name: unseen_offline
-- Mark lanes offline whose daemon has not updated seen_at for too long. The time starts again when the server does.
UPDATE vidqueue.lanes SET state = 'offline'
WHERE state = 'online' AND process IS NOT NULL AND seen_at < clock_timestamp() - make_interval(secs => %(patience_s)s)
  AND pg_postmaster_start_time() < clock_timestamp() - make_interval(secs => %(patience_s)s)

-- name: process_offline
UPDATE vidqueue.lanes SET state = 'offline' WHERE process = %(process)s

-- name: suspects
-- Whether there is anything for the reaper to do; its other queries say what.
SELECT EXISTS (SELECT FROM vidqueue.lanes l WHERE starts_with(l.process, %(machine)s) AND l.node <> %(node)s
               AND (l.state = 'online' OR EXISTS (SELECT FROM vidqueue.attempts a WHERE a.lane_id = l.id AND a.ended_at IS NULL)))
           AS neighbours,
       EXISTS (SELECT FROM vidqueue.attempts a WHERE a.ended_at IS NULL AND a.lease_expires_at < statement_timestamp()
               AND pg_postmaster_start_time() < clock_timestamp() - make_interval(secs => %(lease_s)s)) AS leases,
       EXISTS (SELECT FROM vidqueue.jobs WHERE state = 'queued' AND attempt = 0 AND expires_at <= statement_timestamp()) AS deadlines

-- name: online_on_machine
SELECT DISTINCT process FROM vidqueue.lanes
WHERE state = 'online' AND starts_with(process, %(machine)s) AND node <> %(node)s

-- name: working
SELECT l.queue, EXISTS (SELECT FROM vidqueue.attempts a WHERE a.lane_id = l.id AND a.ended_at IS NULL) AS works
FROM vidqueue.lanes l WHERE l.node = %(node)s AND l.state = 'online'

-- name: block
-- Set the reason why each lane is blocked, or NULL if it may work; return the rows that changed.
UPDATE vidqueue.lanes l SET blocked_by = wanted.blocked_by
FROM unnest(%(ids)s::uuid[], %(reasons)s::text[]) AS wanted (id, blocked_by)
WHERE l.id = wanted.id AND l.blocked_by IS DISTINCT FROM wanted.blocked_by
RETURNING l.name, l.blocked_by

-- name: offer
-- Write the processors that a daemon has now into its lanes.
UPDATE vidqueue.lanes SET processors = %(processors)s, warm = '{}' WHERE node = %(node)s

-- name: warmed
UPDATE vidqueue.lanes SET warm = %(warm)s WHERE id = %(id)s

-- name: write_peers
-- Write the managed peers of these lanes, as people see them.
UPDATE vidqueue.lanes l SET peers = written.peers
FROM unnest(%(ids)s::uuid[], %(peers)s::jsonb[]) AS written (id, peers) WHERE l.id = written.id

-- name: write_gauges
INSERT INTO vidqueue.lane_gauges AS g (lane_id, executor_starts, gpu_memory_used_mb, gpu_utilization, gpu_temperature_c, gpu_power_w)
SELECT * FROM unnest(%(lane_id)s::uuid[], %(executor_starts)s::bigint[], %(gpu_memory_used_mb)s::integer[],
                     %(gpu_utilization)s::integer[], %(gpu_temperature_c)s::integer[], %(gpu_power_w)s::real[])
ON CONFLICT (lane_id) DO UPDATE SET
    at = clock_timestamp(), executor_starts = excluded.executor_starts, gpu_memory_used_mb = excluded.gpu_memory_used_mb,
    gpu_utilization = excluded.gpu_utilization, gpu_temperature_c = excluded.gpu_temperature_c, gpu_power_w = excluded.gpu_power_w

-- name: page
SELECT l.id, l.name, l.host, l.device, l.takes, l.gpu_name, l.vram_mb, l.state, vidqueue.is_paused(l) AS paused,
       l.paused_until, l.pause_reason, l.draining, l.blocked_by, l.warm, l.peers, l.others_mb, l.labels, l.windows, l.windows_zone,
       l.windows_end, l.opens_at,
       a.job_id, a.number AS attempt, a.started_at, j.processor, j.title, j.owner, j.progress, j.stage, j.fps, j.speed, j.eta_s,
       j.suspended_at, j.suspended_by
FROM vidqueue.lanes l
LEFT JOIN vidqueue.attempts a ON a.lane_id = l.id AND a.ended_at IS NULL
LEFT JOIN vidqueue.jobs j ON j.id = a.job_id
WHERE %(with_offline)s OR l.state = 'online'
ORDER BY l.host, l.device DESC, l.name

-- name: for_job
-- The lanes online that fit a job which is not submitted yet, and why it would wait.
SELECT l.name, l.host, l.device, l.vram_mb, l.others_mb,
       NOT vidqueue.is_paused(l) AND l.blocked_by IS NULL AND vidqueue.has_room(l, e.job)
       AND NOT EXISTS (SELECT FROM vidqueue.attempts a WHERE a.lane_id = l.id AND a.ended_at IS NULL) AS is_free
FROM (SELECT jsonb_populate_record(j, jsonb_build_object('learned_mb', vidqueue.expected_memory(j))) AS job
      FROM jsonb_populate_record(NULL::vidqueue.jobs, %(job)s) j) e
JOIN vidqueue.lanes l ON l.state = 'online' AND vidqueue.fits(l, e.job)
ORDER BY l.host, l.device DESC, l.name

-- name: reason_for_job
SELECT vidqueue.wait_reason(jsonb_populate_record(j, jsonb_build_object('learned_mb', vidqueue.expected_memory(j)))) AS reason
FROM jsonb_populate_record(NULL::vidqueue.jobs, %(job)s) j

-- name: capacities
-- What each lane there is could take, also those that are offline.
SELECT DISTINCT name, device, takes, vram_mb, labels FROM vidqueue.lanes

-- name: register_processor
INSERT INTO vidqueue.processors (name, device, vram_mb, gpu_when, description, max_attempts, timeout_s, stall_timeout_s,
                                 backoff_base_s, backoff_cap_s, keep_s)
VALUES (%(name)s, %(device)s, %(vram_mb)s, %(gpu_when)s, %(description)s, %(max_attempts)s, %(timeout_s)s,
        %(stall_timeout_s)s, %(backoff_base_s)s, %(backoff_cap_s)s, %(keep_s)s)
ON CONFLICT (name) DO UPDATE SET
    device = excluded.device, vram_mb = excluded.vram_mb, gpu_when = excluded.gpu_when,
    description = excluded.description, max_attempts = excluded.max_attempts, timeout_s = excluded.timeout_s,
    stall_timeout_s = excluded.stall_timeout_s,
    backoff_base_s = excluded.backoff_base_s, backoff_cap_s = excluded.backoff_cap_s,
    keep_s = excluded.keep_s, seen_at = now()

-- name: shared_host_names
-- Host names under which daemons of more than one machine are online; a machine is known by the id of its boot.
SELECT host FROM vidqueue.lanes WHERE state = 'online' AND process IS NOT NULL
GROUP BY host HAVING count(DISTINCT split_part(process, '/', 1)) > 1 ORDER BY host
