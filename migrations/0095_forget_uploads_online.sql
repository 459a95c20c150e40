-- concurrently
-- Retention reads only the uploads that expire with their jobs, which are few.
CREATE INDEX CONCURRENTLY IF NOT EXISTS files_expiring_with_jobs ON vidqueue.files (created_at, id) WHERE expires_with_jobs AND NOT published;
