-- concurrently
-- The list of an owner's batches, newest first.
CREATE INDEX CONCURRENTLY IF NOT EXISTS batches_of_owner ON vidqueue.batches (owner, id);
