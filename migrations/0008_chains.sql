-- A chain of jobs fails to its last, also where somebody is adding to it at that moment.

-- As before: a job that waits for an output which will never come fails at once, and so does everything that waits for
-- it. One statement sees only what was committed when it began, so it is repeated until it finds nothing: whoever queues
-- a job locks what it needs, so a job that was added meanwhile is committed once the one before it could be failed.
CREATE OR REPLACE FUNCTION vidqueue.fail_dependents() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    LOOP
        WITH RECURSIVE doomed (id) AS (
            SELECT job_id FROM vidqueue.job_dependencies WHERE depends_on = NEW.id
            UNION
            SELECT d.job_id FROM doomed JOIN vidqueue.job_dependencies d ON d.depends_on = doomed.id
        )
        UPDATE vidqueue.jobs j SET
            state = 'failed', finished_at = clock_timestamp(), error_code = 'dependency_failed',
            error_message = format('The job %s, whose output this job or one before it needs, ended as %s.', NEW.id, NEW.state),
            error_hint = 'Retry that job first, then this one.'
        FROM doomed WHERE j.id = doomed.id AND j.state = 'queued';
        EXIT WHEN NOT FOUND;
    END LOOP;
    RETURN NULL;
END $$;
