-- Webhooks: who is told of a job by HTTP, and each delivery, written in the transaction of the change that it tells.
-- Expand only: an older program goes on with this schema while it drains. The column jobs.webhook is in 0012.

CREATE TABLE vidqueue.webhooks (
    id           uuid PRIMARY KEY DEFAULT vidqueue.new_id(),
    owner        text NOT NULL DEFAULT 'local',
    url          text NOT NULL CHECK (length(url) <= 4096),
    events       jsonb CHECK (jsonb_typeof(events) = 'array'),
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    disabled_at  timestamptz
);
CREATE INDEX webhooks_by_owner ON vidqueue.webhooks (owner, id);
COMMENT ON TABLE vidqueue.webhooks IS 'Receivers of the events of all jobs of an owner.';
COMMENT ON COLUMN vidqueue.webhooks.events IS 'Which of started, progress, output, completed; NULL for all.';
COMMENT ON COLUMN vidqueue.webhooks.disabled_at IS 'When the receiver answered 410 (Gone).';

CREATE TABLE vidqueue.webhook_deliveries (
    id          uuid PRIMARY KEY DEFAULT vidqueue.new_id(),
    job_id      uuid NOT NULL REFERENCES vidqueue.jobs ON DELETE CASCADE,
    owner       text NOT NULL,
    webhook_id  uuid REFERENCES vidqueue.webhooks ON DELETE CASCADE,
    url         text NOT NULL,
    receiver    text NOT NULL,
    kind        text NOT NULL CHECK (kind IN ('started', 'progress', 'output', 'completed')),
    attempt     integer NOT NULL,
    data        jsonb NOT NULL,
    state       text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'delivered', 'dead')),
    tries       integer NOT NULL DEFAULT 0,
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    next_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    until       timestamptz NOT NULL DEFAULT clock_timestamp() + interval '24 hours',
    ended_at    timestamptz,
    status      integer,
    error       text,
    CONSTRAINT ended_iff_not_pending CHECK ((state = 'pending') = (ended_at IS NULL))
);
CREATE INDEX deliveries_due ON vidqueue.webhook_deliveries (receiver, next_at) WHERE state = 'pending';
CREATE INDEX deliveries_by_job ON vidqueue.webhook_deliveries (job_id, id);
CREATE INDEX deliveries_by_owner ON vidqueue.webhook_deliveries (owner, state, id);
CREATE INDEX deliveries_by_webhook ON vidqueue.webhook_deliveries (webhook_id) WHERE webhook_id IS NOT NULL;
CREATE UNIQUE INDEX one_progress_at_a_time ON vidqueue.webhook_deliveries (job_id, url) WHERE kind = 'progress' AND state = 'pending';
COMMENT ON COLUMN vidqueue.webhook_deliveries.receiver IS 'Scheme, host and port of the URL: bounds and rests are for each receiver.';
COMMENT ON COLUMN vidqueue.webhook_deliveries.data IS 'What the job was at that moment; the rest of the job is read when it is sent.';
COMMENT ON COLUMN vidqueue.webhook_deliveries.until IS 'A try that fails after this time is the last one.';

-- Write the deliveries of one event of a job: to its own receiver, and to those of its owner.
CREATE FUNCTION vidqueue.write_deliveries(j vidqueue.jobs, kind text, data jsonb, delay interval) RETURNS void LANGUAGE sql AS $$
    INSERT INTO vidqueue.webhook_deliveries (job_id, owner, webhook_id, url, receiver, kind, attempt, data, next_at)
    SELECT (j).id, (j).owner, r.id, r.url, coalesce(substring(lower(r.url) FROM '^[a-z]+://[^/?#]*'), ''), write_deliveries.kind,
           (j).attempt, write_deliveries.data, clock_timestamp() + write_deliveries.delay
    FROM (SELECT NULL::uuid AS id, (j).webhook ->> 'url' AS url, (j).webhook -> 'events' AS events WHERE (j).webhook IS NOT NULL
          UNION ALL
          SELECT w.id, w.url, w.events FROM vidqueue.webhooks w WHERE w.owner = (j).owner AND w.disabled_at IS NULL) r
    WHERE coalesce(r.events, 'null') = 'null' OR r.events ? write_deliveries.kind
    ON CONFLICT (job_id, url) WHERE kind = 'progress' AND state = 'pending' DO NOTHING
$$;

-- A time as the HTTP API writes it.
CREATE FUNCTION vidqueue.rfc3339(moment timestamptz) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT to_char(moment AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
$$;

CREATE FUNCTION vidqueue.tell_receivers() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.webhook IS NULL AND NOT EXISTS (SELECT FROM vidqueue.webhooks w WHERE w.owner = NEW.owner) THEN
        RETURN NULL;
    END IF;
    IF NEW.state = 'running' AND OLD.state = 'running' THEN
        -- One at a time, and not at once: it tells the newest progress when it is sent.
        PERFORM vidqueue.write_deliveries(NEW, 'progress', '{}', interval '2 s');
    ELSIF NEW.state = 'running' THEN
        PERFORM vidqueue.write_deliveries(NEW, 'started', jsonb_build_object(
            'state', NEW.state, 'attempt', NEW.attempt, 'lane', NEW.lane, 'started_at', vidqueue.rfc3339(NEW.started_at)), interval '0');
    ELSE
        DELETE FROM vidqueue.webhook_deliveries d WHERE d.job_id = NEW.id AND d.kind = 'progress' AND d.state = 'pending';
        PERFORM vidqueue.write_deliveries(NEW, 'completed', jsonb_build_object(
            'state', NEW.state, 'attempt', NEW.attempt, 'progress', NEW.progress, 'finished_at', vidqueue.rfc3339(NEW.finished_at),
            'error', CASE WHEN NEW.error_code IS NOT NULL THEN jsonb_build_object('code', NEW.error_code,
                'message', NEW.error_message, 'hint', coalesce(NEW.error_hint, '')) END), interval '0');
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER tell_receivers AFTER UPDATE OF state ON vidqueue.jobs
    FOR EACH ROW WHEN (NEW.state <> OLD.state AND NEW.state <> 'queued') EXECUTE FUNCTION vidqueue.tell_receivers();
CREATE TRIGGER tell_receivers_progress AFTER UPDATE OF progress ON vidqueue.jobs
    FOR EACH ROW WHEN (NEW.state = 'running' AND OLD.state = 'running'
                       AND (NEW.progress, NEW.stage) IS DISTINCT FROM (OLD.progress, OLD.stage))
    EXECUTE FUNCTION vidqueue.tell_receivers();

CREATE FUNCTION vidqueue.tell_receivers_output() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    job  vidqueue.jobs;
BEGIN
    SELECT j.* INTO job FROM vidqueue.jobs j WHERE j.id = NEW.job_id;
    IF job.webhook IS NOT NULL OR EXISTS (SELECT FROM vidqueue.webhooks w WHERE w.owner = job.owner) THEN
        PERFORM vidqueue.write_deliveries(job, 'output', jsonb_build_object('output', NEW.name), interval '0');
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER tell_receivers AFTER INSERT ON vidqueue.outputs
    FOR EACH ROW EXECUTE FUNCTION vidqueue.tell_receivers_output();

CREATE VIEW vidqueue_report.webhook_deliveries AS
SELECT d.id, d.job_id, d.owner, d.webhook_id, d.receiver, d.kind, d.attempt, d.state, d.tries, d.status, d.error,
       d.created_at, CASE WHEN d.state = 'pending' THEN d.next_at END AS next_at, d.ended_at
FROM vidqueue.webhook_deliveries d;
COMMENT ON VIEW vidqueue_report.webhook_deliveries IS
    'Deliveries of webhooks, without the path of their URL, which may have a secret in it.';

-- As in 0005, with a webhook.
DROP FUNCTION vidqueue.submit;
CREATE FUNCTION vidqueue.submit(
    processor        text,
    input            jsonb,
    title            text DEFAULT NULL,
    tags             text[] DEFAULT '{}',
    priority         integer DEFAULT 0,
    run_at           timestamptz DEFAULT NULL,
    max_attempts     integer DEFAULT NULL,
    timeout_s        double precision DEFAULT NULL,
    stall_timeout_s  double precision DEFAULT NULL,
    lane             text DEFAULT NULL,
    owner            text DEFAULT 'local',
    idempotency_key  text DEFAULT NULL,
    expires_at       timestamptz DEFAULT NULL,
    webhook          jsonb DEFAULT NULL
) RETURNS uuid LANGUAGE sql AS $$
    SELECT job_id FROM vidqueue.accept(
        processor => submit.processor, input => submit.input, title => submit.title, tags => submit.tags,
        priority => submit.priority, run_at => submit.run_at, expires_at => submit.expires_at,
        max_attempts => submit.max_attempts, timeout_s => submit.timeout_s, stall_timeout_s => submit.stall_timeout_s,
        lane => submit.lane, owner => submit.owner, idempotency_key => submit.idempotency_key,
        request_hash => md5(submit.processor || submit.input::text), webhook => submit.webhook)
$$;
COMMENT ON FUNCTION vidqueue.submit IS 'Queue a job in the caller''s own transaction and return its id.';
