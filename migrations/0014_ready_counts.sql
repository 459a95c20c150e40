-- Queued jobs that cannot run yet are counted apart, as `later`: they stand in no line, and no estimate of the line counts
-- them. Jobs that are there already are counted anew by 0014_ready_counts_online.

-- As in 0013_counters, except for that.
CREATE OR REPLACE FUNCTION vidqueue.count_job() RETURNS trigger LANGUAGE plpgsql AS $$
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
DROP TRIGGER count_update ON vidqueue.jobs;
CREATE CONSTRAINT TRIGGER count_update AFTER UPDATE ON vidqueue.jobs
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN ((OLD.owner, OLD.processor, OLD.device, OLD.state, OLD.ready, OLD.finished_at)
          IS DISTINCT FROM (NEW.owner, NEW.processor, NEW.device, NEW.state, NEW.ready, NEW.finished_at))
    EXECUTE FUNCTION vidqueue.count_job();

CREATE OR REPLACE VIEW vidqueue.jobs_miscounted AS
SELECT owner, processor, device, state, sum(jobs)::bigint AS jobs
FROM (SELECT owner, processor, device, CASE WHEN state = 'queued' AND NOT ready THEN 'later' ELSE state END AS state, count(*) AS jobs
      FROM vidqueue.jobs GROUP BY 1, 2, 3, 4
      UNION ALL SELECT owner, processor, device, state, -jobs FROM vidqueue.jobs_counted) AS difference
GROUP BY 1, 2, 3, 4 HAVING sum(jobs) <> 0;
COMMENT ON COLUMN vidqueue.job_counts.state IS 'The state of the jobs; `later` for queued ones that cannot run yet.';
