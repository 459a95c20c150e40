-- concurrently
-- Counts the jobs from before 0014_ready_counts anew, while others write.
SELECT vidqueue.recount_jobs();
