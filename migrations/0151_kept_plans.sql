-- PostgreSQL before 18 plans the body of a function in SQL anew in each query that calls it; one in PL/pgSQL keeps its plans. On
-- PostgreSQL 15 the reason why a job waits and when its lanes open cost 0.9 ms of CPU of each answer about a waiting job.
-- Expand only: an older program goes on with this schema while it drains.

-- As in 0087, and it asks for pauses and limits only if there are any.
CREATE OR REPLACE FUNCTION vidqueue.wait_reason(j vidqueue.jobs) RETURNS text LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN CASE
        WHEN j.unmet > 0 THEN 'dependency'
        WHEN j.run_at > greatest(now(), j.queued_at) AND j.attempt > 0 THEN coalesce(j.waiting_for, 'backoff')
        WHEN j.run_at > greatest(now(), j.queued_at) THEN 'scheduled'
        WHEN EXISTS (SELECT FROM vidqueue.pauses) AND vidqueue.paused_processors() && ARRAY['', j.processor] THEN 'paused'
        WHEN EXISTS (SELECT FROM vidqueue.owner_limits) AND (
                 EXISTS (SELECT FROM vidqueue.limits_of(j.owner) l WHERE l.max_running <= (
                     SELECT count(*) FROM vidqueue.jobs r WHERE r.owner = j.owner AND r.state = 'running'))
                 OR j.device = 'gpu' AND vidqueue.has_used_up_gpu(j.owner)) THEN 'owner_limit'
        WHEN EXISTS (SELECT FROM vidqueue.processor_limits) AND j.processor = ANY (vidqueue.full_processors(j.device))
            THEN 'processor_limit'
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
    END;
END $$;

-- As in 0087.
CREATE OR REPLACE FUNCTION vidqueue.opens_at(j vidqueue.jobs) RETURNS timestamptz LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN coalesce(
        CASE WHEN j.device = 'gpu' AND j.unmet = 0 THEN vidqueue.gpu_again_at(j.owner, j.processor) END,
        (SELECT CASE WHEN bool_and(l.blocked_by = 'outside_window') THEN min(l.opens_at) END
         FROM vidqueue.lanes l WHERE l.state = 'online' AND NOT vidqueue.is_paused(l) AND vidqueue.fits(l, j)));
END $$;

-- As before; with a time that is stable within a statement the planner puts the body in place of the call.
CREATE OR REPLACE FUNCTION vidqueue.is_paused(l vidqueue.lanes) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT l.paused AND (l.paused_until IS NULL OR l.paused_until > statement_timestamp())
$$;
