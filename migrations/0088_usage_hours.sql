-- Usage, waits, the work of lanes and the errors of estimates are kept by hour once the hour is over, so that a report of a month does not read all
-- attempts of it.
-- Expand only: an older program goes on with this schema while it drains. What is there already is counted by the daemon, an
-- hour at a time, while others write.

CREATE TABLE vidqueue.usage_hours (
    hour          timestamptz NOT NULL,
    owner         text NOT NULL,
    processor     text NOT NULL,
    jobs          bigint NOT NULL,
    attempts      bigint NOT NULL,
    lane_s        numeric NOT NULL,
    gpu_s         numeric NOT NULL,
    cpu_s         numeric NOT NULL,
    video_s       numeric NOT NULL,
    input_bytes   bigint NOT NULL,
    output_bytes  bigint NOT NULL,
    PRIMARY KEY (hour, owner, processor)
);
COMMENT ON TABLE vidqueue.usage_hours IS 'The rows of usage_counted for the hours before usage_settled that have no mark in usage_stale.';

CREATE TABLE vidqueue.usage_settled (
    only_row  boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    upto      timestamptz NOT NULL DEFAULT '-infinity'
);
INSERT INTO vidqueue.usage_settled DEFAULT VALUES;
COMMENT ON TABLE vidqueue.usage_settled IS 'The hour up to which hours were counted.';

-- Marks are only added, without a unique key, so that two transactions that change the same hour do not wait for each other.
CREATE TABLE vidqueue.usage_stale (hour timestamptz NOT NULL);
CREATE INDEX usage_stale_hour ON vidqueue.usage_stale (hour);
COMMENT ON TABLE vidqueue.usage_stale IS 'Hours whose usage has changed after they were over, and that are to be counted anew.';

-- What the attempts used, counted one by one.
CREATE VIEW vidqueue.usage_counted AS
SELECT hour, owner, processor, count(*) FILTER (WHERE was_last) AS jobs, count(*) AS attempts,
       coalesce(sum(lane_s), 0) AS lane_s, coalesce(sum(gpu_s), 0) AS gpu_s, coalesce(sum(cpu_s), 0) AS cpu_s,
       coalesce(sum(video_s) FILTER (WHERE was_last), 0) AS video_s,
       coalesce(sum(input_bytes) FILTER (WHERE was_last), 0)::bigint AS input_bytes,
       coalesce(sum(output_bytes) FILTER (WHERE was_last), 0)::bigint AS output_bytes
FROM vidqueue_report.attempts WHERE hour IS NOT NULL GROUP BY 1, 2, 3;

CREATE OR REPLACE VIEW vidqueue_report.usage_hourly AS
SELECT h.hour, h.owner, h.processor, h.jobs, h.attempts, h.lane_s, h.gpu_s, h.cpu_s, h.video_s, h.input_bytes, h.output_bytes
FROM vidqueue.usage_hours h WHERE NOT EXISTS (SELECT FROM vidqueue.usage_stale s WHERE s.hour = h.hour)
UNION ALL
SELECT c.hour, c.owner, c.processor, c.jobs, c.attempts, c.lane_s, c.gpu_s, c.cpu_s, c.video_s, c.input_bytes, c.output_bytes
FROM vidqueue.usage_counted c WHERE c.hour >= (SELECT upto FROM vidqueue.usage_settled)
UNION ALL
SELECT s.hour, c.owner, c.processor, c.jobs, c.attempts, c.lane_s, c.gpu_s, c.cpu_s, c.video_s, c.input_bytes, c.output_bytes
FROM (SELECT DISTINCT hour FROM vidqueue.usage_stale WHERE hour < (SELECT upto FROM vidqueue.usage_settled)) s
-- OFFSET, so that the condition goes into the view instead of becoming one of a join with all hours.
CROSS JOIN LATERAL (SELECT * FROM vidqueue.usage_counted u WHERE u.hour = s.hour OFFSET 0) c;
COMMENT ON VIEW vidqueue_report.usage_hourly IS
    'What the attempts used that ended in each hour. A job counts, with its video and its bytes, when its last attempt ends.';

-- Count the hour of this moment anew, if it is over. What changes in the present hour is counted with it: settle_usage() takes
-- no hour in which a transaction may still end an attempt.
CREATE FUNCTION vidqueue.mark_usage(moment timestamptz) RETURNS void LANGUAGE sql AS $$
    INSERT INTO vidqueue.usage_stale (hour) SELECT vidqueue.hour_of(moment) FROM vidqueue.usage_settled s
    WHERE vidqueue.hour_of(moment) < greatest(vidqueue.hour_of(now()), s.upto)
$$;

-- An attempt that ended in the past has changed, or is gone.
CREATE FUNCTION vidqueue.mark_usage_of_attempt() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'INSERT' AND OLD.ended_at IS NOT NULL THEN
        PERFORM vidqueue.mark_usage(OLD.ended_at);
    END IF;
    IF TG_OP <> 'DELETE' AND NEW.ended_at IS NOT NULL THEN
        PERFORM vidqueue.mark_usage(NEW.ended_at);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER mark_usage AFTER INSERT ON vidqueue.attempts FOR EACH ROW
    WHEN (NEW.ended_at IS NOT NULL) EXECUTE FUNCTION vidqueue.mark_usage_of_attempt();
CREATE TRIGGER mark_usage_changed AFTER UPDATE ON vidqueue.attempts FOR EACH ROW
    WHEN (OLD.ended_at IS NOT NULL OR NEW.ended_at < now()) EXECUTE FUNCTION vidqueue.mark_usage_of_attempt();
CREATE TRIGGER mark_usage_deleted AFTER DELETE ON vidqueue.attempts FOR EACH ROW
    WHEN (OLD.ended_at IS NOT NULL) EXECUTE FUNCTION vidqueue.mark_usage_of_attempt();

-- A job that did not run has ended, or one that had ended has not: an earlier attempt is its last one now, or no more. The end
-- of a job that runs is the end of its attempt.
CREATE FUNCTION vidqueue.mark_usage_of_job() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM vidqueue.mark_usage(a.ended_at) FROM vidqueue.attempts a WHERE a.job_id = NEW.id AND a.ended_at IS NOT NULL;
    RETURN NULL;
END $$;
CREATE TRIGGER mark_usage AFTER UPDATE ON vidqueue.jobs FOR EACH ROW
    WHEN (OLD.finished_at IS DISTINCT FROM NEW.finished_at AND OLD.state <> 'running' AND NEW.attempt > 0)
    EXECUTE FUNCTION vidqueue.mark_usage_of_job();

-- A lane may tell what an attempt has used after somebody else has ended it, and outputs may go before their job does.
CREATE FUNCTION vidqueue.mark_usage_of_part() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    part record;
BEGIN
    IF TG_OP = 'DELETE' THEN part := OLD; ELSE part := NEW; END IF;
    PERFORM vidqueue.mark_usage(a.ended_at) FROM vidqueue.attempts a
    WHERE a.job_id = part.job_id AND a.number = part.attempt AND a.ended_at < now();
    RETURN NULL;
END $$;
CREATE TRIGGER mark_usage AFTER INSERT OR UPDATE ON vidqueue.attempt_usage FOR EACH ROW EXECUTE FUNCTION vidqueue.mark_usage_of_part();
CREATE TRIGGER mark_usage AFTER DELETE ON vidqueue.outputs FOR EACH ROW EXECUTE FUNCTION vidqueue.mark_usage_of_part();

CREATE TABLE vidqueue.wait_hours (
    hour       timestamptz NOT NULL,
    owner      text,
    processor  text NOT NULL,
    jobs       bigint NOT NULL,
    p50_s      double precision NOT NULL,
    p95_s      double precision NOT NULL,
    p99_s      double precision NOT NULL
);
CREATE INDEX wait_hours_of ON vidqueue.wait_hours (hour, owner);
COMMENT ON TABLE vidqueue.wait_hours IS 'The rows of waits_counted for the hours before usage_settled that have no mark in usage_stale.';
COMMENT ON COLUMN vidqueue.wait_hours.owner IS 'NULL for the jobs of all owners: percentiles cannot be added.';

CREATE TABLE vidqueue.eta_hours (
    hour              timestamptz NOT NULL,
    processor         text NOT NULL,
    attempts          bigint NOT NULL,
    median_error      numeric NOT NULL,
    within_a_quarter  numeric NOT NULL,
    PRIMARY KEY (hour, processor)
);
COMMENT ON TABLE vidqueue.eta_hours IS 'The rows of eta_counted for the hours before usage_settled that have no mark in usage_stale.';

-- How long the jobs had waited whose first attempt ended in each hour: of each owner, and of all.
CREATE VIEW vidqueue.waits_counted AS
SELECT hour, owner, processor, count(*) AS jobs,
       round(percentile_cont(0.5) WITHIN GROUP (ORDER BY wait_s)::numeric, 3)::float8 AS p50_s,
       round(percentile_cont(0.95) WITHIN GROUP (ORDER BY wait_s)::numeric, 3)::float8 AS p95_s,
       round(percentile_cont(0.99) WITHIN GROUP (ORDER BY wait_s)::numeric, 3)::float8 AS p99_s
FROM vidqueue_report.attempts WHERE wait_s IS NOT NULL AND hour IS NOT NULL GROUP BY 1, 2, 3
UNION ALL
SELECT hour, NULL, processor, count(*),
       round(percentile_cont(0.5) WITHIN GROUP (ORDER BY wait_s)::numeric, 3)::float8,
       round(percentile_cont(0.95) WITHIN GROUP (ORDER BY wait_s)::numeric, 3)::float8,
       round(percentile_cont(0.99) WITHIN GROUP (ORDER BY wait_s)::numeric, 3)::float8
FROM vidqueue_report.attempts WHERE wait_s IS NOT NULL AND hour IS NOT NULL GROUP BY 1, 3;

CREATE VIEW vidqueue.waits_by_hour AS
SELECT h.hour, h.owner, h.processor, h.jobs, h.p50_s, h.p95_s, h.p99_s
FROM vidqueue.wait_hours h WHERE NOT EXISTS (SELECT FROM vidqueue.usage_stale s WHERE s.hour = h.hour)
UNION ALL
SELECT c.hour, c.owner, c.processor, c.jobs, c.p50_s, c.p95_s, c.p99_s
FROM vidqueue.waits_counted c WHERE c.hour >= (SELECT upto FROM vidqueue.usage_settled)
UNION ALL
SELECT s.hour, c.owner, c.processor, c.jobs, c.p50_s, c.p95_s, c.p99_s
FROM (SELECT DISTINCT hour FROM vidqueue.usage_stale WHERE hour < (SELECT upto FROM vidqueue.usage_settled)) s
CROSS JOIN LATERAL (SELECT * FROM vidqueue.waits_counted w WHERE w.hour = s.hour OFFSET 0) c;

CREATE OR REPLACE VIEW vidqueue_report.waits_hourly AS
SELECT hour, processor, jobs, p50_s::numeric(12,3) AS p50_s, p95_s::numeric(12,3) AS p95_s, p99_s::numeric(12,3) AS p99_s
FROM vidqueue.waits_by_hour WHERE owner IS NULL;

-- How far estimates were off, counted attempt by attempt, without the time in which an attempt was suspended: nobody expected that,
-- and estimates do not learn from it.
CREATE VIEW vidqueue.eta_counted AS
SELECT e.hour, e.processor, count(*) AS attempts,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY e.error)::numeric(12,4) AS median_error,
       (count(*) FILTER (WHERE e.error <= 0.25)::numeric / count(*))::numeric(5,4) AS within_a_quarter
FROM (SELECT r.hour, r.processor, abs(r.expected_s - r.run_s) / greatest(0.001, r.run_s) AS error
      FROM (SELECT vidqueue.hour_of(a.ended_at) AS hour, j.processor, u.expected_s,
                   extract(epoch FROM a.ended_at - a.started_at)::float8 - a.suspended_s AS run_s
            FROM vidqueue.attempts a JOIN vidqueue.jobs j ON j.id = a.job_id
            JOIN vidqueue.attempt_usage u ON u.job_id = a.job_id AND u.attempt = a.number
            WHERE a.ended_at IS NOT NULL AND a.outcome = 'succeeded' AND a.started_at IS NOT NULL AND u.expected_s IS NOT NULL) r) e
GROUP BY 1, 2;

CREATE OR REPLACE VIEW vidqueue_report.eta_calibration AS
SELECT h.hour, h.processor, h.attempts, h.median_error::numeric(12,4) AS median_error, h.within_a_quarter::numeric(5,4) AS within_a_quarter
FROM vidqueue.eta_hours h WHERE NOT EXISTS (SELECT FROM vidqueue.usage_stale s WHERE s.hour = h.hour)
UNION ALL
SELECT c.hour, c.processor, c.attempts, c.median_error, c.within_a_quarter
FROM vidqueue.eta_counted c WHERE c.hour >= (SELECT upto FROM vidqueue.usage_settled)
UNION ALL
SELECT s.hour, c.processor, c.attempts, c.median_error, c.within_a_quarter
FROM (SELECT DISTINCT hour FROM vidqueue.usage_stale WHERE hour < (SELECT upto FROM vidqueue.usage_settled)) s
CROSS JOIN LATERAL (SELECT * FROM vidqueue.eta_counted e WHERE e.hour = s.hour OFFSET 0) c;

-- How long lanes were at work in each hour, counted attempt by attempt; one that is on its lane still counts until now.
CREATE VIEW vidqueue.lane_work_counted AS
SELECT ended_hour, hour, host, lane, device, sum(busy_s)::float8 AS busy_s FROM vidqueue_report.lane_work GROUP BY 1, 2, 3, 4, 5;

CREATE TABLE vidqueue.lane_work_hours (
    ended_hour  timestamptz NOT NULL,
    hour        timestamptz NOT NULL,
    host        text NOT NULL,
    lane        text NOT NULL,
    device      text NOT NULL,
    busy_s      double precision NOT NULL
);
CREATE INDEX lane_work_hours_ended ON vidqueue.lane_work_hours (ended_hour);
CREATE INDEX lane_work_hours_hour ON vidqueue.lane_work_hours (hour);
COMMENT ON TABLE vidqueue.lane_work_hours IS
    'The rows of lane_work_counted whose attempts ended in the hours before usage_settled that have no mark in usage_stale.';

CREATE VIEW vidqueue.lane_work_by_hour AS
SELECT h.ended_hour, h.hour, h.host, h.lane, h.device, h.busy_s
FROM vidqueue.lane_work_hours h WHERE h.ended_hour NOT IN (SELECT s.hour FROM vidqueue.usage_stale s)
UNION ALL
SELECT c.ended_hour, c.hour, c.host, c.lane, c.device, c.busy_s
FROM vidqueue_report.lane_work c WHERE c.ended_hour >= (SELECT upto FROM vidqueue.usage_settled)
UNION ALL
SELECT s.hour, c.hour, c.host, c.lane, c.device, c.busy_s
FROM (SELECT DISTINCT hour FROM vidqueue.usage_stale WHERE hour < (SELECT upto FROM vidqueue.usage_settled)) s
CROSS JOIN LATERAL (SELECT * FROM vidqueue_report.lane_work w WHERE w.ended_hour = s.hour OFFSET 0) c;

CREATE OR REPLACE VIEW vidqueue_report.lane_hours AS
SELECT host, lane, device, hour, sum(busy_s)::numeric AS busy_s,
       round((sum(busy_s) / greatest(1, least(3600, extract(epoch FROM now() - hour))))::numeric, 4) AS share
FROM vidqueue.lane_work_by_hour WHERE ended_hour >= now() - interval '31 days' GROUP BY 1, 2, 3, 4;

-- Count one hour that is over: one with a mark, else the next one. False if there is none, or another daemon is counting.
CREATE FUNCTION vidqueue.settle_usage() RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    settled  timestamptz;
    over     timestamptz;
    next     timestamptz;
BEGIN
    -- What is counted must be newer than the marks that it answers, so each statement needs a snapshot of its own.
    IF current_setting('transaction_isolation') <> 'read committed' OR NOT pg_try_advisory_xact_lock(30328, 0) THEN
        RETURN false;
    END IF;
    settled := (SELECT upto FROM vidqueue.usage_settled);
    next := (SELECT min(hour) FROM vidqueue.usage_stale WHERE hour < settled);
    IF next IS NULL THEN
        -- A transaction that has begun may end an attempt in the hour of its begin, and commit when the hour is over.
        over := vidqueue.hour_of(least(now() - interval '15 minutes',
            (SELECT min(xact_start) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid())));
        next := (SELECT vidqueue.hour_of(ended_at) FROM vidqueue.attempts
                 WHERE ended_at IS NOT NULL AND vidqueue.hour_of(ended_at) >= settled AND vidqueue.hour_of(ended_at) < over
                 ORDER BY vidqueue.hour_of(ended_at) LIMIT 1);
        UPDATE vidqueue.usage_settled SET upto = coalesce(next + interval '1 hour', over) WHERE upto < coalesce(next + interval '1 hour', over);
    END IF;
    IF next IS NULL THEN
        RETURN false;
    END IF;
    DELETE FROM vidqueue.usage_stale WHERE hour = next;
    DELETE FROM vidqueue.usage_hours WHERE hour = next;
    INSERT INTO vidqueue.usage_hours SELECT * FROM vidqueue.usage_counted u WHERE u.hour = next;
    DELETE FROM vidqueue.wait_hours WHERE hour = next;
    INSERT INTO vidqueue.wait_hours SELECT * FROM vidqueue.waits_counted w WHERE w.hour = next;
    DELETE FROM vidqueue.eta_hours WHERE hour = next;
    INSERT INTO vidqueue.eta_hours SELECT * FROM vidqueue.eta_counted e WHERE e.hour = next;
    DELETE FROM vidqueue.lane_work_hours WHERE ended_hour = next;
    INSERT INTO vidqueue.lane_work_hours SELECT * FROM vidqueue.lane_work_counted w WHERE w.ended_hour = next;
    RETURN true;
END $$;
