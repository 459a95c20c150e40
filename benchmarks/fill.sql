-- A database with history: %(finished)s jobs that ended within the last 30 days, and %(waiting)s that wait.
-- Nothing is told and nothing is counted while it is filled, so the counters are set right at the end.
SET session_replication_role = replica;
SET synchronous_commit = off;

INSERT INTO vidqueue.owners (name) SELECT 'team' || n FROM generate_series(1, 9) n ON CONFLICT DO NOTHING;
INSERT INTO vidqueue.lanes (id, node, host, name, device, takes, queue)
VALUES ('00000000-0000-7000-8000-00000000000a', '00000000-0000-7000-8000-00000000000b', 'old', 'cpu0', 'cpu', '{cpu}', 'lane:old')
ON CONFLICT DO NOTHING;

CREATE TEMP TABLE made AS
SELECT n, at,
       -- A UUIDv7 of that time.
       (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7' || substr(md5(n::text), 1, 3) ||
        '8' || substr(md5(n::text), 4, 15))::uuid AS id,
       CASE WHEN n %% 10 = 0 THEN 'team' || 1 + n / 10 %% 9 ELSE 'local' END AS owner,
       CASE WHEN n %% 1000 = 1 THEN 'rare' WHEN n %% 4 = 1 THEN 'second' ELSE 'bench' END AS processor,
       CASE WHEN n > %(finished)s THEN 'queued' WHEN n %% 100 < 3 THEN 'failed' WHEN n %% 100 < 5 THEN 'canceled' ELSE 'succeeded' END AS state,
       -- A page and more have it, in a short history too.
       CASE WHEN n %% greatest(8, (%(finished)s + %(waiting)s) / 100) = 7 THEN '{once}' WHEN n %% 10 = 3 THEN '{nightly,shown}' ELSE '{}' END::text[] AS tags
FROM (SELECT n, date_trunc('milliseconds', now()) - interval '2 minutes'
                - make_interval(secs => (%(finished)s + %(waiting)s - n) * 2592000.0 / (%(finished)s + %(waiting)s)) AS at
      FROM generate_series(1, %(finished)s + %(waiting)s) n) numbers;

INSERT INTO vidqueue.jobs (id, owner, processor, input, tags, device, state, attempt, failures, lane, progress, error_code,
                           error_message, created_at, queued_at, run_at, expires_at, rank, ready, waits_since, demand,
                           started_at, finished_at)
SELECT id, owner, processor, '{"video": "/srv/in.mp4", "quality": "high"}', tags, 'cpu', state,
       CASE WHEN state IN ('succeeded', 'failed') THEN 1 ELSE 0 END, CASE state WHEN 'failed' THEN 1 ELSE 0 END, 'cpu0',
       CASE state WHEN 'succeeded' THEN 1 ELSE 0 END, CASE state WHEN 'failed' THEN 'ffmpeg_failed' END,
       CASE state WHEN 'failed' THEN 'It broke.' END, at, at, at, at + interval '1 year', extract(epoch FROM at),
       state = 'queued', at,
       -- As the trigger stamp_job makes it.
       CASE state WHEN 'queued' THEN hashtextextended(concat_ws(E'\x1f', processor, 'cpu', 0, '', ''), 0) END,
       CASE WHEN state IN ('succeeded', 'failed') THEN at + interval '5 s' END,
       CASE WHEN state <> 'queued' THEN at + interval '65 s' END
FROM made;

INSERT INTO vidqueue.attempts (job_id, number, fence, lane_id, lane, host, dispatched_at, started_at, ended_at, lease_expires_at,
                               outcome, error_code, error_message)
SELECT id, 1, nextval('vidqueue.fences'), '00000000-0000-7000-8000-00000000000a', 'cpu0', 'old', at + interval '5 s', at + interval '5 s',
       at + interval '5 s' + interval '1 ms', at + interval '95 s', state, CASE state WHEN 'failed' THEN 'ffmpeg_failed' END,
       CASE state WHEN 'failed' THEN 'It broke.' END
FROM made WHERE state IN ('succeeded', 'failed');

INSERT INTO vidqueue.attempt_logs (job_id, attempt, level, text)
SELECT id, 1, 'info', 'A line.' FROM made WHERE state IN ('succeeded', 'failed');

INSERT INTO vidqueue.files (id, owner, name, media_type, size, sha256, node, published, created_at)
SELECT id, owner, 'out.mp4', 'video/mp4', 1000, encode(sha256(id::text::bytea), 'hex'), '00000000-0000-7000-8000-00000000000b', true, at
FROM made WHERE state = 'succeeded';
INSERT INTO vidqueue.outputs (job_id, name, attempt, file_id) SELECT id, 'video', 1, id FROM made WHERE state = 'succeeded';

INSERT INTO vidqueue.events (job_id, owner, kind, at, data)
SELECT id, owner, kind, at + after, jsonb_build_object('state', state, 'processor', processor, 'progress', 0)
FROM made CROSS JOIN LATERAL (
    SELECT * FROM (VALUES ('queued', interval '0 s'), ('running', interval '5 s'), (state, interval '65 s')) told (kind, after)
    WHERE told.kind = 'queued' OR state = told.kind OR state IN ('succeeded', 'failed')
    LIMIT CASE WHEN state = 'queued' THEN 1 ELSE 3 END) told
ORDER BY at + after;

INSERT INTO vidqueue.job_tags (owner, tag, state, job_id) SELECT owner, tag, state, id FROM made, unnest(tags) AS tag;

DROP TABLE made;
RESET session_replication_role;
RESET synchronous_commit;
SELECT vidqueue.recount_jobs();
