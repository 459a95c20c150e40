-- name: enqueue
SELECT job_id, created FROM vidqueue.accept(
    processor => %(processor)s, input => %(input)s, title => %(title)s, tags => %(tags)s, priority => %(priority)s,
    run_at => %(run_at)s, expires_at => %(expires_at)s, max_attempts => %(max_attempts)s, timeout_s => %(timeout_s)s,
    stall_timeout_s => %(stall_timeout_s)s, lane => %(lane)s, owner => %(owner)s, device => %(device)s,
    vram_mb => %(vram_mb)s, idempotency_key => %(idempotency_key)s, request_hash => %(request_hash)s,
    webhook => %(webhook)s)

-- name: enqueue_with
-- As `enqueue`, for a job that asks for labels, comes after others, is kept for a time of its own, must run where its result is
-- known, or lets its uploads go.
SELECT a.job_id, a.created,
       CASE WHEN a.created THEN vidqueue.keep_for(vidqueue.run_after(
           vidqueue.require_labels(a.job_id, %(labels)s::text[]), VARIADIC %(after)s::uuid[]), %(keep_s)s) END AS done,
       CASE WHEN a.created AND NOT %(cache)s THEN vidqueue.run_anew(a.job_id) END AS anew,
       CASE WHEN a.created AND %(forget_uploads)s THEN vidqueue.forget_uploads(a.job_id) END AS forgotten
FROM vidqueue.accept(
    processor => %(processor)s, input => %(input)s, title => %(title)s, tags => %(tags)s, priority => %(priority)s,
    run_at => %(run_at)s, expires_at => %(expires_at)s, max_attempts => %(max_attempts)s, timeout_s => %(timeout_s)s,
    stall_timeout_s => %(stall_timeout_s)s, lane => %(lane)s, owner => %(owner)s, device => %(device)s,
    vram_mb => %(vram_mb)s, idempotency_key => %(idempotency_key)s, request_hash => %(request_hash)s,
    webhook => %(webhook)s) a

-- name: enqueue_together
-- Jobs of one owner, each as vidqueue.accept() queues it, and as clients see it then. Those that it might refuse or that refer to
-- others are left out.
WITH known AS (
    INSERT INTO vidqueue.owners (name) SELECT %(owner)s::text
    WHERE NOT EXISTS (SELECT FROM vidqueue.owners WHERE name = %(owner)s) ON CONFLICT DO NOTHING
), asked AS MATERIALIZED (
    SELECT vidqueue.new_id() AS id, m.* FROM ROWS FROM (jsonb_to_recordset(%(jobs)s) AS (
        processor text, input jsonb, title text, tags text[], priority integer, device text, vram_mb integer, lane text,
        run_at timestamptz, expires_at timestamptz, max_attempts integer, timeout_s double precision,
        stall_timeout_s double precision, webhook jsonb)) WITH ORDINALITY AS m (
        processor, input, title, tags, priority, device, vram_mb, lane, run_at, expires_at, max_attempts, timeout_s,
        stall_timeout_s, webhook, place)
    WHERE m.input::text NOT LIKE '%%"vq:jobs/%%'
      AND NOT jsonb_path_exists(m.input, 'strict $.** ? (@.type() == "number" && (@ > 1e300 || @ < -1e300))')
), queued AS (
    INSERT INTO vidqueue.jobs (id, owner, processor, input, title, tags, priority, device, vram_mb, wanted_lane, run_at,
                               expires_at, max_attempts, timeout_s, stall_timeout_s, webhook)
    SELECT a.id, %(owner)s, a.processor, a.input, a.title, a.tags, a.priority, a.device, a.vram_mb, a.lane,
           coalesce(a.run_at, now()), a.expires_at, coalesce(a.max_attempts, p.max_attempts, 3),
           coalesce(a.timeout_s, p.timeout_s, 86400), coalesce(a.stall_timeout_s, p.stall_timeout_s, 300), a.webhook
    FROM asked a LEFT JOIN vidqueue.processors p ON p.name = a.processor
    ORDER BY a.place
    RETURNING jobs.*, jobs AS whole
), positions AS MATERIALIZED (
    -- Each of those in the queue counts the jobs between the one of them before it and itself: all before the first are read once.
    SELECT l.id, sum(1 + between.jobs) OVER (PARTITION BY l.devices ORDER BY l.rank, l.id)::bigint AS position
    FROM (SELECT q.id, q.rank, q.devices, lag(q.rank, 1, '-Infinity') OVER line AS after_rank, lag(q.id, 1, q.id) OVER line AS after_id
          FROM (SELECT q.id, q.rank, CASE WHEN EXISTS (
                           SELECT FROM vidqueue.lanes l WHERE l.state = 'online' AND ('cpu' = ANY (l.takes)) <> ('gpu' = ANY (l.takes)))
                       THEN ARRAY[q.device] ELSE ARRAY['cpu', 'gpu'] END AS devices
                FROM queued q WHERE q.ready OR q.run_at <= now()) q
          WINDOW line AS (PARTITION BY q.devices ORDER BY q.rank, q.id)) l
    CROSS JOIN LATERAL (
        SELECT count(*) AS jobs FROM unnest(l.devices) AS theirs (device) CROSS JOIN LATERAL (
            (SELECT FROM vidqueue.jobs w
             WHERE w.ready AND w.device = theirs.device AND (w.rank, w.id) > (l.after_rank, l.after_id) AND (w.rank, w.id) < (l.rank, l.id)
             ORDER BY w.rank, w.id LIMIT 1000)
            UNION ALL
            (SELECT FROM vidqueue.jobs w
             WHERE w.state = 'queued' AND NOT w.ready AND w.unmet = 0 AND w.run_at <= now()
               AND w.device = theirs.device AND (w.rank, w.id) > (l.after_rank, l.after_id) AND (w.rank, w.id) < (l.rank, l.id)
             ORDER BY w.run_at LIMIT 1000)) w) between
), reasons AS MATERIALIZED (
    -- All lanes are looked at for a reason.
    SELECT alike.demand, alike.run_at, vidqueue.wait_reason(alike.whole) AS wait_reason, vidqueue.opens_at(alike.whole) AS opens_at
    FROM (SELECT DISTINCT ON (q.demand, q.run_at) q.demand, q.run_at, q.whole FROM queued q) alike
)
-- include: fields
       false AS cached, '{}'::uuid[] AS depends_on, '[]'::jsonb AS outputs,
       CASE WHEN w.id IS NOT NULL THEN least(w.position, 1000) END AS position, coalesce(w.position > 1000, false) AS position_is_bound,
       r.wait_reason, r.opens_at, a.place
FROM queued j JOIN asked a ON a.id = j.id JOIN reasons r ON r.demand = j.demand AND r.run_at = j.run_at
LEFT JOIN positions w ON w.id = j.id

-- part: pools
-- Jobs of two devices share one queue if the same lanes take both, as on a machine without a GPU.
pools AS MATERIALIZED (
    SELECT d.device, (SELECT array_agg(l.id ORDER BY l.id) FROM vidqueue.lanes l
                      WHERE l.state = 'online' AND d.device = ANY (l.takes)) AS lanes
    FROM (VALUES ('cpu'), ('gpu')) d (device)
)

-- part: fields
SELECT j.id, j.batch_id, j.processor, j.state, j.owner, j.title, j.source, j.tags, j.priority, j.input, j.progress, j.stage, j.message,
       j.fps, j.speed, j.eta_s, j.attempt, j.failures, j.max_attempts, j.timeout_s, j.stall_timeout_s, j.lane,
       j.wanted_lane, j.labels, j.device, j.error_code, j.error_message, j.error_hint, j.cancel_requested_at, j.suspended_at, j.suspended_by,
       j.version, j.run_at, j.expires_at, j.created_at, j.started_at, j.finished_at, j.keep_s, j.kept_until,

-- part: columns
-- include: fields
       EXISTS (SELECT FROM vidqueue.results r WHERE r.job_id = j.id AND r.source_id IS NOT NULL) AS cached,
       ARRAY(SELECT d.depends_on FROM vidqueue.job_dependencies d WHERE d.job_id = j.id ORDER BY d.depends_on) AS depends_on,
       coalesce(o.outputs, '[]') AS outputs,

-- part: outputs
LEFT JOIN LATERAL (
    SELECT jsonb_agg(jsonb_build_object('name', o.name, 'file_id', f.id, 'filename', f.name,
                     'media_type', f.media_type, 'size', f.size, 'sha256', f.sha256, 'facts', f.facts) ORDER BY o.name) AS outputs
    FROM vidqueue.outputs o JOIN vidqueue.files f ON f.id = o.file_id WHERE o.job_id = j.id) o ON true

-- part: shown
-- The jobs of `picked` as clients see them: a waiting job with its reason, and a job in the queue with its position (exact
-- among the first thousand). Jobs in the queue wait for the same reason if they have the same demand and owner; all lanes
-- are looked at for each reason, so it is found once for all of them.
, alike AS MATERIALIZED (
    SELECT DISTINCT ON (demand, owner) id, demand, owner FROM line
), reasons AS MATERIALIZED (
    SELECT a.demand, a.owner, why.wait_reason, why.opens_at FROM alike a CROSS JOIN LATERAL (
        SELECT vidqueue.wait_reason(j) AS wait_reason, vidqueue.opens_at(j) AS opens_at FROM vidqueue.jobs j
        -- One look into the index for each; a join might be planned to read all jobs.
        WHERE j.id = a.id OFFSET 0) why
)
SELECT shown.* FROM picked
LEFT JOIN line w ON w.id = picked.id
LEFT JOIN reasons r ON r.demand = w.demand AND r.owner = w.owner
-- One look into the index for each.
CROSS JOIN LATERAL (
-- include: columns
       CASE WHEN w.id IS NOT NULL THEN least(w.position, 1000) END AS position,
       w.id IS NOT NULL AND w.position > 1000 AS position_is_bound,
       CASE WHEN r.demand IS NOT NULL THEN r.wait_reason WHEN j.state = 'queued' THEN vidqueue.wait_reason(j) END AS wait_reason,
       CASE WHEN r.demand IS NOT NULL THEN r.opens_at WHEN j.state = 'queued' THEN vidqueue.opens_at(j) END AS opens_at
FROM vidqueue.jobs j
-- include: outputs
WHERE j.id = picked.id OFFSET 0) shown

-- name: get
-- One job as the lists show it, at a third less than a list of one. Its position counts the jobs before it, those of the other
-- device too if the same lanes take both.
-- include: columns
       CASE WHEN line.position IS NOT NULL THEN least(line.position, 1000) END AS position, coalesce(line.position > 1000, false) AS position_is_bound,
       CASE WHEN j.state = 'queued' THEN vidqueue.wait_reason(j) END AS wait_reason,
       CASE WHEN j.state = 'queued' THEN vidqueue.opens_at(j) END AS opens_at
FROM vidqueue.jobs j
LEFT JOIN LATERAL (
    SELECT count(*) AS position FROM (VALUES ('cpu'), ('gpu')) AS theirs (device) CROSS JOIN LATERAL (
        (SELECT FROM vidqueue.jobs w
         WHERE w.ready AND w.device = theirs.device AND (w.rank, w.id) <= (j.rank, j.id)
         ORDER BY w.rank, w.id LIMIT 1001)
        UNION ALL
        (SELECT FROM vidqueue.jobs w
         WHERE w.state = 'queued' AND NOT w.ready AND w.unmet = 0 AND w.run_at <= now()
           AND w.device = theirs.device AND (w.rank, w.id) <= (j.rank, j.id)
         LIMIT 1001)) ahead
    WHERE theirs.device = j.device OR NOT EXISTS (
        SELECT FROM vidqueue.lanes l
        WHERE l.state = 'online' AND (theirs.device = ANY (l.takes)) <> (j.device = ANY (l.takes)))
) line ON j.ready OR j.state = 'queued' AND j.unmet = 0 AND j.run_at <= now()
-- include: outputs
WHERE j.id = %(id)s AND (%(owner)s::text IS NULL OR j.owner = %(owner)s)

-- name: state
SELECT state FROM vidqueue.jobs WHERE id = %(id)s AND (%(owner)s::text IS NULL OR owner = %(owner)s)

-- part: page
-- In the queue are the jobs that could run now if a lane were idle: those that are ready, and those whose run_at has passed
-- since the last dispatch. The queue is not read if no job of the page is in it. The steps are written so that each has one
-- plan only: statistics of a table that was nearly empty would choose joins that look at the line once for each job.
, waiting AS MATERIALIZED (
    SELECT j.id, j.demand, j.owner FROM picked CROSS JOIN LATERAL (
        SELECT j.id, j.demand, j.owner, j.ready OR j.state = 'queued' AND j.unmet = 0 AND j.run_at <= now() AS is_in_line
        FROM vidqueue.jobs j WHERE j.id = picked.id OFFSET 0) j
    WHERE j.is_in_line
), front AS (
    SELECT q.id, row_number() OVER (PARTITION BY pools.lanes ORDER BY q.rank, q.id) AS position
    FROM pools CROSS JOIN LATERAL (
        (SELECT w.id, w.rank FROM vidqueue.jobs w
         WHERE w.ready AND w.device = pools.device
         ORDER BY w.rank, w.id LIMIT 1000)
        UNION ALL
        (SELECT w.id, w.rank FROM vidqueue.jobs w
         WHERE w.state = 'queued' AND NOT w.ready AND w.unmet = 0 AND w.run_at <= now() AND w.device = pools.device
         ORDER BY w.run_at LIMIT 1000)) q
    WHERE EXISTS (SELECT FROM waiting)
), line AS MATERIALIZED (
    SELECT w.id, min(w.demand) AS demand, min(w.owner) AS owner, coalesce(min(w.position), 1001) AS position
    FROM (SELECT id, demand, owner, NULL::bigint AS position FROM waiting
          UNION ALL
          SELECT id, NULL, NULL, position FROM front) w
    GROUP BY w.id HAVING min(w.owner) IS NOT NULL
)
-- include: shown
ORDER BY picked.id DESC

-- part: owners
-- One owner, or all owners.
unnest(CASE WHEN %(owner)s::text IS NULL THEN ARRAY(SELECT name FROM vidqueue.owners) ELSE ARRAY[%(owner)s::text] END)

-- name: page
-- Newest first, by keyset: a page costs the same however far it is from the first. Each kind of list has its index, in
-- which the jobs of an owner (in a state, of a processor) are sorted by id, and at most one page of it is read. Bounds of
-- time are bounds of the id, which begins with the time; created_at is then checked exactly.
WITH
-- include: pools
, picked AS MATERIALIZED (
    SELECT found.id, found.state
    FROM
-- include: owners
    AS o (name) CROSS JOIN LATERAL (
        SELECT j.id, j.state FROM vidqueue.jobs j
        WHERE j.owner = o.name AND j.id < %(before)s AND j.id >= %(from)s
          AND (%(created_after)s::timestamptz IS NULL OR j.created_at >= %(created_after)s)
          AND (%(created_before)s::timestamptz IS NULL OR j.created_at < %(created_before)s)
        ORDER BY j.id DESC LIMIT %(limit)s) found
    ORDER BY found.id DESC LIMIT %(limit)s
)
-- include: page

-- part: picked_in_states
picked AS MATERIALIZED (
    SELECT found.id, found.state
    FROM
-- include: owners
    AS o (name) CROSS JOIN unnest(%(states)s::text[]) AS s (state) CROSS JOIN LATERAL (
        SELECT j.id, j.state FROM vidqueue.jobs j
        WHERE j.owner = o.name AND j.state = s.state AND j.id < %(before)s AND j.id >= %(from)s
          AND (%(created_after)s::timestamptz IS NULL OR j.created_at >= %(created_after)s)
          AND (%(created_before)s::timestamptz IS NULL OR j.created_at < %(created_before)s)
        ORDER BY j.id DESC LIMIT %(limit)s) found
    ORDER BY found.id DESC LIMIT %(limit)s
)

-- name: page_in_states
WITH
-- include: pools
,
-- include: picked_in_states
-- include: page

-- name: ids_in_states
WITH
-- include: picked_in_states
SELECT id FROM picked ORDER BY id DESC

-- part: picked_of_processor
-- Bounds of all three columns together, and their order, are those of one index only: another would find the jobs of all
-- processors in the state.
picked AS MATERIALIZED (
    SELECT found.id, found.state
    FROM
-- include: owners
    AS o (name) CROSS JOIN unnest(%(states)s::text[]) AS s (state) CROSS JOIN LATERAL (
        SELECT j.id, j.state FROM vidqueue.jobs j
        WHERE j.owner = o.name AND (j.processor, j.state, j.id) < (%(processor)s, s.state, %(before)s)
          AND (j.processor, j.state, j.id) >= (%(processor)s, s.state, %(from)s)
          AND (%(created_after)s::timestamptz IS NULL OR j.created_at >= %(created_after)s)
          AND (%(created_before)s::timestamptz IS NULL OR j.created_at < %(created_before)s)
        ORDER BY j.processor DESC, j.state DESC, j.id DESC LIMIT %(limit)s) found
    ORDER BY found.id DESC LIMIT %(limit)s
)

-- name: page_of_processor
WITH
-- include: pools
,
-- include: picked_of_processor
-- include: page

-- name: ids_of_processor
WITH
-- include: picked_of_processor
SELECT id FROM picked ORDER BY id DESC

-- part: picked_of_tag
-- The rows of job_tags find the jobs; the tags of the job itself are then checked.
picked AS MATERIALIZED (
    SELECT found.id, found.state
    FROM
-- include: owners
    AS o (name) CROSS JOIN unnest(%(states)s::text[]) AS s (state) CROSS JOIN LATERAL (
        SELECT j.id, j.state FROM vidqueue.job_tags t CROSS JOIN LATERAL (
            SELECT j.id, j.state FROM vidqueue.jobs j
            WHERE j.id = t.job_id AND j.owner = t.owner AND j.state = t.state AND j.tags @> ARRAY[t.tag]
              AND (%(processor)s::text IS NULL OR j.processor = %(processor)s)
              AND (%(created_after)s::timestamptz IS NULL OR j.created_at >= %(created_after)s)
              AND (%(created_before)s::timestamptz IS NULL OR j.created_at < %(created_before)s)
            -- Reads each job inside the index scan, which ends at the limit; a join would read all jobs of the state.
            OFFSET 0) j
        WHERE t.owner = o.name AND t.tag = %(tag)s AND t.state = s.state AND t.job_id < %(before)s AND t.job_id >= %(from)s
        ORDER BY t.job_id DESC LIMIT %(limit)s) found
    ORDER BY found.id DESC LIMIT %(limit)s
)

-- name: page_of_tag
WITH
-- include: pools
,
-- include: picked_of_tag
-- include: page

-- name: page_of_tag_oldest
-- As page_of_tag, from the other end; the rows come newest first all the same.
WITH
-- include: pools
, picked AS MATERIALIZED (
    SELECT found.id, found.state
    FROM
-- include: owners
    AS o (name) CROSS JOIN unnest(%(states)s::text[]) AS s (state) CROSS JOIN LATERAL (
        SELECT j.id, j.state FROM vidqueue.job_tags t CROSS JOIN LATERAL (
            SELECT j.id, j.state FROM vidqueue.jobs j
            WHERE j.id = t.job_id AND j.owner = t.owner AND j.state = t.state AND j.tags @> ARRAY[t.tag]
            OFFSET 0) j
        WHERE t.owner = o.name AND t.tag = %(tag)s AND t.state = s.state AND t.job_id > %(after)s
        ORDER BY t.job_id LIMIT %(limit)s) found
    ORDER BY found.id LIMIT %(limit)s
)
-- include: page

-- name: ids_of_tag
WITH
-- include: picked_of_tag
SELECT id FROM picked ORDER BY id DESC

-- part: searched
-- No index finds a part of a text, so only so many of the newest jobs are looked at; the caller may go on from the last of
-- them (`search_end`).
searched AS MATERIALIZED (
    SELECT found.id, found.state,
           (%(processor)s::text IS NULL OR found.processor = %(processor)s)
           AND (%(tag)s::text IS NULL OR found.tags @> ARRAY[%(tag)s::text])
           AND strpos(lower(concat_ws(' ', found.title, found.processor, found.lane, found.error_code, found.error_message,
                                      array_to_string(found.tags, ' '), found.id)), lower(%(text)s)) > 0 AS fits
    FROM
-- include: owners
    AS o (name) CROSS JOIN unnest(%(states)s::text[]) AS s (state) CROSS JOIN LATERAL (
        SELECT j.id, j.state, j.title, j.processor, j.lane, j.error_code, j.error_message, j.tags FROM vidqueue.jobs j
        WHERE j.owner = o.name AND j.state = s.state AND j.id < %(before)s AND j.id >= %(from)s
          AND (%(created_after)s::timestamptz IS NULL OR j.created_at >= %(created_after)s)
          AND (%(created_before)s::timestamptz IS NULL OR j.created_at < %(created_before)s)
        ORDER BY j.id DESC LIMIT 1000) found
    ORDER BY found.id DESC LIMIT 1000
)

-- part: picked_with_text
-- include: searched
, picked AS MATERIALIZED (
    SELECT id, state FROM searched WHERE fits ORDER BY id DESC LIMIT %(limit)s
)

-- name: page_with_text
WITH
-- include: pools
,
-- include: picked_with_text
-- include: page

-- name: ids_with_text
WITH
-- include: picked_with_text
SELECT id FROM picked ORDER BY id DESC

-- name: search_end
-- The last job that a search has looked at; no row if it has seen all of them.
WITH
-- include: searched
SELECT min(id::text)::uuid AS id FROM searched HAVING count(*) = 1000

-- part: picked_of_batch
-- A batch has at most 1,000 jobs, so its index is enough for any other filter.
picked AS MATERIALIZED (
    SELECT j.id, j.state FROM vidqueue.jobs j
    WHERE j.batch_id = %(batch)s AND j.id < %(before)s AND j.id >= %(from)s AND j.state = ANY (%(states)s)
      AND (%(owner)s::text IS NULL OR j.owner = %(owner)s)
      AND (%(processor)s::text IS NULL OR j.processor = %(processor)s)
      AND (%(tag)s::text IS NULL OR j.tags @> ARRAY[%(tag)s])
      AND (%(created_after)s::timestamptz IS NULL OR j.created_at >= %(created_after)s)
      AND (%(created_before)s::timestamptz IS NULL OR j.created_at < %(created_before)s)
    ORDER BY j.id DESC LIMIT %(limit)s
)

-- name: page_of_batch
WITH
-- include: pools
,
-- include: picked_of_batch
-- include: page

-- name: ids_of_batch
WITH
-- include: picked_of_batch
SELECT id FROM picked ORDER BY id DESC

-- name: page_of_ids
WITH
-- include: pools
, picked AS MATERIALIZED (
    SELECT found.id FROM unnest(%(ids)s::uuid[]) AS wanted (id)
    -- One look into the index for each; a join might be planned to read all jobs.
    CROSS JOIN LATERAL (SELECT j.id FROM vidqueue.jobs j WHERE j.id = wanted.id OFFSET 0) found
)
-- include: page

-- name: request_cancel
-- Cancel a waiting job at once, and ask the lane of a running one to cancel it. A second request changes nothing.
UPDATE vidqueue.jobs SET
    cancel_requested_at = coalesce(cancel_requested_at, clock_timestamp()),
    state = CASE WHEN state = 'queued' THEN 'canceled' ELSE state END,
    finished_at = CASE WHEN state = 'queued' THEN clock_timestamp() END
WHERE id = ANY (%(ids)s) AND (%(owner)s::text IS NULL OR owner = %(owner)s)
  AND (state = 'queued' OR (state = 'running' AND cancel_requested_at IS NULL))

-- name: retry
-- Queue the job again: the count of failures starts at 0, the numbers of the attempts continue.
UPDATE vidqueue.jobs SET
    state = 'queued', finished_at = NULL, queued_at = clock_timestamp(), run_at = now(), expires_at = NULL,
    cancel_requested_at = NULL, failures = 0, crashes = 0, losses = 0, waiting_for = NULL, waited_s = 0,
    progress = 0, stage = NULL, message = NULL, fps = NULL, speed = NULL, eta_s = NULL,
    error_code = NULL, error_message = NULL, error_hint = NULL, lane = NULL
WHERE id = ANY (%(ids)s) AND (%(owner)s::text IS NULL OR owner = %(owner)s) AND state IN ('failed', 'canceled')

-- name: expire
-- Fail jobs that have not begun by expires_at, a hundred at a time. An interrupted job did begin in time. Unlike clock_timestamp(),
-- statement_timestamp() can be a bound of an index: those whose deadline is to come are not looked at.
UPDATE vidqueue.jobs j SET
    state = 'failed', finished_at = clock_timestamp(), error_code = 'expired', error_message = %(message)s, error_hint = %(hint)s
WHERE j.id = ANY (ARRAY(
    SELECT id FROM vidqueue.jobs WHERE state = 'queued' AND attempt = 0 AND expires_at <= statement_timestamp()
    ORDER BY expires_at LIMIT 100 FOR UPDATE SKIP LOCKED))
RETURNING j.id

-- name: failed_dependency
-- A dependency of this job that did not succeed. All dependencies are locked first: one that is failing right now has then
-- either failed before this job is queued again, or sees it queued and fails it too.
WITH needed AS MATERIALIZED (
    SELECT p.id, p.state FROM vidqueue.job_dependencies d JOIN vidqueue.jobs p ON p.id = d.depends_on
    WHERE d.job_id = %(id)s
    ORDER BY p.id
    FOR SHARE OF p
)
SELECT id FROM needed WHERE state IN ('failed', 'canceled') LIMIT 1

-- name: patch
UPDATE vidqueue.jobs SET
    priority = coalesce(%(priority)s, priority),
    title = CASE WHEN %(set_title)s THEN %(title)s ELSE title END,
    tags = coalesce(%(tags)s, tags)
WHERE id = %(id)s AND (%(owner)s::text IS NULL OR owner = %(owner)s)
  AND (%(version)s::integer IS NULL OR version = %(version)s)
RETURNING id

-- name: run_next
-- Give a waiting job the lowest priority with which it stands before all others of its device, whoever owns them: as urgent as
-- the first one has become by waiting, and a minute more. 1000 is the highest there is.
UPDATE vidqueue.jobs j SET priority = least(1000, greatest(j.priority, coalesce((
    SELECT ceil((extract(epoch FROM now()) - w.rank) / 60)::integer + 1 FROM vidqueue.jobs w
    WHERE w.ready AND w.device = j.device AND w.id <> j.id ORDER BY w.rank, w.id LIMIT 1), j.priority)))
WHERE j.id = %(id)s AND (%(owner)s::text IS NULL OR j.owner = %(owner)s) AND j.state = 'queued'

-- name: lock
-- Lock a job, so that its state cannot change and no new job can depend on it.
SELECT id FROM vidqueue.jobs WHERE id = %(id)s FOR UPDATE

-- name: lock_dependents
-- Lock the jobs that depend on a job; deleting it changes their count of unmet dependencies. Only after the job itself: all
-- who wait for such locks then wait from a job towards those that depend on it, which never is a circle.
SELECT j.id FROM vidqueue.jobs j
WHERE j.id IN (SELECT d.job_id FROM vidqueue.job_dependencies d WHERE d.depends_on = %(id)s)
ORDER BY j.id FOR NO KEY UPDATE

-- name: with_locked_dependents
-- Those of these jobs whose dependents could be locked without waiting, as `lock_dependents` does for one job.
WITH dependents AS MATERIALIZED (
    SELECT j.id FROM vidqueue.jobs j
    WHERE j.id IN (SELECT d.job_id FROM vidqueue.job_dependencies d WHERE d.depends_on = ANY (%(ids)s))
    FOR NO KEY UPDATE SKIP LOCKED)
SELECT id FROM unnest(%(ids)s::uuid[]) AS given (id)
WHERE NOT EXISTS (SELECT FROM vidqueue.job_dependencies d WHERE d.depends_on = given.id AND d.job_id NOT IN (SELECT id FROM dependents))

-- name: unneeded
-- Finished jobs that no unfinished job needs (as a dependency, for a file, or as its parent or child), and whose outputs no
-- schedule names. It is a separate
-- statement after the lock, because it must see everything that was committed before the lock was acquired.
SELECT j.id FROM vidqueue.jobs j
WHERE j.id = ANY (%(ids)s) AND j.finished_at IS NOT NULL
  AND NOT EXISTS (SELECT FROM vidqueue.job_dependencies d JOIN vidqueue.jobs w ON w.id = d.job_id
                  WHERE d.depends_on = j.id AND w.finished_at IS NULL)
  AND NOT EXISTS (SELECT FROM vidqueue.outputs o JOIN vidqueue.job_files u ON u.file_id = o.file_id
                  JOIN vidqueue.jobs w ON w.id = u.job_id
                  WHERE o.job_id = j.id AND w.finished_at IS NULL)
  AND NOT EXISTS (SELECT FROM vidqueue.jobs p WHERE p.id = j.parent_id AND p.finished_at IS NULL)
  AND NOT EXISTS (SELECT FROM vidqueue.jobs c WHERE c.parent_id = j.id)
  AND NOT EXISTS (SELECT FROM vidqueue.schedules s WHERE j.id = ANY (s.jobs) OR s.files && ARRAY(
      SELECT o.file_id FROM vidqueue.outputs o WHERE o.job_id = j.id))

-- name: delete_many
DELETE FROM vidqueue.jobs WHERE id = ANY (%(ids)s) RETURNING batch_id

-- name: forget_events
DELETE FROM vidqueue.events WHERE job_id = ANY (%(ids)s)

-- name: counts
SELECT CASE c.state WHEN 'later' THEN 'queued' ELSE c.state END AS state, sum(c.jobs)::bigint AS jobs
FROM
-- include: owners
AS o (name) JOIN vidqueue.jobs_counted c ON c.owner = o.name
GROUP BY 1

-- name: recent
-- Statistics of the last 24 hours per processor, in whole hours, so up to 25. The medians are of the newest jobs that ran:
-- enough for a median, at a cost that does not depend on the number of jobs.
WITH ended AS MATERIALIZED (
    SELECT o.name AS owner, h.processor, sum(h.jobs) FILTER (WHERE h.state = 'succeeded') AS succeeded,
           sum(h.jobs) FILTER (WHERE h.state = 'failed') AS failed, sum(h.jobs) FILTER (WHERE h.state = 'canceled') AS canceled
    FROM
-- include: owners
    AS o (name) JOIN vidqueue.hours_counted h ON h.owner = o.name AND h.hour > now() - interval '25 hours'
    GROUP BY o.name, h.processor HAVING sum(h.jobs) > 0
)
SELECT e.processor, coalesce(sum(e.succeeded), 0)::bigint AS succeeded, coalesce(sum(e.failed), 0)::bigint AS failed,
       coalesce(sum(e.canceled), 0)::bigint AS canceled, ran.median_wait_s, ran.median_run_s
FROM ended e LEFT JOIN LATERAL (
    SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM newest.started_at - newest.created_at)) AS median_wait_s,
           percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM newest.finished_at - newest.started_at)) AS median_run_s
    FROM (SELECT DISTINCT owner FROM ended sharer WHERE sharer.processor = e.processor) sharer
    CROSS JOIN LATERAL (
        SELECT j.created_at, j.started_at, j.finished_at FROM vidqueue.jobs j
        WHERE j.owner = sharer.owner AND j.processor = e.processor
          AND j.started_at IS NOT NULL AND j.finished_at > now() - interval '25 hours'
        ORDER BY j.finished_at DESC LIMIT 100) newest) ran ON true
GROUP BY e.processor, ran.median_wait_s, ran.median_run_s ORDER BY e.processor

-- name: waiting
-- Jobs in the queue, of all owners because they share the lanes. Queued jobs that cannot run yet are counted as `later`.
SELECT processor, device, sum(jobs)::bigint AS jobs FROM vidqueue.jobs_counted WHERE state = 'queued'
GROUP BY processor, device HAVING sum(jobs) > 0

-- name: of_key
-- The job that was created with an idempotency key.
SELECT id, request_hash FROM vidqueue.jobs WHERE owner = %(owner)s AND idempotency_key = %(key)s
