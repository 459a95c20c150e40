-- concurrently
-- Counts and notes the jobs from before 0013_counters, while others write.
SELECT vidqueue.recount_jobs();
INSERT INTO vidqueue.job_tags (owner, tag, state, job_id)
SELECT j.owner, tag, j.state, j.id FROM vidqueue.jobs j, unnest(j.tags) AS tag WHERE j.tags <> '{}' ON CONFLICT DO NOTHING;
DROP INDEX CONCURRENTLY IF EXISTS vidqueue.jobs_by_tag;
