-- concurrently
-- The oldest wait of each processor.
CREATE INDEX CONCURRENTLY IF NOT EXISTS jobs_ready_since ON vidqueue.jobs (processor, waits_since) WHERE ready;
