-- concurrently
-- The attempts that ended in some hours.
CREATE INDEX CONCURRENTLY IF NOT EXISTS attempts_of_hour ON vidqueue.attempts (vidqueue.hour_of(ended_at)) WHERE ended_at IS NOT NULL;
