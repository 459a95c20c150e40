-- concurrently
-- Built while others write: indexes so that an answer costs the same however long the queue and its history are, and what
-- the tables of 0012 and 0013 must know of jobs from before them.

-- Dispatch; it is right without.
CREATE INDEX CONCURRENTLY IF NOT EXISTS jobs_ready ON vidqueue.jobs (demand, owner, rank, id) WHERE ready;
CREATE INDEX CONCURRENTLY IF NOT EXISTS jobs_due ON vidqueue.jobs (run_at) WHERE state = 'queued' AND NOT ready AND unmet = 0;
-- What stood in the order of rank whether it might run or not; dispatch does not look there any more.
DROP INDEX CONCURRENTLY IF EXISTS vidqueue.jobs_waiting;

-- The line of each kind of lane, so that a place near its front is found without walking it.
CREATE INDEX CONCURRENTLY IF NOT EXISTS jobs_in_line ON vidqueue.jobs (device, rank, id) WHERE ready;

-- The replay of an owner's events.
CREATE INDEX CONCURRENTLY IF NOT EXISTS events_of_owner ON vidqueue.events (owner, number);

-- Lists, newest first: by state, and by processor.
CREATE INDEX CONCURRENTLY IF NOT EXISTS jobs_of_owner_in_state ON vidqueue.jobs (owner, state, id);
CREATE INDEX CONCURRENTLY IF NOT EXISTS jobs_of_processor ON vidqueue.jobs (owner, processor, state, id);

-- The newest jobs that ran, for median waits and runs.
CREATE INDEX CONCURRENTLY IF NOT EXISTS jobs_ran ON vidqueue.jobs (owner, processor, finished_at)
    INCLUDE (created_at, started_at) WHERE finished_at IS NOT NULL AND started_at IS NOT NULL;

-- Retention goes through finished jobs by end and id, also where many ended in the same moment.
CREATE INDEX CONCURRENTLY IF NOT EXISTS jobs_by_end_and_id ON vidqueue.jobs (finished_at, id) WHERE finished_at IS NOT NULL;
DROP INDEX CONCURRENTLY IF EXISTS vidqueue.jobs_by_end;

-- The bytes of a data folder.
CREATE INDEX CONCURRENTLY IF NOT EXISTS files_of_node_with_size ON vidqueue.files (node, id) INCLUDE (size);
DROP INDEX CONCURRENTLY IF EXISTS vidqueue.files_of_node;

-- Lists by time go by the time that is in the id.
DROP INDEX CONCURRENTLY IF EXISTS vidqueue.jobs_by_creation;

-- Attempts that failed are few, and reports ask for them.
CREATE INDEX CONCURRENTLY IF NOT EXISTS attempts_failed ON vidqueue.attempts (job_id) WHERE outcome = 'failed';

-- Members of a batch, and the check of the foreign key of 0012_batches.
CREATE INDEX CONCURRENTLY IF NOT EXISTS jobs_of_batch ON vidqueue.jobs (batch_id, id) WHERE batch_id IS NOT NULL;
ALTER TABLE vidqueue.jobs VALIDATE CONSTRAINT jobs_of_batch_exists;

-- Counts the jobs from before 0013_counters, and notes their tags.
SELECT vidqueue.recount_jobs();
INSERT INTO vidqueue.job_tags (owner, tag, state, job_id)
SELECT j.owner, tag, j.state, j.id FROM vidqueue.jobs j, unnest(j.tags) AS tag WHERE j.tags <> '{}' AND octet_length(tag) <= 1000 ON CONFLICT DO NOTHING;
DROP INDEX CONCURRENTLY IF EXISTS vidqueue.jobs_by_tag;
