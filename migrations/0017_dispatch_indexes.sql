-- concurrently
-- What makes dispatch cost the same however long the line is. It is right without.
CREATE INDEX CONCURRENTLY IF NOT EXISTS jobs_ready ON vidqueue.jobs (demand, owner, rank, id) WHERE ready;
CREATE INDEX CONCURRENTLY IF NOT EXISTS jobs_due ON vidqueue.jobs (run_at) WHERE state = 'queued' AND NOT ready AND unmet = 0;
-- What stood in the order of rank whether it might run or not; dispatch does not look there any more.
DROP INDEX CONCURRENTLY IF EXISTS vidqueue.jobs_waiting;
