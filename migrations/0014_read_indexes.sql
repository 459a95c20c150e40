-- concurrently
-- Indexes for what people and the daemon ask, so that an answer costs the same however long the queue and its history are.

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
