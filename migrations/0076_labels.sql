-- Labels of lanes, and labels that a job requires of its lane.
-- Expand only: an older program goes on with this schema while it drains; its lanes have no labels until it is replaced.

ALTER TABLE vidqueue.lanes ADD COLUMN labels text[] NOT NULL DEFAULT '{}';
COMMENT ON COLUMN vidqueue.lanes.labels IS 'Labels of the lane from the configuration, which jobs may require.';
ALTER TABLE vidqueue.jobs ADD COLUMN labels text[] NOT NULL DEFAULT '{}';
COMMENT ON COLUMN vidqueue.jobs.labels IS 'Labels that its lane must have, all of them; sorted.';

CREATE FUNCTION vidqueue.require_labels(job uuid, labels text[]) RETURNS uuid LANGUAGE plpgsql AS $$
BEGIN
    UPDATE vidqueue.jobs j SET labels = ARRAY(SELECT DISTINCT unnest(require_labels.labels) ORDER BY 1)
    WHERE j.id = job AND cardinality(require_labels.labels) > 0;
    RETURN job;
END $$;
COMMENT ON FUNCTION vidqueue.require_labels IS 'Make a job run only on lanes that have all of these labels; returns its id.';

-- As in 0011, with labels: true if a lane can do what a job demands, whether or not the lane is free.
CREATE OR REPLACE FUNCTION vidqueue.fits(l vidqueue.lanes, j vidqueue.jobs) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT j.device = ANY (l.takes)
       AND (j.wanted_lane IS NULL OR j.wanted_lane = l.name)
       AND (l.device = 'cpu' OR j.vram_mb <= l.vram_mb)
       AND l.processors ? j.processor
       AND l.labels @> j.labels
       AND (j.node IS NULL OR j.node = l.node)
$$;

-- As in 0011, with labels. The hash of a job without any is what it was.
CREATE OR REPLACE FUNCTION vidqueue.stamp_job() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' OR NEW.queued_at <> OLD.queued_at OR NEW.waits_since IS NULL THEN
        NEW.waits_since := CASE WHEN NEW.run_at > greatest(now(), NEW.queued_at) THEN NEW.run_at ELSE NEW.queued_at END;
    END IF;
    NEW.rank := extract(epoch FROM NEW.waits_since) - 60 * NEW.priority;
    -- A job without a time of its own may run since it was queued, also where the server's clock was set back meanwhile.
    NEW.ready := NEW.state = 'queued' AND NEW.unmet = 0 AND NEW.run_at <= greatest(now(), NEW.queued_at);
    IF NEW.state = 'queued' THEN
        NEW.demand := hashtextextended(concat_ws(E'\x1f', NEW.processor, NEW.device, NEW.vram_mb,
                                                 coalesce(NEW.wanted_lane, ''), coalesce(NEW.node::text, ''),
                                                 CASE WHEN NEW.labels <> '{}' THEN array_to_string(NEW.labels, E'\x1e') END), 0);
    END IF;
    IF TG_OP = 'UPDATE' THEN
        -- Progress is no change that anyone could overwrite.
        IF (NEW.state, NEW.priority, NEW.title, NEW.tags, NEW.cancel_requested_at, NEW.attempt)
           IS DISTINCT FROM (OLD.state, OLD.priority, OLD.title, OLD.tags, OLD.cancel_requested_at, OLD.attempt) THEN
            NEW.version := OLD.version + 1;
        END IF;
        -- What is final stays so, unless a person asks for the job once more.
        IF OLD.state = 'succeeded' AND NEW.state <> OLD.state
           OR OLD.state IN ('failed', 'canceled') AND NEW.state NOT IN (OLD.state, 'queued')
           OR OLD.state = 'queued' AND NEW.state = 'succeeded' THEN
            RAISE EXCEPTION 'job % cannot go from % to %', OLD.id, OLD.state, NEW.state
                USING ERRCODE = 'integrity_constraint_violation';
        END IF;
    END IF;
    RETURN NEW;
END $$;

-- Why a queued job is not running yet, in one stable word.
CREATE OR REPLACE FUNCTION vidqueue.wait_reason(j vidqueue.jobs) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT CASE
        WHEN j.unmet > 0 THEN 'dependency'
        WHEN j.run_at > greatest(now(), j.queued_at) AND j.attempt > 0 THEN coalesce(j.waiting_for, 'backoff')
        WHEN j.run_at > greatest(now(), j.queued_at) THEN 'scheduled'
        WHEN vidqueue.paused_processors() && ARRAY['', j.processor] THEN 'paused'
        WHEN EXISTS (SELECT FROM vidqueue.limits_of(j.owner) l WHERE l.max_running <= (
                  SELECT count(*) FROM vidqueue.jobs r WHERE r.owner = j.owner AND r.state = 'running')) THEN 'owner_limit'
        WHEN j.device = 'gpu' AND vidqueue.has_used_up_gpu(j.owner) THEN 'owner_limit'
        ELSE (SELECT CASE
                  WHEN count(*) = 0 THEN 'no_lane'
                  WHEN NOT bool_or(l.processors ? j.processor) THEN 'no_processor'
                  WHEN NOT bool_or(vidqueue.fits(l, j)) THEN 'file_elsewhere'
                  WHEN bool_or(NOT vidqueue.is_paused(l) AND l.blocked_by IS NULL AND vidqueue.has_room(l, j))
                      FILTER (WHERE vidqueue.fits(l, j)) THEN 'busy'
                  WHEN bool_or(NOT vidqueue.is_paused(l) AND l.blocked_by IS NULL) FILTER (WHERE vidqueue.fits(l, j)) THEN 'gpu_memory'
                  -- A pause is somebody's will; what blocks a lane that would work otherwise is the better news.
                  ELSE coalesce(min(l.blocked_by) FILTER (WHERE NOT vidqueue.is_paused(l) AND vidqueue.fits(l, j)), 'paused') END
              FROM vidqueue.lanes l
              WHERE l.state = 'online' AND j.device = ANY (l.takes)
                AND (j.wanted_lane IS NULL OR j.wanted_lane = l.name)
                AND (l.device = 'cpu' OR j.vram_mb <= l.vram_mb) AND l.labels @> j.labels)
    END
$$;
COMMENT ON FUNCTION vidqueue.wait_reason IS
    'dependency | backoff | scheduled | no_lane (none online fits) | no_processor (no such lane has the processor) | '
    'file_elsewhere (no lane online reads the inputs'' bytes) | no_space (the disk is full) | gpu_lost | '
    'gpu_busy (others keep the GPU busy) | gpu_memory (others hold the memory it needs) | '
    'program_runs (a program that lanes yield to) | outside_window (see opens_at of its lanes) | paused | '
    'owner_limit (as many of its owner run as may) | busy (waits for its turn); or a word of the processor that put it back, such as endpoint_busy, peer_busy, peer_starting '
    'and peer_unavailable';

-- As in 0060, with labels.
CREATE OR REPLACE VIEW vidqueue_report.jobs AS
SELECT j.id, j.processor, j.state, j.owner, j.title, j.tags, j.priority, j.device, j.lane, j.progress, j.stage,
       j.attempt AS attempts, j.failures, j.error_code, j.error_message,
       j.created_at, j.started_at, j.finished_at,
       extract(epoch FROM coalesce(j.started_at, j.finished_at, now()) - j.created_at)::numeric(12,3) AS waited_s,
       extract(epoch FROM coalesce(j.finished_at, now()) - j.started_at)::numeric(12,3) AS ran_s,
       (SELECT sum(f.size) FROM vidqueue.outputs o JOIN vidqueue.files f ON f.id = o.file_id WHERE o.job_id = j.id) AS output_bytes,
       j.source, u.input_bytes, u.video_s, u.cpu_s, u.lane_s, u.gpu_s,
       EXISTS (SELECT FROM vidqueue.results r WHERE r.job_id = j.id AND r.source_id IS NOT NULL) AS cached, j.labels
FROM vidqueue.jobs j
LEFT JOIN LATERAL (
    SELECT max(a.input_bytes) AS input_bytes, max(a.video_s) AS video_s, sum(a.cpu_s) AS cpu_s, sum(a.lane_s) AS lane_s, sum(a.gpu_s) AS gpu_s
    FROM vidqueue_report.attempts a WHERE a.job_id = j.id) u ON true;
