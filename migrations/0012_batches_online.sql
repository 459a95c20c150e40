-- concurrently
-- What makes batches quick, and the check of the foreign key of 0012_batches, which lets others write.
CREATE INDEX CONCURRENTLY IF NOT EXISTS jobs_of_batch ON vidqueue.jobs (batch_id, id) WHERE batch_id IS NOT NULL;
ALTER TABLE vidqueue.jobs VALIDATE CONSTRAINT jobs_of_batch_exists;
