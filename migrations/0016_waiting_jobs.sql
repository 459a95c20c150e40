-- Jobs that were made before 0011 get what its triggers give to every new one. Nobody who reads waits for this.
-- Those that depend on others, also the failed ones, which a person may retry: locked and counted one by one, because a job
-- that they depend on may succeed meanwhile.
DO $$
BEGIN
    PERFORM vidqueue.count_unmet(w.id) FROM (
        SELECT DISTINCT j.id FROM vidqueue.job_dependencies d JOIN vidqueue.jobs j ON j.id = d.job_id
        WHERE j.state <> 'succeeded' ORDER BY j.id) w;
END $$;
-- All that wait or run: their place in the order of waiting, and the data folder of their inputs.
UPDATE vidqueue.jobs j SET node = vidqueue.node_of_inputs(j.id) WHERE j.state IN ('queued', 'running') AND j.waits_since IS NULL;
