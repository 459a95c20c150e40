-- concurrently
-- The line of each kind of lane in its order, so that a place near its front is found without walking it.
CREATE INDEX CONCURRENTLY IF NOT EXISTS jobs_in_line ON vidqueue.jobs (device, rank, id) WHERE ready;
