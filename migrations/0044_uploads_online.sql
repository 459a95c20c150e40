-- concurrently
CREATE INDEX CONCURRENTLY IF NOT EXISTS files_by_sha256 ON vidqueue.files (sha256, owner, published);
CREATE INDEX CONCURRENTLY IF NOT EXISTS files_by_blake3 ON vidqueue.files (blake3, owner, published) WHERE blake3 IS NOT NULL;
