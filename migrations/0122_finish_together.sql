-- The attempts of several lanes of a daemon that end at one moment end in one transaction: it waits for the disk once.
-- Expand only: an older program goes on with this schema while it drains.

-- End an attempt, and give the lane that ran it its next one, if `lane` is given. `state` is NULL if the fence was no longer valid;
-- what the attempt has used it has used all the same.
CREATE FUNCTION vidqueue.settle(job uuid, number integer, held_fence bigint, ending jsonb, lane uuid, lease_s double precision)
    RETURNS TABLE (state text, job_id uuid, attempt integer, fence bigint, processor text, input jsonb, owner text, device text,
                   timeout_s double precision, stall_timeout_s double precision, cancel_requested boolean)
    LANGUAGE plpgsql SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
    waited_s  double precision;
BEGIN
    -- Before the end, which may set a time to wait for.
    IF number = 1 THEN
        SELECT greatest(0, extract(epoch FROM a.dispatched_at - j.waits_since)) INTO waited_s
        FROM vidqueue.attempts a JOIN vidqueue.jobs j ON j.id = a.job_id WHERE a.job_id = settle.job AND a.number = settle.number;
    END IF;
    state := vidqueue.finish(settle.job, settle.number, held_fence, ending);
    INSERT INTO vidqueue.attempt_usage AS w (job_id, attempt, cpu_s, input_bytes, video_s, expected_s, device_mb, wait_s)
    SELECT a.job_id, a.number, u.cpu_s, u.input_bytes, u.video_s, u.expected_s, u.device_mb, waited_s
    FROM vidqueue.attempts a
    CROSS JOIN jsonb_to_record(ending -> 'usage') AS u (
        cpu_s real, input_bytes bigint, video_s double precision, expected_s double precision, device_mb integer)
    WHERE a.job_id = settle.job AND a.number = settle.number
    -- The attempt may have been given back meanwhile by somebody who could measure nothing.
    ON CONFLICT ON CONSTRAINT attempt_usage_pkey DO UPDATE SET
        cpu_s = coalesce(excluded.cpu_s, w.cpu_s), input_bytes = coalesce(excluded.input_bytes, w.input_bytes),
        video_s = coalesce(excluded.video_s, w.video_s), expected_s = coalesce(excluded.expected_s, w.expected_s),
        device_mb = coalesce(excluded.device_mb, w.device_mb);
    IF settle.state = 'succeeded' AND ending #>> '{result,key}' IS NOT NULL THEN
        INSERT INTO vidqueue.results (job_id, key, source_id)
        VALUES (settle.job, ending #>> '{result,key}', (ending #>> '{result,source_id}')::uuid);
    END IF;
    IF settle.state IS NOT NULL AND lane IS NOT NULL THEN
        SELECT c.job_id, c.attempt, c.fence, c.processor, c.input, c.owner, c.device, c.timeout_s, c.stall_timeout_s, c.cancel_requested
        INTO job_id, attempt, fence, processor, input, owner, device, timeout_s, stall_timeout_s, cancel_requested
        FROM vidqueue.choose(lane, lease_s, true) c;
    END IF;
    RETURN NEXT;
END $$;

-- Settle several attempts. Those without a row must be settled alone: while one transaction waits for another one, all its attempts
-- would, and two of them might wait for each other. So it takes what nobody has locked, and nothing that touches further rows of others.
CREATE FUNCTION vidqueue.settle_together(jobs uuid[], numbers integer[], fences bigint[], endings jsonb[], lanes uuid[],
                                         lease_s double precision)
    RETURNS TABLE (place bigint, state text, job_id uuid, attempt integer, fence bigint, processor text, input jsonb, owner text,
                   device text, timeout_s double precision, stall_timeout_s double precision, cancel_requested boolean)
    LANGUAGE plpgsql SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
    one  record;
BEGIN
    IF EXISTS (SELECT FROM vidqueue.job_dependencies d WHERE d.depends_on = ANY (jobs))
       OR EXISTS (SELECT FROM vidqueue.owner_limits) OR EXISTS (SELECT FROM vidqueue.processor_limits)
       OR EXISTS (SELECT FROM vidqueue.webhooks) THEN
        RETURN;
    END IF;
    FOR one IN
        SELECT e.* FROM unnest(jobs, numbers, fences, endings, lanes) WITH ORDINALITY AS e (job, number, fence, ending, lane, place)
        JOIN vidqueue.jobs j ON j.id = e.job JOIN vidqueue.attempts a ON a.job_id = e.job AND a.number = e.number
        WHERE j.fence = e.fence AND j.webhook IS NULL AND a.ended_at IS NULL
        FOR UPDATE OF j, a SKIP LOCKED
    LOOP
        RETURN QUERY SELECT one.place, s.* FROM vidqueue.settle(one.job, one.number, one.fence, one.ending, one.lane, lease_s) s;
    END LOOP;
END $$;
