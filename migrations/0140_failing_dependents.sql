-- A job that cannot run fails its dependents by indexes only, whatever the statistics of the tables say.

-- As in 0110. Statistics that were taken while thousands of jobs depended on one say that each has thousands of dependents. The plan
-- for a chain then read the whole table at each of its links, and a job before ten thousand others could not be canceled in time.
CREATE OR REPLACE FUNCTION vidqueue.fail_dependents(job vidqueue.jobs) RETURNS void LANGUAGE plpgsql
    SET enable_seqscan = off SET jit = off AS $$
DECLARE
    found_ids  uuid[];
BEGIN
    LOOP
        WITH RECURSIVE doomed (id) AS (
            SELECT job_id FROM vidqueue.job_dependencies WHERE depends_on = job.id
            UNION
            -- OFFSET keeps the planner from joining in another way than by one look into the index for each job.
            SELECT d.job_id FROM doomed
            CROSS JOIN LATERAL (SELECT n.job_id FROM vidqueue.job_dependencies n WHERE n.depends_on = doomed.id OFFSET 0) d
        )
        SELECT array_agg(doomed.id) INTO found_ids FROM doomed;
        UPDATE vidqueue.jobs j SET
            state = 'failed', finished_at = clock_timestamp(), error_code = 'dependency_failed',
            error_message = format('The job %s, whose output this job or one before it needs, ended as %s.', job.id, job.state),
            error_hint = 'Retry that job first, then this one.'
        WHERE j.id = ANY (found_ids) AND j.state = 'queued';
        EXIT WHEN NOT FOUND;
    END LOOP;
END $$;
