-- concurrently
CREATE INDEX CONCURRENTLY IF NOT EXISTS jobs_kept_until ON vidqueue.jobs (kept_until, id) WHERE kept_until IS NOT NULL;
