-- Outputs that are published while their attempt runs, and pictures that show how far it is.

ALTER TABLE vidqueue.events DROP CONSTRAINT events_kind_check;
ALTER TABLE vidqueue.events ADD CONSTRAINT events_kind_check CHECK (kind IN (
    'queued', 'running', 'progress', 'output', 'interrupted', 'cancel_requested', 'updated', 'succeeded', 'failed', 'canceled',
    'paused', 'resumed', 'schedule')) NOT VALID;

CREATE TABLE vidqueue.discarded_files (
    id            uuid PRIMARY KEY,
    node          uuid,
    discarded_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE vidqueue.discarded_files IS 'Files whose rows are gone and whose bytes are still to be removed, by the daemon of their data folder.';

-- Unlogged: the newest picture of a running attempt is worth nothing after a crash, and comes up to once a second.
CREATE UNLOGGED TABLE vidqueue.previews (
    job_id   uuid PRIMARY KEY REFERENCES vidqueue.jobs ON DELETE CASCADE,
    attempt  integer NOT NULL,
    picture  bytea NOT NULL CHECK (octet_length(picture) BETWEEN 1 AND 65536)
);
ALTER TABLE vidqueue.previews ALTER COLUMN picture SET STORAGE EXTERNAL;
COMMENT ON TABLE vidqueue.previews IS 'The newest preview (JPEG) of each running attempt that sends some.';

-- Publish one output of a running attempt, with an event. False if the fence is not the caller's any more, or a cancel was
-- accepted. It may be asked again: the same file is published once.
CREATE FUNCTION vidqueue.publish_output(job uuid, attempt integer, fence bigint, output jsonb) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    owner_of_job  text;
BEGIN
    SELECT j.owner INTO owner_of_job
    FROM vidqueue.jobs j JOIN vidqueue.attempts a ON a.job_id = j.id AND a.fence = j.fence
    WHERE j.id = publish_output.job AND j.fence = publish_output.fence AND j.state = 'running' AND j.cancel_requested_at IS NULL
        AND a.number = publish_output.attempt AND a.ended_at IS NULL
    FOR NO KEY UPDATE OF j;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    IF EXISTS (SELECT FROM vidqueue.outputs o WHERE o.file_id = (output ->> 'id')::uuid) THEN
        RETURN true;
    END IF;
    INSERT INTO vidqueue.files (id, owner, name, media_type, size, sha256, facts, node, published)
    SELECT o.id, owner_of_job, o.filename, o.media_type, o.size, o.sha256, o.facts, o.node, true
    FROM jsonb_to_record(output)
        AS o (id uuid, filename text, media_type text, size bigint, sha256 text, facts jsonb, node uuid);
    INSERT INTO vidqueue.outputs (job_id, name, attempt, file_id)
    VALUES (publish_output.job, output ->> 'name', publish_output.attempt, (output ->> 'id')::uuid);
    PERFORM vidqueue.record_event(publish_output.job, owner_of_job, 'output', jsonb_build_object(
        'attempt', publish_output.attempt, 'output', output -> 'name', 'media_type', output -> 'media_type',
        'size', output -> 'size'));
    RETURN true;
END $$;
COMMENT ON FUNCTION vidqueue.publish_output IS 'Publishes one output of a running attempt behind its fence.';

-- Whoever ends an attempt that did not succeed takes back what it has published. A trigger, so that no way to end one is
-- without it; it costs an attempt that succeeds nothing.
CREATE FUNCTION vidqueue.take_back_outputs() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    taken_back  uuid[];
BEGIN
    DELETE FROM vidqueue.previews p WHERE p.job_id = NEW.job_id;
    WITH gone AS (DELETE FROM vidqueue.outputs o WHERE o.job_id = NEW.job_id AND o.attempt = NEW.number RETURNING o.file_id)
    SELECT array_agg(g.file_id) INTO taken_back FROM gone g;
    IF taken_back IS NOT NULL THEN
        WITH gone AS (DELETE FROM vidqueue.files f WHERE f.id = ANY (taken_back) RETURNING f.id, f.node)
        INSERT INTO vidqueue.discarded_files (id, node) SELECT g.id, g.node FROM gone g;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER take_back_outputs AFTER UPDATE OF ended_at ON vidqueue.attempts
    FOR EACH ROW WHEN (OLD.ended_at IS NULL AND NEW.ended_at IS NOT NULL AND NEW.outcome <> 'succeeded')
    EXECUTE FUNCTION vidqueue.take_back_outputs();

-- As in 0025; a running attempt may have outputs (I8, I9).
CREATE OR REPLACE VIEW vidqueue_report.invariants (id, invariant) AS VALUES
    ('I1',  'a job is final exactly when it has an end'),
    ('I2',  'running job has exactly one open attempt, which carries its fence'),
    ('I3',  'attempts that burned are counted, and never more than allowed'),
    ('I4',  'attempt numbers are contiguous and fences rise'),
    ('I5',  'attempts of a job, and of a lane, do not overlap'),
    ('I6',  'the event log tells the state, each end once, and nothing after it'),
    ('I7',  'progress of an attempt never falls'),
    ('I8',  'succeeded job published by its winning attempt alone'),
    ('I9',  'a job that has not succeeded publishes nothing, except what its running attempt has so far'),
    ('I10', 'each end of a job with a webhook has its delivery'),
    ('I11', 'an expired lease is rescued within a minute'),
    ('I12', 'cancel takes effect within 30 s'),
    ('I13', 'an idempotency key made one job'),
    ('I14', 'a job has an error exactly when it failed'),
    ('I19', 'no job waits for one that cannot come'),
    ('I20', 'a job that has not begun by its deadline ends within a minute');

CREATE OR REPLACE VIEW vidqueue_report.invariant_violations AS
WITH state_events AS NOT MATERIALIZED (
    SELECT e.job_id, e.number, e.kind,
           lag(e.kind) OVER w AS before, lead(e.number) OVER w IS NULL AS is_last
    FROM vidqueue.events e
    WHERE e.kind IN ('queued', 'running', 'interrupted', 'succeeded', 'failed', 'canceled')
    WINDOW w AS (PARTITION BY e.job_id ORDER BY e.number)
)
SELECT i.invariant, f.job_id, f.detail, f.id
FROM (
    SELECT 'I1', j.id, format('state %s, finished_at %s', j.state, j.finished_at)
    FROM vidqueue.jobs j WHERE (j.state IN ('succeeded', 'failed', 'canceled')) <> (j.finished_at IS NOT NULL)
    UNION ALL
    SELECT 'I2', j.id, format('state %s, open attempts %s', j.state, count(a.*))
    FROM vidqueue.jobs j LEFT JOIN vidqueue.attempts a ON a.job_id = j.id AND a.ended_at IS NULL
    WHERE j.state = 'running' OR a.job_id IS NOT NULL
    GROUP BY j.id HAVING (j.state = 'running') <> (count(a.*) = 1)
    UNION ALL
    SELECT 'I2', a.job_id, format('attempt %s has fence %s, its job %s', a.number, a.fence, j.fence)
    FROM vidqueue.attempts a JOIN vidqueue.jobs j ON j.id = a.job_id
    WHERE a.ended_at IS NULL AND (j.fence IS DISTINCT FROM a.fence OR j.attempt <> a.number)
    UNION ALL
    SELECT 'I3', j.id, format('failures %s, burned attempts %s, allowed %s', j.failures, count(a.*), j.max_attempts)
    FROM vidqueue.jobs j LEFT JOIN vidqueue.attempts a ON a.job_id = j.id AND a.outcome = 'failed'
    WHERE j.failures > 0
    GROUP BY j.id HAVING j.failures > count(a.*) OR j.failures > j.max_attempts
    UNION ALL
    SELECT 'I4', x.job_id, format('attempt %s, fence %s', x.number, x.fence)
    FROM (SELECT a.job_id, a.number, a.fence, lag(a.number, 1, 0) OVER w AS before, lag(a.fence, 1, -1::bigint) OVER w AS fence_before
          FROM vidqueue.attempts a WINDOW w AS (PARTITION BY a.job_id ORDER BY a.number)) x
    WHERE x.number <> x.before + 1 OR x.fence <= x.fence_before
    UNION ALL
    SELECT 'I5', b.job_id, format('attempt %s began before the one before it ended', b.number)
    FROM vidqueue.attempts a JOIN vidqueue.attempts b ON b.job_id = a.job_id AND b.number = a.number + 1
    WHERE a.ended_at IS NULL OR b.dispatched_at < a.ended_at
    UNION ALL
    SELECT 'I5', x.job_id, format('attempt %s began on lane %s while another one ran there', x.number, x.lane)
    FROM (SELECT a.job_id, a.number, a.lane, a.dispatched_at, lag(coalesce(a.ended_at, 'infinity'), 1, '-infinity') OVER w AS before
          FROM vidqueue.attempts a WINDOW w AS (PARTITION BY a.lane_id ORDER BY a.fence)) x
    WHERE x.dispatched_at < x.before
    UNION ALL
    SELECT 'I6', e.job_id, format('state %s, last event %s', j.state, e.kind)
    FROM vidqueue.jobs j JOIN state_events e ON e.job_id = j.id AND e.is_last
    WHERE j.state <> CASE e.kind WHEN 'interrupted' THEN 'queued' ELSE e.kind END
    UNION ALL
    SELECT 'I6', e.job_id, format('event %s: %s after %s', e.number, e.kind, e.before)
    FROM state_events e
    WHERE e.before IN ('succeeded', 'failed', 'canceled') AND e.kind <> 'queued'
    UNION ALL
    SELECT 'I6', e.job_id, format('event %s: progress after the end', e.number)
    FROM state_events s JOIN vidqueue.events e ON e.job_id = s.job_id AND e.number > s.number AND e.kind = 'progress'
    WHERE s.is_last AND s.kind IN ('succeeded', 'failed', 'canceled')
    UNION ALL
    SELECT 'I7', x.job_id, format('event %s', x.number)
    FROM (SELECT e.job_id, e.number, (e.data->>'progress')::real AS progress,
                 lag((e.data->>'progress')::real) OVER (PARTITION BY e.job_id, e.data->>'attempt' ORDER BY e.number) AS before
          FROM vidqueue.events e WHERE e.kind = 'progress') x
    WHERE x.progress < x.before
    UNION ALL
    SELECT 'I8', j.id, 'no output'
    FROM vidqueue.jobs j
    WHERE j.state = 'succeeded' AND NOT EXISTS (SELECT FROM vidqueue.outputs o WHERE o.job_id = j.id)
    UNION ALL
    SELECT 'I8', o.job_id, format('output %s is of attempt %s, which did not succeed', o.name, o.attempt)
    FROM vidqueue.outputs o
    WHERE NOT EXISTS (SELECT FROM vidqueue.attempts a
                      WHERE a.job_id = o.job_id AND a.number = o.attempt AND (a.outcome = 'succeeded' OR a.ended_at IS NULL))
    UNION ALL
    SELECT 'I9', j.id, format('state %s, output %s', j.state, o.name)
    FROM vidqueue.jobs j JOIN vidqueue.outputs o ON o.job_id = j.id
    WHERE j.state <> 'succeeded' AND NOT (j.state = 'running' AND o.attempt = j.attempt)
    UNION ALL
    SELECT 'I10', j.id, format('state %s in attempt %s, and no delivery tells it', j.state, j.attempt)
    FROM vidqueue.jobs j
    WHERE j.webhook IS NOT NULL AND j.state IN ('succeeded', 'failed', 'canceled')
        AND (coalesce(j.webhook -> 'events', 'null') = 'null' OR j.webhook -> 'events' ? 'completed')
        AND NOT EXISTS (SELECT FROM vidqueue.webhook_deliveries d
                        WHERE d.job_id = j.id AND d.kind = 'completed' AND d.attempt = j.attempt AND d.webhook_id IS NULL)
    UNION ALL
    SELECT 'I11', a.job_id, format('attempt %s, expired %s', a.number, a.lease_expires_at)
    FROM vidqueue.attempts a WHERE a.ended_at IS NULL
        -- After a restart of the server every lease holds anew.
        AND greatest(a.lease_expires_at, pg_postmaster_start_time()) < clock_timestamp() - interval '60 s'
    UNION ALL
    SELECT 'I12', j.id, format('asked %s', j.cancel_requested_at)
    FROM vidqueue.jobs j
    WHERE j.state = 'running' AND greatest(j.cancel_requested_at, pg_postmaster_start_time()) < clock_timestamp() - interval '30 s'
        AND j.cancel_requested_at IS NOT NULL
    UNION ALL
    SELECT 'I13', min(j.id::text)::uuid, format('key %s of %s made %s jobs', j.idempotency_key, j.owner, count(*))
    FROM vidqueue.jobs j WHERE j.idempotency_key IS NOT NULL
    GROUP BY j.owner, j.idempotency_key HAVING count(*) > 1
    UNION ALL
    SELECT 'I14', j.id, format('state %s, error_code %s', j.state, j.error_code)
    FROM vidqueue.jobs j WHERE (j.state = 'failed') <> (j.error_code IS NOT NULL)
    UNION ALL
    SELECT 'I19', d.job_id, format('depends on %s', d.depends_on)
    FROM vidqueue.job_dependencies d JOIN vidqueue.jobs j ON j.id = d.job_id JOIN vidqueue.jobs p ON p.id = d.depends_on
    WHERE j.state = 'queued' AND p.state IN ('failed', 'canceled')
    UNION ALL
    SELECT 'I20', j.id, format('deadline %s', j.expires_at)
    FROM vidqueue.jobs j
    WHERE j.state = 'queued' AND j.attempt = 0 AND greatest(j.expires_at, pg_postmaster_start_time()) < clock_timestamp() - interval '60 s'
        AND j.expires_at IS NOT NULL
) AS f (id, job_id, detail) JOIN vidqueue_report.invariants i ON i.id = f.id;
COMMENT ON VIEW vidqueue_report.invariant_violations IS
    'Rows that break an invariant; none, or it is a fault in vidqueue. Reads all of history; a condition on job_id bounds that, except for I5 and I13.';
