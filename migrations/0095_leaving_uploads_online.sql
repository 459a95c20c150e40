-- concurrently
-- Retention walks through the few uploads that are to leave, and not through all.
CREATE INDEX CONCURRENTLY IF NOT EXISTS files_leaving ON vidqueue.files (created_at, id) WHERE leaves AND NOT published;
