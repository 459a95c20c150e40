-- concurrently
-- How much an owner has stored is read from the index alone.
CREATE INDEX CONCURRENTLY IF NOT EXISTS files_size_of_owner ON vidqueue.files (owner) INCLUDE (size);
