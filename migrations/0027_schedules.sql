-- Schedules: jobs that are submitted at the times of a cron expression, and the history of each.
-- Expand only: an older program goes on with this schema while it drains.

CREATE TABLE vidqueue.schedules (
    id             uuid PRIMARY KEY DEFAULT vidqueue.new_id(),
    owner          text NOT NULL DEFAULT 'local',
    name           text NOT NULL CHECK (length(name) BETWEEN 1 AND 64),
    cron           text NOT NULL CHECK (length(cron) <= 100),
    timezone       text NOT NULL CHECK (length(timezone) <= 64),
    job            jsonb NOT NULL CHECK (jsonb_typeof(job) = 'object'),
    files          uuid[] NOT NULL DEFAULT '{}',
    jobs           uuid[] NOT NULL DEFAULT '{}',
    missed         text NOT NULL CHECK (missed IN ('skip', 'once', 'all')),
    one_at_a_time  boolean NOT NULL,
    paused         boolean NOT NULL,
    declared_by    uuid,
    next_at        timestamptz NOT NULL,
    created_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (owner, name)
);
CREATE INDEX schedules_due ON vidqueue.schedules (next_at) WHERE NOT paused;
COMMENT ON COLUMN vidqueue.schedules.job IS 'The request that is submitted, as POST /v1/jobs takes it.';
COMMENT ON COLUMN vidqueue.schedules.files IS 'The stored files that the request names; they are kept.';
COMMENT ON COLUMN vidqueue.schedules.jobs IS 'The jobs whose outputs the request names; they are kept.';
COMMENT ON COLUMN vidqueue.schedules.missed IS
    'What to do with times at which no daemon ran: skip them, submit one job for all of them, or one for each.';
COMMENT ON COLUMN vidqueue.schedules.declared_by IS
    'The data folder of the daemon whose configuration has the schedule; NULL where a person made it.';

CREATE TABLE vidqueue.schedule_runs (
    schedule_id  uuid NOT NULL REFERENCES vidqueue.schedules ON DELETE CASCADE,
    due_at       timestamptz NOT NULL,
    at           timestamptz NOT NULL DEFAULT clock_timestamp(),
    outcome      text NOT NULL CHECK (outcome IN ('submitted', 'missed', 'overlapped', 'refused')),
    job_id       uuid REFERENCES vidqueue.jobs ON DELETE SET NULL,
    error        text,
    PRIMARY KEY (schedule_id, due_at)
);
CREATE INDEX schedule_runs_by_job ON vidqueue.schedule_runs (job_id) WHERE job_id IS NOT NULL;
CREATE INDEX schedule_runs_by_age ON vidqueue.schedule_runs (at);
COMMENT ON TABLE vidqueue.schedule_runs IS
    'What came of each time of a schedule; the newest 1,000 of each are kept, and none longer than finished jobs.';

-- Each run is an event for the owner of the schedule; 0030 adds the kind.
CREATE FUNCTION vidqueue.tell_schedule_run() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(30321, 1);
    UPDATE vidqueue.event_epoch SET server_started = pg_postmaster_start_time()
        WHERE server_started <> pg_postmaster_start_time();
    IF FOUND THEN
        PERFORM setval('vidqueue.events_number_seq', nextval('vidqueue.events_number_seq') + 10000);
    END IF;
    INSERT INTO vidqueue.events (owner, kind, data)
    SELECT s.owner, 'schedule', jsonb_strip_nulls(jsonb_build_object('schedule', s.id, 'name', s.name,
        'due_at', NEW.due_at, 'outcome', NEW.outcome, 'job', NEW.job_id, 'error', NEW.error))
    FROM vidqueue.schedules s WHERE s.id = NEW.schedule_id;
    PERFORM pg_notify('vidqueue', 'schedule');
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER tell_run AFTER INSERT ON vidqueue.schedule_runs
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION vidqueue.tell_schedule_run();

CREATE VIEW vidqueue_report.schedules AS
SELECT s.id, s.owner, s.name, s.cron, s.timezone, s.job ->> 'processor' AS processor, s.missed, s.one_at_a_time, s.paused,
       CASE WHEN NOT s.paused THEN s.next_at END AS next_at, r.due_at AS last_due_at, r.outcome AS last_outcome, r.job_id AS last_job_id
FROM vidqueue.schedules s
LEFT JOIN LATERAL (SELECT * FROM vidqueue.schedule_runs r WHERE r.schedule_id = s.id ORDER BY r.due_at DESC LIMIT 1) r ON true;
COMMENT ON VIEW vidqueue_report.schedules IS 'Each schedule: when it submits what, when next, and what came of its last time.';

CREATE VIEW vidqueue_report.schedule_runs AS
SELECT s.name, s.owner, r.due_at, r.at, r.outcome, r.job_id, j.state, r.error
FROM vidqueue.schedule_runs r JOIN vidqueue.schedules s ON s.id = r.schedule_id LEFT JOIN vidqueue.jobs j ON j.id = r.job_id;
COMMENT ON VIEW vidqueue_report.schedule_runs IS 'What came of each time of each schedule, with the present state of the job.';
