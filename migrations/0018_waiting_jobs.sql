-- Jobs that were queued before 0011 get what its triggers give to every new one: their count of unmet dependencies, their
-- place in the order of waiting, the data folder of their inputs. Nobody who reads waits for this.
UPDATE vidqueue.jobs j SET
    unmet = (SELECT count(*) FROM vidqueue.job_dependencies d JOIN vidqueue.jobs p ON p.id = d.depends_on
             WHERE d.job_id = j.id AND p.state <> 'succeeded'),
    node = vidqueue.node_of_inputs(j.id)
WHERE j.state IN ('queued', 'running');
