-- concurrently
-- What makes retention quick. It is right without.
CREATE INDEX CONCURRENTLY IF NOT EXISTS files_of_node ON vidqueue.files (node, id);
CREATE INDEX CONCURRENTLY IF NOT EXISTS files_missing ON vidqueue.files (node) WHERE missing_at IS NOT NULL;
CREATE INDEX CONCURRENTLY IF NOT EXISTS files_uploaded ON vidqueue.files (created_at, id) WHERE NOT published;
CREATE INDEX CONCURRENTLY IF NOT EXISTS jobs_with_logs ON vidqueue.jobs (finished_at)
    WHERE finished_at IS NOT NULL AND (logs_pruned_at IS NULL OR logs_pruned_at < finished_at);
CREATE INDEX CONCURRENTLY IF NOT EXISTS jobs_with_events ON vidqueue.jobs (finished_at)
    WHERE finished_at IS NOT NULL AND (events_pruned_at IS NULL OR events_pruned_at < finished_at);
