-- Numbers of jobs that need no counting, and jobs by tag in the order of their ids.
-- Expand only: an older program goes on with this schema while it drains. Jobs that are there already are counted and
-- noted by 0015_online, while others write.

-- How many jobs there are of each kind, as of the change whose number is in job_changes_folded. Later changes stand in
-- job_changes: a reader adds them. Changes are appended, so no two transactions want the same row, and a long transaction
-- elsewhere, which keeps old versions of rows from being removed, makes no reader slower.
CREATE TABLE vidqueue.job_counts (
    owner      text NOT NULL,
    processor  text NOT NULL,
    device     text NOT NULL,
    state      text NOT NULL,
    jobs       bigint NOT NULL,
    PRIMARY KEY (owner, processor, device, state)
) WITH (fillfactor = 50);
CREATE INDEX job_counts_waiting ON vidqueue.job_counts (processor, device) WHERE state = 'queued';
COMMENT ON COLUMN vidqueue.job_counts.state IS 'The state of the jobs; `later` for queued ones that cannot run yet.';
COMMENT ON TABLE vidqueue.job_counts IS 'How many jobs there are of each kind, without those in job_changes above job_changes_folded.';

CREATE TABLE vidqueue.job_hours (
    owner      text NOT NULL,
    hour       timestamptz NOT NULL,
    processor  text NOT NULL,
    state      text NOT NULL,
    jobs       bigint NOT NULL,
    PRIMARY KEY (owner, hour, processor, state)
) WITH (fillfactor = 50);
CREATE INDEX job_hours_by_hour ON vidqueue.job_hours (hour);
COMMENT ON TABLE vidqueue.job_hours IS 'How many jobs ended in each hour, without those in job_changes above job_changes_folded.';

CREATE TABLE vidqueue.job_changes (
    number     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    owner      text NOT NULL,
    processor  text NOT NULL,
    device     text NOT NULL,
    state      text NOT NULL,
    hour       timestamptz,
    jobs       bigint NOT NULL
);
COMMENT ON TABLE vidqueue.job_changes IS 'By how much the number of jobs of a kind has changed. The numbers rise in commit order.';
COMMENT ON COLUMN vidqueue.job_changes.hour IS 'The hour in which the job ended; NULL if it has not.';

CREATE TABLE vidqueue.job_changes_folded (
    only_row  boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    number    bigint NOT NULL DEFAULT 0
);
INSERT INTO vidqueue.job_changes_folded DEFAULT VALUES;

-- The hour of a time, whatever the time zone of the session.
CREATE FUNCTION vidqueue.hour_of(moment timestamptz) RETURNS timestamptz LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
    $$ SELECT date_bin('1 hour', moment, '2000-01-01 UTC') $$;

-- Add the changes to the counts. The caller has the lock of the event log, so it is the only one.
CREATE FUNCTION vidqueue.fold_job_changes() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    below  bigint := (SELECT number FROM vidqueue.job_changes_folded);
    upto   bigint := (SELECT coalesce(max(number), 0) FROM vidqueue.job_changes);
BEGIN
    -- A caller's transaction with a snapshot of its own does not see every change below its newest; the next one folds.
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RETURN;
    END IF;
    INSERT INTO vidqueue.job_counts AS c (owner, processor, device, state, jobs)
    SELECT owner, processor, device, state, sum(jobs) FROM vidqueue.job_changes
    WHERE number > below AND number <= upto GROUP BY 1, 2, 3, 4 HAVING sum(jobs) <> 0
    ON CONFLICT (owner, processor, device, state) DO UPDATE SET jobs = c.jobs + excluded.jobs;
    INSERT INTO vidqueue.job_hours AS h (owner, hour, processor, state, jobs)
    SELECT owner, hour, processor, state, sum(jobs) FROM vidqueue.job_changes
    WHERE number > below AND number <= upto AND hour IS NOT NULL GROUP BY 1, 2, 3, 4 HAVING sum(jobs) <> 0
    ON CONFLICT (owner, hour, processor, state) DO UPDATE SET jobs = h.jobs + excluded.jobs;
    -- Hours whose jobs have all been removed would stay for ever.
    DELETE FROM vidqueue.job_hours h USING vidqueue.job_changes c
    WHERE c.number > below AND c.number <= upto AND c.jobs < 0 AND h.jobs = 0
      AND h.owner = c.owner AND h.hour = c.hour AND h.processor = c.processor AND h.state = c.state;
    DELETE FROM vidqueue.job_changes WHERE number > below AND number <= upto;
    UPDATE vidqueue.job_changes_folded SET number = upto WHERE number < upto;
END $$;

-- Note what became of one job. Queued jobs that cannot run yet are counted apart, as `later`: they stand in no line, and no
-- estimate of the line counts them. Deferred, because the numbers rise in commit order only if they are given at commit: a
-- caller may keep its own transaction open around vidqueue.submit() for as long as it likes. The lock is the one that the
-- event of the same change needs anyway.
CREATE FUNCTION vidqueue.count_job() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(30321, 1);
    IF TG_OP <> 'INSERT' THEN
        INSERT INTO vidqueue.job_changes (owner, processor, device, state, hour, jobs)
        VALUES (OLD.owner, OLD.processor, OLD.device, CASE WHEN OLD.state = 'queued' AND NOT OLD.ready THEN 'later' ELSE OLD.state END,
                vidqueue.hour_of(OLD.finished_at), -1);
    END IF;
    IF TG_OP <> 'DELETE' THEN
        INSERT INTO vidqueue.job_changes (owner, processor, device, state, hour, jobs)
        VALUES (NEW.owner, NEW.processor, NEW.device, CASE WHEN NEW.state = 'queued' AND NOT NEW.ready THEN 'later' ELSE NEW.state END,
                vidqueue.hour_of(NEW.finished_at), 1);
    END IF;
    -- One call takes one number or two, so no multiple is missed.
    IF currval('vidqueue.job_changes_number_seq') % 512 < 2 THEN
        PERFORM vidqueue.fold_job_changes();
    END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER count_insert AFTER INSERT ON vidqueue.jobs
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION vidqueue.count_job();
CREATE CONSTRAINT TRIGGER count_update AFTER UPDATE ON vidqueue.jobs
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN ((OLD.owner, OLD.processor, OLD.device, OLD.state, OLD.ready, OLD.finished_at)
          IS DISTINCT FROM (NEW.owner, NEW.processor, NEW.device, NEW.state, NEW.ready, NEW.finished_at))
    EXECUTE FUNCTION vidqueue.count_job();
CREATE CONSTRAINT TRIGGER count_delete AFTER DELETE ON vidqueue.jobs
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION vidqueue.count_job();

-- What the counters say now, in groups that may stand more than once.
CREATE VIEW vidqueue.jobs_counted AS
SELECT owner, processor, device, state, jobs FROM vidqueue.job_counts
UNION ALL
SELECT owner, processor, device, state, jobs FROM vidqueue.job_changes
WHERE number > (SELECT number FROM vidqueue.job_changes_folded);

CREATE VIEW vidqueue.hours_counted AS
SELECT owner, hour, processor, state, jobs FROM vidqueue.job_hours
UNION ALL
SELECT owner, hour, processor, state, jobs FROM vidqueue.job_changes
WHERE hour IS NOT NULL AND number > (SELECT number FROM vidqueue.job_changes_folded);

-- By how much the counters are wrong. No row, unless somebody has changed jobs with the triggers switched off. Reads all jobs.
CREATE VIEW vidqueue.jobs_miscounted AS
SELECT owner, processor, device, state, sum(jobs)::bigint AS jobs
FROM (SELECT owner, processor, device, CASE WHEN state = 'queued' AND NOT ready THEN 'later' ELSE state END AS state, count(*) AS jobs
      FROM vidqueue.jobs GROUP BY 1, 2, 3, 4
      UNION ALL SELECT owner, processor, device, state, -jobs FROM vidqueue.jobs_counted) AS difference
GROUP BY 1, 2, 3, 4 HAVING sum(jobs) <> 0;
CREATE VIEW vidqueue.hours_miscounted AS
SELECT owner, hour, processor, state, sum(jobs)::bigint AS jobs
FROM (SELECT owner, vidqueue.hour_of(finished_at) AS hour, processor, state, count(*) AS jobs FROM vidqueue.jobs
      WHERE finished_at IS NOT NULL GROUP BY 1, 2, 3, 4
      UNION ALL SELECT owner, hour, processor, state, -jobs FROM vidqueue.hours_counted) AS difference
GROUP BY 1, 2, 3, 4 HAVING sum(jobs) <> 0;

-- Set the counters right, and tell how many of them were wrong. Each difference is seen in one snapshot and is added, so
-- it does not matter what others count meanwhile; they wait for the additions only.
CREATE FUNCTION vidqueue.recount_jobs() RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    counts  vidqueue.job_counts[];
    hours   vidqueue.job_hours[];
BEGIN
    -- Two at once would each add the same difference. Not the lock of the event log: nobody may wait while all jobs are read.
    PERFORM pg_advisory_xact_lock(30321, 3);
    counts := ARRAY(SELECT ROW(owner, processor, device, state, jobs)::vidqueue.job_counts FROM vidqueue.jobs_miscounted);
    hours := ARRAY(SELECT ROW(owner, hour, processor, state, jobs)::vidqueue.job_hours FROM vidqueue.hours_miscounted);
    PERFORM pg_advisory_xact_lock(30321, 1);
    INSERT INTO vidqueue.job_counts AS c SELECT * FROM unnest(counts)
    ON CONFLICT (owner, processor, device, state) DO UPDATE SET jobs = c.jobs + excluded.jobs;
    INSERT INTO vidqueue.job_hours AS h SELECT * FROM unnest(hours)
    ON CONFLICT (owner, hour, processor, state) DO UPDATE SET jobs = h.jobs + excluded.jobs;
    RETURN cardinality(counts) + cardinality(hours);
END $$;

-- Jobs by tag: no index of jobs has both the elements of an array and the order of the ids. Written by triggers; a row
-- that is left over does no harm, because who reads it looks at the job too.
CREATE TABLE vidqueue.job_tags (
    owner   text NOT NULL,
    tag     text NOT NULL,
    state   text NOT NULL,
    job_id  uuid NOT NULL,
    PRIMARY KEY (owner, tag, state, job_id)
);
CREATE FUNCTION vidqueue.note_tags() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        DELETE FROM vidqueue.job_tags t
        WHERE t.owner = OLD.owner AND t.tag = ANY (OLD.tags) AND t.state = OLD.state AND t.job_id = OLD.id;
    END IF;
    IF TG_OP <> 'DELETE' THEN
        INSERT INTO vidqueue.job_tags (owner, tag, state, job_id)
        SELECT NEW.owner, tag, NEW.state, NEW.id FROM unnest(NEW.tags) AS tag
        -- One from before tags were bounded fits no index; a job must not fail for that at each change of its state.
        WHERE octet_length(tag) <= 1000 ON CONFLICT DO NOTHING;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER note_tags_insert AFTER INSERT ON vidqueue.jobs
    FOR EACH ROW WHEN (NEW.tags <> '{}') EXECUTE FUNCTION vidqueue.note_tags();
CREATE TRIGGER note_tags_update AFTER UPDATE OF tags, state, owner ON vidqueue.jobs
    FOR EACH ROW WHEN ((OLD.tags <> '{}' OR NEW.tags <> '{}')
                       AND (OLD.tags, OLD.state, OLD.owner) IS DISTINCT FROM (NEW.tags, NEW.state, NEW.owner))
    EXECUTE FUNCTION vidqueue.note_tags();
CREATE TRIGGER note_tags_delete AFTER DELETE ON vidqueue.jobs
    FOR EACH ROW WHEN (OLD.tags <> '{}') EXECUTE FUNCTION vidqueue.note_tags();

-- As before, without counting. The medians are those of the newest 1,000 jobs that ran in the hour.
CREATE OR REPLACE VIEW vidqueue_report.throughput_hourly AS
SELECT h.hour, h.processor, h.owner, h.jobs, h.succeeded, h.failed, h.canceled,
       (SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM ran.started_at - ran.created_at))::numeric(12,3)
        FROM (SELECT j.created_at, j.started_at FROM vidqueue.jobs j
              WHERE j.owner = h.owner AND j.processor = h.processor AND j.started_at IS NOT NULL
                AND j.finished_at >= h.hour AND j.finished_at < h.hour + interval '1 hour'
              ORDER BY j.finished_at DESC LIMIT 1000) ran) AS median_wait_s,
       (SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM ran.finished_at - ran.started_at))::numeric(12,3)
        FROM (SELECT j.started_at, j.finished_at FROM vidqueue.jobs j
              WHERE j.owner = h.owner AND j.processor = h.processor AND j.started_at IS NOT NULL
                AND j.finished_at >= h.hour AND j.finished_at < h.hour + interval '1 hour'
              ORDER BY j.finished_at DESC LIMIT 1000) ran) AS median_run_s
FROM (SELECT hour, processor, owner, sum(jobs)::bigint AS jobs,
             coalesce(sum(jobs) FILTER (WHERE state = 'succeeded'), 0)::bigint AS succeeded,
             coalesce(sum(jobs) FILTER (WHERE state = 'failed'), 0)::bigint AS failed,
             coalesce(sum(jobs) FILTER (WHERE state = 'canceled'), 0)::bigint AS canceled
      FROM vidqueue.hours_counted GROUP BY 1, 2, 3 HAVING sum(jobs) > 0) h;
COMMENT ON VIEW vidqueue_report.throughput_hourly IS
    'Jobs that ended in each hour. The numbers are kept; the medians read up to 1,000 jobs an hour, so ask for an hour or a day.';
